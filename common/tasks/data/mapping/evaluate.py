"""What an expression is over the rows of a table, all rows at once.

A gap (null) goes through every operator and function, as in SQL, but for ``missing``, ``coalesce``,
and ``and``/``or`` where the other side decides (false and a gap is false). ``if`` of a condition
that isn't known is a gap, where SQL would take the second value: a measurement that is missing is
no reason to call a patient's value normal. What arithmetic has no number for (division by zero, the
logarithm of 0, beyond the largest number) is a gap too, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.tasks.data.mapping.expression import (
    Call,
    Column,
    Expression,
    Node,
    Number,
    Text,
)
from wardround.common.tasks.data.mapping.kinds import DATE, NUMBER, TEXT, check, kind_of
from wardround.common.tasks.data.mapping.texts import (
    MAX_ABS_NUMBER,
    Mask,
    codes,
    dates,
    none,
    numbers,
    to_mask,
)

DAY_US = 86_400_000_000
YEAR_DAYS = 365.25


@dataclass(frozen=True)
class Value:
    """One value per row.

    cells : float64, string, bool or timestamp[us]; of a span, int64 microseconds
    undefined : where a gap is one that arithmetic made
    """

    cells: pa.Array
    undefined: Mask


@dataclass(frozen=True)
class Found:
    """What an expression is.

    undefined : rows that are a gap because arithmetic has no number there
    unread : by column, rows with a text that ``number`` or ``date`` can't read
    """

    cells: pa.Array
    undefined: Mask
    unread: dict[str, Mask]


def evaluate(expression: Expression, columns: Mapping[str, pa.Array], rows: int) -> Found:
    """The expression over the columns that it names. Raises ExpressionError as ``kinds.check``."""
    kinds = {name: kind_of(columns[name].type) for name in expression.columns}
    evaluator = _Evaluator(columns, rows, check(expression, kinds).as_numbers)
    value = evaluator.value(expression.tree)
    if pa.types.is_floating(value.cells.type):
        value = _defined(value.cells, value.undefined, MAX_ABS_NUMBER)
    return Found(value.cells, value.undefined, evaluator.unread)


def _defined(cells: pa.Array, undefined: Mask, most: float = np.finfo(np.float64).max) -> Value:
    """Numbers, with gaps for what is none, or of a larger magnitude."""
    known = pc.less_equal(pc.abs(cells), most)  # NaN is not
    lost = to_mask(pc.and_(pc.is_valid(cells), pc.invert(pc.fill_null(known, False))))
    if lost.any():
        cells = pc.if_else(pa.array(~lost), cells, pa.scalar(None, pa.float64()))
    return Value(cells, undefined | lost)


class _Evaluator:
    def __init__(
        self, columns: Mapping[str, pa.Array], rows: int, as_numbers: frozenset[int]
    ) -> None:
        self._columns = columns
        self._rows = rows
        self._as_numbers = as_numbers
        self.unread: dict[str, Mask] = {}

    def value(self, node: Node) -> Value:
        """The node's value for each row."""
        nowhere = np.zeros(self._rows, dtype=np.bool_)
        if isinstance(node, Number | Text):
            type_ = pa.float64() if isinstance(node, Number) else pa.string()
            return Value(pa.repeat(pa.scalar(node.value, type_), self._rows), nowhere)
        if isinstance(node, Column):
            column = self._columns[node.name]
            if node.at not in self._as_numbers:
                return Value(_typed(column), nowhere)
            cells, unread = numbers(column)
            return self._noted(node, Value(cells, nowhere), unread)
        if node.name in _SPECIAL:
            return _SPECIAL[node.name](self, node)
        given = [self.value(argument) for argument in node.arguments]
        cells = _PLAIN[node.name](*(value.cells for value in given))
        undefined = np.logical_or.reduce([value.undefined for value in given])
        undefined &= to_mask(pc.is_null(cells))
        return (
            _defined(cells, undefined)
            if pa.types.is_floating(cells.type)
            else Value(cells, undefined)
        )

    def chosen(self, node: Call) -> Value:
        asked, first, second = (self.value(argument) for argument in node.arguments)
        cells = pc.if_else(asked.cells, first.cells, second.cells)
        here = np.where(to_mask(asked.cells), first.undefined, second.undefined)
        known = to_mask(pc.is_valid(asked.cells))
        return Value(cells, np.where(known, here, asked.undefined))

    def among(self, node: Call) -> Value:
        value = self.value(node.arguments[0])
        literals = [one.value for one in node.arguments[1:] if isinstance(one, Number | Text)]
        found = pc.is_in(value.cells, value_set=pa.array(literals, value.cells.type))
        gap = pa.scalar(None, pa.bool_())
        return Value(pc.if_else(pc.is_valid(value.cells), found, gap), value.undefined)

    def missing(self, node: Call) -> Value:
        cells = pc.is_null(self.value(node.arguments[0]).cells)
        return Value(cells, none(cells))

    def rounded(self, node: Call) -> Value:
        value, digits = self.value(node.arguments[0]), node.arguments[1:]
        scale = 10.0 ** digits[0].value if digits and isinstance(digits[0], Number) else 1.0
        whole = pc.round(pc.multiply(value.cells, scale), round_mode="half_to_even")
        return _defined(pc.divide(whole, scale), value.undefined)

    def number(self, node: Call) -> Value:
        value = self.value(node.arguments[0])
        cells, unread = numbers(value.cells)
        return self._noted(node.arguments[0], Value(cells, value.undefined), unread)

    def dated(self, node: Call) -> Value:
        value, form = self.value(node.arguments[0]), node.arguments[1:]
        written = form[0].value if form and isinstance(form[0], Text) else None
        cells, unread = dates(value.cells, written)
        return self._noted(node.arguments[0], Value(cells, value.undefined), unread)

    def _noted(self, of: Node, value: Value, unread: Mask) -> Value:
        name = of.name if isinstance(of, Column) else ""
        if unread.any():
            self.unread[name] = self.unread.get(name, none(value.cells)) | unread
        return value


def _typed(column: pa.Array) -> pa.Array:
    kind = kind_of(column.type)
    if kind == NUMBER:
        return numbers(column)[0]
    if kind == DATE:
        return dates(column, None)[0]
    return codes(column) if kind == TEXT else column


def _minus(left: pa.Array, right: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(left.type):
        return pc.subtract(left.cast(pa.int64()), right.cast(pa.int64()))
    return pc.subtract(left, right)


def _spans(unit_us: float) -> Callable[[pa.Array], pa.Array]:
    return lambda span: pc.divide(span.cast(pa.float64(), safe=False), unit_us)


def _part(function: Callable[[pa.Array], pa.Array]) -> Callable[[pa.Array], pa.Array]:
    return lambda cells: function(cells).cast(pa.float64())


_PLAIN: dict[str, Callable[..., pa.Array]] = {
    "+": pc.add,
    "-": _minus,
    "*": pc.multiply,
    "/": pc.divide,
    "**": pc.power,
    "neg": pc.negate,
    "abs": pc.abs,
    "log": pc.ln,
    "log10": pc.log10,
    "exp": pc.exp,
    "sqrt": pc.sqrt,
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "and": pc.and_kleene,
    "or": pc.or_kleene,
    "not": pc.invert,
    "coalesce": pc.coalesce,
    "min": lambda *cells: pc.min_element_wise(*cells, skip_nulls=False),
    "max": lambda *cells: pc.max_element_wise(*cells, skip_nulls=False),
    "days": _spans(DAY_US),
    "hours": _spans(DAY_US / 24),
    "years": _spans(DAY_US * YEAR_DAYS),
    "year": _part(pc.year),
    "month": _part(pc.month),
}
_SPECIAL: dict[str, Callable[[_Evaluator, Call], Value]] = {
    "if": _Evaluator.chosen,
    "in": _Evaluator.among,
    "missing": _Evaluator.missing,
    "round": _Evaluator.rounded,
    "number": _Evaluator.number,
    "date": _Evaluator.dated,
}
