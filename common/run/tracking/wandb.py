"""Weights & Biases, offline: files in a folder, which a person brings there by `wandb sync`.

Nothing is sent, and nothing of the machine or of code is written. An offline run can't be asked
what it has: a file beside it says which round was the last. Its id is made of our run's name, so
that all parts of a run become one there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wardround.common.durable.files import write_atomically
from wardround.common.durable.versioned import Format
from wardround.common.errors import ConfigError
from wardround.common.text import to_json

FORMAT = Format("rounds in W&B", "remove it with the folder's wandb/: all rounds are written again")


class Wandb:
    """An offline run. ``uri``: the folder; ``wandb/`` is made in it."""

    def __init__(self, uri: str, project: str, run: str) -> None:
        import wandb

        self._wandb, self._run, self._project = wandb, run, project
        self._folder = Path(uri)
        self._open: Any = None
        self._marker = self._folder / f"{run}.wandb.json"
        self._last = 0
        if self._marker.is_file():
            try:
                stored = json.loads(self._marker.read_text("utf-8"))
                self._last = int(FORMAT.read(stored, ConfigError, str(self._marker))["round"])
            except (OSError, ValueError, KeyError, TypeError):
                raise ConfigError("is damaged", who=str(self._marker), mend=FORMAT.mend) from None

    def tracked(self) -> int:
        """The last round that was written."""
        return self._last

    def add(self, server_round: int, metrics: Mapping[str, float]) -> None:
        """A step of the run; begun with the first."""
        if self._open is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._open = self._begun()
        self._open.log(dict(metrics), step=server_round)
        self._mark()  # the round before: a step is written when the next one comes
        self._last = server_round

    def _begun(self) -> Any:
        settings = self._wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            host="wardround",  # else this machine's name
        )
        return self._wandb.init(
            project=self._project,
            name=self._run,
            id=hashlib.sha256(self._run.encode()).hexdigest()[:16],
            dir=str(self._folder),
            mode="offline",
            settings=settings,
        )

    def finish(self, about: Mapping[str, str]) -> None:
        """What the run is, and that all of it is on the disk."""
        if self._open is None:
            return
        self._open.summary.update(dict(about))
        self._open.finish()
        self._open = None
        self._mark()

    def _mark(self) -> None:
        write_atomically(self._marker, to_json(FORMAT.seal({"round": self._last})).encode())

    def close(self) -> None:
        """Ends what an error left open; it is written again then."""
        if self._open is not None:
            self._open.finish(exit_code=1)
