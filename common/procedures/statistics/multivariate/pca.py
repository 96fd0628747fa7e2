"""Principal components of columns of numbers.

Of complete rows: 1 how many they are and the columns' sums; 2 products of the distances from the
mean. Components are eigenvectors of the covariance (n - 1), or of the correlation; the sign of each
is such that its largest loading is positive (scikit-learn's ``svd_flip``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.frame import Floats, Frame
from wardround.common.procedures.statistics.multivariate.scaled import (
    CONSTANT,
    COUNTS,
    TOO_FEW,
    complete,
    enough,
    left_out,
    mean_of,
    of_all,
    scale_shapes,
    scale_sums,
)
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses import PcaOptions


class Pca(Analysis[PcaOptions]):
    """See the module."""

    kind = "pca"
    most_steps = 2

    @property
    def numbers(self) -> Iterable[str]:
        return self.options.columns

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        wide = len(self.options.columns)
        if not earlier:
            return scale_shapes(wide, earlier)
        if len(earlier) == 1 and float(earlier[0]["rows"][0]) > 0:
            return {"products": (wide * (wide + 1) // 2,)}
        return {}

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return () if earlier else COUNTS

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        if not earlier:
            return scale_sums(frame, self.options.columns, earlier)
        values, _ = complete(frame, self.options.columns)
        distances = values - mean_of(earlier)
        products = distances.T @ distances
        return {"products": products[np.triu_indices(len(products))]}

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        names, rows = self.options.columns, float(earlier[0]["rows"][0])
        if not enough(earlier, max(told.least, len(names) + 1)):
            return Result(notes=[TOO_FEW])
        matrix = symmetric(earlier[1]["products"], len(names)) / (rows - 1)
        notes = [of_all(rows, agreed)]
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


def symmetric(upper: Floats, wide: int) -> Floats:
    """The matrix whose upper triangle stands in ``upper``, row by row. Raises TaskError."""
    if upper.shape != (wide * (wide + 1) // 2,):
        raise TaskError("the totals are of other columns")
    found = np.zeros((wide, wide))
    found[np.triu_indices(wide)] = upper
    return found + np.triu(found, 1).T


def components(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, largest first, and eigenvectors as columns, each with its largest entry
    positive."""
    values, vectors = np.linalg.eigh(matrix)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    signs = np.sign(vectors[largest, np.arange(len(values))])
    return values, vectors * np.where(signs == 0, 1.0, signs)
