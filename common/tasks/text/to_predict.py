"""Texts that a finished model classifies, or tags, without labels or tags.

A text is a row's of a table, a ``.txt`` file (classes) or a line of one (tags), a sentence of an
IOB file, or one that is given. What a tagger finds are spans of characters: where each begins and
ends in its text, as it was written; of an IOB file the text is its words with a blank between.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.class_limits import UNLABELLED
from wardround.common.tasks.data.given import given_table
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.reading.content import read_text
from wardround.common.tasks.data.reading.types import canonical_texts
from wardround.common.tasks.data.row_names import FILE, ROW, check_free, names_of
from wardround.common.tasks.data.shards import shard_files, visible
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.table_pieces import table_pieces
from wardround.common.tasks.text.encoder import WordTokenizer
from wardround.common.tasks.text.entities import entity_spans
from wardround.common.tasks.text.iob import READABLE, Sentence, read_words
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.rows import IGNORED, Rows
from wardround.common.tasks.text.tokenise import sentence_rows, text_rows
from wardround.common.tasks.to_predict import Source
from wardround.common.text import code

GIVEN = Path("the texts given")
TEXTS_AT_ONCE = 2048
_PLAIN = ".txt"
_WORD = re.compile(r"\w+|[^\w\s]")
Span = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """Texts, and what says whose each is. Of words that are given, the text is theirs with a blank
    between.

    spans : first and last + 1 character of each text's words; None where texts are classified
    named : a row for each text
    patient : the column of ``named`` that says whose each is; '' where none does
    """

    texts: list[str]
    spans: list[list[Span]] | None
    named: pa.Table
    patient: str = ""

    def take(self, rows: NDArray[np.int64]) -> Written:
        """Those at these positions."""
        spans = None if self.spans is None else [self.spans[row] for row in rows]
        texts, named = [self.texts[r] for r in rows], self.named.take(pa.array(rows))
        return Written(texts, spans, named, self.patient)

    def patients(self) -> NDArray[np.str_] | None:
        """Whose each text is, as a code; None where it isn't said, '' where it isn't for one."""
        if not self.patient:
            return None
        column = self.named.column(self.patient).combine_chunks()
        return np.array([code(x or "") for x in canonical_texts(column).to_pylist()], dtype=np.str_)


@dataclass(frozen=True)
class RowsToPredict(Rows):
    """Rows without targets.

    source : N, the text of each row
    words : N x T, the number in its text of the word that begins at this token; -1 elsewhere
    """

    written: Written | None = None
    source: NDArray[np.int64] | None = None
    words: NDArray[np.int64] | None = None

    def select(self, rows: NDArray[np.int64]) -> RowsToPredict:
        """The given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        part = super().select(index)
        assert isinstance(part, RowsToPredict)
        source = None if self.source is None else self.source[index]
        words = None if self.words is None else self.words[index]
        return replace(part, source=source, words=words)


# --- where texts come from ------------------------------------------------------------------------
def written_pieces(
    source: Source, options: TextOptions, as_text: Collection[str] = ()
) -> Iterator[tuple[Written, list[LeftOut]]]:
    """Texts at a path or of a stream, some at a time, and what was left out beside them.

    Raises DataError.
    """
    if isinstance(source, Path):
        endings = _endings(source)
        if _PLAIN in endings:
            yield from _plain(source, options)
            return
        if options.kind == "tokens" and endings & {*READABLE}:
            yield from _sentences(source)
            return
    columns = options.columns
    own = [x for x in (columns.text, columns.label, columns.patient_id, columns.split) if x]
    texts = [*own, *as_text]
    for table in table_pieces(source, options.dialect, options.missing_values, texts, True):
        yield of_table(table, options)


def of_table(table: Table, options: TextOptions) -> tuple[Written, list[LeftOut]]:
    """The texts of a table's column. Raises DataError where it has none."""
    column = options.columns.text
    table = table.keep(~table.missing(column), "without a text")
    texts = [str(cell) for cell in table.cells(column)]
    base = names_of(table, options.columns.patient_id, ())
    others = [n for n in table.columns if n not in (*base, column)]
    named = {**base, **{name: table.column(name).combine_chunks() for name in others}}
    patient = options.columns.patient_id
    whose = patient if patient is not None and patient in named else ""
    return replace(_made(texts, named, options), patient=whose), list(table.left_out)


def of_data(data: pa.Table, options: TextOptions) -> tuple[Written, list[LeftOut]]:
    """The same of a table in memory."""
    return of_table(given_table(data, options.missing_values, [options.columns.text]), options)


def of_values(values: Sequence[Any], options: TextOptions) -> Written:
    """Texts, or where words are tagged also lists of words. Raises DataError by position."""
    for number, value in enumerate(values, 1):
        words = isinstance(value, list | tuple) and all(isinstance(x, str) for x in value)
        if not (isinstance(value, str) or (words and options.kind == "tokens")):
            raise DataError(f"{GIVEN}, number {number}: no text")
    named = {ROW: pa.array(np.arange(1, len(values) + 1))}
    if all(isinstance(value, str) for value in values):
        return _made(list(values), named, options)
    listed = [_WORD.findall(value) if isinstance(value, str) else list(value) for value in values]
    return _of_words(listed, named)


def _made(texts: list[str], named: dict[str, Any], options: TextOptions) -> Written:
    spans = None
    if options.kind == "tokens":
        spans = [[m.span() for m in _WORD.finditer(text)] for text in texts]
    return Written(texts, spans, pa.table(named))


def _of_words(sentences: Sequence[Sequence[str]], named: dict[str, Any]) -> Written:
    spans = []
    for words in sentences:
        ends = np.cumsum([len(word) + 1 for word in words])
        spans.append([(int(e) - len(w) - 1, int(e) - 1) for e, w in zip(ends, words, strict=True)])
    return Written([" ".join(words) for words in sentences], spans, pa.table(named))


def _endings(path: Path) -> set[str]:
    entries = visible(path) if path.is_dir() else [path]
    return {entry.suffix.lower() for entry in entries if not entry.is_dir()}


def _plain(path: Path, options: TextOptions) -> Iterator[tuple[Written, list[LeftOut]]]:
    """A text for each file, or for each line that isn't blank where words are tagged."""
    shard = shard_files(path, (_PLAIN,))
    left = list(shard.left_out)
    texts: list[str] = []
    named: dict[str, list[Any]] = {FILE: [], ROW: []}
    for file, _ in shard.files:
        whole = read_text(file)
        lines = re.split(r"\r\n|\r|\n", whole) if options.kind == "tokens" else [whole]
        for number, text in enumerate(lines, 1):
            if text.strip():
                texts.append(text)
                named[FILE].append(file.name)
                named[ROW].append(number)
            elif options.kind != "tokens":
                left.append(LeftOut(1, "files", "without a text"))
    if not texts:
        raise DataError(f"{path}: there is no text to predict")
    if len(shard.files) == 1:
        del named[FILE]
    yield _made(texts, named, options), left


def _sentences(path: Path) -> Iterator[tuple[Written, list[LeftOut]]]:
    shard = shard_files(path, READABLE)
    words: list[list[str]] = []
    named: dict[str, list[Any]] = {FILE: [], ROW: [], "line": [], "patient": []}
    for file, _ in shard.files:
        for number, sentence in enumerate(read_words(file), 1):
            words.append(sentence.words)
            values = (file.name, number, sentence.line, sentence.patient)
            for name, value in zip(named, values, strict=True):
                named[name].append(value)
    if not words:
        raise DataError(f"{path}: there is no sentence to predict")
    if len(shard.files) == 1:
        del named[FILE]
    if not any(named["patient"]):
        del named["patient"]
    whose = "patient" if "patient" in named else ""
    yield replace(_of_words(words, named), patient=whose), list(shard.left_out)


# --- token ids ------------------------------------------------------------------------------------
def to_rows(
    written: Written, left: Sequence[LeftOut], options: TextOptions, tokenizer: WordTokenizer
) -> RowsToPredict:
    """Token ids of all texts. Raises DataError for a text that is too long (``task.truncate``)."""
    if written.spans is None:
        rows = text_rows(
            written.texts, [UNLABELLED] * len(written.texts), GIVEN, options, tokenizer
        )
        source = np.arange(len(rows), dtype=np.int64)
        whole = _as_ours(rows, written, source, None)
    else:
        listed = zip(written.texts, written.spans, strict=True)
        words = [[text[first:end] for first, end in spans] for text, spans in listed]
        sentences = [Sentence(one, [0] * len(one), n, None) for n, one in enumerate(words)]
        owner = np.zeros(len(sentences), dtype=np.int64)
        rows = sentence_rows(sentences, [GIVEN], owner, None, options, tokenizer)
        numbers = _numbered(rows.targets != IGNORED, [len(one) for one in words])
        rows = replace(rows, targets=np.full_like(rows.targets, IGNORED))
        whole = _as_ours(rows, written, rows.origin[:, 1], numbers)
    return replace(whole, left_out=added([*left, *rows.left_out]))


def _numbered(begun: NDArray[np.bool_], lengths: Sequence[int]) -> NDArray[np.int64]:
    """See ``RowsToPredict.words``. lengths : words of each text; all of them begin somewhere"""
    found = np.full(begun.shape, -1, dtype=np.int64)
    found[begun] = [number for length in lengths for number in range(length)]
    return found


def _as_ours(
    rows: Rows, written: Written, source: NDArray[np.int64], words: NDArray[np.int64] | None
) -> RowsToPredict:
    patients = written.patients()
    return RowsToPredict(
        rows.tokens,
        rows.targets,
        rows.files,
        rows.origin,
        patients=None if patients is None else patients[source],
        pieces=rows.pieces,
        keys=rows.keys,
        written=written,
        source=source,
        words=words,
    )


def whole(source: Source, options: TextOptions, tokenizer: WordTokenizer) -> RowsToPredict:
    """Rows of all texts. Raises DataError."""
    parts = list(written_pieces(source, options))
    written = [one for one, _ in parts]
    spans = [span for one in written for span in one.spans or []]
    joined = Written(
        [text for one in written for text in one.texts],
        spans if options.kind == "tokens" else None,
        pa.concat_tables([one.named for one in written], promote_options="permissive"),
        written[0].patient,
    )
    return to_rows(joined, [one for _, left in parts for one in left], options, tokenizer)


def row_pieces(
    source: Source,
    options: TextOptions,
    tokenizer: WordTokenizer,
    as_text: Collection[str] = (),
    most: int = TEXTS_AT_ONCE,
) -> Iterator[RowsToPredict]:
    """Rows of all texts, of so many texts at a time. Raises DataError."""
    for written, left in written_pieces(source, options, as_text):
        count = len(written.texts)
        for start in range(0, count, most):
            part = written.take(np.arange(start, min(start + most, count), dtype=np.int64))
            yield to_rows(part, left, options, tokenizer)
            left = []


# --- what is given back ---------------------------------------------------------------------------
def named_rows(raw: RowsToPredict, patient: str | None, keep: Sequence[str]) -> dict[str, pa.Array]:
    """The columns that say which text each row is of, and those of ``keep``."""
    assert raw.written is not None and raw.source is not None
    named = raw.written.named
    asked = [FILE, ROW, "line", "patient", *([patient] if patient else [])]
    names = [name for name in asked if name in named.column_names]
    if missing := sorted(set(keep) - set(named.column_names)):
        raise DataError(f"column '{missing[0]}' can't be kept: there is no such column")
    rows = pa.array(raw.source)
    return {
        name: named.column(name).take(rows).combine_chunks()
        for name in dict.fromkeys([*names, *keep])
    }


def found_spans(
    raw: RowsToPredict,
    tags: NDArray[Any],
    entities: Sequence[str],
    patient: str | None,
    keep: Sequence[str],
) -> pa.Table:
    """A row for each entity: ``start`` and ``end`` in its text, ``entity``, ``text``.

    tags : N x T, the number of each token's tag
    """
    assert raw.written is not None and raw.source is not None and raw.words is not None
    at = raw.words >= 0
    rows, _ = np.nonzero(at)
    source, words = raw.source[rows], raw.words[at]
    first, last, kind = entity_spans(tags[at].astype(np.int64), source)
    spans, of = raw.written.spans or [], source[first]
    starts = [spans[text][word][0] for text, word in zip(of, words[first], strict=True)]
    ends = [spans[text][word][1] for text, word in zip(of, words[last], strict=True)]
    listed = zip(of, starts, ends, strict=True)
    named = named_rows(replace(raw, source=of), patient, keep)
    values = {
        "start": pa.array(starts, pa.int64()),
        "end": pa.array(ends, pa.int64()),
        "entity": pa.array([entities[number] for number in kind], pa.string()),
        "text": pa.array([raw.written.texts[n][i:j] for n, i, j in listed], pa.string()),
    }
    for name in values:
        check_free(name, named)
    return pa.table({**named, **values})
