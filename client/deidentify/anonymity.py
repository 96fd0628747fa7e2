"""k-anonymity (Sweeney 2002): how many rows stand in small groups of equal quasi-identifiers.

A row whose group is of one is unique by these columns: whoever knows them finds it. That all groups
are large proves nothing else: not against who knows more, not about what all of a group share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wardround.common.tasks.data.reading.texts import uniques

SMALL = 5


@dataclass(frozen=True)
class Anonymity:
    """k : the smallest group; below : rows in groups of fewer than ``SMALL``; unique : rows alone
    in theirs; of ``rows``, by ``columns``"""

    columns: tuple[str, ...]
    rows: int
    k: int
    below: int
    unique: int


def anonymity(table: pa.Table, columns: Sequence[str]) -> Anonymity:
    """Of the columns together; a gap is a value like any other."""
    number = np.zeros(len(table), dtype=np.int64)
    for name in columns:
        index, values = uniques(table.column(name))
        number = number * (len(values) + 1) + (index + 1)
        _, number = np.unique(number, return_inverse=True)  # so that products never overflow
    sizes = np.bincount(number) if len(number) else np.zeros(0, dtype=np.int64)
    below, unique = int(sizes[sizes < SMALL].sum()), int((sizes == 1).sum())
    return Anonymity(
        tuple(columns), len(table), int(sizes.min()) if len(sizes) else 0, below, unique
    )
