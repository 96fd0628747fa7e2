"""k-means over hospitals: Lloyd's steps on summed counts and sums of each cluster.

Columns are put to scale first. Centres begin at random places that follow from the settings, never
at a row; several starts go side by side, each until nothing changes, and the one of the smallest
inertia counts. From equal centres it is scikit-learn's ``KMeans(algorithm="lloyd", tol=0)``; a
cluster that loses all rows keeps its centre. With the first of these steps comes who has which
value: of a handful of them a centre would be counts, so that nothing is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.fold import Fold
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.multivariate.scaled import (
    COUNTS,
    TOO_FEW,
    Scale,
    as_categories,
    categories_in,
    complete,
    enough,
    left_out,
    of_all,
    scale_shapes,
    scale_sums,
    value_sums,
)
from wardround.common.procedures.statistics.regression.few import BINS
from wardround.common.procedures.statistics.result import FEW, Cell, Result, Sheet, Told
from wardround.common.settings.analyses import KmeansOptions

VALUES = "values"
_SCALED = 2
"""Steps before the first centres."""
_SETTLED = 1e-9
"""Centres that moved less, of a deviation, stand still."""


@dataclass(frozen=True)
class Course:
    """One start, as far as it has come.

    centres : K x D, to scale
    done : nothing changes any more
    sizes, people, inertia : of the last sums; of no step yet zeros and infinity
    """

    centres: Floats
    done: bool
    sizes: Floats
    people: Floats
    inertia: float


class Kmeans(Analysis[KmeansOptions]):
    """See the module."""

    kind = "kmeans"

    def __init__(self, options: KmeansOptions, private: bool = False) -> None:
        super().__init__(options, private)
        self._folds: dict[int, Fold[list[Course]]] = {}

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def most_steps(self) -> int:
        return _SCALED + self.options.iterations

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        if len(earlier) < _SCALED:
            if earlier and not enough(earlier, 1):
                return {}
            return scale_shapes(len(self.options.columns), earlier)
        scale, found = Scale.of(earlier), Shapes()
        if self.categories_in(earlier):
            return {}
        wide, count = int(scale.varies.sum()), self.options.clusters
        if wide and len(earlier) < self.most_steps:
            for start, course in enumerate(self.courses(earlier)):
                if not course.done:
                    found[f"{start}/rows"] = found[f"{start}/people"] = (count,)
                    found |= {f"{start}/sums": (count, wide), f"{start}/inertia": (1,)}
            if len(earlier) == _SCALED:
                found[VALUES] = (wide, BINS)
        return found

    def categories_in(self, earlier: Earlier) -> list[str]:
        """Columns with a handful of values, as far as that was looked at."""
        if len(earlier) <= _SCALED or VALUES not in earlier[_SCALED]:
            return []
        there = zip(self.options.columns, Scale.of(earlier).varies, strict=True)
        return categories_in([name for name, one in there if one], earlier[_SCALED][VALUES])

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        if len(earlier) < _SCALED:
            return () if earlier else COUNTS
        asked = self.shapes(agreed, earlier)
        return [key for key in asked if key.endswith((*COUNTS, VALUES))]

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        if len(earlier) < _SCALED:
            return scale_sums(frame, self.options.columns, earlier)
        values, whole = complete(frame, self.options.columns)
        scaled, found = Scale.of(earlier).scaled(values), Sums()
        if len(earlier) == _SCALED:
            found[VALUES] = value_sums(frame, scaled, whole)
        codes = np.full(len(whole), -1, np.int64)
        for start, course in enumerate(self.courses(earlier)):
            if course.done:
                continue
            nearest, squares = assigned(scaled, course.centres)
            codes[whole] = nearest
            sizes = np.bincount(nearest, minlength=len(course.centres)).astype(np.float64)
            totals = np.zeros_like(course.centres)
            np.add.at(totals, nearest, scaled)
            found |= {
                f"{start}/rows": sizes,
                f"{start}/people": frame.counted_people(codes, len(sizes)),
                f"{start}/sums": totals,
                f"{start}/inertia": np.array([squares.sum()]),
            }
        return found

    def courses(self, earlier: Earlier) -> list[Course]:
        """All starts, after these totals."""
        wide = int(Scale.of(earlier).varies.sum())
        if wide not in self._folds:
            self._folds[wide] = Fold(lambda: self._starts(wide), _all_next)
        return self._folds[wide].after(earlier[_SCALED:])

    def _starts(self, wide: int) -> list[Course]:
        rng, none = np.random.default_rng(self.options.seed), np.zeros(self.options.clusters)
        places = (
            rng.standard_normal((self.options.clusters, wide)) for _ in range(self.options.starts)
        )
        return [Course(one, False, none, none, np.inf) for one in places]

    def best(self, earlier: Earlier) -> Course:
        """The start of the smallest inertia; of equal ones the first."""
        return min(self.courses(earlier), key=lambda course: course.inertia)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        if not enough(earlier, max(told.least, self.options.clusters)):
            return Result(notes=[TOO_FEW])
        scale, names = Scale.of(earlier), self.options.columns
        notes = [of_all(scale.rows, agreed), *left_out(names, scale.varies)]
        if not scale.varies.any():
            return Result(notes=notes)
        if alike := self.categories_in(earlier):
            return Result(notes=[*notes, as_categories(alike)])
        kept = [name for name, there in zip(names, scale.varies, strict=True) if there]
        return self._shown(self.best(earlier), scale, kept, notes, told)

    def _shown(
        self, best: Course, scale: Scale, names: list[str], notes: list[str], told: Told
    ) -> Result:
        if not best.done:
            notes.append(f"It still changed after {self.options.iterations} steps.")
        shares = not (best.people < told.least).any()
        if not shares:  # those of the others would leave what the few have together
            notes.append("A cluster has few persons, so that no shares are shown.")
        rows, centres = list[list[Cell]](), []
        for number, place in enumerate(np.argsort(-best.sizes, kind="stable"), 1):
            if best.people[place] < told.least:
                rows.append([f"{number}", FEW, *([None] * len(names))])
                continue
            centre = list(map(float, scale.in_units(best.centres[place][None])[0]))
            centres.append(centre)
            share = float(best.sizes[place] / scale.rows) if shares else None
            rows.append([f"{number}", share, *centre])
        return Result(
            sheets=[Sheet(("cluster", "share of rows", *names), rows, title="Centres")],
            notes=notes,
            values={"columns": names, "centres": centres, "inertia": best.inertia},
        )


_KEYS = ("rows", "people", "sums", "inertia")


def _all_next(courses: list[Course], sums: Sums) -> list[Course]:
    return [
        _next(course, {key: sums[f"{start}/{key}"] for key in _KEYS})
        if f"{start}/rows" in sums
        else course
        for start, course in enumerate(courses)
    ]


def _next(course: Course, sums: Sums) -> Course:
    sizes = sums["rows"]
    there = sizes > 0
    centres = np.where(
        there[:, None], sums["sums"] / np.where(there, sizes, 1.0)[:, None], course.centres
    )
    settled = bool(np.abs(centres - course.centres).max(initial=0.0) <= _SETTLED)
    return Course(centres, settled, sizes, sums["people"], float(sums["inertia"][0]))


def assigned(rows: Floats, centres: Floats) -> tuple[np.ndarray, Floats]:
    """The nearest centre of each of M rows (the first of equal ones), and its squared distance."""
    distances = ((rows[:, None, :] - centres[None]) ** 2).sum(2)
    nearest = distances.argmin(1)
    return nearest, distances[np.arange(len(rows)), nearest]
