"""What a hospital takes part by: the signed description, its own rules, and what follows of both.

Terms are read as a whole before a plan is looked at, and then held. A plan is checked against them,
and hospital, task, gate, ledger limits and secure aggregation are made of them and of nothing else.
Whatever is edited or signed later makes other terms, which nothing is done by until a plan is
accepted under them: ``edited`` tells of the hospital's own files, ``others`` of all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.client.sources.kept import Located
from wardround.client.training.devices import missing_device
from wardround.client.training.precision import check_precision
from wardround.common.config.load import Config
from wardround.common.errors import PlanRefused, PolicyRefused, ProvisionError
from wardround.common.run.shaping import differences
from wardround.common.settings import pretrained
from wardround.common.study.study import Study
from wardround.common.text import near
from wardround.common.trust.identity import Roster

_KIND = (
    "this is a network, which is asked by studies; a client that was started before it was one is "
    "to be started again"
)
_Form = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class Data:
    """What a client was started with.

    path : file or folder; None for the task's own example data
    none : no data at all: ``site.toml`` must say where they are
    name : of ``[data.NAME]``, instead of a path
    """

    path: Path | None = None
    none: bool = False
    name: str = ""


@dataclass(frozen=True)
class Terms:
    """What a hospital takes part by.

    config : this hospital's settings: the federation's with its own over them
    files : of its own files that shape what is done, by path, the SHA-256 of their content: its
        rules, its copy of a task's file, of an encoder's folder, a query of its data
    data : where its data are
    study : of a network: which of its studies; None in a federation that is one
    """

    kit: Kit
    site: SitePolicy
    config: Config
    files: dict[Path, str]
    data: Located = Located()
    study: Study | None = None

    @classmethod
    def read(
        cls,
        kit: Kit,
        device: str | None = None,
        *,
        data: Data = Data(),  # noqa: B008 - it is frozen
        study: Study | None = None,
    ) -> Terms:
        """The present ones.

        Parameters
        ----------
        device : overrides the one of ``site.toml``
        data : what the client was started with
        study : makes its settings the ones that all is done by, and its rules

        Raises ConfigError, StudyRefused, or PolicyRefused for a missing file, device or data.
        """
        site, config = load_site(kit.site_path), kit.description.config()
        if (config.network is None) != (study is None):
            raise PlanRefused(_KIND if study is None else "this federation has no studies")
        if study is not None:
            config = study.config(kit.description)
        own = hashlib.sha256(site.text.encode()).hexdigest()
        rules = site.for_study(study.name) if study is not None else site
        located = _located(site, rules.mapped, study.name if study is not None else None, data)
        config = rules.apply(config)
        found = resolve_device(device or config.training.device)
        training = config.training.model_copy(update={"device": found})
        config = config.model_copy(update={"training": training})
        check_precision(config)
        files = {kit.site_path: own} | _copies(config) | _of_source(located)
        return cls(kit, rules, config, files, located, study)

    @property
    def roster(self) -> Roster:
        """Public keys of those who take part: of a study, of whom it is asked."""
        every = self.kit.description.roster
        if self.study is None:
            return every
        return {name: every[name] for name in self.study.hospitals if name in every}

    def mark(self) -> str:
        """Stands for all of it, and for the signed description but its dates: two processes that
        read equal terms have equal marks."""
        files = {path.name: one for path, one in self.files.items()}
        said = [self._values(), files, self.kit.description.digest().hex()]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

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
        own: dict[str, Any] = {"site.toml": rules, "SHA-256 of": copies}
        if self.study is not None:  # the data of a federation's own study are the command line's
            source = self.data.source
            table = source.model_dump(mode="json") if source is not None else None
            own["data"] = [self.data.words, table]
        return self.config.model_dump(mode="json") | own


def _located(site: SitePolicy, mapped: Located | None, study: str | None, data: Data) -> Located:
    """Where the data are.

    mapped : what the study's rules say
    study : a network's, by its name; None for the federation's own
    data : what the client was started with

    Raises PolicyRefused where nothing says it.
    """
    if mapped is not None:
        return mapped
    if data.name:
        return site.located(data.name)
    if not data.none:
        return Located(data.path)
    if study is not None:
        raise site.refused(
            "studies",
            f"nothing says on which data study '{study}' is computed; write [data.NAME] with "
            f'path = "...", and [studies."{study}"] with data = "NAME"; or start the client with '
            "--data",
        )
    if len(site.data) == 1:
        return site.located(next(iter(site.data)))
    raise site.refused(
        "data",
        f"nothing says which data to use, of {', '.join(site.data)}: add --data NAME"
        if site.data
        else "no data is named; add --data SHARD, or write [data.NAME] (or, to try it out, "
        "--example-data)",
        "nothing says on which data it is to be computed",
    )


def unknown_data(data: Path, names: Iterable[str]) -> str:
    """What is said of ``--data`` that is neither a path nor a name of ``site.toml``."""
    there = ", ".join(names)
    hint = near(str(data), names)
    known = f", nor [data.NAME] in site.toml (there: {there})" if there else ""
    return f"{data}: no such file or folder{known}" + (f"; is it {hint}?" if hint else "")


def _of_source(located: Located) -> dict[Path, str]:
    """The files that say what is read of a source."""
    if located.source is None:
        return {}
    try:
        return {path: _content(path) for path in located.source.files(located.base)}
    except OSError as error:
        raise ProvisionError(f"{error.filename}: can't be read ({error.strerror})") from None


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)


def _copies(config: Config) -> dict[Path, str]:
    """This hospital's copies of what never travels."""
    file, colon, _ = config.task.name.rpartition(":")
    own = pretrained(config.task)
    path = Path(file) if colon else Path(own) if own else None
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
