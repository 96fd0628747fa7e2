"""One run of a search: its own folder with its whole configuration, and the figures it ends with.

    NNN/
        federation.toml      everything resolved; runs below this folder
        <name>-<time>/       the run directory
        error.txt            of a fault in the program or in the user's own code

A run that was stopped is found in its folder and resumed, whatever moment it was stopped at.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from wardround.common.config.load import Config
from wardround.common.durable.files import sync, write_atomically
from wardround.common.errors import Interrupted, WardroundError
from wardround.common.figures.figure import Better, FigureTable
from wardround.common.figures.records import evaluation_of, model_bound, model_figure
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.privacy_notes import latest_claims
from wardround.common.settings import TrackingTable
from wardround.server.observer import Observer
from wardround.simulations.run.simulate import simulate

CONFIG = "federation.toml"
_SPLITS = ("validation", "test")


class Figures(BaseModel):
    """What a run is compared by; None where there is no such figure.

    round : the chosen one, whose model is the run's result
    validation, test : the primary figure that stands for the chosen model, on rows of that split
    bounds : by split, how far that may be from the exact value, where it matters
    epsilon : the most that a hospital claims to have spent, over all rounds
    size_bytes : sent and received in all rounds
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: str
    better: Better
    round: int | None = None
    validation: float | None = None
    test: float | None = None
    bounds: dict[str, float] = {}
    epsilon: float | None = None
    size_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Failure:
    """Why a run has no figures: one line."""

    reason: str


def prepare_folder(folder: Path, config: Config) -> str:
    """Write the run's configuration into its folder, and return its text."""
    folder.mkdir(exist_ok=True)
    federation = config.federation.model_copy(update={"runs": str(folder.resolve())})
    # runs of a search aren't tracked: those of one second have the same name
    own = {"federation": federation, "tracking": TrackingTable()}
    text = config.model_copy(update=own).to_toml()
    write_atomically(folder / CONFIG, text.encode())
    sync(folder.parent)
    return text


def run_in(folder: Path, observer: Observer | None = None) -> Figures | Failure:
    """Run the folder's configuration, or go on with the run that was begun there.

    An error of the run is a ``Failure``; ``KeyboardInterrupt`` and ``Interrupted`` pass.
    """
    try:
        begun = run_of(folder)
        if begun is None:
            result = simulate(folder / CONFIG, observer=observer)
        else:
            result = simulate(resume=begun, observer=observer)
        return figures_of(RunDirectory.open(result.run_directory))
    except Interrupted:
        raise
    except WardroundError as error:
        return Failure(str(error))
    except Exception as error:  # the others must go on; nothing of this one is lost
        write_atomically(folder / "error.txt", traceback.format_exc().encode())
        return Failure(f"{type(error).__name__} (see {folder.name}/error.txt)")


def run_of(folder: Path) -> Path | None:
    """The newest run directory that was begun in the folder."""
    begun = [path.parent for path in folder.glob("*/config.toml")]
    return max(begun, key=lambda path: (path.stat().st_mtime_ns, path.name), default=None)


def figures_of(run: RunDirectory) -> Figures:
    """The figures of a finished run."""
    summary, rounds = run.summary(), run.rounds()
    figure = FigureTable.read(summary).primary
    chosen = summary.get("chosen_round")
    evaluation = evaluation_of(rounds, -1 if chosen is None else chosen)
    bounds = {s: model_bound(evaluation, s, figure) for s in _SPLITS} if evaluation else {}
    return Figures(
        primary=figure.name,
        better=figure.better,
        round=chosen,
        validation=model_figure(evaluation, "validation", figure) if evaluation else None,
        test=model_figure(evaluation, "test", figure) if evaluation else None,
        bounds={split: bound for split, bound in bounds.items() if bound is not None},
        epsilon=_epsilon(rounds),
        size_bytes=sum(row["bytes_down"] + row["bytes_up"] for row in rounds),
        seconds=math.fsum(row["seconds"]["total"] for row in rounds),
    )


def _epsilon(rounds: list[dict[str, Any]]) -> float | None:
    """The most that a hospital claims to have spent; None where one of them claims no number: the
    most of the others would look like all."""
    spent = [claim["epsilon"] for claim in latest_claims(rounds).values()]
    finite = [value for value in spent if value is not None]
    return max(finite) if finite and len(finite) == len(spent) else None
