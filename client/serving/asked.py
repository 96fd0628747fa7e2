"""The body of a request as columns, typed by the model's schema.

    {"rows": [{"age": 71, "sex": "female"}, ...]}
    {"columns": {"age": [71, ...], "sex": ["female", ...]}}

A field that is null or left out is a gap. One that the model doesn't take is refused, lest a
misspelt name go as a gap; so are NaN, infinities, and anything of another type. Numbers and binary
columns become float64 with NaN for a gap; all else texts, '' for a gap, in the normal form of a
table's cells: what such a text means the model's own graph says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from wardround.client.serving.refused import Unanswered, unfit
from wardround.common.tasks.schema import Input, Schema
from wardround.common.text import code

Columns = Mapping[str, NDArray[Any]]
"""By input: N float64, NaN for a gap; or N texts (object), '' for a gap."""
MOST_TEXT = 200_000
"""Characters of one text."""
_MOST_WORD = 4096
_YES, _NO = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n")
_NUMBERS = {float, int, type(None)}
_TEXTS = {str, type(None)}
_EXACT = 2**53
_UNKNOWN = "a field that the model doesn't take; GET /model says which it takes"
_FORM = 'give {"rows": [{...}, ...]} or {"columns": {"NAME": [...], ...}}'
Called = Callable[[int], str]
"""How a message names a row."""


@dataclass(frozen=True)
class Asked:
    """What one request asks.

    by_column : whether the answer is by column, too
    """

    columns: Columns
    rows: int
    by_column: bool = False


def read_json(body: bytes) -> Any:
    """What a body says. Raises Unanswered for what is no JSON."""
    try:
        return from_json(body, allow_inf_nan=False)
    except (ValueError, RecursionError):
        raise Unanswered(400, "the body is no JSON (NaN and Infinity aren't)") from None


class Reader:
    """Reads bodies for one model.

    most_rows : of one request
    """

    def __init__(self, schema: Schema, most_rows: int) -> None:
        self._inputs, self._most = schema.inputs, most_rows
        self._names = {one.name for one in schema.inputs}
        self._meanings = {one.name: _meanings(one) for one in schema.inputs if one.kind == "binary"}

    def asked(self, body: bytes) -> Asked:
        """What the body of ``POST /predict`` asks. Raises Unanswered."""
        found = read_json(body)
        if not isinstance(found, dict) or len(found) != 1:
            raise Unanswered(422, _FORM)
        if "rows" in found:
            return Asked(self.of_rows(found["rows"]), len(found["rows"]))
        if "columns" in found:
            columns, count = self._of_columns(found["columns"])
            return Asked(columns, count, by_column=True)
        raise Unanswered(422, _FORM)

    def of_rows(self, rows: Any, called: Called = "rows[{}]".format) -> Columns:
        """Columns of records. Raises Unanswered."""
        if not isinstance(rows, list):
            raise unfit("rows", "a list of records is wanted")
        self.check_count(len(rows))
        names = self._names
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise unfit(called(number), "a record is wanted")
            if not row.keys() <= names:
                raise unfit(called(number), _UNKNOWN)
            if not row:
                raise unfit(called(number), "nothing is known of this row")
        cells = _by_column(rows)
        gaps: list[Any] = [None] * len(rows)
        return {
            one.name: self._typed(one, cells.get(one.name, gaps), called) for one in self._inputs
        }

    def _of_columns(self, found: Any) -> tuple[Columns, int]:
        """Columns of lists of one length, and that."""
        if not isinstance(found, dict) or not all(isinstance(one, list) for one in found.values()):
            raise unfit("columns", "lists by name are wanted")
        if not found.keys() <= self._names:
            raise unfit("columns", _UNKNOWN)
        lengths = set(map(len, found.values()))
        if len(lengths) != 1:
            raise unfit("columns", "lists of one length are wanted")
        count = lengths.pop()
        self.check_count(count)
        gaps: list[Any] = [None] * count
        called: Called = "columns[{}]".format
        columns = {
            one.name: self._typed(one, found.get(one.name, gaps), called) for one in self._inputs
        }
        return columns, count

    def words(self, one: Input, values: Any) -> list[str]:
        """Texts of a category in their normal form. Raises Unanswered."""
        return list(_texts(one, values, "texts[{}]".format))

    def check_count(self, count: int) -> None:
        """Raise Unanswered for no row, or too many."""
        if not count:
            raise Unanswered(422, "there is no row in it")
        if count > self._most:
            raise Unanswered(
                413, f"{count} rows, and one request may have {self._most}; ask in parts"
            )

    def _typed(self, one: Input, values: Sequence[Any], called: Called) -> NDArray[Any]:
        if one.kind == "number":
            return _numbers(one, values, called)
        if one.kind == "binary":
            return _two_values(one, self._meanings[one.name], values, called)
        return _texts(one, values, called)


def _by_column(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Sequence[Any]]:
    """Records that mostly have the same fields, as columns."""
    names = list(rows[0])
    if len(names) > 1 and all(len(row) == len(names) for row in rows):
        try:
            cells = zip(*map(itemgetter(*names), rows), strict=True)
            return dict(zip(names, cells, strict=True))
        except KeyError:
            pass  # as many, and others
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


# --- columns --------------------------------------------------------------------------------------
def _numbers(one: Input, values: Sequence[Any], called: Called) -> NDArray[np.float64]:
    if not set(map(type, values)) <= _NUMBERS:
        place = next(i for i, value in enumerate(values) if type(value) not in _NUMBERS)
        raise unfit(f"{called(place)}.{one.name}", "a number or null is wanted")
    try:
        found = np.array(values, dtype=np.float64)
        wrong = np.flatnonzero(np.isinf(found))
        place = int(wrong[0]) if wrong.size else -1
    except OverflowError:
        place = next(i for i, value in enumerate(values) if value and abs(value) > 1e300)
    if place >= 0:
        raise unfit(f"{called(place)}.{one.name}", "the number is too large")
    return found


def _two_values(
    one: Input, meant: Mapping[Any, float], values: Sequence[Any], called: Called
) -> NDArray[np.float64]:
    """True and false are 1 and 0; any other value is the text that it would be in a table."""
    try:
        return np.array([meant[value] for value in values], dtype=np.float64)
    except (KeyError, TypeError):
        pass  # one isn't in its normal form, or means nothing
    found = np.empty(len(values))
    for place, value in enumerate(values):
        text = _word(one, value)
        known = None if text is None else meant.get(code(text).casefold())
        number = float(value) if type(value) is bool else known
        if number is None:
            raise unfit(
                f"{called(place)}.{one.name}",
                "true, false, null or a text that GET /model names is wanted",
            )
        found[place] = number
    return found


def _meanings(one: Input) -> dict[Any, float]:
    """Of a binary input: what each text means, and what else is surely one of them."""
    found: dict[Any, float] = {None: math.nan, "": math.nan}
    if not one.positive:
        found |= {0: 0.0, 1: 1.0}  # and so False and True
    pairs = ((one.positive or _YES, 1.0), (one.negative or (() if one.positive else _NO), 0.0))
    for texts, number in pairs:
        found |= {code(text).casefold(): number for text in texts}
    for text, name in one.spellings.items():
        meant = found.get(code(name).casefold())
        if meant is not None:
            found[code(text).casefold()] = meant
    return found


def _texts(one: Input, values: Sequence[Any], called: Called) -> NDArray[np.object_]:
    found = np.empty(len(values), dtype=object)
    kinds = set(map(type, values))
    if kinds <= _TEXTS:
        found[:] = [value or "" for value in values] if type(None) in kinds else values
    else:
        for place, value in enumerate(values):
            text = _word(one, value)
            if text is None:
                wanted = "a text or null" if one.kind == "text" else "a text, a number or null"
                raise unfit(f"{called(place)}.{one.name}", f"{wanted} is wanted")
            found[place] = text
    most = MOST_TEXT if one.kind == "text" else _MOST_WORD
    if (longest := max(map(len, found), default=0)) > most:
        place = next(i for i, text in enumerate(found) if len(text) == longest)
        raise unfit(f"{called(place)}.{one.name}", f"at most {most} characters are taken")
    if one.kind == "category":
        normal = {text: code(text) for text in set(found)}
        found[:] = [normal[text] for text in found]
    return found


def _word(one: Input, value: Any) -> str | None:
    """A cell's text; None for what can be none."""
    if value is None:
        return ""
    if type(value) is str:
        return value
    if one.kind == "text" or type(value) is bool:
        return None
    if type(value) is int and abs(value) < _EXACT:
        return str(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)  # 2.0 is '2', by its normal form
    return None
