"""Jinja's sandbox with a budget: what a template may take of time and memory.

The sandbox keeps a template from files, modules and attributes; not from 3,000 times 9,000 turns of
two loops, nor from one word that is a gigabyte long. Here every character that is made or looked
through costs 1 of ``BUDGET`` a rendering, every item ``_ITEM``, every call and every turn of a
loop, macro or block ``_TURN_COST``, also a turn that a loop's ``if`` leaves out. Whatever may read
a list through costs what is in it: tests (``is in``), its methods, a comparison's sides, a key.
What would be made at once by a number alone (``'a' * n``, widths) is counted before it is made, or
isn't there: of filters and of methods of texts those are that chat templates use. Nothing is
random.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

BUDGET = 1 << 24
_ITEM, _TURN_COST = 8, 32
_LARGEST = 1 << 64
_FILTERS = frozenset(
    "abs capitalize count d default dictsort e escape first float int items join last length list "
    "lower map max min reject rejectattr replace reverse safe select selectattr sort string title "
    "trim unique upper".split()
)
_AT_ONCE = frozenset("count d default first items last length safe string".split())
"""Of these filters, those that take no longer with more to read."""
_METHODS = frozenset(
    "capitalize casefold count endswith find index isalnum isalpha isdigit islower isnumeric "
    "isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind "
    "rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title "
    "upper".split()
)
_SHORT_TESTS = frozenset(
    "boolean callable defined false filter float integer iterable mapping none number sameas "
    "sequence string test true undefined".split()
)
"""Tests that take no longer with more to read."""
_left: ContextVar[list[int] | None] = ContextVar("left", default=None)


class OverBudget(Exception):
    """A template takes too much, or what it may not."""


@contextmanager
def budget() -> Iterator[None]:
    """Within it templates are compiled and rendered, for ``BUDGET``."""
    token = _left.set([BUDGET])
    try:
        yield
    finally:
        _left.reset(token)


def spend(cost: int) -> None:
    """Raises OverBudget where so much isn't left; outside ``budget`` nothing is."""
    left = _left.get()
    if left is None or cost > left[0]:
        raise OverBudget
    left[0] -= cost


def _weight(value: Any) -> int:
    """Characters and items of a value; counted no further than ``BUDGET``."""
    found, open_ = 0, [value]
    while open_ and found <= BUDGET:
        one = open_.pop()
        found += _ITEM
        if isinstance(one, str):
            found += len(one)
        elif isinstance(one, dict):
            open_ += [*one, *one.values()]
        elif isinstance(one, range):
            found += _ITEM * len(one)
        elif isinstance(one, list | tuple | KeysView | ValuesView | ItemsView):
            open_ += one
    return found


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return _ITEM * (len(value) if isinstance(value, list | tuple | dict | range) else 1)


def _part(value: Any) -> Any:
    spend(_size(value))
    return value


def _asked(_: Any, value: Any) -> Any:
    """What a loop's ``if`` says of a turn."""
    spend(_TURN_COST)
    return value


def kept(value: Any) -> Any:
    """The value, paid for. Raises OverBudget."""
    spend(_weight(value))
    return value


class _Namespace(Namespace):
    """Says nothing of what is in it: that may be itself, many times."""

    def __repr__(self) -> str:
        return "namespace"


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """See above. Its templates come from ``bounded``."""

    intercepted_binops = frozenset(["+", "*", "**", "%", "//"])

    def __init__(self, **options: Any) -> None:
        super().__init__(finalize=pass_context(lambda _, value: kept(value)), **options)
        known = {**self.filters, "join": _joined, "replace": _replaced}
        self.filters = {name: _counted(name, known[name]) for name in _FILTERS}
        tests: dict[str, Any] = dict(self.tests)
        self.tests = {name: _weighed(name, test) for name, test in tests.items()}
        self.filters[_TURN] = pass_context(lambda _, cost: spend(cost))
        self.filters[_ASKED] = pass_context(_asked)  # else it is done once, for a constant
        self.filters[_KEPT] = kept
        self.filters[_PART] = _part
        self.filters[_TOLD] = lambda parts: _joined([str(one) for one in parts])
        functions = {name: self.globals[name] for name in ("range", "dict", "cycler", "joiner")}
        self.globals = {**functions, "namespace": _Namespace}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """``left operator right``. Raises OverBudget."""
        numbers = all(isinstance(one, int | float) for one in (left, right))
        if numbers:
            wide = max(abs(left), abs(right)) > _LARGEST
            if wide or (operator == "**" and abs(right) > 64):
                raise OverBudget
        elif operator == "*":
            times = left if isinstance(left, int) else right
            spend(_weight(right if times is left else left) * max(1, int(times)))
        elif operator == "+":
            spend(_weight(left) + _weight(right))
        else:
            raise OverBudget  # '%' writes texts of any width
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *args: Any, **named: Any) -> Any:
        """``function(...)``. Raises OverBudget."""
        spend(_TURN_COST + _ITEM * (len(args) + len(named)))
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str | bytes | int | float):
            if name not in _METHODS:
                raise OverBudget
            spend(_size(owner))
            if name == "join":
                return _joined(args[0], str(owner))
            if name == "replace":
                return _replaced(owner, *args)
        elif owner is not None:  # of a list, a dictionary, a loop: these compare
            searched = owner if isinstance(owner, list | tuple) else None
            spend(_weight([searched, *args]))
        return kept(super().call(context, function, *args, **named))

    def wrap_str_format(self, value: Any) -> None:
        """Of Jinja 3.1.5 and later: how a text's ``format`` is made safe. Raises OverBudget for
        one: it writes any width."""
        if getattr(value, "__name__", "") in ("format", "format_map"):
            raise OverBudget


def bounded(environment: BoundedEnvironment, template: str) -> Any:
    """The template, compiled. Raises what Jinja does, and OverBudget."""
    tree = environment.parse(template)
    found: Any = tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block))
    for node in list(found):
        if isinstance(node, nodes.For) and node.test is not None:
            node.test = _filtered(node.test, _ASKED)
        said = sum(len(one.data) for one in node.find_all(nodes.TemplateData))
        turn = _filtered(nodes.Const(_TURN_COST + said), _TURN)
        body: list[nodes.Node] = node.body
        body.insert(0, nodes.ExprStmt(turn, lineno=node.lineno))
    _replace(tree)
    return environment.from_string(tree)


_TURN, _ASKED, _KEPT, _PART, _TOLD = "(turn)", "(asked)", "(kept)", "(part)", "(told)"
"""Filters whose names no template can write."""


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=1)


def _replace(node: nodes.Node) -> None:
    """Count what literals, slices and ``~`` make, and what is compared or looked up."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_counting(x) if isinstance(x, nodes.Node) else x for x in value])
        elif isinstance(value, nodes.Node):
            setattr(node, field, _counting(value))


def _counting(node: nodes.Node) -> nodes.Node:
    _replace(node)
    if isinstance(node, nodes.Concat):
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), _TOLD)
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _filtered(node, _PART)
    if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const):
        node.arg = _filtered(node.arg, _KEPT)  # a key is read through to be found
    if isinstance(node, nodes.Operand | nodes.Compare):
        node.expr = _filtered(node.expr, _KEPT)
    literal = isinstance(node, nodes.List | nodes.Dict)
    if literal or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return _filtered(node, _KEPT)
    return node


def _counted(name: str, filter_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(filter_)  # with the mark that says what Jinja gives it first
    def counted(*args: Any, **named: Any) -> Any:
        if name not in _AT_ONCE:
            spend(sum(map(_size, args)))
        found = filter_(*args, **named)
        return kept(list(found) if isinstance(found, Iterator) else found)

    return counted


def _weighed(name: str, test: Callable[..., Any]) -> Callable[..., Any]:
    if name in _SHORT_TESTS:
        return test

    @functools.wraps(test)
    def weighed(*args: Any) -> Any:
        spend(sum(map(_weight, args)))
        return test(*args)

    return weighed


def _joined(parts: Any, between: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        raise OverBudget
    texts = []
    for one in parts:
        text = one if isinstance(one, str) else str(one)
        spend(_ITEM + len(text) + len(between))
        texts.append(text)
    return str(between).join(texts)


def _replaced(text: Any, old: str, new: str, count: int | None = None) -> str:
    text = str(text)
    spend(1 + len(text) + (len(text) + 1) * len(new) if len(new) > len(old) else 1 + len(text))
    return str(text.replace(old, new, -1 if count is None else count))
