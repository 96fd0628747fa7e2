"""Prompts that a finished language model answers: lines of JSON without a response, or texts.

A line may be as it is in training; what it answers is not looked at. A text that is given is one
question of a user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import added
from wardround.common.tasks.data.row_names import FILE, ROW
from wardround.common.tasks.data.shards import shard_files
from wardround.common.tasks.text.causal.reading import (
    READABLE,
    Conversation,
    conversation,
    read_conversations,
    read_lines,
)
from wardround.common.tasks.text.causal.rows import InstructionRows
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.to_predict import RowsToPredict, Source

GIVEN = Path("the prompts given")
_STREAM = Path("standard input")
_AT_ONCE = 512
"""Lines of a part."""


class PromptsToPredict(RowsToPredict[InstructionRows]):
    """What ``CausalTask`` says of rows without responses."""

    options: TextOptions

    def documents(
        self,
        groups: Sequence[Sequence[Conversation]],
        names: Sequence[Path],
        splits: Sequence[str | None] | None = None,
    ) -> InstructionRows:
        """Conversations of some files as rows; ``splits``: of each file. Raises DataError."""
        raise NotImplementedError

    def load_rows(self, path: Path) -> InstructionRows:
        shard = shard_files(path, READABLE)
        names = [file for file, _ in shard.files]
        groups = [read_conversations(file, self.options, known=False) for file in names]
        return self.documents(groups, names).with_left_out(added(list(shard.left_out)))

    def row_pieces(
        self, source: Source, as_text: Collection[str] = ()
    ) -> Iterator[InstructionRows]:
        if not isinstance(source, Path):
            found = self._lines(_STREAM, source.read().decode("utf-8", "strict"))
            yield from self._in_parts(found, _STREAM)
            return
        for file, _ in shard_files(source, READABLE).files:
            yield from self._in_parts(read_conversations(file, self.options, known=False), file)

    def _lines(self, name: Path, text: str) -> list[Conversation]:
        return [
            conversation(said, f"{name}:{line}", line, self.options, False)
            for line, said in read_lines(text, name)
        ]

    def _in_parts(self, said: Sequence[Conversation], name: Path) -> Iterator[InstructionRows]:
        for start in range(0, max(1, len(said)), _AT_ONCE):
            yield self.documents([said[start : start + _AT_ONCE]], [name])

    def rows_of_values(self, values: Sequence[Any]) -> InstructionRows:
        """Texts, each a question; or conversations, lists of messages."""
        columns = self.options.columns
        found = []
        for number, value in enumerate(values, 1):
            place = f"{GIVEN}: number {number}"
            if not isinstance(value, str | list):
                raise DataError(f"{place}: neither a text nor a list of messages")
            name = columns.prompt if isinstance(value, str) else columns.messages
            found.append(conversation({name: value}, place, number, self.options, False))
        return self.documents([found], [GIVEN])

    def rows_of_table(self, table: pa.Table) -> InstructionRows:
        """Of records: columns are the keys of a line; a gap is a key that isn't there."""
        found = []
        for number, record in enumerate(table.to_pylist(), 1):
            said = {name: value for name, value in record.items() if value is not None}
            place = f"{GIVEN}: row {number}"
            found.append(conversation(said, place, number, self.options, False))
        return self.documents([found], [GIVEN])

    def row_names(self, raw: InstructionRows, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        if keep:
            raise DataError(f"column '{keep[0]}' can't be kept: lines of JSON have no columns")
        found: dict[str, pa.Array] = {}
        if len(raw.files) > 1:
            names = np.array([file.name for file in raw.files], dtype=object)
            found[FILE] = pa.array(names[raw.origin[:, 0]], pa.string())
        found[ROW] = pa.array(raw.origin[:, 1])
        patient = self.options.columns.patient_id
        if patient is not None and raw.patients is not None:
            found[patient] = pa.array(raw.patients.tolist(), pa.string())
        return found
