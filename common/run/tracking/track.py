"""Brings a run's committed rounds to a tracker, each once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any, Protocol

from wardround.common.errors import ConfigError, WardroundError
from wardround.common.figures.records import MEAN, OVERALL, flat_records
from wardround.common.run.directory import RunDirectory
from wardround.common.run.tracking.names import ROUND
from wardround.common.settings.tracking import TrackerName

COMPLETE = "complete"
_LIBRARIES: dict[TrackerName, tuple[str, ...]] = {
    "mlflow": ("mlflow", "mlflow.entities"),
    "tensorboard": (
        "tensorboard.summary.writer.event_file_writer",
        "tensorboard.compat.proto.event_pb2",
        "tensorboard.backend.event_processing.event_accumulator",
    ),
    "wandb": ("wandb",),
}
_ODD = re.compile(r"[^A-Za-z0-9_./ -]")
_ABOUT = ("status", "strategy", "primary", "chosen_round", "kind")


class Tracker(Protocol):
    """One run at one place."""

    def tracked(self) -> int:
        """The last round that stands there; 0 for none."""

    def add(self, server_round: int, metrics: Mapping[str, float]) -> None:
        """Put a round's metrics there, all or none of them."""

    def finish(self, about: Mapping[str, str]) -> None:
        """Say what the run is and how it ended; again changes nothing."""

    def close(self) -> None:
        """Let go of whatever is open."""


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """A line of ``metrics.jsonl`` as ``SPLIT/NAME`` (all rows together), ``SPLIT/NAME_mean`` (of
    hospitals), traffic and seconds. Nothing of one hospital.

    >>> row = {"round": 1, "train_loss": 0.5, "overall": {"test": {"auc": 0.8}}, "hospitals": {}}
    >>> metrics_of(row)
    {'round': 1.0, 'train/loss': 0.5, 'test/auc': 0.8}
    """
    found = {ROUND: float(row["round"])}
    for one in flat_records([{"privacy": {}, **row} | {"privacy": {}}]):
        if one["hospital"] in (OVERALL, MEAN) and math.isfinite(one["value"]):
            suffix = "_mean" if one["hospital"] == MEAN else ""
            found[_ODD.sub("_", f"{one['split']}/{one['metric']}{suffix}")[:200]] = one["value"]
    for name in ("bytes_up", "bytes_down"):
        if name in row:
            found[f"traffic/{name}"] = float(row[name])
    if "seconds" in row:
        found["seconds"] = float(row["seconds"]["total"])
    return found


def settled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rounds of a run that isn't complete, but for a last one without figures: where the run
    ends with it, it is evaluated after all."""
    return rows[:-1] if rows and not rows[-1].get("overall") else rows


class Bringing:
    """A place that is open for one run.

    Raises ConfigError where the library isn't installed or the place can't be used; so do all
    methods but ``close``.

    uri : of MLflow's server; a folder for the others

    Attributes
    ----------
    last : the last round that stands there
    """

    def __init__(self, run: RunDirectory, kind: TrackerName, uri: str) -> None:
        self._run, self._kind = run, kind
        project = str(run.summary().get("name", "")) or "wardround"
        with _told(kind):
            self._to = _open(kind, uri, run.path.resolve().name, project)
            self.last = self._to.tracked()

    def add(self, rows: Iterable[dict[str, Any]]) -> int:
        """Those of the rounds, in their order, that aren't there yet; how many these were."""
        new = [row for row in rows if row["round"] > self.last]
        with _told(self._kind):
            for row in new:
                self._to.add(row["round"], metrics_of(row))
                self.last = row["round"]
        return len(new)

    def finish(self) -> int:
        """All of the run that isn't there yet, and how it stands; how many rounds that were."""
        rounds, summary = self._run.rounds(), self._run.summary()
        complete = summary.get("status") == COMPLETE
        count = self.add(rounds if complete else settled(rounds))
        with _told(self._kind):
            self._to.finish({key: str(summary[key]) for key in _ABOUT if key in summary})
        return count

    def close(self) -> None:
        """Let go of it."""
        self._to.close()


def bring(run: RunDirectory, kind: TrackerName, uri: str) -> int:
    """Bring what isn't there yet; how many rounds that were.

    uri : of MLflow's server; a folder for the others

    Raises ConfigError where the library isn't installed, or the place can't be used.
    """
    with closing(Bringing(run, kind, uri)) as to:
        return to.finish()


def check_installed(kind: TrackerName) -> None:
    """Import a tracker's library. Raises ConfigError where it isn't installed."""
    with _told(kind):
        for name in _LIBRARIES[kind]:
            import_module(name)


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """What the tracker's library raises, as one sentence."""
    try:
        yield
    except WardroundError:
        raise
    except ImportError as error:
        missing = (error.name or "a library").partition(".")[0]
        raise ConfigError(
            f"{missing} is not installed", who=kind, mend="pip install 'wardround[tracking]'"
        ) from None
    except Exception as error:  # theirs are many; their texts may have tokens and addresses
        raise ConfigError(
            f"can't be written to ({type(error).__name__})",
            who=f"--to {kind}",
            mend="see that the place of --uri is there and takes it, and give the command again",
        ) from error


def _open(kind: TrackerName, uri: str, run: str, project: str) -> Tracker:
    if kind == "mlflow":
        from wardround.common.run.tracking.mlflow import MLflow

        return MLflow(uri, project, run)
    if kind == "tensorboard":
        from wardround.common.run.tracking.tensorboard import TensorBoard

        return TensorBoard(uri, run)
    from wardround.common.run.tracking.wandb import Wandb

    return Wandb(uri, project, run)
