"""The rows that a study would be computed on here, read and mapped as it would read them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from wardround.client.check.finding import Finding, count_of
from wardround.client.site.terms import Terms
from wardround.client.sources.kept import Located
from wardround.client.sources.readers import files_of, rows_of
from wardround.client.sources.settings import FilesTable, RowsTable
from wardround.client.sources.snapshot import after_mapping
from wardround.client.sources.source import Asked, Placed
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.tasks.data.allowance import OF_TABLES
from wardround.common.tasks.data.mapping.apply import Unmapped, column_problems, map_rows
from wardround.common.tasks.data.reading.read import without
from wardround.common.tasks.data.snapshot import Origin, write_snapshot
from wardround.common.tasks.linked import LinkedTask
from wardround.common.tasks.tabular import TabularTask

_TITLE, _NUMBER = re.compile(r": \d+ problems$"), re.compile(r"^\d+\. ")
"""Of a list of problems: its first line, and what each begins with."""
_SHOWN = 3
"""Places that a finding names; of more, the number."""


@dataclass(frozen=True)
class Looked:
    """What is there.

    called : how messages name the data
    path : what the task loads; None where nothing can be loaded
    table : all rows that could be mapped; None where they are no table, or can't be read
    place : where a row's cell of a column is
    own : by the study's name of a column, the hospital's
    source : of ``[data.NAME]``, if rows come from one
    """

    called: str
    path: Path | None = None
    table: pa.Table | None = None
    place: Callable[[int, str], str] = lambda row, column: f"row {row + 1}: column '{column}'"
    own: dict[str, str] = field(default_factory=dict)
    source: RowsTable | None = None
    findings: list[Finding] = field(default_factory=list)


def look(terms: Terms, folder: Path) -> Looked:
    """Read all of it; what can't be read is among the findings.

    folder : a private one, for what is taken of a source; the caller removes it
    """
    located = terms.data
    called = located.words or "the task's example data"
    try:
        if isinstance(located.source, RowsTable) and located.is_taken:
            return _of_rows(terms, located, located.source, folder)
        if isinstance(located.source, FilesTable) and located.is_taken:
            files_of(located.source).fill(_asked(terms, located), folder)
            return Looked(called, folder)
        return _as_it_lies(terms, called, located.path)
    except WardroundError as error:
        return Looked(called, findings=[*unreadable(terms, error)])
    except OSError as error:
        text = f"can't be kept while it is looked at ({error.strerror})"
        return Looked(called, findings=[Finding("error", str(folder.parent), text, "make room")])


def unreadable(terms: Terms, error: WardroundError) -> Iterator[Finding]:
    """A finding for each problem that an error has."""
    called = terms.data.words or "the task's example data"
    lines = [line.strip() for line in terms.data.own_words(str(error)).splitlines()]
    titled = len(lines) > 1 and _TITLE.search(lines[0]) is not None
    for line in lines[titled:]:
        place, colon, rest = _NUMBER.sub("", line).partition(": ")
        named = colon and Path(called).name in place  # it stands there already, with its line
        yield Finding("error", place if named else called, rest if named else _NUMBER.sub("", line))


def _as_it_lies(terms: Terms, called: str, path: Path | None) -> Looked:
    task = make_task(terms.config)
    if not isinstance(task, TabularTask | LinkedTask) or path is None:
        return Looked(called, path)
    table = task.rows_of(path)
    return Looked(called, path, without(table.data, task.options.missing_values), table.place)


def _asked(terms: Terms, located: Located) -> Asked:
    site = terms.site
    return Asked(
        terms.config,
        located.base,
        located.name,
        lambda line: None,
        tuple(site.columns),
        tuple(site.modalities),
    )


def _of_rows(terms: Terms, located: Located, source: RowsTable, folder: Path) -> Looked:
    asked, opened = _asked(terms, located), rows_of(source)
    place = opened.place if isinstance(opened, Placed) else _numbered(asked.called)
    tables: list[pa.Table] = []
    unmapped: dict[tuple[str, str], list[int]] = defaultdict(list)
    bad: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []
    undefined: dict[str, int] = defaultdict(int)
    before = 0
    for batch in opened.batches(asked):
        rows = pa.Table.from_batches([batch])
        if not tables and (problems := list(column_problems(rows.schema, source.map))):
            return Looked(asked.called, findings=[_of_key(asked, one) for one in problems])
        found = map_rows(rows, source.map)
        for one in found.unmapped:
            unmapped[one.column, one.what] += [before + row for row in one.rows]
        for name, count in found.undefined.items():
            undefined[name] += count
        bad.append(found.bad)
        tables.append(found.table.filter(pa.array(~found.bad)))
        before += rows.num_rows
    findings = [
        Finding(
            "warning",
            f"[{asked.name}] {name}",
            f"{count_of(count)} have no value, as arithmetic gives none there (a division by zero)",
        )
        for name, count in undefined.items()
    ]
    own = dict(source.map.rename)
    findings += _rows_lost(unmapped, bad, source, own, place)
    kept = np.flatnonzero(~np.concatenate(bad)) if bad else np.zeros(0, dtype=np.int64)
    table = pa.concat_tables(tables)
    for step in after_mapping(source, asked):
        table = step(table)
    path = folder / "rows.parquet"
    write_snapshot(path, [table], Origin(asked.called))
    return Looked(
        asked.called,
        path,
        table,
        lambda row, column: place(int(kept[row]), own.get(column, column)),
        own,
        source,
        findings,
    )


def _rows_lost(
    unmapped: dict[tuple[str, str], list[int]],
    bad: list[np.ndarray[tuple[int], np.dtype[np.bool_]]],
    source: RowsTable,
    own: dict[str, str],
    place: Callable[[int, str], str],
) -> Iterator[Finding]:
    """What can't be mapped: an error where it is more than the hospital lets be left out."""
    lost, total = sum(int(one.sum()) for one in bad), sum(map(len, bad))
    share = OF_TABLES if source.left_out_share is None else source.left_out_share
    for one in (Unmapped(column, tuple(rows), what) for (column, what), rows in unmapped.items()):
        where = [place(row, own.get(one.column, one.column)) for row in one.rows[:_SHOWN]]
        more = len(one.rows) - _SHOWN
        text = " | ".join(where) + (f" | and {more} more" if more > 0 else "")
        what, _, mend = one.what.partition("; ")
        yield Finding("error" if lost > share * total else "warning", text, what, mend)


def _of_key(asked: Asked, problem: str) -> Finding:
    """A key of the mapping that doesn't fit the columns."""
    key, _, text = problem.partition(": ")
    what, _, mend = text.rpartition("; ")
    return Finding("error", f"data.{asked.name}.{key}", what or mend, mend if what else "")


def _numbered(called: str) -> Callable[[int, str], str]:
    return lambda row, column: f"{called}, row {row + 1}: column '{column}'"
