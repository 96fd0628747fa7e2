"""Brings a run's committed rounds to a tracker, each once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Literal, Protocol

from wardround.common.errors import ConfigError, WardroundError
from wardround.common.figures.records import MEAN, OVERALL, flat_records
from wardround.common.run.directory import RunDirectory
from wardround.common.run.tracking.names import ROUND

Kind = Literal["mlflow", "tensorboard", "wandb"]
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


def bring(run: RunDirectory, kind: Kind, uri: str) -> int:
    """Bring what isn't there yet; how many rounds that were.

    uri : of MLflow's server; a folder for the others

    Raises ConfigError where the library isn't installed, or the place can't be used.
    """
    rounds, summary = run.rounds(), run.summary()
    about = {key: str(summary[key]) for key in _ABOUT if key in summary}
    try:
        with closing(_open(kind, uri, run.path.resolve().name, str(summary.get("name", "")))) as to:
            last = to.tracked()
            new = [row for row in rounds if row["round"] > last]
            for row in new:
                to.add(row["round"], metrics_of(row))
            to.finish(about)
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
    return len(new)


def _open(kind: Kind, uri: str, run: str, name: str) -> Tracker:
    project = name or "wardround"
    if kind == "mlflow":
        from wardround.common.run.tracking.mlflow import MLflow

        return MLflow(uri, project, run)
    if kind == "tensorboard":
        from wardround.common.run.tracking.tensorboard import TensorBoard

        return TensorBoard(uri, run)
    from wardround.common.run.tracking.wandb import Wandb

    return Wandb(uri, project, run)
