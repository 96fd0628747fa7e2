"""The run directory: everything a run leaves behind, and nothing an earlier run wrote.

    runs/<name>-<time>/
        config.toml          the resolved configuration
        environment.json     versions and machine, without names of people or hosts
        run.json             status and setting: hospitals, primary metric, comparison
        metrics.jsonl        one line per committed round
        sums.safetensors     the added figure sums of the chosen model
        checkpoints/         round-0007.safetensors (+ .clients of a simulation)
        journal/             sums of the running round that a restarted server may open
        model/               the final model
        report.html
        lock                 held by the process that runs it

Files are written whole: to a temporary name, fsync, rename, fsync of the folder. Of a simulation
(``lazily``) the rounds' lines, checkpoints and client states are written without fsync, which
follows from time to time (``server/rounds/commits.py``).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from wardround.common.durable.files import append_lines, sync, write_atomically
from wardround.common.errors import RunDirectoryError
from wardround.common.text import to_json

SIMULATED, DEPLOYED = "simulated", "deployed"
"""What ``run.json`` has as a run's ``kind``."""


class RunDirectory:
    """Paths and durable writes of one run.

    lazily : what each round writes may be lost with the machine (never with the process), as long
        as an older round is not
    """

    def __init__(self, path: Path, lazily: bool = False) -> None:
        self.path, self.lazily = path, lazily
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.journal = path / "journal"
        self.ledgers = path / "ledgers"
        self.report = path / "report.html"
        self.lock = path / "lock"
        self._config = path / "config.toml"
        self._metrics = path / "metrics.jsonl"
        self._run = path / "run.json"

    @classmethod
    def create(cls, folder: Path, name: str, config_toml: str, **about: Any) -> RunDirectory:
        """A new directory below ``folder``, never an existing one; ``about``: its first entries in
        ``run.json``.

        Raises RunDirectoryError if it can't be made.
        """
        stamp = time.strftime("%Y%m%d-%H%M%S")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for attempt in range(1, 1000):
                path = folder / (f"{name}-{stamp}" + (f"-{attempt}" if attempt > 1 else ""))
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)._begin(config_toml, about)
        except OSError as error:
            raise RunDirectoryError(
                f"{folder}: can't make a run directory ({error.strerror}); set federation.runs"
            ) from None
        raise RunDirectoryError(f"{folder}: too many runs of this second")

    @classmethod
    def at(cls, path: Path, config_toml: str, **about: Any) -> RunDirectory:
        """The run directory of this very path, made as ``create`` does if it isn't one yet.

        Raises RunDirectoryError if it can't be made.
        """
        run = cls(path)
        if run._config.is_file():
            return cls.open(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            return run._begin(config_toml, about)
        except OSError as error:
            raise RunDirectoryError(
                f"{path}: can't make a run directory ({error.strerror}); set federation.runs"
            ) from None

    def _begin(self, config_toml: str, about: dict[str, Any]) -> RunDirectory:
        """Fill a new directory; its configuration comes last, and makes it one. Raises OSError."""
        self.checkpoints.mkdir(exist_ok=True)
        self.model.mkdir(exist_ok=True)
        found = to_json(environment(), indent=2).encode()
        write_atomically(self.path / "environment.json", found)
        self.update(**about)
        write_atomically(self._config, config_toml.encode())
        sync(self.path.parent)
        return self

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises RunDirectoryError if ``path`` isn't one."""
        run = cls(path)
        if not run._config.is_file():
            runs = sorted(one.parent for one in path.glob("**/config.toml"))[:1]
            mend = f"a run in there is {runs[0]}" if runs else ""
            raise RunDirectoryError(
                "not a run directory (it has no config.toml)", who=str(path), mend=mend
            )
        run.checkpoints.mkdir(exist_ok=True)
        run.model.mkdir(exist_ok=True)
        return run

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self._config

    @property
    def deployed(self) -> bool:
        """Whether its hospitals are processes of their own, not simulated ones."""
        return self.summary().get("kind") == DEPLOYED

    def environment(self) -> dict[str, str]:
        """What ``environment.json`` says; empty if a crash left none."""
        path = self.path / "environment.json"
        try:
            return {str(k): str(v) for k, v in json.loads(path.read_text("utf-8")).items()}
        except (OSError, ValueError, AttributeError):
            return {}

    # --- rounds ----------------------------------------------------------------------------
    def append_round(self, row: dict[str, Any]) -> None:
        """Add one round's line and, but ``lazily``, make it durable."""
        append_lines(self._metrics, to_json(row).encode() + b"\n", durable=not self.lazily)

    def sync_rounds(self) -> None:
        """Make all lines durable that are there."""
        if self._metrics.exists():
            sync(self._metrics)

    def rounds(self) -> list[dict[str, Any]]:
        """All whole lines of ``metrics.jsonl``; a line torn by a crash is not one."""
        if not self._metrics.exists():
            return []
        rows = []
        for line in self._metrics.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def replace_round(self, row: dict[str, Any]) -> None:
        """Put one round's line in the place of the one it had."""
        rows = [row if one["round"] == row["round"] else one for one in self.rounds()]
        write_atomically(self._metrics, "".join(to_json(one) + "\n" for one in rows).encode())

    def keep_rounds(self, last: int) -> None:
        """Forget lines after round ``last``: their checkpoint was never committed."""
        rows = [row for row in self.rounds() if row["round"] <= last]
        write_atomically(self._metrics, "".join(to_json(row) + "\n" for row in rows).encode())

    # --- what the run is, for the report -------------------------------------------------------
    def update(self, **values: Any) -> None:
        """Set entries of ``run.json``."""
        write_atomically(self._run, to_json(self.summary() | values, indent=2).encode())

    def keep_plan(self, body: bytes) -> None:
        """Write the manifest that hospitals are shown to ``plan.json``: settings, rounds, members,
        and what leaves. Its digest stands in the audit log of each one that accepted it."""
        write_atomically(self.path / "plan.json", body)

    def summary(self) -> dict[str, Any]:
        """The entries of ``run.json``; empty before the first ``update``."""
        try:
            value = json.loads(self._run.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def environment() -> dict[str, str]:
    """Versions of what computes, and the machine's kind; no host or user name."""
    names = ("wardround", "flwr", "torch", "numpy", "scikit-learn", "safetensors", "pydantic")
    found = {name: importlib.metadata.version(name) for name in names}
    return {
        **found,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count() or 0),
    }
