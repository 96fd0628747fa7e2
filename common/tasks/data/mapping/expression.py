"""The language of derived columns: what may be written, and the tree that it is read into.

    days(discharge - admission)       if(`Kreatinin [mg/dL]` > 1.2, "high", "normal")
    weight / (height / 100) ** 2      sex == "f" and age >= 50      coalesce(crp, crp_old)

Numbers, true and false, columns (in backticks where the name isn't one word), texts in quotes,
+ - * / **, comparisons, and/or/not, ``x in ("a", "b")``, and the functions of ``FUNCTIONS``; as
tightly bound as in Python. There is nothing else: no names of anything but columns, no loops, no
attributes, and nothing is ever handed to Python. Length and depth are bounded. What the parts mean
is in ``evaluate.py``, which kinds of values they take in ``kinds.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wardround.common.text import code, near, normal_text, one_line

LONGEST = 1000
"""Characters of one expression."""
DEEPEST = 40
"""Levels of brackets within one another."""
MOST_PARTS = 100
"""Operators and calls, so that no tree is deeper either."""
FUNCTIONS = {
    "if": (3, 3),
    "min": (2, 20),
    "max": (2, 20),
    "abs": (1, 1),
    "log": (1, 1),
    "log10": (1, 1),
    "exp": (1, 1),
    "sqrt": (1, 1),
    "round": (1, 2),
    "days": (1, 1),
    "hours": (1, 1),
    "years": (1, 1),
    "year": (1, 1),
    "month": (1, 1),
    "missing": (1, 1),
    "coalesce": (2, 20),
    "number": (1, 1),
    "date": (1, 2),
}
"""Fewest and most arguments."""
_TOKENS = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|`(?P<column>[^`]*)`"
    r"|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'"
    r"|(?P<sign>\*\*|==|!=|<>|<=|>=|[-+*/<>=(),]))"
)
_WORDS = ("and", "or", "not", "in")
_TRUTHS = {"true": "==", "false": "!="}
"""Each as a comparison of 1 with 1; a column of such a name stands in backticks."""
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class ExpressionError(ValueError):
    """An expression that can't be read, or doesn't fit the columns: ``str(error)`` is one line.

    at : where in the text, from 1
    """

    def __init__(self, text: str, at: int, what: str) -> None:
        super().__init__(f"'{one_line(text, 80)}', at {at}: {what}")
        self.at = at


@dataclass(frozen=True)
class Number:
    """A number as it is written."""

    value: float
    at: int


@dataclass(frozen=True)
class Text:
    """A text in quotes, as a code (``common.text.code``), as cells are compared."""

    value: str
    at: int


@dataclass(frozen=True)
class Column:
    """The row's value of a column."""

    name: str
    at: int


@dataclass(frozen=True)
class Call:
    """A function or operator (``-x`` is ``neg``) and what it is given.

    ``in`` has the value first, then each of the texts or numbers.
    """

    name: str
    arguments: tuple[Node, ...]
    at: int


Node = Number | Text | Column | Call


@dataclass(frozen=True)
class Expression:
    """A text that was read."""

    text: str
    tree: Node

    def wrong(self, at: int, what: str) -> ExpressionError:
        """The error of a place in it."""
        return ExpressionError(self.text, at, what)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once, in their order."""
        return tuple(dict.fromkeys(node.name for node in _walk(self.tree) if type(node) is Column))


def _walk(tree: Node) -> Iterator[Node]:
    waiting = [tree]
    while waiting:
        yield (node := waiting.pop())
        waiting += reversed(node.arguments) if isinstance(node, Call) else ()


def read_expression(text: str) -> Expression:
    """The tree of a text. Raises ExpressionError: the text, the place in it, the mend."""
    if len(text) > LONGEST:
        raise ExpressionError(text, LONGEST, f"longer than {LONGEST} characters; use two columns")
    found = Expression(text, _Parser(text).whole())
    calls = [node for node in _walk(found.tree) if isinstance(node, Call)]
    if len(calls) > MOST_PARTS:
        raise found.wrong(calls[MOST_PARTS].at, f"more than {MOST_PARTS} parts; use two columns")
    return found


@dataclass(frozen=True)
class _Token:
    kind: str
    value: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        found = _TOKENS.match(text, at)
        if found is None or found.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            mend = {'"': "a quote isn't closed", "'": "a quote isn't closed"}
            mend |= {"`": "a backtick isn't closed", "[": "put a column's name in backticks"}
            mend |= {"%": "there is no %", "&": "write and", "|": "write or", "!": "write not"}
            what = mend.get(text[at], f"'{text[at]}' means nothing here")
            raise ExpressionError(text, at + 1, what)
        kind = found.lastgroup
        start = len(found[0]) - len(found[0].lstrip())
        yield _Token(kind, found[kind], at + start + 1)
        at = found.end()
    yield _Token("end", "", len(text) + 1)


class _Parser:
    """By binding strength, weakest first: or, and, not, comparison, + -, * /, sign, **."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        tree = self._or()
        if self._now.kind != "end":
            raise self._unexpected()
        return tree

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _is(self, *values: str) -> bool:
        return self._now.kind in ("sign", "name") and self._now.value in values

    def _take(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _wrong(self, token: _Token, what: str) -> ExpressionError:
        return ExpressionError(self._text, token.at, what)

    def _unexpected(self) -> ExpressionError:
        token = self._now
        if token.kind == "end":
            return self._wrong(token, "it ends too early")
        if self._is("="):
            return self._wrong(token, "write == to compare")
        if token.kind == "name" and token.value not in _WORDS:
            return self._wrong(token, "put a name of several words in backticks")
        return self._wrong(token, f"'{token.value:.40}' isn't expected here")

    def _expect(self, sign: str) -> None:
        if not self._is(sign):
            raise (
                self._unexpected()
                if self._now.kind != "end"
                else self._wrong(self._now, f"'{sign}' is missing")
            )
        self._take()

    # --- operators ------------------------------------------------------------------------------
    def _or(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(self._now, f"deeper than {DEEPEST} levels; use two columns")
        left = self._and()
        while self._is("or"):
            at = self._take().at
            left = Call("or", (left, self._and()), at)
        self._depth -= 1
        return left

    def _and(self) -> Node:
        left = self._not()
        while self._is("and"):
            at = self._take().at
            left = Call("and", (left, self._not()), at)
        return left

    def _not(self) -> Node:
        signs = []
        while self._is("not"):
            signs.append(self._take().at)
        found = self._comparison()
        for at in reversed(signs[-1:] if len(signs) % 2 else signs[-2:]):
            found = Call("not", (found,), at)
        return found

    def _comparison(self) -> Node:
        left = self._sum()
        if self._is(*COMPARISONS, "<>"):
            token = self._take()
            right = self._sum()
            if self._is(*COMPARISONS, "<>"):
                raise self._wrong(self._now, "write a < b and b < c")
            return Call(token.value.replace("<>", "!="), (left, right), token.at)
        if self._is("in", "not"):
            return self._among(left)
        return left

    def _among(self, left: Node) -> Node:
        token, turned = self._take(), False
        if token.value == "not":
            turned = True
            self._expect("in")
        self._expect("(")
        items = [self._literal()]
        while self._is(","):
            self._take()
            items.append(self._literal())
        self._expect(")")
        found = Call("in", (left, *items), token.at)
        return Call("not", (found,), token.at) if turned else found

    def _literal(self) -> Node:
        minus = self._is("-") and self._take()
        found = self._atom()
        if isinstance(found, Number):
            return Number(-found.value, found.at) if minus else found
        if isinstance(found, Text) and not minus:
            return found
        raise self._wrong(self._tokens[self._at - 1], "in (...) lists texts in quotes, or numbers")

    def _sum(self) -> Node:
        left = self._product()
        while self._is("+", "-"):
            token = self._take()
            left = Call(token.value, (left, self._product()), token.at)
        return left

    def _product(self) -> Node:
        left = self._signed()
        while self._is("*", "/"):
            token = self._take()
            left = Call(token.value, (left, self._signed()), token.at)
        return left

    def _signed(self) -> Node:
        turned, at = False, self._now.at
        while self._is("-", "+"):
            turned ^= self._take().value == "-"
        found = self._power()
        return Call("neg", (found,), at) if turned else found

    def _power(self) -> Node:
        base = self._atom()
        if not self._is("**"):
            return base
        token = self._take()
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._wrong(token, f"deeper than {DEEPEST} levels; use two columns")
        found = Call("**", (base, self._signed()), token.at)
        self._depth -= 1
        return found

    # --- what stands alone ----------------------------------------------------------------------
    def _atom(self) -> Node:
        token = self._now
        if token.kind == "number":
            self._take()
            if not abs(float(token.value)) <= 1e30:
                raise self._wrong(token, "a number beyond 1e30")
            return Number(float(token.value), token.at)
        if token.kind in ("double", "single"):
            self._take()
            return Text(code(token.value), token.at)
        if token.kind == "column" or (token.kind == "name" and token.value not in _WORDS):
            return self._named()
        if not self._is("("):
            raise self._unexpected()
        self._take()
        inner = self._or()
        self._expect(")")
        return inner

    def _named(self) -> Node:
        token = self._take()
        if token.kind == "column" or not self._is("("):
            name = normal_text(token.value)
            if token.kind == "name" and name in _TRUTHS:
                one = Number(1.0, token.at)
                return Call(_TRUTHS[name], (one, one), token.at)
            if not name:
                raise self._wrong(token, "a column without a name")
            return Column(name, token.at)
        if token.value not in FUNCTIONS:
            hint = near(token.value, FUNCTIONS)
            mend = f"is it {hint}?" if hint else f"there are {', '.join(FUNCTIONS)}"
            raise self._wrong(token, f"there is no function {token.value:.40}; {mend}")
        self._take()
        arguments = [self._or()]
        while self._is(","):
            self._take()
            arguments.append(self._or())
        self._expect(")")
        fewest, most = FUNCTIONS[token.value]
        if not fewest <= len(arguments) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise self._wrong(token, f"{token.value} takes {wanted}, not {len(arguments)}")
        return Call(token.value, tuple(arguments), token.at)
