"""What of a table becomes rows of persons, and what of it is left out or refused.

What is told names columns and counts, and of a refused cell its place; never a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.identifiers import RuleName, framed, normalise, of_framed
from wardround.common.tasks.data.allowance import OF_TABLES, REASON, Unread, allowed
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.dates import dates_of, find_form, forms_of
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.linked.options import LinkedOptions
from wardround.common.tasks.linked.rows import LinkedRows

_MOST_BAD = 0.5
_CHECK_LEAST = 20
"""Of fewer filled cells most may be wrong without that meaning another rule."""
_DOUBT = "is it another kind of number (task.identifiers), or another column?"
_DOUBTS = {"date": "say how dates are written (task.dialect.dates), or is it another column?"}
Mask = NDArray[np.bool_]


def with_keys(table: Table, options: LinkedOptions) -> LinkedRows:
    """The table's rows that have every identifier, with their keys.

    Raises DataError where a column isn't there, most of its texts aren't by its rule, no row is
    left, or rows share their identifiers (``duplicates``).
    """
    names = sorted(options.identifiers)
    problems, forms = Problems(_where(table)), []
    for name in names:
        with problems.collected():
            forms.append(_forms(table, name, options))
    problems.check()
    keys = list(map(of_framed, zip(*forms, strict=True)))
    lacks = np.full(len(table), len(names))
    for number, found in reversed([*enumerate(forms)]):
        lacks[[one is None for one in found]] = number
    filled = [one for one in keys if one is not None]
    rows = LinkedRows(_named(table, lacks, options), filled, options, share=allowed(OF_TABLES))
    if not filled:
        raise DataError(f"{_where(table)}: no row has all identifiers (task.identifiers)")
    return _without_duplicates(rows)


def _named(table: Table, lacks: NDArray[np.int64], options: LinkedOptions) -> Table:
    """The rows that have all identifiers; ``lacks``: the first that each row hasn't."""
    for number, name in enumerate(sorted(options.identifiers)):
        rule, missing = options.identifiers[name], table.missing(name)
        empty = (lacks == number) & missing
        table, lacks = table.keep(~empty, f"column '{name}' is empty"), lacks[~empty]
        bad = lacks == number
        table = table.keep(~bad, f"column '{name}' isn't by the rule '{rule}'")
        lacks = lacks[~bad]
    return table


def at_party(rows: LinkedRows, party: str) -> LinkedRows:
    """The rows with this party's columns: each has its outcome, and can be read.

    Raises DataError, by place, with all problems at once.
    """
    options = rows.options
    if party not in options.parties:
        raise DataError(
            f"'{party}' is no party of this study; [task.parties] names {', '.join(options.names)}"
        )
    own, table = options.parties[party], rows.table
    problems = Problems(_where(table))
    for _, column in own.named():
        with problems.collected():
            table.column(column)
    problems.check()
    for column in own.outcomes:
        rows = _keep(rows, ~rows.table.missing(column), f"column '{column}' is empty")
    if own.images is not None:
        rows = _keep(rows, ~rows.table.missing(own.images.column), "no image is named")
    if options.missing == "leave_out":
        gaps = np.zeros(len(rows), dtype=np.bool_)
        for column in own.features:
            gaps |= rows.table.missing(column)
        rows = _keep(rows, ~gaps, "an input is missing (task.missing = 'leave_out')")
    rows = _readable(replace(rows, party=party, _read={}))
    if not len(rows):
        raise DataError(f"{_where(table)}: no row has an outcome (and all inputs)")
    _parse(rows)
    return rows


# --- identifiers ----------------------------------------------------------------------------------
def _forms(table: Table, column: str, options: LinkedOptions) -> list[bytes | None]:
    """The normal form of each row's identifier, framed; None where it has none."""
    rule = options.identifiers[column]
    _check_exact(table, column)
    coded = table.coded(column)
    texts: Sequence[str | None] = coded.texts
    if rule == "date" and table.column(column).type == pa.string():
        texts = _iso_dates(table, column, options.dialect.dates)
    found: list[bytes | None] = [*normalise(rule, texts), None]
    bad = np.array([one is None for one in found[:-1]] + [False])[coded.index]
    _check_bad(table, column, rule, bad, coded.index >= 0, options)
    shown = [None if one is None else framed(one) for one in found]
    return [shown[number] for number in coded.index.tolist()]


def _check_exact(table: Table, column: str) -> None:
    """Raise DataError for numbers that were rounded before they came here: others' may be equal."""
    if table.column(column).type == pa.float64():
        values = np.asarray(table.column(column).to_numpy(), dtype=np.float64)
        if (odd := np.flatnonzero(np.abs(values) >= 2.0**53)).size:
            what = "a number beyond 2^53, which was rounded; export the column as text"
            raise table.wrong(odd, column, what)


def _check_bad(
    table: Table, column: str, rule: RuleName, bad: Mask, filled: Mask, options: LinkedOptions
) -> None:
    """Raise DataError for cells that aren't by the rule: of most of them, or as ``incomplete``
    says; then for those that are missing, too."""
    count, there = int(bad.sum()), int(filled.sum())
    if there >= _CHECK_LEAST and count > _MOST_BAD * there:
        raise DataError(
            f"{_where(table)}: column '{column}': {count} of {there} texts aren't by the rule "
            f"'{rule}'; {_DOUBTS.get(rule, _DOUBT)}"
        )
    if options.incomplete == "leave_out":
        return
    if count:
        raise table.wrong(
            np.flatnonzero(bad), column, f"no identifier by the rule '{rule}'; mend the cell"
        )
    if not filled.all():
        raise table.wrong(np.flatnonzero(~filled), column, "an identifier is missing; fill it in")


def _iso_dates(table: Table, column: str, form: str | None) -> list[str | None]:
    """A column's different texts as days of ISO 8601; what is no date in any form stays as it is,
    and has no normal form. Raises DataError where it isn't known which form the dates have."""
    coded = table.coded(column)
    texts = coded.texts
    if form is None:
        known = [text for text in texts if _is_iso(text) or forms_of(text)]
        odd = [text for text in known if not _is_iso(text)]
        if odd:
            form = find_form(pa.array(odd), lambda n: table.place(coded.first(odd[n]), column))
    return [_iso(text, form) for text in texts]


def _is_iso(text: str) -> bool:
    return dates_of(pa.array([text]), None) is not None


def _iso(text: str, form: str | None) -> str:
    found = None if form is None or _is_iso(text) else dates_of(pa.array([text]), form)
    if found is None:
        return text
    moment = found[0].as_py()
    return str(moment.isoformat(" ") if hasattr(moment, "hour") else moment.isoformat())


def _without_duplicates(rows: LinkedRows) -> LinkedRows:
    """Rows of which each is another person's. Raises DataError, by places, where two aren't and
    ``duplicates`` refuses that."""
    first: dict[bytes, int] = {}
    again: list[int] = []
    ambiguous: set[int] = set()
    for row, key in enumerate(rows.keys):
        if (before := first.setdefault(key, row)) != row:
            again.append(row)
            ambiguous |= {before, row}
    if not again:
        return rows
    if rows.options.duplicates == "refuse":
        many = f"{len(again)} rows have" if len(again) > 1 else "1 row has"
        raise rows.table.wrong(
            np.array(again, dtype=np.int64),
            sorted(rows.options.identifiers)[0],
            f"{many} the same identifiers ({', '.join(sorted(rows.options.identifiers))}) as an "
            "earlier one; keep one row of a "
            "person, add an identifier, or set task.duplicates = 'leave_out'",
        )
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[list(ambiguous)] = False
    found = _keep(rows, kept, "another row has the same identifiers (task.duplicates)")
    if not len(found):
        raise DataError(f"{_where(rows.table)}: no row has identifiers that are its alone")
    return found


# --- a party's columns ----------------------------------------------------------------------------
def _keep(rows: LinkedRows, mask: Mask, reason: str) -> LinkedRows:
    if mask.all():
        return rows
    keys = [rows.keys[row] for row in np.flatnonzero(mask).tolist()]
    return replace(rows, table=rows.table.keep(mask, reason), keys=keys, _read={})


def _readable(rows: LinkedRows) -> LinkedRows:
    """Without rows whose numbers can't be read, as far as the hospital lets them be left out."""
    if rows.share == 0:
        return rows
    problems: dict[int, list[str]] = {}
    for column in _numbers(rows):
        bad, why = rows.table.unread(column)
        for row in bad.tolist() if len(bad) <= rows.share * len(rows) else ():
            problems.setdefault(row, []).append(f"{rows.table.place(row, column)}: {why}")
    unread = Unread("rows", rows.share)
    for row in sorted(problems):
        unread.add(*problems[row])
    unread.left_out(len(rows))
    return _keep(rows, ~np.isin(np.arange(len(rows)), list(problems)), REASON)


def _numbers(rows: LinkedRows) -> Iterator[str]:
    yield from rows.own.numeric
    if rows.own.time is not None:
        yield rows.own.time


def _parse(rows: LinkedRows) -> None:
    """Read every cell once, so that all bad ones are named now."""
    problems = Problems(_where(rows.table))
    for name in rows.columns:
        with problems.collected():
            rows.numbers(name)
    for role in ("outcome", "time", "event"):
        if getattr(rows.own, role) is not None:
            with problems.collected():
                getattr(rows, role)
    problems.check()


def _where(table: Table) -> str:
    return table.called or str(table.files[0])
