"""Rows that a finished model predicts: read as a task's own rows are, without what is predicted.

Such rows have no targets, stay in the order of the input, and each knows where it stands there.
Whatever isn't predicted is counted with a reason, or refused with all problems at once. Nothing
here is asked in training.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.row_names import ROW, check_free

Raw = TypeVar("Raw")
Source = Path | IO[bytes]
"""A file or a folder, or a stream of a CSV's bytes."""


class RowsToPredict(Generic[Raw]):
    """What a ``Task`` says of rows without targets; ``prepare`` works on what these give.

    A task of one's own needs none of it where its ``load`` reads such rows too; to predict data
    frames it defines ``rows_of_table``.
    """

    def load(self, path: Path | None) -> Raw:
        """See ``Task.load``; of rows to predict alone there is none."""
        raise NotImplementedError

    def left_out(self, raw: Raw) -> Sequence[LeftOut]:
        """See ``Task.left_out``; ``readable`` adds to it."""
        return []

    def load_rows(self, path: Path) -> Raw:
        """All rows at ``path``, in order; a target that is there is not looked at.

        Default: what ``load`` reads. Raises DataError; TaskError where ``load`` can't read them.
        """
        try:
            return self.load(path)
        except DataError as error:
            raise TaskError(
                f"{type(self).__name__} has no load_rows(), and its load() can't read these rows "
                f"({error}); define load_rows(path), which reads rows without targets"
            ) from None

    def rows_of_table(self, table: pa.Table) -> Raw:
        """The same of a table in memory. Raises DataError; TaskError where the task has none."""
        raise TaskError(
            f"{type(self).__name__} has no rows_of_table(), so it predicts no table; give the path "
            "of a file, or define rows_of_table(table), which gets a pyarrow.Table"
        )

    def rows_of_values(self, values: Sequence[Any]) -> Raw:
        """The same of texts, or of arrays of numbers (images). Raises as ``rows_of_table``."""
        raise TaskError(
            f"{type(self).__name__} predicts no lists of texts or arrays; give a table, or the "
            "path of a file"
        )

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[Raw]:
        """``load_rows`` a part at a time, so that memory doesn't follow the size of the input.

        as_text : columns that stay as they are written, as identifiers do

        Default: all at once. Raises TaskError for a stream where the task reads none.
        """
        if not isinstance(source, Path):
            raise TaskError(
                f"{type(self).__name__} reads no stream", mend="give the path of a file"
            )
        yield self.load_rows(source)

    def own_statistics(self) -> str:
        """What ``prepare`` takes of the hospital's own training rows, in words that follow 'the
        model'; '' where it needs none of them."""
        return ""

    def readable(self, raw: Raw, totals: Sums) -> Raw:
        """The rows that can be prepared; others are counted (``Task.left_out``), or all that is
        wrong with them is refused. Raises DataError."""
        return raw

    def row_notes(self, raw: Raw, totals: Sums) -> list[str]:
        """What to know of the rows, one line each, without a cell: the same line for all parts of
        an input."""
        return []

    def row_names(self, raw: Raw, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        """Columns that say which row of the input each is: ``file`` where there are several,
        ``row``, the patient where the data names one, and the columns asked for.

        Raises DataError for a column that isn't there.
        """
        if keep:
            raise DataError(f"column '{keep[0]}' can't be kept: the task's rows have no columns")
        return {ROW: pa.array(np.arange(1, size_of(raw) + 1))}

    def predicted(
        self, raw: Raw, values: Mapping[str, NDArray[Any]], keep: Sequence[str] = ()
    ) -> pa.Table:
        """What is given back: ``row_names`` and the columns of ``Task.predictions``."""
        named = self.row_names(raw, keep)
        for name in values:
            check_free(name, named)
        return pa.table({**named, **{name: pa.array(column) for name, column in values.items()}})


def size_of(raw: Any) -> int:
    """Rows of a shard in a task's own form."""
    return len(raw)
