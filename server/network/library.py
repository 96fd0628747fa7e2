"""What never travels: the server's own copies of task files, strategies, encoders, first models.

A study names them by their last part, and a task's file by its digest too; the coordinator puts
them into ``network.library``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import StudyRefused
from wardround.common.manifest.planned import file_sha256
from wardround.common.settings import TaskTable, pretrained, pretrained_key
from wardround.common.study.study import Study
from wardround.common.trust.description import Description


def at_server(study: Study, description: Description, library: Path) -> Config:
    """The study's settings as this server computes with them: its own copies in their places.

    Raises StudyRefused, naming the key, for what isn't in the library, or is another file.
    """
    config = study.config(description)
    tables: dict[str, Any] = {}
    if ":" in config.task.name:
        name = _copy(library, "task.name", config.task.name)
        found = file_sha256(Path(name.rpartition(":")[0]))
        if found != study.task_sha256:
            raise StudyRefused(
                f"task.name: this server's copy of '{config.task.name}' has SHA-256 "
                f"{found[:16]}..., the researcher's {study.task_sha256[:16] or 'none'}...",
                mend="give the coordinator the file",
            )
        tables["task"] = config.task.model_copy(update={"name": name})
    elif pretrained(config.task):
        key = pretrained_key(config.task)
        own = _there(library, f"task.{key}", pretrained(config.task))
        tables["task"] = TaskTable(name=config.task.name, **config.task.options | {key: str(own)})
    if config.procedure.own:  # whoever loads it holds it against the digest in the settings
        name = _copy(library, "procedure.name", config.procedure.name)
        tables["procedure"] = config.procedure.model_copy(update={"name": name})
    if ":" in config.strategy.name:
        name = _copy(library, "strategy.name", config.strategy.name)
        tables["strategy"] = config.strategy.model_copy(update={"name": name})
    if config.federation.initial:
        own = _there(library, "federation.initial", config.federation.initial)
        tables["federation"] = config.federation.model_copy(update={"initial": str(own)})
    return config.model_copy(update=tables)


def _copy(library: Path, key: str, name: str) -> str:
    file, _, part = name.rpartition(":")
    return f"{_there(library, key, file)}:{part}"


def _there(library: Path, key: str, name: str) -> Path:
    """A file or folder of the library; only its own, whatever it is called."""
    path = library / name
    if name == ".." or Path(name).name != name or not path.exists():
        raise StudyRefused(
            f"{key}: '{name}' isn't in this server's library",
            mend="ask the coordinator to put it there (network.library)",
        )
    return path.resolve()
