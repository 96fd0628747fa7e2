"""Factors of a formula: what may stand between its operators.

    age   `blood pressure`   log(crp)   I(weight / (height / 100) ** 2)   square(age)
    C(sex)   C(arm, ref="placebo")   center(age)   scale(age)
    bs(age, knots=[50, 65])   bs(age, df=5, degree=2)   ns(age, knots=[40, 50, 65])   ns(age, df=3)

There is nothing else, and nothing is ever handed to Python: arithmetic is the language of derived
columns (``common/tasks/data/mapping``), bounded as it is there. A formula comes with a plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wardround.common.tasks.data.mapping.expression import (
    Column,
    Expression,
    ExpressionError,
    read_expression,
)
from wardround.common.tasks.data.mapping.kinds import NUMBER, TRUTH, check
from wardround.common.text import code, normal_text

MOST_KNOTS = 12
_CALL = re.compile(r"([A-Za-z_][\w.]*)\((.*)\)", re.DOTALL)
_NUMBERS = ("log", "log10", "exp", "sqrt", "abs", "min", "max", "round")
_SPLINES = {"bs": "bs", "ns": "ns", "cr": "ns", "rcs": "ns"}
_MOST_DEGREE, _LEAST_NATURAL = 5, 3


class FormulaError(ValueError):
    """A formula that can't be read: ``str(error)`` is one line."""


@dataclass(frozen=True)
class Number:
    """One number of a row.

    moved : 'center' or 'scale': less the mean of all hospitals' rows, and over their deviation
    """

    text: str
    expression: Expression
    moved: str = ""


@dataclass(frozen=True)
class Category:
    """Columns of 0 and 1, one for each level but the reference.

    reference : '' for the first level
    """

    text: str
    column: str
    reference: str = ""


@dataclass(frozen=True)
class Spline:
    """A curve in one number.

    kind : 'bs', B-splines; 'ns', natural cubic ones (linear beyond the outer knots)
    knots : inner ones of 'bs', all of 'ns', rising; () where ``df`` says how many: then they are
        quantiles of all hospitals' rows
    bounds : of 'bs', outer knots: the curve goes on beyond; None: agreed
    """

    text: str
    expression: Expression
    kind: str
    knots: tuple[float, ...] = ()
    df: int = 0
    degree: int = 3
    bounds: tuple[float, float] | None = None

    @property
    def columns(self) -> int:
        """How many columns it makes."""
        if self.df:
            return self.df
        return len(self.knots) + self.degree if self.kind == "bs" else len(self.knots) - 1

    @property
    def agreed(self) -> bool:
        """Whether knots or bounds follow from the rows of all hospitals."""
        return not self.knots or (self.kind == "bs" and self.bounds is None)


Factor = Number | Category | Spline


def read_factor(text: str) -> Factor:
    """The factor of a text. Raises FormulaError."""
    called = _CALL.fullmatch(text)
    name, given = (called[1], _split(called[2])) if called else ("", [])
    if name == "C":
        return _category(text, given)
    if name in _SPLINES:
        return _spline(text, _SPLINES[name], given)
    if name in ("center", "scale", "I", "square") or name in _NUMBERS or not name:
        return _number(text, name, given)
    raise FormulaError(
        f"'{text}': there is no function '{name}' here; there are C, I, square, center, scale, bs, "
        f"ns, {', '.join(_NUMBERS)}"
    )


def column(name: str) -> Number:
    """A column by its name alone, whatever is in that."""
    return Number(name, Expression(name, Column(normal_text(name), 1)))


def _number(text: str, name: str, given: list[str]) -> Number:
    inner = text
    if name in ("I", "center", "scale", "square"):
        if len(given) != 1:
            raise FormulaError(f"'{text}': {name} takes one expression")
        inner = f"({given[0]}) ** 2" if name == "square" else given[0]
    return Number(text, _expression(inner, text), name if name in ("center", "scale") else "")


def _expression(text: str, whole: str) -> Expression:
    try:
        found = read_expression(text)
        kind = check(found, dict.fromkeys(found.columns, NUMBER)).kind
    except ExpressionError as error:
        raise FormulaError(f"in '{whole}': {error}") from None
    if kind not in (NUMBER, TRUTH):
        raise FormulaError(f"'{whole}' gives a {kind}; a formula takes numbers, or C(column)")
    if not found.columns:
        raise FormulaError(f"'{whole}' names no column")
    return found


def _category(text: str, given: list[str]) -> Category:
    if not given:
        raise FormulaError(f"'{text}': C takes a column, and may take ref='level'")
    named = _named(text, given[1:], {"ref": _text, "reference": _text})
    tree = _expression(given[0], text).tree
    if not isinstance(tree, Column):
        raise FormulaError(f"'{text}': C takes a column, not an expression")
    return Category(text, tree.name, code(named.get("ref", named.get("reference", ""))))


def _spline(text: str, kind: str, given: list[str]) -> Spline:
    if not given:
        raise FormulaError(f"'{text}': it takes a column, and knots=[...] or df=...")
    reads: dict[str, Callable[[str], Any]] = {"knots": _list, "df": _whole, "bounds": _list}
    named = _named(text, given[1:], reads | ({"degree": _whole} if kind == "bs" else {}))
    knots, df, degree = named.get("knots", ()), named.get("df", 0), named.get("degree", 3)
    bounds = named.get("bounds")
    if bool(knots) == bool(df):
        raise FormulaError(f"'{text}': give it knots=[...] or df=..., one of the two")
    if kind == "ns" and knots and bounds:  # as R's: inner knots, and the outer ones
        knots, bounds = (bounds[0], *knots, bounds[-1]), None
    least = 1 if kind == "bs" else _LEAST_NATURAL
    if knots and not (least <= len(knots) <= MOST_KNOTS and _rise(knots)):
        raise FormulaError(f"'{text}': knots are {least} to {MOST_KNOTS} numbers that rise")
    if not 1 <= degree <= _MOST_DEGREE:
        raise FormulaError(f"'{text}': degree is from 1 to {_MOST_DEGREE}")
    fewest = degree if kind == "bs" else _LEAST_NATURAL - 1
    if df and not fewest <= df <= MOST_KNOTS:
        raise FormulaError(f"'{text}': df is from {fewest} to {MOST_KNOTS}")
    if bounds is not None:
        inside = (bounds[0], *knots, bounds[-1])
        if len(bounds) != 2 or not _rise(inside):
            raise FormulaError(f"'{text}': bounds are two numbers, one on each side of the knots")
        if kind == "ns":
            raise FormulaError(f"'{text}': with df, ns takes its outer knots from the rows too")
    return Spline(text, _expression(given[0], text), kind, knots, df, degree, bounds)


def _rise(numbers: Sequence[float]) -> bool:
    return all(before < after for before, after in zip(numbers, numbers[1:], strict=False))


# --- what calls are given ------------------------------------------------------------------------
def _split(text: str) -> list[str]:
    """At commas that are in no bracket and no quote."""
    found, depth, quote, begin = list[str](), 0, "", 0
    for at, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'`":
            quote = sign
        elif sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == "," and depth == 0:
            found.append(text[begin:at].strip())
            begin = at + 1
    return [one for one in (*found, text[begin:].strip()) if one]


def _named(
    text: str, given: Sequence[str], reads: Mapping[str, Callable[[str], Any]]
) -> dict[str, Any]:
    found = dict[str, Any]()
    for one in given:
        name, equals, value = one.partition("=")
        name = name.strip()
        if not equals or name not in reads or name in found:
            raise FormulaError(f"'{text}': after the column it takes {', '.join(reads)}, by name")
        try:
            found[name] = reads[name](value.strip())
        except ValueError:
            raise FormulaError(f"'{text}': '{name}' can't be read") from None
    return found


def _text(text: str) -> str:
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        raise ValueError
    return text[1:-1]


def _whole(text: str) -> int:
    return int(text)


def _list(text: str) -> tuple[float, ...]:
    if len(text) < 2 or text[0] not in "[(" or text[-1] not in "])":
        raise ValueError
    found = tuple(float(one) for one in text[1:-1].split(",") if one.strip())
    if not all(abs(one) < 1e100 for one in found):
        raise ValueError
    return found
