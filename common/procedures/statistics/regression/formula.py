"""A formula: ``died ~ age + C(sex) + age:sex + bs(age, knots=[50, 65]) + offset(log(years))``.

Terms and operators are read by formulaic's parser (Wilkinson and Rogers 1973), which evaluates
nothing; what stands in a term is ``factors.py``'s. Before terms are multiplied out, how many that
can give is worked out on the tree, so that no formula costs more than ``MOST_TERMS`` terms.
A column that stands in C() somewhere is that category wherever it stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from wardround.common.procedures.statistics.regression.factors import (
    Category,
    Factor,
    FormulaError,
    Number,
    Spline,
    column,
    read_factor,
)
from wardround.common.tasks.data.mapping.expression import Column

LONGEST = 1000
"""Characters of a formula."""
MOST_TERMS = 50
MOST_FACTORS = 3
"""Of one term: interactions of more have no reader."""
_RAW = 400
"""Terms that a tree may give before equal ones are one."""
_OFFSET = "offset("


@dataclass(frozen=True)
class Term:
    """Factors that are multiplied with each other."""

    factors: tuple[Factor, ...]


@dataclass(frozen=True)
class Formula:
    """A formula that was read.

    outcome : left of ~; None where nothing stands there
    terms : by the number of their factors, then as they are written; without the intercept
    offsets : added to the linear predictor as they are
    """

    text: str
    outcome: Number | None
    terms: tuple[Term, ...]
    intercept: bool
    offsets: tuple[Number, ...] = ()

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Those of the terms, each once."""
        return tuple(dict.fromkeys(one for term in self.terms for one in term.factors))

    @property
    def categories(self) -> tuple[Category, ...]:
        """Those of the factors that are categories, each column once."""
        found = [one for one in self.factors if isinstance(one, Category)]
        return tuple({one.column: one for one in reversed(found)}.values())[::-1]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns that are read as numbers, but for the outcome's."""
        found = [one for one in (*self.factors, *self.offsets) if not isinstance(one, Category)]
        return tuple(dict.fromkeys(name for one in found for name in one.expression.columns))


@lru_cache(maxsize=256)
def read_formula(text: str, outcome: bool = True) -> Formula:
    """The formula of a text. Raises FormulaError.

    outcome : whether something must stand left of ~, or nothing may
    """
    if len(text) > LONGEST:
        raise FormulaError(f"longer than {LONGEST} characters")
    left, right = _sides(text)
    if outcome != bool(left):
        what = "an outcome, then ~" if outcome else "no outcome: it has none"
        raise FormulaError(f"'{text}': a formula here begins with {what}")
    if len(left) > 1 or any(len(term) > 1 for term in left):
        raise FormulaError(f"'{text}': there is one outcome")
    categories, terms, offsets = _categories(right), list[Term](), list[Number]()
    for term in right:
        lone = len(term) == 1 and term[0][0].startswith(_OFFSET)
        if lone:
            offsets.append(_number_of(term[0][0][len(_OFFSET) : -1], "an offset"))
        elif term:
            terms.append(Term(tuple(_factor(*one, categories) for one in term)))
    terms.sort(key=lambda term: len(term.factors))
    if len(terms) > MOST_TERMS or any(len(term.factors) > MOST_FACTORS for term in terms):
        raise FormulaError(f"more than {MOST_TERMS} terms, or {MOST_FACTORS} factors in one")
    intercept = any(not term for term in right)
    answer = None
    if left:
        (expression, named) = left[0][0]
        answer = column(expression) if named else _number_of(expression, "an outcome")
    found = Formula(text, answer, tuple(terms), intercept, tuple(offsets))
    _check_references(found)
    return found


def _number_of(text: str, what: str) -> Number:
    found = read_factor(text)
    if not isinstance(found, Number) or found.moved:
        raise FormulaError(f"'{text}': {what} is a column or a number made of columns")
    return found


def _factor(text: str, named: bool, categories: dict[str, Category]) -> Factor:
    if named:
        lone = column(text)
        assert isinstance(lone.expression.tree, Column)  # by column()
        return categories.get(lone.expression.tree.name, lone)
    found = read_factor(text)
    return categories[found.column] if isinstance(found, Category) else found


def _categories(terms: Iterable[tuple[tuple[str, bool], ...]]) -> dict[str, Category]:
    """By column: as it is written where it has a reference."""
    found = dict[str, Category]()
    for text, named in (one for term in terms for one in term):
        factor = None if named or text.startswith(_OFFSET) else read_factor(text)
        if isinstance(factor, Category):
            before = found.setdefault(factor.column, factor)
            if before.reference and factor.reference not in ("", before.reference):
                raise FormulaError(f"'{text}' and '{before.text}' have different references")
            if factor.reference and not before.reference:
                found[factor.column] = factor
    return found


def _check_references(formula: Formula) -> None:
    numbers = {*formula.numbers}
    if formula.outcome is not None:
        answer = {*formula.outcome.expression.columns}
        if answer & (numbers | {one.column for one in formula.categories}):
            raise FormulaError(f"'{formula.text}': the outcome stands on both sides")
    for one in formula.factors:
        if isinstance(one, Spline) and len(one.expression.columns) > 1:
            raise FormulaError(f"'{one.text}': a curve is in one column")


# --- formulaic's half ----------------------------------------------------------------------------
_Terms = list[tuple[tuple[str, bool], ...]]
"""Of each term its factors' texts, and whether that is a column's name; () is the intercept."""


def _sides(text: str) -> tuple[_Terms, _Terms]:
    # half a second, with pandas: only where there is a formula
    from formulaic.errors import FormulaicError
    from formulaic.parser import DefaultFormulaParser

    parser = DefaultFormulaParser(feature_flags=DefaultFormulaParser.FeatureFlags.TWOSIDED)
    try:
        if _most(parser.get_ast(text)) > _RAW:
            raise FormulaError(f"'{text}': it gives more than {MOST_TERMS} terms")
        found = parser.get_terms(text)
        sides = [getattr(found, name, ()) for name in ("lhs", "rhs")]
        if not hasattr(found, "rhs"):
            sides = [(), list(found)]
        left, right = ([_texts(term) for term in side] for side in sides)
    except FormulaError:
        raise
    except (FormulaicError, SyntaxError, ValueError, TypeError, AttributeError) as error:
        what = str(error).splitlines()[0].split("⧛")[0][:100] if str(error) else "no formula"
        raise FormulaError(f"'{text}': {what}") from None
    except (RecursionError, MemoryError):
        raise FormulaError(f"'{text}': too deep") from None
    return left, right


def _texts(term: Any) -> tuple[tuple[str, bool], ...]:
    found = list[tuple[str, bool]]()
    for factor in term.factors:
        if factor.eval_method.value == "literal":
            if factor.expr != "1":
                raise FormulaError(f"'{term}': a column isn't multiplied by a number; use I(...)")
            continue
        found.append((factor.expr, factor.eval_method.value == "lookup"))
    return tuple(found)


def _most(node: Any) -> int:
    """How many terms a tree can give at most, and no more than it costs to make them."""
    if not hasattr(node, "operator"):
        return 1
    sign, given = node.operator.symbol, node.args
    if sign in ("**", "^"):
        power = getattr(given[1], "token", "")
        if not power.isdecimal() or not 1 <= int(power[:3]) <= MOST_FACTORS:
            raise FormulaError(f"a power of terms is a number up to {MOST_FACTORS}; use I(x ** 4)")
        return int(min(_RAW + 1, _most(given[0]) ** int(power[:3])))
    each = [_most(one) for one in given]
    if len(each) < 2 or sign in ("+", "-", "~"):
        return min(_RAW + 1, sum(each))
    return min(_RAW + 1, each[0] * each[1] + sum(each))
