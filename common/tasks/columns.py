"""Which columns of a table are inputs, and what to call their sums; how hospitals' tables fit.

With ``numeric = ["*"]`` every hospital's own file says which columns there are. The federation then
uses those that more than half of the hospitals have: one more at a few is told and not used, and a
hospital that lacks one takes no part, before anything of its rows is summed. Names of columns are
all that this needs, which a server sees of any hospital's sums, masked or not.

Keys are ``kind/column/...`` with column and category percent-encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.data.table import Coded, Table
from wardround.common.tasks.fit import Fit
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.vocabulary import LONGEST_WORD_BYTES
from wardround.common.text import near

_LONGEST_CATEGORY = 60
_LONGEST_KEY = LONGEST_WORD_BYTES
_MEND = "name it as they do, or list it under task.columns.ignore"
_LARGE, _NAMED = 1000.0, 5


def numeric_columns(table: Table, options: TabularOptions) -> list[str]:
    """Names of the numeric columns of this table, sorted."""
    names = options.columns.numeric
    if names == ["*"]:
        if options.kind == "none":
            return []
        named = set(options.columns.named())
        names = [name for name in table.columns if name not in named]
    return sorted(names)


def needed_columns(options: TabularOptions) -> list[str]:
    """Columns a file must have. One to be ignored may be absent: hospitals' files differ."""
    columns = options.columns
    unused = set(columns.ignore)
    if options.kind in ("survival", "none") and "target" not in columns.model_fields_set:
        unused.add(str(columns.target))  # only the default
    return [name for name in columns.named() if name not in unused]


def target_columns(options: TabularOptions) -> list[str]:
    """Columns without which a row teaches nothing."""
    columns = options.columns
    if options.kind == "none":
        return []
    names = [columns.time, columns.event] if options.kind == "survival" else [columns.target]
    return [name for name in names if name is not None]


def category_codes(table: Table, column: str, options: TabularOptions) -> Coded:
    """A column of categories or classes, by the names that ``columns.codes`` gives."""
    spellings = options.columns.spellings(column)
    coded = table.coded(column)
    return coded.called(lambda text: spellings.get(text, text)) if spellings else coded


def feature_cells_missing(table: Table, options: TabularOptions) -> NDArray[np.bool_]:
    """True for rows where any input column is missing."""
    columns = options.columns
    names = [*numeric_columns(table, options), *columns.binary, *columns.categorical]
    missing = np.zeros(len(table), dtype=np.bool_)
    for name in names:
        missing |= table.missing(name)
    return missing


def unscaled_lines(table: Table, options: TabularOptions) -> list[str]:
    """What to know where inputs are used as they are and some are large: steps that suit one column
    throw another one out of range."""
    if options.normalise != "none":
        return []
    large = []
    for name in numeric_columns(table, options):
        values = table.numbers(name)
        if np.nanmax(np.abs(values), initial=0.0) > _LARGE:
            large.append(f"'{name}'")
    if not large:
        return []
    more = f" and {len(large) - _NAMED} more" if len(large) > _NAMED else ""
    return [
        f"task.normalise = 'none', and values of {', '.join(large[:_NAMED])}{more} are beyond "
        f"{_LARGE:g}: training may not converge; set task.normalise = 'federated'"
    ]


def numeric_names(totals: Sums) -> list[str]:
    """Numeric columns that the federation agreed on, sorted."""
    return list(_numeric(frozenset(totals)))


def check_columns(table: Table, totals: Sums, options: TabularOptions) -> None:
    """Raise DataError, naming it, for a column that the federation agreed on and isn't here."""
    own = set(numeric_columns(table, options))
    if lacking := sorted(set(numeric_names(totals)) - own):
        raise table.lacks(lacking[0], ", which other hospitals have")


def unused_columns(table: Table, totals: Sums, options: TabularOptions) -> list[str]:
    """Numeric columns of this table that the federation doesn't use, sorted."""
    return sorted(set(numeric_columns(table, options)) - set(numeric_names(totals)))


def fit_columns(keys: Mapping[str, frozenset[str]], options: TabularOptions) -> Fit:
    """Who can take part, by each hospital's keys of phase 0, and which columns are used.

    A column is used if more than half of the hospitals have it; a hospital that lacks a used one is
    unfit, and told what it may have meant.
    """
    if options.columns.numeric != ["*"]:
        return Fit()  # a file without a named column is refused when it is read
    own = {name: frozenset(_numeric(found)) for name, found in keys.items()}
    have = Counter(column for columns in own.values() for column in columns)
    agreed = {column for column, count in have.items() if 2 * count > len(own)}
    unfit = {}
    for name, columns in own.items():
        if lacking := sorted(agreed - columns):
            there = f"{have[lacking[0]]} of {len(own)} hospitals have"
            meant = near(lacking[0], columns - agreed)
            instead = f" (it has '{meant}')" if meant else ""
            unfit[name] = f"there is no column '{lacking[0]}', which {there}{instead}; {_MEND}"
    odd = sorted(set(have) - agreed)
    unused = {key for found in keys.values() for key in found if _column(key) in odd}
    notes = [
        f"column '{column}' is not used: {have[column]} of {len(own)} hospitals have it; list it "
        "under task.columns.ignore"
        for column in odd
    ]
    return Fit(unfit, frozenset(unused), notes)


@lru_cache(maxsize=32)
def _numeric(keys: frozenset[str]) -> tuple[str, ...]:
    """Sorted. Kept of the last few: each time that a hospital prepares rows it asks again."""
    found = (unquote(key.split("/")[1]) for key in keys if _is(key, "numeric", "count"))
    return tuple(sorted(found))


def _column(key: str) -> str | None:
    """The numeric column that a key's sum is of."""
    parts = key.split("/")
    return unquote(parts[1]) if parts[0] == "numeric" else None


def column_key(train: Table, kind: str, column: str, text: str | None = None) -> str:
    """The key of a column's, or a category's, sums. Raises DataError if it would be too long."""
    key = f"{kind}/{quote(column, safe='')}"
    if len(key) > _LONGEST_KEY // 2:
        raise DataError(
            f"{train.files[0]}: column '{column[:20]}...' has too long a name; shorten it, or list "
            "it under task.columns.ignore"
        )
    if text is None:
        return key
    quoted = quote(text, safe="")
    if len(text) > _LONGEST_CATEGORY or len(key) + 1 + len(quoted) > _LONGEST_KEY:
        coded = train.coded(column)
        row = coded.first(text) if text in coded.texts else 0
        raise DataError(
            f"{train.place(row, column)}: a category longer than {_LONGEST_CATEGORY} characters "
            "(fewer if they aren't ASCII); is this free text? List the column under "
            "task.columns.ignore"
        )
    return f"{key}/{quoted}"


def _is(key: str, kind: str, last: str) -> bool:
    parts = key.split("/")
    return len(parts) == 3 and parts[0] == kind and parts[2] == last
