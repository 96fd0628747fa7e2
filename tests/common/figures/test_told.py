"""A bound above .005 stands beside its figure on every page, a smaller one on none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.common.card.test_card import ROUND, facts
from wardround.common.card.text import card_text
from wardround.common.figures.figure import BOUND_SENTENCE, KNOWN, told
from wardround.common.judgement.words import judged_tables
from wardround.common.procedures.evaluate.page import page as evaluated
from wardround.common.procedures.trees.page import page as grown
from wardround.common.run.report.outside import outside_lines
from wardround.common.settings.card import CardTable


def figures(bound: float) -> dict[str, Any]:
    return {"auc": 0.81, "auc_error_bound": bound, "brier": 0.125}


def of_evaluation(bound: float) -> str:
    mean = {"mean": 0.81, "bound": bound, "hospitals": 4}
    found = {"hospitals": 4, "rows": "all", "model": "m", "within": {"auc": mean}}
    return evaluated(found | {"figures": figures(bound)}, "run")


def of_trees(bound: float) -> str:
    found = {
        **{"hospitals": 3, "rows": 100, "trees": 2, "rounds": 2, "grown": 2, "smallest_leaf": 5},
        **{"objective": "binary:logistic", "target": "died", "scores": [], "columns": []},
    }
    return grown(found | {"figures": {"test": figures(bound)}}, "run")


def of_groups(bound: float) -> str:
    block = figures(bound) | {"name": "f", "rows": 20, "auc_interval": [0.7, 0.9]}
    column = {"column": "sex", "rows": [{}, {}], "figures": [block, block], "gaps": {}}
    (table,) = judged_tables({"columns": [column], "smallest_cell": 5})
    return "\n".join([*table.rows[0], *table.notes])


def of_card(bound: float) -> str:
    mean = {"mean": 0.81, "bound": bound, "hospitals": 4}
    row = ROUND | {"overall": {"test": figures(bound)}, "within": {"test": {"auc": mean}}}
    return card_text(facts(rounds=[row]), CardTable())


def of_outside(bound: float) -> str:
    row = {"title": "Köln", "why": "", "rows": 40, "intervals": {}, "figures": figures(bound)}
    return "\n".join([*outside_lines([row], KNOWN["auc"]), BOUND_SENTENCE])


@pytest.mark.parametrize("page", [of_evaluation, of_trees, of_groups, of_card, of_outside])
def test_a_notable_bound_stands_beside_its_figure(page: Callable[[float], str]) -> None:
    text = page(0.031)
    assert "±0.031" in text and BOUND_SENTENCE in text
    assert "auc_error_bound" not in text.replace("`auc_error_bound`", "")
    assert "±" not in page(0.005).replace(BOUND_SENTENCE, "")


def test_trees_say_that_their_area_is_of_hospitals_mixed() -> None:
    text = of_trees(0.001)
    assert "auc (all rows, hospitals mixed)" in text and "brier (all" not in text
    assert "the mean of their own" in text


def test_a_bound_is_no_figure_of_its_own() -> None:
    assert told(figures(0.01), str) == {"auc": "0.81 ±0.010", "brier": "0.125"}
    assert told({"auc": None, "auc_error_bound": 0.01}, str) == {"auc": "None"}
