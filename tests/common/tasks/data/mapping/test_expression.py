"""The language of derived columns: what is read, what is refused where, and that all rows at once
give what a plain interpreter gives row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.tasks.data.mapping.evaluate import evaluate
from wardround.common.tasks.data.mapping.expression import (
    DEEPEST,
    Column,
    ExpressionError,
    Node,
    Number,
    Text,
    read_expression,
)
from wardround.common.tasks.data.mapping.kinds import check

TYPES = {
    "a": pa.float64(),
    "b": pa.float64(),
    "n": pa.int64(),
    "sex": pa.string(),
    "site": pa.string(),
    "admission": pa.timestamp("us"),
    "discharge": pa.timestamp("us"),
    "ill": pa.bool_(),
    "born": pa.date32(),
}
KINDS = {
    **dict.fromkeys(("a", "b", "n"), "number"),
    **dict.fromkeys(("sex", "site"), "text"),
    **dict.fromkeys(("admission", "discharge", "born"), "date"),
    "ill": "truth",
}


def worth(text: str, **row: Any) -> Any:
    """What an expression gives for one row."""
    columns = {name: pa.array([row.get(name)], kind) for name, kind in TYPES.items()}
    expression = read_expression(text)
    check(expression, KINDS)
    return evaluate(expression, columns, 1).cells.to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7.0),
        ("-2 ** 2", -4.0),
        ("2 ** 3 ** 2", 512.0),
        ("2 ** -1", 0.5),
        ("7 - 2 - 1", 4.0),
        ("8 / 4 / 2", 1.0),
        ("--3", 3.0),
        ("coalesce(ill, false)", False),
        ("not false and true", True),
        ("a / (b / 100) ** 2", 20.0),  # 80 kg, 200 cm
        ("round(2.5)", 2.0),
        ("round(-1.25, 1)", -1.2),
        ("min(a, b, 3)", 3.0),
        ("max(a, n)", 80.0),
        ("log(exp(2))", 2.0),
        ("log10(1000)", 3.0),
        ("sqrt(9) + abs(-1)", 4.0),
        ("days(discharge - admission)", 2.5),
        ("hours(discharge - admission)", 60.0),
        ("years(admission - born)", 50.0),
        ("year(born) + month(born) / 100", 1973.12),
        ('days(date("2024-03-01") - date("2024-02-28"))', 2.0),
        ('if(a > 70, "high", "normal")', "high"),
        ('sex in ("f", "w")', True),
        ('sex not in ("f", "w")', False),
        ("n in (1, -7)", True),
        ('sex == "w" and not n > 0 or a == 1', True),
        ("missing(site)", True),
        ('coalesce(site, "none")', "none"),
        ("site == sex", None),
        ("if(site == sex, 1, 2)", None),
        ("ill and a > 70", None),
        ("ill and a < 70", False),
        ("ill or a > 70", True),
        ("not ill", None),
        ("`a`+1", 81.0),
        ("a / (b - 200)", None),
        ("log(0)", None),
        ("(-8) ** 0.5", None),
    ],
)
def test_what_expressions_mean(text: str, value: Any) -> None:
    row = {
        **{"a": 80.0, "b": 200.0, "n": -7, "sex": "w", "site": None, "ill": None},
        "admission": datetime(2024, 1, 1),
        "discharge": datetime(2024, 1, 3, 12),
        "born": (datetime(2024, 1, 1) - timedelta(days=50 * 365.25)).date(),
    }
    if text.startswith("years"):
        value = pytest.approx(50, abs=0.002)
    assert worth(text, **row) == value


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "ends too early"),
        ("a +", 4, "ends too early"),
        ("a b", 3, "backticks"),
        ("a = 1", 3, "write =="),
        ("a < b < n", 7, "a < b and b < c"),
        ("(a", 3, "')' is missing"),
        ("a)", 2, "isn't expected"),
        ("`a", 1, "backtick"),
        ("'a", 1, "quote"),
        ("a % 2", 3, "no %"),
        ("a[0]", 2, "backticks"),
        ("a & b", 3, "write and"),
        ("a.b", 2, "means nothing"),
        ("maxi(a, b)", 1, "is it max?"),
        ("exec(a)", 1, "no function exec"),
        ("__import__('os')", 1, "no function __import__"),
        ("if(a, b)", 1, "if takes 3, not 2"),
        ("sex in (a)", 9, "lists texts"),
        ("x + 1", 1, "no column 'x'"),
        ("Sex == 'f'", 1, "is it `sex`?"),
        ("'f' + 1", 1, "a text, not a number"),
        ("sex - born", 1, "a text, not a date; date(...) reads it"),
        ("a == 'x'", 6, "a text, not a number"),
        ("sex < site", 5, "use == or !="),
        ("discharge - admission", 1, "days(...)"),
        ("days(sex - site)", 6, 'a text, not a date; date(..., "%d.%m.%Y") reads it'),
        ("days(a)", 6, "a number, not a span"),
        ("admission - a", 13, "a number, not a date"),
        ("if(a, 1, 2)", 4, "a number, not a truth"),
        ("if(ill, 1, 'x')", 12, "a text, not a number"),
        ("round(a, n)", 10, "0 to 10"),
        ("date('31.12.2024')", 6, "2024-12-31"),
        ("date(sex, 'x')", 11, "%d.%m.%Y"),
        ("1e99", 1, "beyond 1e30"),
        ("a and b", 1, "a number, not a truth"),
        ("max(ill, ill)", 5, "a truth, not a number"),
        ("(" * (DEEPEST + 1) + "a" + ")" * (DEEPEST + 1), DEEPEST + 1, "deeper"),
        ("2**" * (DEEPEST + 1) + "2", 3 * DEEPEST - 1, "deeper"),
        ("a" + "+a" * 101, 2, "more than 100 parts"),
        ("a" * 1001, 1000, "longer than"),
    ],
)
def test_what_is_no_expression_is_refused_by_its_place(text: str, at: int, says: str) -> None:
    with pytest.raises(ExpressionError) as error:
        check(read_expression(text), KINDS)
    assert error.value.at == at and says in str(error.value)
    assert "\n" not in str(error.value)


@settings(max_examples=50)
@given(st.text(max_size=60) | st.text("ab12()+-*/<>=!,'\"`. andornotifmin", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        check(read_expression(text), KINDS)
    except ExpressionError as error:
        assert 1 <= error.at <= len(text) + 1


# --- against a plain interpreter ------------------------------------------------------------------


def plain(node: Node, row: dict[str, Any]) -> Any:
    """The node for one row, in Python's own floats."""
    if isinstance(node, Number | Text):
        return node.value
    if isinstance(node, Column):
        return row[node.name]
    given = [plain(argument, row) for argument in node.arguments]
    if node.name == "missing":
        return given[0] is None
    if node.name == "coalesce":
        return next((one for one in given if one is not None), None)
    if node.name in ("and", "or"):
        deciding = node.name == "or"
        if deciding in given:
            return deciding
        return None if None in given else not deciding
    if node.name == "if":
        return None if given[0] is None else given[1] if given[0] else given[2]
    if None in given:
        return None
    if node.name == "in":
        return given[0] in given[1:]
    try:
        found = PLAIN[node.name](*given)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    bad = isinstance(found, complex) or (isinstance(found, float) and not math.isfinite(found))
    return None if bad else found


PLAIN: dict[str, Callable[..., Any]] = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "**": lambda x, y: x**y,
    "neg": lambda x: -x,
    "abs": abs,
    "min": min,
    "max": max,
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "days": lambda span: span / timedelta(days=1),
    "date": datetime.fromisoformat,
    "year": lambda day: float(day.year),
    "==": lambda x, y: x == y,
    "!=": lambda x, y: x != y,
    "<": lambda x, y: x < y,
    "<=": lambda x, y: x <= y,
    ">": lambda x, y: x > y,
    ">=": lambda x, y: x >= y,
    "not": lambda x: not x,
}
_NAMES = {"number": ("a", "b"), "text": ("sex", "site"), "date": ("admission", "discharge")}
_OPERATORS = ("+", "-", "*", "/", "**")


@cache
def _texts(kind: str, depth: int) -> st.SearchStrategy[str]:
    """Expressions of a kind, as they are written."""
    leaves = {
        "number": st.sampled_from(["a", "b", "0", "1", "2.5", "100"]),
        "text": st.sampled_from(["sex", "site", '"f"', '"m"']),
        "date": st.sampled_from(["admission", "discharge", 'date("2024-02-29")']),
        "truth": st.sampled_from(["ill", "a < b", 'sex == "f"']),
    }
    if depth == 0:
        return leaves[kind]
    number, truth = _texts("number", depth - 1), _texts("truth", depth - 1)
    text, date = _texts("text", depth - 1), _texts("date", depth - 1)
    same = {"number": number, "text": text, "date": date, "truth": truth}[kind]
    chosen = st.builds("if({}, {}, {})".format, truth, same, same)
    first = st.builds("coalesce({}, {})".format, same, same)
    more: dict[str, list[st.SearchStrategy[str]]] = {
        "number": [
            st.builds("({}) {} ({})".format, number, st.sampled_from(_OPERATORS), number),
            st.builds("{}({})".format, st.sampled_from(["abs", "log", "exp", "sqrt", "-"]), number),
            st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), number, number),
            st.builds("days(({}) - ({}))".format, date, date),
            st.builds("year({})".format, date),
        ],
        "text": [],
        "date": [st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), date, date)],
        "truth": [
            st.builds("({}) {} ({})".format, truth, st.sampled_from(["and", "or"]), truth),
            st.builds("not ({})".format, truth),
            st.builds("({}) <= ({})".format, number, number),
            st.builds("({}) > ({})".format, date, date),
            st.builds("({}) != ({})".format, text, text),
            st.builds("({}) in ('f', 'x')".format, text),
            st.builds("missing({})".format, same),
        ],
    }
    return st.one_of(leaves[kind], chosen, first, *more[kind])


_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, -1.0]),
            "b": st.none() | st.floats(-50, 50),
            "sex": st.sampled_from(["f", "m", "x", None]),
            "site": st.sampled_from(["f", "2", None]),
            "admission": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
            "discharge": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
            "ill": st.sampled_from([True, False, None]),
        }
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(st.sampled_from(["number", "text", "date", "truth"]).flatmap(lambda k: _texts(k, 3)), _ROWS)
def test_all_rows_at_once_are_what_a_plain_interpreter_gives(
    text: str, rows: list[dict[str, Any]]
) -> None:
    columns = {name: pa.array([r.get(name) for r in rows], kind) for name, kind in TYPES.items()}
    expression = read_expression(text)
    check(expression, KINDS)
    found = evaluate(expression, columns, len(rows)).cells.to_pylist()
    expected = [plain(expression.tree, row) for row in rows]
    assert found == [None if isinstance(x, float) and abs(x) > 1e30 else x for x in expected]


def test_texts_are_read_as_numbers_where_those_are_needed_and_what_is_none_is_told() -> None:
    columns = {"w": pa.array(["80", "8O", None, "90.5"]), "h": pa.array([2.0, 2.0, 2.0, 0.0])}
    for text in ("w / h", "number(w) / h"):
        found = evaluate(read_expression(text), columns, 4)
        assert found.cells.to_pylist() == [40.0, None, None, None]
        assert found.unread["w"].tolist() == [False, True, False, False]
        assert found.undefined.tolist() == [False, False, False, True]
    assert evaluate(read_expression("w == '80'"), columns, 4).cells.to_pylist()[:2] == [True, False]
    assert evaluate(read_expression("min(w, w) > 85"), columns, 4).cells.to_pylist()[3] is True


def test_undefined_arithmetic_is_counted_where_it_made_the_gap() -> None:
    columns = {"a": pa.array([1.0, 1.0, None, 4.0]), "b": pa.array([0.0, 2.0, 0.0, 0.0])}
    counted = {
        text: int(evaluate(read_expression(text), columns, 4).undefined.sum())
        for text in ("a / b", "if(b == 0, 0, a / b)", "coalesce(a / b, 0)", "a / b > 1 or a == 1")
    }
    assert counted == {
        "a / b": 2,
        "if(b == 0, 0, a / b)": 0,
        "coalesce(a / b, 0)": 0,
        "a / b > 1 or a == 1": 1,
    }
