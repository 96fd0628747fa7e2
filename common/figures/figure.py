"""What a figure is: its name, which way is better, how exact it is, its unit.

A task says it once, where it makes the figure (``Task.figures``). Whatever stars, ranks, selects or
plots asks a ``FigureTable``, so a figure that nobody described is shown and never ranked.

A figure from added sums counts every row the same. Where it ranks rows by their scores (areas under
a curve), rows of different hospitals are compared too, so it also measures how the hospitals'
prevalences differ, which no patient is helped by. ``within`` marks such: the mean of the hospitals'
own figures stands for the model, and the one over all rows together is shown and never starred.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeGuard

OVERALL = "overall"
"""From the sums added over hospitals: every row counts the same."""
MEAN = "mean"
"""Plain mean of the hospitals' own figures: every hospital counts the same."""
Better = Literal["higher", "lower", "zero", "none"]
NOTABLE_BOUND = 0.005
"""An error bound above this stands beside its figure wherever that is shown."""


@dataclass(frozen=True)
class Figure:
    """What one figure is.

    name : its key in what ``Task.summarise`` returns
    better : which values are: 'higher', 'lower', nearest to 'zero', or 'none' for what says nothing
        of a model's quality (a count, a share)
    bound : name of the figure that says how far this one may be from the exact value
    unit : 'target' where it is in the target column's own unit, '' for a pure number
    within : True where rows of different hospitals must not be ranked against each other
    together : what the figure of the added sums is called, where 'all rows together' isn't it
    """

    name: str
    better: Better = "none"
    bound: str | None = None
    unit: Literal["", "target"] = ""
    within: bool = False
    together: str = ""

    @property
    def stands(self) -> str:
        """Whose figure stands for the model: the hospitals' mean, or that of the added sums."""
        return MEAN if self.within else OVERALL

    def name_of(self, hospital: str) -> str:
        """A hospital's name, or what a figure of several is called."""
        if hospital == OVERALL:
            mixed = "all rows, hospitals mixed" if self.within else "all rows together"
            return self.together or mixed
        return "mean of hospitals" if hospital == MEAN else hospital

    def may_star(self, hospital: str) -> bool:
        """Whether models may be ranked by this figure of a hospital, or of several."""
        return not (self.within and hospital == OVERALL)

    def goodness(self, value: float) -> float:
        """A number that grows with quality; NaN for a figure that is no measure of it.

        >>> Figure("bias", "zero").goodness(-2.0), Figure("rmse", "lower").goodness(3.0)
        (-2.0, -3.0)
        """
        if self.better == "none":
            return math.nan
        if self.better == "zero":
            return -abs(value)
        return value if self.better == "higher" else -value

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is better; anything is better than None, an undefined value never."""
        good = self.goodness(value)
        return not math.isnan(good) and (than is None or good > self.goodness(than))

    def reaches(self, value: float, target: float) -> bool:
        """Whether ``value`` is as good as ``target``, or better."""
        return self.goodness(value) >= self.goodness(target)

    def stars(self, values: Sequence[Any]) -> list[bool]:
        """Which of the values are the best, where at least two can be compared; equal ones all.

        >>> Figure("auc", "higher").stars([0.8, 0.9, None])
        [False, True, False]
        """
        known = [self.goodness(float(v)) for v in values if is_number(v)]
        known = [good for good in known if not math.isnan(good)]
        best = max(known) if len(known) > 1 else math.nan
        return [is_number(v) and self.goodness(float(v)) == best for v in values]

    def bound_in(self, figures: Mapping[str, Any]) -> float | None:
        """The error bound to be shown beside this figure: only one that matters."""
        value = figures.get(self.bound) if self.bound else None
        return float(value) if is_number(value) and value > NOTABLE_BOUND else None


def is_number(value: object) -> TypeGuard[float]:
    """True for a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


BOUND_SENTENCE = "± is how far counting scores in bins may put a figure off; chance is not in it"
"""Stands below tables where ``with_bound`` has shown one."""


def with_bound(text: str, bound: float | None) -> str:
    """A figure's text, with its error bound where there is one to be shown."""
    return text if bound is None else f"{text} ±{bound:.3f}"


class FigureTable:
    """A task's figures by name, and which of them chooses the best round.

    figures : later ones win over earlier ones of the same name
    primary : name of the one that chooses and stands in tables
    """

    def __init__(self, figures: Iterable[Figure], primary: str) -> None:
        self._by_name = {figure.name: figure for figure in figures}
        self.primary = self[primary]

    def __getitem__(self, name: str) -> Figure:
        """The figure of this name; one that nobody described is no measure of quality."""
        return self._by_name.get(name) or Figure(name)

    def __contains__(self, name: object) -> bool:
        """Whether this figure was described."""
        return name in self._by_name

    def within(self) -> list[Figure]:
        """The figures that are each hospital's own affair, by name."""
        return [one for _, one in sorted(self._by_name.items()) if one.within]

    def bounds(self) -> set[str]:
        """Names of the figures that are bounds of others: no figures of their own in a table."""
        return {figure.bound for figure in self._by_name.values() if figure.bound}

    def counts(self) -> set[str]:
        """Names of those that are described and measure no quality."""
        return {name for name, one in self._by_name.items() if one.better == "none"}

    def record(self) -> dict[str, Any]:
        """For ``run.json``."""
        return {
            "primary": self.primary.name,
            "figures": {name: asdict(one) for name, one in sorted(self._by_name.items())},
        }

    @classmethod
    def read(cls, summary: Mapping[str, Any]) -> FigureTable:
        """The table of a ``run.json``; of an older one, what is known by name."""
        primary = str(summary.get("primary", "loss"))
        if isinstance(entries := summary.get("figures"), dict):
            return cls((Figure(**entry) for entry in entries.values()), primary)
        higher = bool(summary.get("higher_is_better", False))
        known = FigureTable(STANDARD, primary).primary
        own = replace(known, better="higher" if higher else "lower")
        return cls([*STANDARD, own], primary)


# --- what sums.py and survival.py make --------------------------------------------------
LOSS = Figure("loss", "lower")
_EXAMPLES = Figure("examples")
_AUC = Figure("auc", "higher", bound="auc_error_bound", within=True)
_OF_CLASSES = (
    _AUC,
    Figure("auc_error_bound"),
    Figure("accuracy", "higher"),
    Figure("balanced_accuracy", "higher"),
    Figure("brier", "lower"),
    _EXAMPLES,
    LOSS,
)
BINARY = (
    *_OF_CLASSES,
    Figure("average_precision", "higher", bound="average_precision_error_bound", within=True),
    Figure("average_precision_error_bound"),
    Figure("sensitivity", "higher"),
    Figure("specificity", "higher"),
    Figure("precision", "higher"),
    Figure("f1", "higher"),
    Figure("calibration_error", "lower"),
    Figure("prevalence"),
)
MULTICLASS = (*_OF_CLASSES, Figure("macro_f1", "higher"))
REGRESSION = (
    Figure("rmse", "lower", unit="target"),
    Figure("mae", "lower", unit="target"),
    Figure("r2", "higher"),
    Figure("bias", "zero", unit="target"),
    _EXAMPLES,
    LOSS,
)
SURVIVAL = (
    Figure("c_index", "higher", together="all pairs within hospitals"),
    Figure("events"),
    _EXAMPLES,
    LOSS,
)
STANDARD = (*BINARY, *MULTICLASS, *REGRESSION, *SURVIVAL, Figure("recall", "higher"))
"""What is known by its name alone, in tasks that don't describe their figures."""
KNOWN = FigureTable(STANDARD, LOSS.name)
"""The same as a table."""


def told(figures: Mapping[str, Any], text: Callable[[Any], str]) -> dict[str, str]:
    """The text of each figure that is no bound of another, with its error bound where that matters,
    for tables that stand without a task."""
    bounds = KNOWN.bounds()
    return {
        name: with_bound(text(value), KNOWN[name].bound_in(figures) if is_number(value) else None)
        for name, value in figures.items()
        if name not in bounds
    }
