"""The task ``linked``: from a shard's files to ``LinkedRows``.

It trains nothing by itself: what is computed is the joint procedure's (``common/joint``). A shard
is never split: which rows teach is said over the linked ones, of which no party alone knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.row_keys import content_key
from wardround.common.tasks.data.shards import shard_sites
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import READABLE, read_table
from wardround.common.tasks.linked.options import LinkedOptions
from wardround.common.tasks.linked.reading import at_party, with_keys
from wardround.common.tasks.linked.rows import LinkedRows

_TRAINS_NOTHING = "task 'linked' has no model of its own; it is for joint procedures"


class LinkedTask(Task[LinkedRows]):
    """See ``LinkedOptions`` for the keyword arguments. Raises pydantic.ValidationError."""

    options_model = LinkedOptions
    preparation_reads_rows = False

    def __init__(self, **options: Any) -> None:
        self.options = LinkedOptions(**options)

    # --- data -----------------------------------------------------------------------------------
    def load(self, path: Path | None) -> LinkedRows:
        """All rows that have every identifier; ``at`` says whose columns are read. There is no
        example data."""
        if path is None:
            raise DataError("task 'linked' has no example data; name a file or folder (data.path)")
        return with_keys(self.rows_of(path), self.options)

    def rows_of(self, path: Path) -> Table:
        """All rows of a shard's files as they are written. Raises DataError."""
        options = self.options
        return read_table(path, options.dialect, options.missing_values, options.text_columns)

    def at(self, raw: LinkedRows, hospital: str) -> LinkedRows:
        """The same with this party's columns, every cell of which can be read."""
        return at_party(raw, hospital)

    def sites(self, path: Path) -> dict[str, Path]:
        """Files that ``read_table`` reads in a folder, and folders, by name."""
        return shard_sites(path, READABLE)

    def labels(self, raw: LinkedRows) -> NDArray[np.int64]:
        """Nothing to tell rows apart by: 0."""
        return np.zeros(len(raw), dtype=np.int64)

    def row_keys(self, raw: LinkedRows) -> NDArray[np.str_]:
        """A digest of each row's identifiers."""
        return np.array([content_key(one) for one in raw.keys], dtype=np.str_)

    def given_split(self, raw: LinkedRows) -> NDArray[np.str_]:
        """All of it is one part."""
        return np.full(len(raw), "train")

    def left_out(self, raw: LinkedRows) -> tuple[LeftOut, ...]:
        return raw.left_out

    def warnings(self, raw: LinkedRows) -> list[str]:
        """How the files are written; inputs that are mostly missing, or the same in every row."""
        lines = list(raw.table.told)
        for name in raw.own.features:
            if (share := raw.table.missing(name).mean()) > 0.5:
                lines.append(f"column '{name}' is {share:.0%} missing")
        constant = [name for name in raw.columns if len(raw) and np.ptp(raw.numbers(name)) == 0]
        return [*lines, *(f"input '{name}' is the same in every row" for name in constant)]

    # --- there is no model ------------------------------------------------------------------------
    def model(self, totals: Sums) -> nn.Module:
        raise TaskError(_TRAINS_NOTHING)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise TaskError(_TRAINS_NOTHING)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        raise TaskError(_TRAINS_NOTHING)

    def summarise(self, sums: Sums) -> dict[str, float]:
        raise TaskError(_TRAINS_NOTHING)
