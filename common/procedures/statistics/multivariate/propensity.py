"""Propensity scores: who is treated, by a formula; groups weighted by it; what is still unbalanced.

Own steps: Newton's for the logistic regression, then sums of each group with its weights, and where
an outcome is named squared distances from the groups' weighted means. Weights are those of the
whole population (inverse probabilities, 'ate'), of the treated ('att'), or of who could be either
('overlap', Li, Morgan, Zaslavsky 2018). The effect is the difference of weighted means (Hajek's);
its standard error takes the scores as known, which for 'ate' is on the safe side (Lunceford,
Davidian 2004).

Standardised mean differences have the unweighted groups' deviations below, before and after, as R's
cobalt has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import few_values
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Earlier
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.regression import few, rows
from wardround.common.procedures.statistics.regression.by_formula import ByFormula, Known
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.glm import lost, point
from wardround.common.procedures.statistics.regression.newton import (
    MOST_POINTS,
    Search,
    search,
    shapes_of,
)
from wardround.common.procedures.statistics.regression.rows import Floats, Rows
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses import PropensityOptions

_GROUPS = ("others", "treated")
_WORDS = {
    "ate": "of everybody",
    "att": "of the treated",
    "overlap": "of those who could be in either group",
}


class Propensity(ByFormula[PropensityOptions]):
    """See the module."""

    kind = "propensity"

    @property
    def family_name(self) -> str:
        return "logistic"

    @property
    def numbers(self) -> Iterable[str]:
        named = [self.options.outcome] if self.options.outcome and not self.options.binary else []
        return [*super().numbers, *named]

    @property
    def truths(self) -> Iterable[str]:
        named = [self.options.outcome] if self.options.outcome and self.options.binary else []
        return [*super().truths, *named]

    @property
    def own_steps(self) -> int:
        return MOST_POINTS + 1 + (self.options.outcome is not None)

    def own_counts(self, known: Known, own: Sequence[Sums]) -> Iterable[str]:
        asked = self.asks(known, own)
        return [name for name in ("people", "answers") if name in asked]

    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        found = self._search(known, own)
        if not found.ended:
            return {} if found.used >= MOST_POINTS else dict(shapes_of(known.width))
        if len(own) == found.used:
            wide = (2, known.width)
            asked: Shapes = {"size": (2, 3), "plain": wide, "plain_squares": wide}
            asked |= {"weighted": wide}
            more: Shapes = {"outcome": (2, 2), "people": (2, 2), "answer": (2,)}
            return asked | (more if self.options.outcome else {})
        if len(own) == found.used + 1 and self.options.outcome:
            return {"spread": (2,), "answers": (2 * few.BINS,)}
        return {}

    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        z = mine.standard(known.scale)
        return point(mine, z, z @ self._search(known, own).at + mine.offset, self._family)

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        if len(earlier) <= self._agreeing:
            return super().sums(frame, agreed, earlier)
        known, looks = self._known(agreed, earlier)
        own, found = looks.own, self._search(known, looks.own)
        if not found.ended or not looks.done:
            return super().sums(frame, agreed, earlier)
        treated, weight, keep, _ = self._outcomes(frame)
        mine = rows.taken(known.design, frame, agreed, treated, weight, keep)
        z = mine.standard(known.scale)
        shares = self._weights_of(mine.y, expit(z @ found.at + mine.offset))
        groups = np.stack([mine.y == 0, mine.y == 1]).astype(np.float64)
        if len(own) == found.used:
            return self._of_groups(frame, mine, z, groups, shares)
        y, there = self._outcome_of(frame, mine)
        means = own[found.used]["outcome"][:, 1] / own[found.used]["outcome"][:, 0]
        squares = (shares * there * (y - means[mine.y.astype(np.int64)])) ** 2
        codes, moments = np.full(len(frame), -1, np.int64), own[found.used]["answer"]
        where = few.bins(y, known.rows, moments) + few.BINS * mine.y.astype(np.int64)
        codes[mine.keep] = np.where(there == 1, where, -1)
        counted = frame.counted_people(codes, 2 * few.BINS)
        return {"spread": groups @ squares, "answers": counted}

    def _of_groups(
        self, frame: Frame, mine: Rows, z: Floats, groups: Floats, shares: Floats
    ) -> Sums:
        size = np.stack([groups.sum(1), groups @ shares, groups @ shares**2], axis=1)
        found: Sums = {
            "size": size,
            "plain": groups @ z,
            "plain_squares": groups @ z**2,
            "weighted": (groups * shares) @ z,
        }
        if self.options.outcome:
            y, there = self._outcome_of(frame, mine)
            kept = groups * shares * there
            found["outcome"] = np.stack([kept.sum(1), kept @ y], axis=1)
            found["people"] = self._people(frame, mine, y, there)
            found["answer"] = np.array([y.sum(), (y**2).sum()])  # of gaps 0
        return found

    def _people(self, frame: Frame, mine: Rows, y: Floats, there: Floats) -> Floats:
        """Persons with a known outcome, by group, of 0 and of 1 apart where it is a yes or no."""
        codes = np.full(len(frame), -1, np.int64)
        of_one = (y == 1) if self.options.binary else np.zeros(len(y), np.bool_)
        own = 2 * mine.y.astype(np.int64) + of_one
        codes[mine.keep] = np.where(there == 1, own, -1)
        return frame.counted_people(codes, 4).reshape(2, 2)

    def _outcome_of(self, frame: Frame, mine: Rows) -> tuple[Floats, Floats]:
        """Of the M rows that count: the outcome (0 where it is missing), and 1 where it isn't."""
        name = str(self.options.outcome)
        every = frame.truths(name) if self.options.binary else frame.values(name)
        values = every[mine.keep]
        there = np.isfinite(values)
        return np.where(there, values, 0.0), there.astype(np.float64)

    def _weights_of(self, treated: Floats, score: Floats) -> Floats:
        """M weights."""
        low = self.options.trim
        score = np.clip(score, low, 1 - low)
        if self.options.estimand == "overlap":
            return np.where(treated == 1, 1 - score, score)
        if self.options.estimand == "att":
            return np.where(treated == 1, 1.0, score / (1 - score))
        return np.where(treated == 1, 1 / score, 1 / (1 - score))

    def _search(self, known: Known, own: Sequence[Sums]) -> Search:
        steps = [one for one in own if "slope" in one]
        return search(self.begin(known), steps, known.rows, self._family.dispersed)

    # --- what is shown ---------------------------------------------------------------------------
    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        found = self._search(known, own)
        if not found.ended or len(own) == found.used:
            raise NoAnswer(lost(known.design, found))
        total = own[found.used]
        size = total["size"]
        start = int(known.intercept)
        names = known.design.names[start:]
        means = total["plain"] / size[:, :1]
        spread = np.maximum(total["plain_squares"] / size[:, :1] - means**2, 0.0)
        spread *= (size[:, 0] / np.maximum(size[:, 0] - 1, 1))[:, None]
        pooled = np.sqrt(spread.mean(0))[start:]
        before = (means[1] - means[0])[start:]
        weighted = total["weighted"] / size[:, 1:2]
        after = (weighted[1] - weighted[0])[start:]
        with np.errstate(divide="ignore", invalid="ignore"):
            differences = np.stack([before / pooled, after / pooled])
        balance: list[list[Cell]] = [
            [name, *map(float, differences[:, place])] for place, name in enumerate(names)
        ]
        enough = size[:, 1] ** 2 / size[:, 2]
        sheets = [
            Sheet(("column", "before", "after"), balance, title="Standardised mean differences"),
            Sheet(
                ("group", "share of rows", "effective share"),
                [
                    [name, float(size[n, 0] / known.rows), float(enough[n] / size[n, 0])]
                    for n, name in enumerate(_GROUPS)
                ],
                "groups",
                "Groups, and what weighting leaves of their size",
            ),
        ]
        effect, notes = self._effect(own[found.used :], told.least)
        if effect is not None:
            sheets.insert(0, effect[0])
        values: dict[str, Any] = {
            "columns": list(names),
            "before": differences[0].tolist(),
            "after": differences[1].tolist(),
            "score": (known.scale.back(known.design.names) @ found.at).tolist(),
        }
        return Result(
            sheets=sheets,
            plots=[_love(names, differences)],
            notes=[f"Weighted to the columns {_WORDS[self.options.estimand]}.", *notes],
            values=values | (effect[1] if effect is not None else {}),
        )

    def _effect(
        self, last: Sequence[Sums], least: int
    ) -> tuple[tuple[Sheet, dict[str, float]] | None, list[str]]:
        """Difference of the weighted means, and notes where there is none."""
        if len(last) < 2:
            return None, []
        people = last[0]["people"]
        small = (people < least) if self.options.binary else (people.sum(1) < least)
        if small.any():
            what = " of one outcome" if self.options.binary else ""
            return None, [f"Fewer than {least} persons{what} in a group: no effect is shown."]
        answers = last[1]["answers"].reshape(2, few.BINS)
        if any(few_values(one, least) for one in (*answers, answers.sum(0))):
            return None, [f"Fewer than {least} persons have a value of it: no effect is shown."]
        weight, sums = last[0]["outcome"].T
        means = sums / weight
        variances = last[1]["spread"] / weight**2
        difference, error = float(means[1] - means[0]), float(np.sqrt(variances.sum()))
        z = norm.isf((1 - self.options.level) / 2)
        head = ("", "mean", "standard error", "from", "to", "p")
        made: list[list[Cell]] = []
        for name, value, one in (
            (_GROUPS[1], float(means[1]), float(np.sqrt(variances[1]))),
            (_GROUPS[0], float(means[0]), float(np.sqrt(variances[0]))),
        ):
            made.append([name, value, one, value - z * one, value + z * one, None])
        p = float(2 * norm.sf(abs(difference / error))) if error > 0 else None
        made.append(
            ["difference", difference, error, difference - z * error, difference + z * error, p]
        )
        title = f"'{self.options.outcome}', weighted"
        sheet = Sheet(head, made, "effect", title)
        return (sheet, {"effect": difference, "standard_error": error}), []


def _love(names: Sequence[str], differences: Floats) -> dict[str, Any]:
    """Thomas Love's plot of what is unbalanced."""
    rows_ = [
        {"name": name, "values": np.abs(differences[:, place]).tolist()}
        for place, name in enumerate(names)
    ]
    return {
        "type": "dots",
        "title": "Standardised mean differences",
        "x": "absolute difference in deviations; 0.1 is often taken as balanced",
        "rows": rows_,
        "series": ["before", "after"],
        "at": [0.0, 0.1],
    }
