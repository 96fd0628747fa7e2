"""Texts to what a graph takes, and back: tokens, batches, tags and their spans. Without torch.

Texts are cut into words and tokens as in training, by the tokenizer beside the graph; long ones
become several rows where words are tagged, and are refused or shortened where they are classified.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.export.folder import ExportFolder
from wardround.common.export.names import ENCODER, MASK, TAG_PROBABILITIES, TOKENS
from wardround.common.export.runtime import GraphRows
from wardround.common.export.session import GraphSession
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.schema import TAGS
from wardround.common.tasks.text.encoder import WordTokenizer
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.to_predict import (
    RowsToPredict,
    found_spans,
    named_rows,
    of_data,
    of_values,
    row_pieces,
    to_rows,
    whole,
)
from wardround.common.tasks.to_predict import Source

_ROWS_AT_A_TIME = 32
Columns = dict[str, NDArray[np.int64]]


def fed(tokens: NDArray[Any], pad: int) -> Columns:
    """What the graph takes of rows N x T of token ids: as long as their longest row."""
    present = tokens != pad
    longest = max(1, int(present.any(axis=0).sum()))
    short = np.ascontiguousarray(tokens[:, :longest], dtype=np.int64)
    return {TOKENS: short, MASK: present[:, :longest].astype(np.int64)}


def batches(count: int) -> Iterator[slice]:
    """Rows in their order, some at a time."""
    return (slice(at, at + _ROWS_AT_A_TIME) for at in range(0, count, _ROWS_AT_A_TIME))


def by_length(tokens: NDArray[Any], pad: int) -> Iterator[NDArray[np.int64]]:
    """Rows of like length together, as positions: a batch is as long as its longest."""
    order = np.argsort((tokens != pad).sum(axis=1), kind="stable")
    return (order[part] for part in batches(len(order)))


class TextRows(GraphRows[RowsToPredict]):
    """Texts for one export."""

    def __init__(self, folder: ExportFolder) -> None:
        self._options, self._files = TextOptions(**folder.options), folder.path / ENCODER

    @cached_property
    def _words(self) -> WordTokenizer:
        return WordTokenizer(self._files)

    def load(self, path: Path | None) -> RowsToPredict:
        return whole(path or Path(), self._options, self._words)

    def load_rows(self, path: Path) -> RowsToPredict:
        return self.load(path)

    def rows_of_table(self, table: pa.Table) -> RowsToPredict:
        written, left = of_data(table, self._options)
        return to_rows(written, left, self._options, self._words)

    def rows_of_values(self, values: Sequence[Any]) -> RowsToPredict:
        return to_rows(of_values(values, self._options), [], self._options, self._words)

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[RowsToPredict]:
        return row_pieces(source, self._options, self._words, as_text)

    def left_out(self, raw: RowsToPredict) -> tuple[LeftOut, ...]:
        return raw.left_out

    def row_names(self, raw: RowsToPredict, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        return named_rows(raw, self._options.columns.patient_id, keep)

    def predicted(
        self, raw: RowsToPredict, values: Mapping[str, NDArray[Any]], keep: Sequence[str] = ()
    ) -> pa.Table:
        """Of tagged words a row for each entity that was found."""
        if TAGS not in values:
            return super().predicted(raw, values, keep)
        patient = self._options.columns.patient_id
        return found_spans(raw, values[TAGS], self._options.entities, patient, keep)

    def predictions(self, session: GraphSession, raw: RowsToPredict) -> dict[str, NDArray[Any]]:
        """The outputs by name, N each; of tagged words ``tags``, N x T, 0 at padding."""
        pad, found = self._words.pad, dict[str, NDArray[Any]]()
        if self._options.kind == "tokens":
            found[TAGS] = np.zeros(raw.tokens.shape, dtype=np.int64)
        for rows in by_length(raw.tokens, pad):
            outputs = session.run(fed(raw.tokens[rows], pad))
            if TAG_PROBABILITIES in outputs:
                best = outputs[TAG_PROBABILITIES].argmax(axis=2)
                found[TAGS][rows[:, None], np.arange(best.shape[1])] = best
                continue
            for name, values in outputs.items():
                found.setdefault(name, np.zeros(len(raw)))[rows] = values
        return found
