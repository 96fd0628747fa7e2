"""A run's figures as flat records, ready for a data frame, a plot or a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wardround.common.figures import Figure, is_number

Record = dict[str, Any]

OVERALL = "overall"
"""From the sums added over hospitals: every row counts the same."""
MEAN = "mean"
"""Plain mean of the hospitals' own figures: every hospital counts the same."""
PRIVACY, EPSILON = "privacy", "epsilon"


def flat_records(rounds: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Lines of ``metrics.jsonl`` as {round, hospital, split, metric, value} rows.

    ``hospital`` is a name, 'overall' or 'mean'. The training loss is split 'train' of 'overall';
    what a hospital claims to have spent of its privacy budget is 'epsilon' of split 'privacy'.
    """
    records: list[Record] = []
    for row in rounds:
        if is_number(row["train_loss"]):  # a private run has none
            records.append(_record(row["round"], OVERALL, "train", "loss", row["train_loss"]))
        for name, claim in (row.get("privacy") or {}).items():
            records.append(_record(row["round"], name, PRIVACY, EPSILON, claim["epsilon"]))
        for split, figures in row["overall"].items():
            records += _figures(row["round"], OVERALL, split, figures)
            by_hospital = {
                name: parts[split] for name, parts in row["hospitals"].items() if split in parts
            }
            records += _figures(row["round"], MEAN, split, mean_figures(by_hospital.values()))
            for name, part in by_hospital.items():
                records += _figures(row["round"], name, split, part)
    return records


def mean_figures(parts: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """Mean of each figure over the hospitals where it is defined."""
    parts = list(parts)
    names = dict.fromkeys(name for part in parts for name in part)
    means = {}
    for name in names:
        values = [part[name] for part in parts if is_number(part.get(name))]
        numbers = [float(value) for value in values if value is not None]
        means[name] = sum(numbers) / len(numbers) if numbers else math.nan
    return means


def time_to_target(
    rounds: Iterable[Mapping[str, Any]], figure: Figure, target: float
) -> tuple[int, float] | None:
    """The first round whose overall figure reaches ``target``, and its simulated time in seconds.

    Of test rows; of validation rows where there are no test rows. None if it never does.
    """
    for row in rounds:
        figures = row["overall"].get("test") or row["overall"].get("validation") or {}
        value, time_s = figures.get(figure.name), row.get("simulated_time_s")
        if is_number(value) and time_s is not None and figure.reaches(value, target):
            return row["round"], float(time_s)
    return None


def human_seconds(seconds: float) -> str:
    """A span of time in the unit that reads best."""
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def simulated_time_notes(
    rounds: Sequence[Mapping[str, Any]], figure: Figure, target: float | None
) -> list[str]:
    """Sentences on the simulated time of a run; none if it has no clock."""
    if not rounds or "simulated_time_s" not in rounds[-1]:
        return []
    took = f"{len(rounds)} rounds took {human_seconds(rounds[-1]['simulated_time_s'])} of simulated"
    if target is None:
        return [f"{took} time."]
    reached = time_to_target(rounds, figure, target)
    if reached is None:
        return [f"{took} time; {figure.name} {target:g} was not reached."]
    server_round, time_s = reached
    return [
        f"{took} time; {figure.name} {target:g} was reached after {human_seconds(time_s)}, in "
        f"round {server_round}."
    ]


def _figures(
    server_round: int, hospital: str, split: str, figures: Mapping[str, Any]
) -> list[Record]:
    return [_record(server_round, hospital, split, name, v) for name, v in figures.items()]


def _record(server_round: int, hospital: str, split: str, metric: str, value: Any) -> Record:
    return {
        "round": server_round,
        "hospital": hospital,
        "split": split,
        "metric": metric,
        "value": float(value) if is_number(value) else math.nan,
    }
