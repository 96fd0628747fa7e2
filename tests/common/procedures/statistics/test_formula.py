"""Formulas: what may be written, and design matrices that are formulaic's on all rows together."""

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.procedures.statistics.unlike import hospitals, tables
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.figures.sums import add_sums
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.regression import facts
from wardround.common.procedures.statistics.regression.design import Design
from wardround.common.procedures.statistics.regression.factors import FormulaError
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.formula import read_formula

AGREED = Agreed(584, None, {"sex": ("f", "m"), "stage": ("A", "B", "C")})
SETTINGS = """[procedure]
name = "statistics"
analyses = [{name = "a", kind = "pca", columns = ["age", "dose"]}]"""


def frames(data):
    task = make_task(parse_config(SETTINGS))
    return [Frame([table], task) for table in tables(data)]


def designed(text, data, least=5):
    """The design of a formula, and all hospitals' rows in it."""
    formula, parts, earlier = read_formula(text, outcome=False), frames(data), []
    for _ in range(facts.steps_of(formula)):
        keep = [np.ones(len(part), dtype=bool) for part in parts]
        earlier.append(
            add_sums(
                facts.sums(formula, part, mask, least, AGREED, earlier)
                for part, mask in zip(parts, keep, strict=True)
            )
        )
    design = Design.of(formula, facts.settle(formula, least, AGREED, earlier))
    return design, np.vstack([design.matrix(part, AGREED) for part in parts])


@pytest.mark.parametrize(
    "text",
    [
        "age + C(sex) + age:sex",
        "C(sex) * C(stage)",
        "0 + C(stage) + dose:C(stage)",
        "C(sex):C(stage)",
        "age + age:C(stage):C(sex) + C(sex)",
        "log(age) + I(dose / 2 + 1) + center(age) + scale(time)",
        "bs(age, knots=[50, 65], bounds=(10, 130)) * C(sex)",
        "-1 + dose + C(sex, ref='m')",
    ],
)
def test_columns_are_formulaics_on_all_rows_together(text):
    design, found = designed(text, hospitals())
    written = text.replace("ref=", "contr.treatment(base=").replace("'m'", "'m')")
    written = written.replace("bounds=(10, 130)", "lower_bound=10, upper_bound=130")
    written = written.replace("age:sex", "age:C(sex)")
    rows = pd.concat(hospitals(), ignore_index=True)
    reference = model_matrix(written, rows)
    assert len(design.names) == reference.shape[1]
    np.testing.assert_allclose(
        sorted(found.sum(0)), sorted(np.asarray(reference).sum(0)), rtol=1e-9, atol=1e-6
    )
    together = np.hstack([found, np.asarray(reference, dtype=float)])
    assert np.linalg.matrix_rank(together) == np.linalg.matrix_rank(found) == len(design.names)


def test_natural_splines_are_the_same_curves_as_formulaics():
    _, found = designed("ns(age, knots=[35, 55, 65, 90])", hospitals())
    rows = pd.concat(hospitals(), ignore_index=True)
    inside = rows["age"].between(35, 90).to_numpy()
    text = "0 + cr(age, knots=[55, 65], lower_bound=35, upper_bound=90, extrapolation='extend')"
    reference = np.asarray(model_matrix(text, rows), dtype=float)
    assert np.linalg.matrix_rank(np.hstack([found, reference])[inside], tol=1e-6) == 4


def test_knots_are_quantiles_of_all_rows_to_within_a_bin():
    design, _ = designed("bs(age, df=5) + ns(dose, df=3)", hospitals())
    rows = pd.concat(hospitals())
    knots = design.facts.knots["bs(age, df=5)"][1:-1]
    np.testing.assert_allclose(knots, np.quantile(rows["age"], [1 / 3, 2 / 3]), atol=0.1 * 13)
    natural = design.facts.knots["ns(dose, df=3)"]
    np.testing.assert_allclose(
        natural, np.quantile(rows["dose"], [0.05, 0.35, 0.65, 0.95]), atol=0.1 * 3.2
    )
    assert any("knots at" in note for note in design.facts.notes)


def test_levels_of_few_persons_are_one_or_do_not_count():
    data = hospitals()
    data[0].loc[:2, "stage"] = "D"
    data[2].loc[:2, "stage"] = "E"
    agreed = Agreed(584, None, {"stage": ("A", "B", "C", "D", "E", "F")})
    formula, parts = read_formula("C(stage)", outcome=False), frames(data)

    def levels(least):
        keep = [np.ones(len(part), dtype=bool) for part in parts]
        total = add_sums(
            facts.sums(formula, part, mask, least, agreed, [])
            for part, mask in zip(parts, keep, strict=True)
        )
        return facts.settle(formula, least, agreed, [total])

    together = levels(5)
    assert together.levels["stage"].names == ("A", "B", "C", "(others)")
    assert "they are one level" in together.notes[0]
    apart = levels(7)
    assert apart.levels["stage"].names == ("A", "B", "C")
    design = Design.of(formula, apart)
    lost = sum(int(np.isnan(design.matrix(part, agreed)).any(axis=1).sum()) for part in parts)
    assert lost == 6 and "their rows don't count" in apart.notes[0]


def test_a_row_counts_where_every_factor_has_a_number():
    data = hospitals()
    data[0].loc[:9, "dose"] = 0.0
    _, found = designed("log(dose) + weight", data)
    rows = pd.concat(data)
    lost = (rows["dose"] <= 0) | rows["weight"].isna()
    assert np.isnan(found).any(axis=1).tolist() == lost.tolist()


def test_a_reference_that_nobody_has_is_said_with_those_there_are():
    with pytest.raises(NoAnswer, match="no level 'x' .* there are: f, m"):
        designed("C(sex, ref='x')", hospitals())


@pytest.mark.parametrize(
    "text, said",
    [
        ("y ~ __import__('os').system('x')", "invalid syntax"),
        ("y ~ age.mean()", "no function 'age.mean'"),
        ("y ~ open(age)", "no function 'open'"),
        ("y ~ I(open('/etc/passwd'))", "I(open"),
        ("y ~ a*b*c*d*e*f*g*h*i*j*k*l*m*n", "more than 50 terms"),
        ("y ~ ((a+b+c+d+e)**3)**3", "more than 50 terms"),
        ("y ~ (a + b)**99999999", "a number up to 3"),
        ("y ~ a:b:c:d", "3 factors"),
        ("y ~ a | b", "partially disabled"),
        ("y ~ .", "requires additional context"),
        ("y ~ 2:a", "isn't multiplied"),
        ("y ~ y + a", "both sides"),
        ("a + b", "begins with an outcome"),
        ("y + z ~ a", "one outcome"),
        ("y ~ C(a, ref='x') + C(a, ref='z')", "different references"),
        ("y ~ bs(a)", "knots="),
        ("y ~ bs(a, knots=[3, 2])", "that rise"),
        ("y ~ ns(a, df=99)", "df is from"),
        ("y ~ " + "+".join(f"x{n}" for n in range(300)), "longer than"),
        ("y ~ " + "(" * 450 + "a" + ")" * 450 + "**2**2**2**2**2", ""),
    ],
)
def test_nothing_else_can_be_written(text, said):
    with pytest.raises(FormulaError) as error:
        read_formula(text)
    assert said in str(error.value) and "\n" not in str(error.value)


@settings(max_examples=150, deadline=None)
@given(st.text("ab1 ~+-*/:^()[]{}`'\",.=|%\\C", max_size=40))
def test_any_text_is_read_or_refused_in_a_line(text):
    try:
        found = read_formula(f"y ~ {text}")
    except FormulaError as error:
        assert "\n" not in str(error)
    else:
        assert len(found.terms) <= 50
