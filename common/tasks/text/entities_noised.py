"""Figures of named entities from counts that carry noise.

Of each row hits, false and missed entities by type: at most ``MOST`` of them together. A row with
more adds its counts scaled down, rounded towards 0: so it changes all counts together by at most
``MOST`` (L1, and so L2), and the number of rows by 1. Where most rows have more, figures are of
those scaled counts.

Shapes: N rows, T tokens, L tags, E types.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from wardround.common.figures.noised import Found, Measured, Share, narrow
from wardround.common.figures.noised_classes import f1_found, rows_found
from wardround.common.figures.sums import Floats, Sums
from wardround.common.tasks.private_sums import PrivateSums, finite_rows
from wardround.common.tasks.text.entities import entity_counts

MOST = 8
"""Entities of a row that count: hits, false and missed ones."""


class EntitySums(PrivateSums):
    """Of outputs N x T x L. ``entities``: the types' names."""

    sensitivity = math.sqrt(MOST**2 + 1)

    def __init__(self, entities: Sequence[str]) -> None:
        self._entities = list(entities)

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        known = finite_rows(outputs)
        predicted = outputs[known].argmax(2).numpy()
        counts = entity_counts(targets[known].numpy(), predicted, len(self._entities))
        of_row = counts.sum(axis=(1, 2), keepdims=True)
        counts = np.where(of_row > MOST, counts * MOST // np.maximum(of_row, 1), counts)
        whole = counts.sum(axis=0, dtype=np.float64)
        return {"entities": whole, "rows": np.array([float(known.sum())])}

    def measured(self, sums: Sums, noise: float) -> Measured:
        cells = np.asarray(sums["entities"], dtype=np.float64)
        if cells.shape != (3, len(self._entities)) or np.shape(sums["rows"]) != (1,):
            raise ValueError(f"entities: found shape {cells.shape}")
        found, none = Measured(), np.zeros_like(cells)
        for number, name in [(None, ""), *enumerate(f"_{one}" for one in self._entities)]:
            these = none.copy()
            these[:, slice(None) if number is None else number] = 1.0
            hits, extra, missed = (_only(these, which) for which in range(3))

            def share(above: Floats, below: Floats) -> Found:
                return narrow(Share(above.ravel(), below.ravel()).found(cells.ravel(), noise))

            found.add(f"f1{name}", f1_found(share(hits, hits + extra + missed)))
            found.add(f"precision{name}", share(hits, hits + extra))
            found.add(f"recall{name}", share(hits, hits + missed))
            if number is not None:
                found.add(f"support{name}", rows_found(cells[[0, 2], number], noise))
        found.add("examples", rows_found(np.asarray(sums["rows"], dtype=np.float64), noise))
        return found


def _only(cells: Floats, which: int) -> Floats:
    """Of [hits, false, missed] one."""
    found = np.zeros_like(cells)
    found[which] = cells[which]
    return found
