"""Leave one hospital out: n runs of the same study, each evaluated at the one that it lacks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.durable.files import write_atomically
from wardround.common.figures.figure import Figure, FigureTable
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.outside import OUTSIDE
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.simulate import load
from wardround.simulations.search.sweep import SweepResult

KEY = "simulation.leave_out"
FILE = "leave_one_out.csv"
MOST = 200


def one_by_one(
    config: Config | Path | str | None, overrides: Sequence[str] = ()
) -> list[list[str]]:
    """Values of ``simulation.leave_out``: each hospital by itself. Raises ConfigError."""
    settings = load(config, overrides)
    if settings.simulation.leave_out:
        raise settings.error(KEY, "goes without --leave-one-out, which leaves out each in turn")
    names = Population(settings, make_task(settings)).names
    if not 3 <= len(names) <= MOST:
        raise settings.error(
            KEY, f"{len(names)} hospitals: each can be left out where there are 3 to {MOST}"
        )
    return [[name] for name in names]


def outside_rows(result: SweepResult) -> tuple[Figure | None, list[dict[str, Any]]]:
    """The primary figure, and what each run found at the hospital that it lacks; of runs that are
    complete."""
    primary, rows = None, []
    for one in result.combinations:
        if one.run is not None and one.status == "complete":
            summary = RunDirectory.open(result.folder / one.run).summary()
            primary = primary or FigureTable.read(summary).primary
            rows += [found | {"seed": one.seed} for found in summary.get(OUTSIDE, [])]
    return primary, rows


def write_outside(result: SweepResult, rows: Sequence[dict[str, Any]]) -> Path:
    """All figures as CSV, a line for each hospital and seed. Raises OSError."""
    names = sorted({name for row in rows for name in row["figures"]})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["hospital", "seed", "rows", *names, "why"])
    for row in rows:
        values = [row["figures"].get(name, "") for name in names]
        writer.writerow([row["title"], row["seed"], row["rows"], *values, row["why"]])
    path = result.folder / FILE
    write_atomically(path, text.getvalue().encode())
    return path
