"""Where to cut a probability: by sensitivity, specificity, Youden's index or net benefit.

Made of the two histograms of scores that an evaluation sums (``figures/sums.py``), so they are the
same over hospitals as at one. A threshold is the lower edge of a bin: a row is called positive if
its probability is at least that.

- ``sensitivity=S``: the highest threshold with at least this sensitivity
- ``specificity=S``: the lowest with at least this specificity
- ``youden``: the most sensitivity + specificity - 1 (Youden 1950), the lowest of equals
- ``net_benefit=P``: the most true positives minus P / (1 - P) times the false ones (Vickers and
  Elkin 2006): at odds P / (1 - P) a false alarm weighs that part of a hit

Intervals are 95 %: Wilson's of shares, of a net benefit of its standard error. A threshold was
chosen by the same rows, which they don't know of; a row counts as a patient.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wardround.common.durable.versioned import Format
from wardround.common.errors import ConfigError, ModelRefused
from wardround.common.figures.curves import groups_of
from wardround.common.figures.sums import Floats, Sums, score_edges
from wardround.common.text import to_json

if TYPE_CHECKING:
    from wardround.common.tasks.base import Task

THRESHOLDS = "thresholds.json"
"""In a model folder."""
FORMAT = Format("thresholds of a model", "have the model's folder made again")
RULES = (
    *("sensitivity=0.8", "sensitivity=0.9", "sensitivity=0.95"),
    *("specificity=0.8", "specificity=0.9", "specificity=0.95"),
    *("youden", "net_benefit=0.05", "net_benefit=0.1", "net_benefit=0.2", "net_benefit=0.3"),
)
LEAST = 10
"""Fewest rows of each outcome to choose by."""
_Z = 1.959963984540054
_DIGITS = 3
_BY_SHARE = ("sensitivity", "specificity", "net_benefit")


@dataclass(frozen=True)
class Threshold:
    """One of them.

    rule : as above
    threshold : the probability from which on a row is positive
    figures : sensitivity, specificity, ppv, npv, selection_rate, and net_benefit where the rule is
        of it: each [value, low, high], rounded; None where undefined
    """

    rule: str
    threshold: float
    figures: dict[str, list[float | None]]


def thresholds_of(
    task: Task[Any],
    sums: Mapping[str, Any] | None,
    split: str = "",
    rules: Sequence[str] = RULES,
    smallest: int = 0,
) -> str:
    """The text of ``thresholds.json`` by a split's added sums; '' where there is no threshold to be
    chosen: the task has no two classes, or there are too few rows of one.

    split : of which rows they are
    smallest : thresholds lie where the steps of the curves that are shown do, between which there
        are so many rows of each class (``figures/curves.py``); so they tell nothing more
    """
    found = thresholds(sums or {}, rules, smallest) if task.class_scores else []
    if not found:
        return ""
    values = {"split": split, "thresholds": [asdict(one) for one in found]}
    return to_json(FORMAT.seal(values), indent=1) + "\n"


def thresholds(
    sums: Mapping[str, Any], rules: Sequence[str] = RULES, smallest: int = 0
) -> list[Threshold]:
    """Of ``binary_sums``, in the order of the rules; none for other sums or too few rows.

    Raises ConfigError for a rule that is none.
    """
    asked = [_rule(one) for one in rules]
    positives, negatives = (np.asarray(sums.get(key, np.zeros(0))) for key in _HISTOGRAMS)
    if positives.ndim != 1 or len(positives) < 2 or len(positives) != len(negatives):
        return []
    if min(positives.sum(), negatives.sum()) < LEAST:
        return []
    curve = _Curve.of({"positives": positives, "negatives": negatives})
    if smallest:
        groups = groups_of(positives, negatives, smallest)
        if groups is None:
            return []
        curve = curve.at(groups.low)
    return [curve.chosen(rule, kind, share) for rule, kind, share in asked]


def read_thresholds(folder: Path) -> list[dict[str, Any]]:
    """Those of a model's folder, {rule, threshold, figures} each; none where it has no such file.

    Raises ModelRefused for a file that can't be read.
    """
    path = folder / THRESHOLDS
    if not path.is_file():
        return []
    try:
        stored = json.loads(path.read_text("utf-8"))
        found = FORMAT.read(stored, ModelRefused, THRESHOLDS)["thresholds"]
        return [dict(one) for one in found]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ModelRefused(f"{THRESHOLDS} can't be read", mend=FORMAT.mend) from None


def check_rules(rules: Sequence[str]) -> None:
    """Raise ConfigError for a rule that is none."""
    for one in rules:
        _rule(one)


_HISTOGRAMS = ("positives", "negatives")


def _rule(text: str) -> tuple[str, str, float]:
    kind, _, share = text.partition("=")
    try:
        number = float(share or "nan")
    except ValueError:
        number = math.nan
    if kind == "youden" and not share:
        return text, kind, 0.0
    if kind not in _BY_SHARE or not 0 < number < 1:
        raise ConfigError(
            f"threshold '{text:.40}': is no rule; give sensitivity=0.9, specificity=0.9, youden or "
            "net_benefit=0.1"
        )
    return text, kind, number


@dataclass(frozen=True)
class _Curve:
    """Rows called positive, by threshold, lowest first.

    edges : K: 0, then the lower edge of each further bin
    true, false : K: of each outcome
    """

    edges: Floats
    true: Floats
    false: Floats

    @classmethod
    def of(cls, sums: Sums) -> _Curve:
        true, false = (np.cumsum(sums[key][::-1])[::-1] for key in _HISTOGRAMS)
        return cls(np.concatenate([[0.0], score_edges(len(true))]), true, false)

    def at(self, cuts: Sequence[float]) -> _Curve:
        """At these edges only."""
        places = np.searchsorted(self.edges, cuts)
        return _Curve(self.edges[places], self.true[places], self.false[places])

    def chosen(self, rule: str, kind: str, share: float) -> Threshold:
        positive, negative = self.true[0], self.false[0]
        sensitivity, specificity = self.true / positive, 1 - self.false / negative
        odds = share / (1 - share)
        if kind == "sensitivity":
            place = int(np.flatnonzero(sensitivity >= share - _SAME)[-1])
        elif kind == "specificity":
            enough = np.flatnonzero(specificity >= share - _SAME)
            place = int(enough[0]) if len(enough) else len(self.edges) - 1
        elif kind == "youden":
            place = int(np.argmax(np.round(sensitivity + specificity, 12)))
        else:
            place = int(np.argmax(np.round(self.true - odds * self.false, 9)))
        found = self._figures(place)
        if kind == "net_benefit":
            found |= {"net_benefit": self._benefit(place, odds)}
        return Threshold(rule, float(f"{self.edges[place]:.6g}"), found)

    def _figures(self, place: int) -> dict[str, list[float | None]]:
        true, false = float(self.true[place]), float(self.false[place])
        positive, negative = float(self.true[0]), float(self.false[0])
        called, rows = true + false, positive + negative
        return {
            "sensitivity": wilson(true, positive),
            "specificity": wilson(negative - false, negative),
            "ppv": wilson(true, called),
            "npv": wilson(negative - false, rows - called),
            "selection_rate": wilson(called, rows),
        }

    def _benefit(self, place: int, odds: float) -> list[float | None]:
        """A row is worth 1, -odds or 0."""
        rows = float(self.true[0] + self.false[0])
        hit, alarm = float(self.true[place]) / rows, float(self.false[place]) / rows
        mean = hit - odds * alarm
        error = math.sqrt(max(hit + odds**2 * alarm - mean**2, 0) / rows)
        return [round(x, _DIGITS) for x in (mean, mean - _Z * error, mean + _Z * error)]


_SAME = 1e-12


def wilson(count: float, of: float) -> list[float | None]:
    """A share with its interval (Wilson 1927), rounded to three digits; None of nothing.

    >>> wilson(8, 10)
    [0.8, 0.49, 0.943]
    """
    if of <= 0:
        return [None, None, None]
    share, z2 = count / of, _Z**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    reach = _Z / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    ends = (max(middle - reach, 0.0), min(middle + reach, 1.0))
    return [round(x, _DIGITS) for x in (share, *ends)]
