"""A mixture of normal distributions over hospitals: expectation and maximisation by sums.

It begins with k-means (``kmeans.py``), whose clusters are the first responsibilities; then each
step sums them, the rows and their products under the present densities. So does scikit-learn's
``GaussianMixture`` (``reg_covar`` = 1e-6 on columns put to scale), and from equal clusters the
densities are equal. It ends when the mean log-likelihood of a row changes by less than 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.fold import Fold
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.multivariate.kmeans import Kmeans, assigned
from wardround.common.procedures.statistics.multivariate.pca import symmetric
from wardround.common.procedures.statistics.multivariate.scaled import (
    TOO_FEW,
    Scale,
    as_categories,
    complete,
    enough,
    left_out,
    of_all,
)
from wardround.common.procedures.statistics.result import FEW, Cell, Result, Sheet, Told
from wardround.common.settings.analyses import KmeansOptions, MixtureOptions

_RIDGE = 1e-6
_SETTLED = 1e-7
_FIRST = 30
"""Steps of the k-means that it begins with, with those to scale."""


@dataclass(frozen=True)
class Densities:
    """Densities, to scale, after some steps.

    weights : K
    means : K x D
    covariances : K x D x D
    score : mean log-likelihood of a row under the densities before these; None of the first
    """

    weights: Floats
    means: Floats
    covariances: Floats
    steps: int = 0
    score: float | None = None
    done: bool = False


class Mixture(Analysis[MixtureOptions]):
    """See the module."""

    kind = "mixture"

    def __init__(self, options: MixtureOptions, private: bool = False) -> None:
        super().__init__(options, private)
        self._kmeans = Kmeans(
            KmeansOptions(
                name=options.name,
                kind="kmeans",
                columns=options.columns,
                clusters=options.components,
                starts=options.starts,
                iterations=_FIRST - 2,
                seed=options.seed,
            )
        )
        self._fold = Fold[Densities | None](lambda: None, self._next)

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    @property
    def most_steps(self) -> int:
        return _FIRST + 1 + self.options.iterations

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        first, later = _parted(earlier)
        if not later and (asked := self._kmeans.shapes(agreed, first)):
            return asked
        if len(first) < 2:
            return {}
        wide, now = int(Scale.of(first).varies.sum()), self._fold.after(later)
        if (
            not wide
            or self._kmeans.categories_in(first)
            or (now is not None and now.done)
            or len(later) > self.options.iterations
        ):
            return {}
        count = self.options.components
        products = wide * (wide + 1) // 2 if self._full else wide
        return {
            "weights": (count,),
            "means": (count, wide),
            "products": (count, products),
            "score": (1,),
        }

    @property
    def _full(self) -> bool:
        return self.options.covariance == "full"

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        first, later = _parted(earlier)
        if later or not self._kmeans.shapes(agreed, first):
            return ()
        return self._kmeans.counts(agreed, first)

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        first, later = _parted(earlier)
        if not later and self._kmeans.shapes(agreed, first):
            return self._kmeans.sums(frame, agreed, first)
        values, _ = complete(frame, self.options.columns)
        rows = Scale.of(first).scaled(values)
        now, score = self._fold.after(later), 0.0
        if now is None:
            centres = self._kmeans.best(first).centres
            shares = np.eye(len(centres))[assigned(rows, centres)[0]]
        else:
            logs = log_densities(rows, now)
            top = logs.max(1, initial=-math.inf, keepdims=True) if len(rows) else logs
            sums = np.exp(logs - top).sum(1, keepdims=True)
            shares = np.exp(logs - top) / sums
            score = float((top + np.log(sums)).sum()) if len(rows) else 0.0
        if self._full:
            upper = np.triu_indices(rows.shape[1])
            products = shares.T @ (rows[:, upper[0]] * rows[:, upper[1]])
        else:
            products = shares.T @ rows**2
        return {
            "weights": shares.sum(0),
            "means": shares.T @ rows,
            "products": products,
            "score": np.array([score]),
        }

    def _next(self, before: Densities | None, sums: Sums) -> Densities:
        sizes = sums["weights"] + 10 * np.finfo(float).eps  # as scikit-learn: none is nothing
        means = sums["means"] / sizes[:, None]
        wide = means.shape[1]
        found = np.zeros((len(sizes), wide, wide))
        for place, (mean, size) in enumerate(zip(means, sizes, strict=True)):
            own = sums["products"][place] / size
            matrix = symmetric(own, wide) if self._full else np.diag(own)
            spread = matrix - (np.outer(mean, mean) if self._full else np.diag(mean**2))
            found[place] = spread + _RIDGE * np.eye(wide)
        total = float(sums["weights"].sum())
        score = None if before is None else float(sums["score"][0]) / total
        old = None if before is None else before.score
        settled = score is not None and old is not None and abs(score - old) < _SETTLED
        steps = 1 if before is None else before.steps + 1
        return Densities(sizes / sizes.sum(), means, found, steps, score, settled)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        first, later = _parted(earlier)
        if not enough(first, max(told.least, self.options.components)):
            return Result(notes=[TOO_FEW])
        scale, names = Scale.of(first), self.options.columns
        notes = [of_all(scale.rows, agreed), *left_out(names, scale.varies)]
        if alike := self._kmeans.categories_in(first):
            return Result(notes=[*notes, as_categories(alike)])
        now = self._fold.after(later)
        if now is None:
            return Result(notes=notes)
        if not now.done:
            notes.append(f"It still changed after {self.options.iterations} steps.")
        kept = [name for name, there in zip(names, scale.varies, strict=True) if there]
        return self._shown(now, scale, kept, notes, told)

    def _shown(
        self, now: Densities, scale: Scale, names: list[str], notes: list[str], told: Told
    ) -> Result:
        """A component of fewer persons' weight than the smallest cell is not shown."""
        rows, shown = list[list[Cell]](), []
        deviations = scale.deviations[scale.varies]
        for number, place in enumerate(np.argsort(-now.weights, kind="stable"), 1):
            if now.weights[place] * scale.people < told.least:
                rows.append([f"{number}", FEW, *([None] * 2 * len(names))])
                continue
            mean = scale.in_units(now.means[place][None])[0]
            covariance = now.covariances[place] * np.outer(deviations, deviations)
            spread = np.sqrt(np.diag(covariance))
            pairs = [float(x) for pair in zip(mean, spread, strict=True) for x in pair]
            rows.append([f"{number}", float(now.weights[place]), *pairs])
            shown.append({"mean": mean.tolist(), "covariance": covariance.tolist()})
        count = self._numbers(len(names))
        # densities are of columns to scale: back in their units each row's is less by these
        own = (now.score or 0.0) - float(np.log(deviations).sum())
        fit = 2.0 * own * scale.rows
        head = [part for name in names for part in (f"{name}: mean", f"{name}: SD")]
        if len(shown) < len(rows):  # the others' weights would leave its own
            rows = [[row[0], row[1] if row[1] == FEW else None, *row[2:]] for row in rows]
        return Result(
            sheets=[Sheet(("component", "weight", *head), rows, title="Components")],
            notes=notes,
            values={
                "columns": names,
                "components": shown,
                "log_likelihood_of_a_row": own,
                "aic_of_a_row": (2 * count - fit) / scale.rows,
                "bic_of_a_row": (count * math.log(scale.rows) - fit) / scale.rows,
            },
        )

    def _numbers(self, wide: int) -> int:
        """Free parameters."""
        spread = wide * (wide + 1) // 2 if self._full else wide
        return self.options.components * (wide + spread + 1) - 1


def _parted(earlier: Earlier) -> tuple[Sequence[Sums], Sequence[Sums]]:
    """The totals of the k-means, and those after."""
    own = next((n for n, sums in enumerate(earlier) if "weights" in sums), len(earlier))
    return earlier[:own], earlier[own:]


def log_densities(rows: Floats, mixture: Densities) -> Floats:
    """M x K: of each row and component, with its weight."""
    found = np.empty((len(rows), len(mixture.weights)))
    for place, (weight, mean, matrix) in enumerate(
        zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ):
        root = np.linalg.cholesky(matrix)
        away = (
            solve_triangular(root, (rows - mean).T, lower=True) if len(rows) else np.zeros((1, 0))
        )
        size = np.log(np.diag(root)).sum() + len(mean) / 2 * math.log(2 * math.pi)
        found[:, place] = math.log(weight) - size - (away**2).sum(0) / 2
    return found
