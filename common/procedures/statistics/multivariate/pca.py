"""Principal components of columns of numbers.

Of complete rows: 1 how many they are and the columns' sums; 2 products of the distances from the
mean. Components are eigenvectors of the covariance (n - 1), or of the correlation; the sign of each
is such that its largest loading is positive (scikit-learn's ``svd_flip``). 3 who has which value:
of columns with a handful of values correlations in full would be their tables, so that all are
rounded first, as ``correlation``'s; and whether one person may be most of a direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import few_values, grain, to_grain
from wardround.common.procedures.hiding.numbers import MOST_OF_ONE
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.counts.correlation import TURNED
from wardround.common.procedures.statistics.frame import Floats, Frame, Mask
from wardround.common.procedures.statistics.multivariate.scaled import (
    CONSTANT,
    COUNTS,
    TOO_FEW,
    categories_in,
    complete,
    enough,
    left_out,
    mean_of,
    of_all,
    scale_shapes,
    scale_sums,
    value_sums,
)
from wardround.common.procedures.statistics.regression import few
from wardround.common.procedures.statistics.regression.leverage import Limit, leverages
from wardround.common.procedures.statistics.regression.solve import upper
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses import PcaOptions

LIMIT = Limit(MOST_OF_ONE)


class Pca(Analysis[PcaOptions]):
    """See the module."""

    kind = "pca"
    most_steps = 3

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        wide = len(self.options.columns)
        if not earlier:
            return scale_shapes(wide, earlier)
        if len(earlier) == 1 and float(earlier[0]["rows"][0]) > 0:
            return {"products": (wide * (wide + 1) // 2,)}
        if len(earlier) == 2 and not _deviations(earlier, wide).all():
            wide = int((_deviations(earlier, wide) > 0).sum())
        return {"values": (wide, few.BINS), "leverage": (1,)} if len(earlier) == 2 and wide else {}

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return COUNTS if not earlier else ("values",) if len(earlier) == 2 else ()

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        if not earlier:
            return scale_sums(frame, self.options.columns, earlier)
        values, whole = complete(frame, self.options.columns)
        distances = values - mean_of(earlier)
        if len(earlier) == 2:
            return _looked(frame, distances, whole, earlier)
        products = distances.T @ distances
        return {"products": products[np.triu_indices(len(products))]}

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        names, rows = self.options.columns, float(earlier[0]["rows"][0])
        if not enough(earlier, max(told.least, len(names) + 1)):
            return Result(notes=[TOO_FEW])
        matrix = symmetric(earlier[1]["products"], len(names)) / (rows - 1)
        notes = [of_all(rows, agreed)]
        if LIMIT.reached(float(earlier[2]["leverage"][0]) if len(earlier) > 2 else 0.0):
            return Result(notes=[*notes, "One person may be most of a component."])
        deviations, people = _deviations(earlier, len(names)), float(earlier[0]["people"][0])
        looked = earlier[2]["values"] if len(earlier) > 2 else np.zeros((0, few.BINS))
        varying = [name for name, one in zip(names, deviations, strict=True) if one > 0]
        if small := [
            n for n, one in zip(varying, looked, strict=True) if few_values(one, told.least)
        ]:
            return Result(notes=[*notes, f"Few persons have a value of {', '.join(small)}."])
        if alike := categories_in(varying, looked):
            matrix = _rounded(matrix, people, told.least)
            notes.append(
                f"Of correlations that are rounded to what {told.least} persons would move them "
                f"by, as five bins or fewer hold all values of {', '.join(alike)}."
            )
        if self.options.scale:
            spread = np.sqrt(np.diag(matrix))
            varies = spread > CONSTANT * np.maximum(1.0, np.abs(mean_of(earlier)))
            notes += left_out(names, varies)
            names = [name for name, there in zip(names, varies, strict=True) if there]
            if not names:
                return Result(notes=notes)
            matrix = matrix[np.ix_(varies, varies)] / np.outer(spread[varies], spread[varies])
        return self._shown(names, matrix, notes)

    def _shown(self, names: Sequence[str], matrix: Floats, notes: list[str]) -> Result:
        """Of columns that vary. ``matrix``: their covariance or correlation."""
        variances, vectors = components(matrix)
        share = variances / variances.sum()
        together = np.cumsum(share)
        parts = [f"PC{n + 1}" for n in range(min(self.options.components, len(names)))]
        spread: list[list[Cell]] = [
            [part, float(variances[n]), float(share[n]), float(together[n])]
            for n, part in enumerate(parts)
        ]
        head = ("component", "variance", "share", "together")
        loadings: list[list[Cell]] = [
            [name, *map(float, vectors[n, : len(parts)])] for n, name in enumerate(names)
        ]
        bars = {"type": "bars", "title": "Share of variance", "x": "component", "y": "share"}
        return Result(
            sheets=[
                Sheet(head, spread, title="Variance of the components"),
                Sheet(("column", *parts), loadings, "loadings", "Loadings"),
            ],
            plots=[bars | {"labels": parts, "values": share[: len(parts)].tolist()}],
            notes=notes,
            values={
                "variances": variances.tolist(),
                "columns": list(names),
                "components": vectors.T.tolist(),
            },
        )


def _deviations(earlier: Earlier, wide: int) -> Floats:
    """Of each column, 0 of a constant one."""
    squares = np.diag(symmetric(earlier[1]["products"], wide)) / earlier[0]["rows"]
    spread = np.sqrt(np.maximum(squares, 0.0))
    return np.where(spread > CONSTANT * np.maximum(1.0, np.abs(mean_of(earlier))), spread, 0.0)


def _looked(frame: Frame, distances: Floats, whole: Mask, earlier: Earlier) -> Sums:
    """A hospital's sums of the third step, of the columns that vary."""
    spread = _deviations(earlier, distances.shape[1])
    there = spread > 0
    scaled = distances[:, there] / spread[there]
    products = symmetric(earlier[1]["products"], len(spread))[np.ix_(there, there)]
    products = products / np.outer(spread[there], spread[there])
    own = np.zeros(len(whole))
    own[whole] = leverages(scaled, np.ones(len(scaled)), upper(products))
    return {
        "values": value_sums(frame, scaled, whole),
        "leverage": np.array([LIMIT.powers(frame.of_persons(own))]),
    }


def _rounded(matrix: Floats, people: float, least: int) -> Floats:
    """A covariance whose correlations and deviations are rounded."""
    spread = np.sqrt(np.diag(matrix))
    step = grain(TURNED, people, least)
    found = np.eye(len(matrix))
    for i, j in zip(*np.triu_indices(len(matrix), 1), strict=True):
        r = matrix[i, j] / (spread[i] * spread[j]) if spread[i] and spread[j] else 0.0
        found[i, j] = found[j, i] = to_grain(float(r), step)
    short = np.array([to_grain(one, grain(one, people, least)) for one in spread.tolist()])
    return found * np.outer(short, short)


def symmetric(sent: Floats, wide: int) -> Floats:
    """The matrix whose upper triangle stands in ``sent``, row by row. Raises TaskError."""
    if sent.shape != (wide * (wide + 1) // 2,):
        raise TaskError("the totals are of other columns")
    found = np.zeros((wide, wide))
    found[np.triu_indices(wide)] = sent
    return found + np.triu(found, 1).T


def components(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, largest first, and eigenvectors as columns, each with its largest entry
    positive."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    signs = np.sign(vectors[largest, np.arange(len(values))])
    return values, vectors * np.where(signs == 0, 1.0, signs)
