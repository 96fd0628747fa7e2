"""What a configuration says of a run, as both sides work it out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from functools import cache
from pathlib import Path

from wardround.common.config.covers import covered
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.joint.known import make_joint
from wardround.common.manifest.manifest import Versions
from wardround.common.procedures.known import steps_of
from wardround.common.settings import OWN_PRIVACY, PrivacyTable, SecureAggregationTable
from wardround.common.versions import own_version

DEFAULT_FAMILIES = {"tabular": "logistic", "imaging": "cnn", "text": "encoder"}
"""Of built-in tasks, where the settings name none."""


def task_name(config: Config) -> str:
    """The task's name; of a file without its folder, which differs from party to party."""
    return re.split(r"[/\\]", config.task.name)[-1]


def model_family(config: Config) -> str:
    """What kind of model is trained: ``task.model.kind``; 'encoder' of texts; the name of a task
    of one's own."""
    if ":" in config.task.name:
        return task_name(config)
    options = config.task.options.get("model")
    kind = options.get("kind") if isinstance(options, dict) else None
    if config.task.name == "text" and config.task.options.get("kind") == "causal":
        return "causal"
    return str(kind or DEFAULT_FAMILIES.get(config.task.name, config.task.name))


def planned_rounds(config: Config) -> int:
    """Of training; 1 of a procedure that has none."""
    return config.federation.rounds if config.procedure.trains else 1


def planned_steps(config: Config) -> int:
    """The most steps of a procedure; 0 of training. Of a joint one the first is for keys."""
    if config.procedure.joint:
        return make_joint(config).most_steps + 1
    return 0 if config.procedure.trains else steps_of(config)


def task_sha256(config: Config) -> str:
    """SHA-256 (hexadecimal) of the file that the task is from; '' for a built-in task.

    Raises TaskError if it can't be read.
    """
    file, colon, _ = config.task.name.rpartition(":")
    return file_sha256(config.folder / file) if colon else ""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises TaskError if it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TaskError(f"{path}: can't be read ({error.strerror})") from None


@cache
def own_versions() -> Versions:
    """What this process computes with, whatever is installed while it runs."""
    flwr, torch = (importlib.metadata.version(name) for name in ("flwr", "torch"))
    return Versions(
        wardround=own_version(), flwr=flwr.partition("+")[0], torch=torch.partition("+")[0]
    )


def shared_privacy(config: Config) -> PrivacyTable:
    """The table with what is each hospital's own at its default, and all that is covered by
    name."""
    own = {key: PrivacyTable.model_fields[key].default for key in OWN_PRIVACY}
    return config.privacy.model_copy(update={**own, "covers": list(covered(config)) or None})


def shared_secure(table: SecureAggregationTable) -> SecureAggregationTable:
    """The table with what concerns one machine at its default."""
    return table.model_copy(update={"threads": 1})
