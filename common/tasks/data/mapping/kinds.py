"""Which kind of value each part of an expression takes and gives: number, text, truth, date, span.

Read twice: with the settings, where columns may be of any kind, and against the columns that there
are. A span is a difference of dates; ``days``, ``hours`` and ``years`` make a number of it. A
column of texts may stand where a number must: one cell that is none makes texts of a column of
numbers, and shall cost its row, not the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from wardround.common.tasks.data.mapping.expression import (
    COMPARISONS,
    Call,
    Column,
    Expression,
    ExpressionError,
    Node,
    Number,
    Text,
)
from wardround.common.tasks.data.mapping.texts import date_of
from wardround.common.text import near

NUMBER, TEXT, TRUTH, DATE, SPAN = "number", "text", "truth", "date", "span"
ANY = "any"
"""Of a column while nothing is known of the columns."""
_NO_DATE = 'this is a text, not a date; date(..., "%d.%m.%Y") reads it'
_INSTEAD = {
    (TEXT, DATE): "; date(...) reads it",
    (NUMBER, TEXT): "; compare a number with a number, without quotes",
    (SPAN, NUMBER): "; days(...) makes a number of it",
    (NUMBER, SPAN): "; it takes the difference of two dates",
    (DATE, SPAN): "; it takes the difference of two dates",
}


def kind_of(type_: pa.DataType) -> str:
    """The kind of a column's values. A column without any value is a text."""
    if pa.types.is_boolean(type_):
        return TRUTH
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return NUMBER
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return DATE
    return TEXT


@dataclass(frozen=True)
class Checked:
    """What an expression is.

    kind : of what it gives
    as_numbers : where it names columns of texts that are read as numbers
    """

    kind: str
    as_numbers: frozenset[int]


def check(expression: Expression, columns: Mapping[str, str] | None) -> Checked:
    """The kind of what it gives, and of what it is made.

    columns : the kind of each by its name; None where they aren't known yet

    Raises ExpressionError for a part that takes another kind, and for a column that isn't there.
    """
    checker = _Checker(expression, columns)
    kind = checker.kind(expression.tree)
    if kind == SPAN:
        raise expression.wrong(1, "gives a span of time; put it in days(...) or years(...)")
    return Checked(kind, frozenset(checker.as_numbers))


class _Checker:
    def __init__(self, expression: Expression, columns: Mapping[str, str] | None) -> None:
        self._expression = expression
        self._columns = columns
        self._found: dict[int, str] = {}
        self.as_numbers: set[int] = set()

    def kind(self, node: Node) -> str:
        """Of a node; each is looked at once."""
        if id(node) not in self._found:
            self._found[id(node)] = self._kind(node)
        return self._found[id(node)]

    def _kind(self, node: Node) -> str:
        if isinstance(node, Number):
            return NUMBER
        if isinstance(node, Text):
            return TEXT
        if isinstance(node, Column):
            return self._column(node)
        own = _KINDS.get(node.name)
        if own is not None:
            takes, gives = own
            for argument in node.arguments:
                self._must(argument, takes)
            return gives
        return _SPECIAL[node.name](self, node)

    def _column(self, node: Column) -> str:
        if self._columns is None:
            return ANY
        if node.name not in self._columns:
            hint = near(node.name, self._columns)
            more = f"; is it `{hint}`?" if hint else ""
            raise self._expression.wrong(node.at, f"there is no column '{node.name}'{more}")
        return self._columns[node.name]

    def _must(self, node: Node, wanted: str, *others: str) -> str:
        found = self.kind(node)
        if ANY in (found, wanted) or found in (wanted, *others):
            return found
        if (found, wanted) == (TEXT, NUMBER) and isinstance(node, Column):
            self.as_numbers.add(node.at)
            return NUMBER
        if wanted == SPAN and isinstance(node, Call) and node.name == "-":
            for one in node.arguments:
                if self.kind(one) == TEXT:
                    raise self._wrong(one, _NO_DATE)
        what = f"column '{node.name}' is" if isinstance(node, Column) else "this is"
        raise self._wrong(
            node, f"{what} a {found}, not a {wanted}{_INSTEAD.get((found, wanted), '')}"
        )

    def _wrong(self, node: Node, what: str) -> ExpressionError:
        return self._expression.wrong(node.at, what)

    def _alike(self, nodes: tuple[Node, ...], what: str) -> str:
        """The one kind of them all."""
        found = [kind for kind in map(self.kind, nodes) if kind != ANY]
        kind = NUMBER if NUMBER in found else found[0] if found else ANY
        for node in nodes:
            self._must(node, kind)
        if kind == SPAN:
            raise self._wrong(nodes[0], f"{what} takes no span of time; put it in days(...)")
        return kind

    def minus(self, node: Call) -> str:
        found = [self.kind(argument) for argument in node.arguments]
        wanted = DATE if DATE in found else NUMBER
        for argument in node.arguments:
            self._must(argument, wanted)
        return SPAN if wanted == DATE else ANY if ANY in found else NUMBER

    def compared(self, node: Call) -> str:
        kind = self._alike(node.arguments, "a comparison")
        if kind in (TEXT, TRUTH) and node.name not in ("==", "!=", "in"):
            raise self._wrong(node, f"a {kind} can't be {node.name} another; use == or !=")
        return TRUTH

    def chosen(self, node: Call) -> str:
        self._must(node.arguments[0], TRUTH)
        return self._alike(node.arguments[1:], "if")

    def extreme(self, node: Call) -> str:
        kind = self._alike(node.arguments, node.name)
        if kind not in (TEXT, TRUTH):
            return kind
        for argument in node.arguments:
            self._must(argument, NUMBER)
        return NUMBER

    def first(self, node: Call) -> str:
        return self._alike(node.arguments, "coalesce")

    def missing(self, node: Call) -> str:
        self.kind(node.arguments[0])
        return TRUTH

    def rounded(self, node: Call) -> str:
        self._must(node.arguments[0], NUMBER)
        digits = node.arguments[1:]
        if digits and not (isinstance(digits[0], Number) and digits[0].value in range(11)):
            raise self._wrong(digits[0], "round takes a whole number from 0 to 10 as its digits")
        return NUMBER

    def dated(self, node: Call) -> str:
        form = node.arguments[1:]
        self._must(node.arguments[0], TEXT, *(() if form else (DATE,)))
        if form and not (isinstance(form[0], Text) and "%" in form[0].value):
            raise self._wrong(form[0], 'date takes a form in quotes, as "%d.%m.%Y"')
        given = node.arguments[0]
        written = form[0].value if form and isinstance(form[0], Text) else None
        if isinstance(given, Text) and date_of(given.value, written) is None:
            raise self._wrong(given, "no date; write it as 2024-12-31")
        return DATE

    def number(self, node: Call) -> str:
        self._must(node.arguments[0], TEXT, NUMBER)
        return NUMBER


_KINDS = {
    **{name: (NUMBER, NUMBER) for name in ("+", "*", "/", "**", "neg")},
    **{name: (NUMBER, NUMBER) for name in ("abs", "log", "log10", "exp", "sqrt")},
    **{name: (SPAN, NUMBER) for name in ("days", "hours", "years")},
    **{name: (DATE, NUMBER) for name in ("year", "month")},
    **{name: (TRUTH, TRUTH) for name in ("and", "or", "not")},
}
_SPECIAL: dict[str, Callable[[_Checker, Call], str]] = {
    "-": _Checker.minus,
    **dict.fromkeys((*COMPARISONS, "in"), _Checker.compared),
    "if": _Checker.chosen,
    "min": _Checker.extreme,
    "max": _Checker.extreme,
    "coalesce": _Checker.first,
    "missing": _Checker.missing,
    "round": _Checker.rounded,
    "number": _Checker.number,
    "date": _Checker.dated,
}
