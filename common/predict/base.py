"""What predicts, whether by torch or by a graph: rows in any form, in parts, with all that is wrong
with them told at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums
from wardround.common.predict.given import Piece, pieces_of
from wardround.common.predict.predictions import Predictions
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.reading.together import together
from wardround.common.tasks.data.row_names import FILE
from wardround.common.tasks.schema import Schema
from wardround.common.tasks.to_predict import RowsToPredict

Values = Mapping[str, NDArray[Any]]
"""Columns of predictions, by the names of the schema's outputs."""
_MOST_PARTS = 5
"""Of an input, that have problems and are looked at."""


@dataclass
class Told:
    """What was found in an input so far, beside rows that were predicted."""

    left_out: list[LeftOut] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)

    def counted(self) -> tuple[LeftOut, ...]:
        """Counts of one reason added up."""
        return added(self.left_out)


class Predicts(ABC):
    """A model that is loaded.

    Parameters
    ----------
    reader : reads rows as the model's task does
    totals : what the preparation agreed on
    schema : what goes in and comes out
    """

    def __init__(self, reader: RowsToPredict[Any], totals: Sums, schema: Schema) -> None:
        self._reader, self._totals, self.schema = reader, totals, schema

    @abstractmethod
    def check(self, today: date | None) -> None:
        """Raise ModelRefused for a model that is past its last day; None: on whatever day."""

    @abstractmethod
    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        """The predictions of each part, in their order."""

    def predict(self, rows: Any, *, keep: Sequence[str] = ()) -> Predictions:
        """What the model says of each row.

        Parameters
        ----------
        rows : a data frame, a pyarrow table, a list of dicts or a dict of columns; a path, or a
            list of ``Path``; for texts and images also a list of them, or an array
        keep : columns of the input that stand beside the predictions

        Raises DataError with all that is wrong with the rows; ``tables`` takes inputs of any size.
        """
        told = Told()
        found = list(self.tables(rows, keep=keep, told=told))
        return Predictions(together(found), self.schema, told.counted(), tuple(told.notes))

    def tables(
        self, rows: Any, *, keep: Sequence[str] = (), told: Told | None = None
    ) -> Iterator[pa.Table]:
        """The same a part at a time, so that memory doesn't follow the size of the input; all have
        the same columns.

        told : gets what is left out, and what else to know, as it is found

        Raises DataError as ``predict`` does, when the part comes that is wrong; of those behind it
        only the problems are looked for.
        """
        told = Told() if told is None else told
        known = {one.name for one in self.schema.inputs}
        as_text = [name for name in keep if name not in known]
        pieces = pieces_of(self._reader, rows, as_text)
        for part, values in self._values(self._readable(pieces, told)):
            table = self._reader.predicted(part.raw, values, keep)
            yield table if not part.file else _of_file(table, part.file)

    def _readable(self, pieces: Iterator[Piece], told: Told) -> Iterator[Piece]:
        """Raises DataError with the problems of all parts; from the first on none is predicted."""
        problems: list[str] = []
        while len(problems) < _MOST_PARTS:
            try:
                if (part := next(pieces, None)) is None:
                    break
                raw = self._reader.readable(part.raw, self._totals)
            except DataError as error:
                problems.append(str(error))  # where reading itself ends early, nothing follows
                continue
            told.left_out += self._reader.left_out(raw)
            told.notes |= dict.fromkeys(self._reader.row_notes(raw, self._totals))
            if not problems:
                yield Piece(raw, part.file)
        if problems:
            raise DataError("\n".join(problems))


def _of_file(table: pa.Table, name: str) -> pa.Table:
    """With the file's name in front, where several paths were given."""
    if FILE in table.column_names:
        return table
    return table.add_column(0, FILE, pa.array([name] * len(table), pa.string()))
