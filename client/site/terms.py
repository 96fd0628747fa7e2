"""What a hospital takes part by: the signed description, its own rules, and what follows of both.

Terms are read as a whole before a plan is looked at, and then held. A plan is checked against them,
and hospital, task, gate, ledger limits and secure aggregation are made of them and of nothing else.
Whatever is edited or signed later makes other terms, which nothing is done by until a plan is
accepted under them: ``edited`` tells of the hospital's own files, ``others`` of all of it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.client.training.devices import missing_device
from wardround.client.training.precision import check_precision
from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused, ProvisionError
from wardround.common.run.shaping import differences

_Form = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Terms:
    """What a hospital takes part by.

    config : this hospital's settings: the federation's with its own over them
    files : of its own files that shape what is done, by path, the SHA-256 of their content: its
        rules, its copy of a task's file, of an encoder's folder
    """

    kit: Kit
    site: SitePolicy
    config: Config
    files: dict[Path, str]

    @classmethod
    def read(cls, kit: Kit, device: str | None = None) -> Terms:
        """The present ones. ``device`` overrides the one of ``site.toml``.

        Raises ConfigError, or PolicyRefused for a missing file or device.
        """
        site = load_site(kit.site_path)
        config = site.apply(kit.description.config())
        found = resolve_device(device or config.training.device)
        training = config.training.model_copy(update={"device": found})
        config = config.model_copy(update={"training": training})
        check_precision(config)
        own = hashlib.sha256(site.text.encode()).hexdigest()
        return cls(kit, site, config, {kit.site_path: own} | _copies(config))

    def edited(self) -> str:
        """Which of the hospital's own files isn't any more what was read; '' if all are."""
        for path, digest in self.files.items():
            try:
                same = _content(path) == digest
            except OSError:
                same = False
            if not same:
                return path.name
        return ""

    def others(self, before: Terms) -> str:
        """What of the settings, or of the content of files, isn't as ``before``; '' if all is.

        Members and keys of the federation aren't settings.
        """
        then, now = before._values(), self._values()
        if _text(then) == _text(now):  # for Python 1 is true
            return ""
        return differences(then, now) or "how a value is written"

    def _values(self) -> dict[str, Any]:
        rules = self.site.model_dump(mode="json")
        copies = {path.name: one for path, one in self.files.items() if path != self.kit.site_path}
        return self.config.model_dump(mode="json") | {"site.toml": rules, "SHA-256 of": copies}


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _copies(config: Config) -> dict[Path, str]:
    """This hospital's copies of what never travels."""
    file, colon, _ = config.task.name.rpartition(":")
    encoder = config.task.options.get("encoder")
    path = Path(file) if colon else Path(encoder) if isinstance(encoder, str) and encoder else None
    if path is None:
        return {}
    try:
        return {path: _content(path)}
    except OSError as error:
        raise ProvisionError(f"{path}: can't be read ({error.strerror})") from None


def _content(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's files: these are read again only where one's
    size, time or number on disk is another, as they may have gigabytes."""
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        found = [(one, one.stat()) for one in files]
        form = tuple((str(one), at.st_size, at.st_mtime_ns, at.st_ino) for one, at in found)
        return _of_folder(path, form)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=8)
def _of_folder(folder: Path, form: _Form) -> str:
    whole = hashlib.sha256()
    for name, *_ in form:
        whole.update(str(Path(name).relative_to(folder)).encode() + b"\0")
        with open(name, "rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def resolve_device(device: str) -> str:
    """'auto' is the first GPU that torch can use, else the CPU; others are checked.

    Raises PolicyRefused for a device that isn't there.
    """
    if device == "auto":
        return "cpu" if missing_device("cuda:0") else "cuda:0"
    if why := missing_device(device):
        raise PolicyRefused(f"device {device!r:.40}: {why}, or 'auto' (--device, or site.toml)")
    return device
