"""A run's figures as flat records, ready for a data frame, a plot or a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wardround.common.figures.figure import MEAN as MEAN
from wardround.common.figures.figure import OVERALL as OVERALL
from wardround.common.figures.figure import Figure, is_number

Record = dict[str, Any]
Means = dict[str, dict[str, Any]]
"""By figure: {mean, bound, hospitals}: the hospitals' mean, its error bound, over how many; and its
sampling ``variance``, with these hospitals' rows, where that is known."""

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
            records += _figures(row["round"], MEAN, split, _means(row, split, by_hospital))
            for name, part in by_hospital.items():
                records += _figures(row["round"], name, split, part)
    return records


def model_rows(evaluation: Mapping[str, Any], split: str) -> list[Record]:
    """What the model reached: {hospital, federated: figures} of each hospital that is known, of the
    mean and of all rows. Empty where nothing was evaluated."""
    overall = evaluation.get("overall", {}).get(split)
    if not overall:
        return []
    parts = evaluation.get("hospitals", {})
    own = {name: parts[name][split] for name in sorted(parts) if split in parts[name]}
    rows = own | {MEAN: _means(evaluation, split, own), OVERALL: overall}
    return [{"hospital": name, "federated": figures} for name, figures in rows.items()]


def _means(
    row: Mapping[str, Any], split: str, by_hospital: Mapping[str, Mapping[str, float | None]]
) -> dict[str, float]:
    """Means of all figures, or of those that are known where the hospitals' own aren't."""
    known = row.get("within", {}).get(split, {})
    means = {name: one["mean"] for name, one in known.items()}
    means |= {f"{name}_error_bound": one["bound"] for name, one in known.items()}
    return mean_figures(by_hospital.values()) or means


def model_figure(evaluation: Mapping[str, Any], split: str, figure: Figure) -> float | None:
    """The figure that stands for the model in a line of ``metrics.jsonl``; None where undefined.

    It is the hospitals' mean where the figure is each hospital's own affair (and that of the added
    sums only where no hospital has one), else that of the added sums.
    """
    return _standing(evaluation, split, figure)[0]


def model_bound(evaluation: Mapping[str, Any], split: str, figure: Figure) -> float | None:
    """The error bound to be shown beside ``model_figure``; None where it is too small to matter."""
    return _standing(evaluation, split, figure)[1]


def _standing(
    evaluation: Mapping[str, Any], split: str, figure: Figure
) -> tuple[float | None, float | None]:
    mean = evaluation.get("within", {}).get(split, {}).get(figure.name)
    if figure.within and mean is not None:
        return mean["mean"], figure.bound_in({figure.bound or "": mean["bound"]})
    figures = evaluation["overall"].get(split, {})
    value = figures.get(figure.name)
    return (float(value), figure.bound_in(figures)) if is_number(value) else (None, None)


def mean_of_some(evaluation: Mapping[str, Any], split: str, figure: Figure) -> tuple[int, int]:
    """Of how many hospitals the mean of a figure is, and how many evaluated; (0, 0) where there is
    no mean, or it is of all of them."""
    over = len(evaluation.get("over", {}).get(split, ()))
    mean = evaluation.get("within", {}).get(split, {}).get(figure.name) or {}
    of = mean.get("hospitals", 0)
    return (of, over) if 0 < of < over else (0, 0)


def evaluation_of(rounds: Iterable[Mapping[str, Any]], model_round: int) -> Mapping[str, Any]:
    """The newest evaluation of the model of a round: its own line, or where it was evaluated again
    (``server/rounds/selection.py``). Empty if there is none."""
    found: Mapping[str, Any] = {}
    for row in rounds:
        again = row.get("again") or {}
        for one in (row, again):
            if one.get("round") == model_round and one.get("overall"):
                found = one
    return found


@dataclass(frozen=True)
class Change:
    """From ``round`` on figures are over other hospitals than before."""

    round: int
    joined: list[str]
    left: list[str]

    def short(self) -> str:
        """For a plot: who came and went, or how many where they are several."""
        parts = [(sign, names) for sign, names in (("+", self.joined), ("−", self.left)) if names]
        return " ".join(f"{s}{n[0] if len(n) == 1 else len(n)}" for s, n in parts)

    def sentence(self) -> str:
        """For a reader of the curves."""
        parts = [("with", self.joined), ("without", self.left)]
        who = ", ".join(
            f"{word} {', '.join(names[:5])}{' and others' if len(names) > 5 else ''}"
            for word, names in parts
            if names
        )
        return f"From round {self.round} on figures are over other hospitals than before: {who}."


def changes_of_hospitals(rounds: Iterable[Mapping[str, Any]], split: str) -> list[Change]:
    """Where the hospitals that figures of a split are over change."""
    changes: list[Change] = []
    before: set[str] | None = None
    for row in rounds:
        if (names := row.get("over", {}).get(split)) is None:
            continue
        now = set(names)
        if before is not None and now != before:
            changes.append(Change(row["round"], sorted(now - before), sorted(before - now)))
        before = now
    return changes


def mean_figures(parts: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """Mean of each figure over the hospitals where it is defined, every hospital the same; NaN
    where none has it.

    >>> mean_figures([{"auc": 0.8}, {"auc": 0.9, "f1": None}])["auc"]
    0.8500000000000001
    """
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
    """The first round whose figure reaches ``target``, and its simulated time in seconds.

    Of test rows; of validation rows where there are no test rows. None if it never does.
    """
    for row in rounds:
        split = "test" if row["overall"].get("test") else "validation"
        value, time_s = model_figure(row, split, figure), row.get("simulated_time_s")
        if value is not None and time_s is not None and figure.reaches(value, target):
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
