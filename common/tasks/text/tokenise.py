"""Sentences and texts to rows of token ids. Long sentences become several rows; nothing is lost
without being counted.

Shapes: N rows, T tokens of a row (``max_length``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.class_limits import UNLABELLED
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.roles import patient_cells, split_cells
from wardround.common.tasks.data.row_keys import content_key
from wardround.common.tasks.data.shards import shard_files
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.text.encoder import WordTokenizer
from wardround.common.tasks.text.iob import READABLE, Sentence, read_iob
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.rows import IGNORED, Rows

CSV_FILES = (".csv", ".tsv", ".parquet", ".xlsx", ".xlsm")


def read_sentences(path: Path, options: TextOptions, tokenizer: WordTokenizer) -> Rows:
    """An IOB file, or a folder of them. Raises DataError naming file and line."""
    shard = shard_files(path, READABLE)
    files = [file for file, _ in shard.files]
    groups = [read_iob(file, options.entities) for file in files]
    sentences = [one for group in groups for one in group]
    known = [one.patient is not None for one in sentences]
    if any(known) and not all(known):
        odd = next(f for f, group in zip(files, groups, strict=True) if group[0].patient is None)
        raise DataError(f"{odd}: names no patients, but other files beside it do")
    owner = np.repeat(np.arange(len(files)), [len(group) for group in groups])
    splits = np.array([split or "" for _, split in shard.files])[owner]
    rows = sentence_rows(
        sentences, files, owner, splits if all(splits != "") else None, options, tokenizer
    )
    return replace(rows, left_out=added([*shard.left_out, *rows.left_out]))


def sentence_rows(
    sentences: list[Sentence],
    files: list[Path],
    owner: NDArray[np.int64],
    splits: NDArray[np.str_] | None,
    options: TextOptions,
    tokenizer: WordTokenizer,
) -> Rows:
    """Rows of token ids and tag numbers.

    A word's tag stands at its first token; its further tokens, and those before and behind the
    sentence, have ``IGNORED``: no loss is taken there and nothing is counted. So each word is
    predicted once, however many tokens it has.

    owner : of each sentence, index into ``files``
    splits : of each sentence
    """
    room = options.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    rows: list[_Row] = []
    source: list[int] = []
    shortened = 0
    words = tokenizer.word_tokens([sentence.words for sentence in sentences])
    for number, (sentence, tokens) in enumerate(zip(sentences, words, strict=True)):
        shortened += sum(len(one) > room for one in tokens)
        pieces = _pieces([one[:room] for one in tokens], sentence.tags, room)
        rows += pieces
        source += [number] * len(pieces)
    index = np.array(source, dtype=np.int64)
    ids = np.full((len(rows), options.max_length), tokenizer.pad, dtype=np.int32)
    targets = np.full((len(rows), options.max_length), IGNORED, dtype=np.int64)
    first = len(tokenizer.prefix)
    for number, row in enumerate(rows):
        whole = [*tokenizer.prefix, *row.tokens, *tokenizer.suffix]
        ids[number, : len(whole)] = whole
        targets[number, [first + start for start in row.starts]] = row.tags
    lines = np.array([sentence.line for sentence in sentences], dtype=np.int64)
    patients = [sentence.patient or "" for sentence in sentences]
    return Rows(
        ids,
        targets,
        tuple(files),
        np.column_stack([owner[index], lines[index]]),
        None if splits is None else splits[index],
        np.array(patients)[index] if patients and patients[0] else None,
        left_out=_left_out([], "words", shortened),
        pieces=int((np.bincount(index) > 1).sum()),
        keys=np.array([content_key("\x1f".join(one.words).encode()) for one in sentences])[index],
    )


@dataclass(frozen=True)
class _Row:
    """starts : position of each word's first token among ``tokens``"""

    tokens: list[int]
    starts: list[int]
    tags: list[int]


def _pieces(words: list[list[int]], tags: list[int], room: int) -> list[_Row]:
    """The sentence in rows of at most ``room`` tokens, cut between words, and where that is
    possible not inside an entity. Every word has at most ``room`` tokens."""
    ends = list(accumulate(len(word) for word in words))
    rows, start, before = [], 0, 0
    while start < len(words):
        stop = start + 1
        while stop < len(words) and ends[stop] - before <= room:
            stop += 1
        if stop < len(words):
            # back to the last word that doesn't go on with an entity; one longer than a row is cut
            inside = (number for number in range(stop, start, -1) if not _continues(tags[number]))
            stop = next(inside, stop)
        offsets = [ends[number] - len(words[number]) - before for number in range(start, stop)]
        tokens = [token for word in words[start:stop] for token in word]
        rows.append(_Row(tokens, offsets, tags[start:stop]))
        start, before = stop, ends[stop - 1]
    return rows


def _continues(tag: int) -> bool:
    """Whether the tag is I- of some type (``iob.tag_names``)."""
    return tag > 0 and tag % 2 == 0


@dataclass(frozen=True)
class Form:
    """How a row of a table becomes an example.

    texts : its columns that are tokens; of several they are N x K x T, in this order
    columns : all that are read, as texts
    kept : of a table, the rows that are of use; the others are counted with a reason
    targets : of a table, N, or N x K; int64
    nothing : what no row of a file has, where none has it
    """

    texts: tuple[str, ...]
    columns: tuple[str, ...]
    kept: Callable[[Table], Table]
    targets: Callable[[Table], NDArray[np.int64]]
    nothing: str


def read_texts(path: Path, options: TextOptions, tokenizer: WordTokenizer) -> Rows:
    """CSV or Parquet files with a text and a label in each row. Raises DataError naming the cell.

    Rows without a text or a label are left out.
    """
    text, label = options.columns.text, options.columns.label
    needed = {text: "without a text", label: "without a label"}
    form = Form(
        (text,),
        (text, label),
        lambda table: with_cells(table, needed),
        lambda table: class_numbers(table, label, options.classes, "task.classes"),
        "both a text and a label",
    )
    return read_rows(path, options, tokenizer, form)


def with_cells(table: Table, needed: Mapping[str, str]) -> Table:
    """The rows with a cell in each column. needed : why one without it is left out"""
    for name, reason in needed.items():
        table = table.keep(~table.missing(name), reason)
    return table


def read_rows(path: Path, options: TextOptions, tokenizer: WordTokenizer, form: Form) -> Rows:
    """CSV or Parquet files in this form. Raises DataError naming the cell."""
    columns = options.columns
    shard = shard_files(path, CSV_FILES)
    found = shard.files
    if columns.split is not None and any(split is not None for _, split in found):
        raise DataError(f"{path}: its files' names say the split; leave out task.columns.split")
    tables = []
    for file, _ in found:
        named = *form.columns, columns.patient_id, columns.split
        texts = [name for name in named if name is not None]
        table = read_table(file, options.dialect, options.missing_values, texts, hide_names=True)
        tables.append(form.kept(table))
    if not sum(len(table) for table in tables):
        raise DataError(f"{path}: no row has {form.nothing}")
    splits: list[str] = []
    for table, (_, split) in zip(tables, found, strict=True):
        splits += (
            split_cells(table, columns.split).tolist()
            if columns.split
            else [split or ""] * len(table)
        )
    rows = _rows_of(tables, tuple(file for file, _ in found), options, tokenizer, form)
    return replace(
        rows,
        splits=np.array(splits) if all(splits) else None,
        patients=np.concatenate([patient_cells(t, columns.patient_id) for t in tables])
        if columns.patient_id
        else None,
        left_out=added([*shard.left_out, *rows.left_out]),
    )


def rows_of_table(table: Table, options: TextOptions, tokenizer: WordTokenizer, form: Form) -> Rows:
    """Rows that stand in no file, without patients or a split."""
    return _rows_of([table], table.files, options, tokenizer, form)


def _rows_of(
    tables: list[Table],
    files: tuple[Path, ...],
    options: TextOptions,
    tokenizer: WordTokenizer,
    form: Form,
) -> Rows:
    owner = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    lines = np.concatenate([table.line_numbers() for table in tables])
    read = [_text_tokens(tables, name, options, tokenizer) for name in form.texts]
    tokens = read[0][0] if len(read) == 1 else np.stack([ids for ids, _ in read], axis=1)
    return Rows(
        tokens,
        np.concatenate([form.targets(table) for table in tables]),
        files,
        np.column_stack([owner, lines]).astype(np.int64),
        left_out=_left_out(
            (one for table in tables for one in table.left_out),
            "texts",
            sum(shortened for _, shortened in read),
        ),
        keys=np.concatenate([table.keys for table in tables]),
        told=tuple(dict.fromkeys(line for table in tables for line in table.told)),
    )


def text_rows(
    texts: list[str], labels: list[int], file: Path, options: TextOptions, tokenizer: WordTokenizer
) -> Rows:
    """Rows of texts that stand in no file."""
    table = Table.of({options.columns.text: texts}, file)
    ids, shortened = _text_tokens([table], options.columns.text, options, tokenizer)
    targets = np.array(labels, dtype=np.int64)
    left_out = _left_out([], "texts", shortened)
    origin = np.column_stack([table.origin[:, 0], table.line_numbers()])
    return Rows(ids, targets, (file,), origin, left_out=left_out, keys=table.keys)


def _left_out(rows: Iterable[LeftOut], what: str, shortened: int) -> tuple[LeftOut, ...]:
    """Rows that were left out, and the ends of words or texts that were."""
    ends = LeftOut(shortened, f"ends of {what}", "beyond the tokens of task.max_length")
    return added([*rows, ends])


def _text_tokens(
    tables: list[Table], column: str, options: TextOptions, tokenizer: WordTokenizer
) -> tuple[NDArray[np.int32], int]:
    """N x T token ids of all tables' texts in a column, and how many texts were truncated."""
    room = options.max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    rows, shortened = [], 0
    for table in tables:
        words = tokenizer.word_tokens([str(cell).split() for cell in table.cells(column)])
        for number, text in enumerate(words):
            tokens = [token for word in text for token in word]
            if len(tokens) > room:
                if not options.truncate:
                    raise DataError(
                        f"{table.place(number, column)}: the text has more than the "
                        f"{options.max_length} tokens of task.max_length; raise it, or set "
                        "task.truncate = true to use the beginnings of texts"
                    )
                shortened += 1
            rows.append([*tokenizer.prefix, *tokens[:room], *tokenizer.suffix])
    ids = np.full((len(rows), options.max_length), tokenizer.pad, dtype=np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids, shortened


def class_numbers(table: Table, column: str, classes: Sequence[str], key: str) -> NDArray[np.int64]:
    """N, the number of each cell's class; ``UNLABELLED`` without one. Raises DataError by cell for
    another text.

    key : the setting that declares them
    """
    numbers = {name: number for number, name in enumerate(classes)}
    found = table.coded(column).numbers_of(numbers)
    if (odd := np.flatnonzero(found < -1)).size:
        raise table.wrong(
            odd,
            column,
            f"a class that is none of {key}; "
            "mend the cell (letters' case counts), declare the class there, or name it in "
            "task.missing_values",
        )
    return np.where(found < 0, UNLABELLED, found).astype(np.int64)
