"""Whom a host that answers for a whole cohort is asked for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.server.gathering.cohorts import CohortGatherer
from wardround.server.gathering.gatherer import Budgets, RunSettings
from wardround.server.members.member import Member
from wardround.server.strategies import build_strategy

TEXT = """
[task.columns]
target = "died"
binary = ["smoker"]
"""
PRIVATE = '[privacy]\nunit = "example"\nnoise_multiplier = 1.0\ncovers = ["training"{more}]\n'
WITH_FIGURES = PRIVATE.format(more=', "evaluation"')


@pytest.mark.parametrize(
    ("privacy", "apart"), [("", False), (PRIVATE.format(more=""), False), (WITH_FIGURES, True)]
)
def test_figures_that_carry_noise_are_asked_of_each_client(privacy: str, apart: bool) -> None:
    """Each adds noise of its own and pays by itself; a sum over the cohort would be another's."""
    config = parse_config(TEXT + privacy)
    settings = RunSettings(config=config, task=make_task(config), plan=build_strategy(config))
    gatherer = CohortGatherer(settings, cast(Any, None), Budgets())
    members = [cast(Member, name) for name in ("a", "b", "c")]
    assert gatherer.addressees(members) == [members]
    together = [[one] for one in members] if apart else [members]
    assert gatherer.addressees(members, evaluating=True) == together
    assert gatherer.addressees([]) == gatherer.addressees([], evaluating=True) == []
