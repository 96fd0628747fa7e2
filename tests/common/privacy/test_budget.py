"""One account: what each purpose's sums cost, and that all of them together cost what was said."""

from __future__ import annotations

import math

import pytest
from dp_accounting.pld import privacy_loss_distribution
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.config.covers import check_covers, covered
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError
from wardround.common.privacy import budget
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.budget import before_training, evaluations, sum_release
from wardround.common.procedures.known import make_procedure

DELTA = 1e-5
CURVE = """[[procedure.analyses]]
name = "c"
kind = "kaplan_meier"
time = "t"
event = "e"
horizon = 9.0
grid = 1.0
"""


def config(*sets: str) -> Config:
    return parse_config("", ["privacy.unit=example", *sets])


def reference(releases: list[Release], above: bool) -> float:
    """dp-accounting's bound of all together, from above or from below."""
    total = privacy_loss_distribution.identity(5e-4, pessimistic_estimate=above)
    for one in releases:
        step = privacy_loss_distribution.from_gaussian_mechanism(
            one.noise_multiplier,
            value_discretization_interval=5e-4,
            sampling_prob=one.sampling_rate,
            pessimistic_estimate=above,
        )
        total = total.compose(step.self_compose(one.steps))
    return float(total.get_epsilon_for_delta(DELTA))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.2, 20), st.floats(0.01, 0.99), st.integers(1, 400))
def test_a_purposes_sums_have_its_share_of_one_release_and_never_more(
    target: float, share: float, sums: int
) -> None:
    made = config(f"privacy.epsilon={target}", f"privacy.shares.preparation={share}")
    sizes, whole = Release(20.0), sum_release(made, "statistics", 1)
    assert epsilon([sizes, whole], DELTA) <= target
    one = sum_release(made, "preparation", sums)
    rest = sum_release(made, "statistics", 1).noise_multiplier ** -2 * (1 - share)
    every = [sizes, *[one] * sums, Release(rest**-0.5)]
    assert 0.98 * target < epsilon(every, DELTA) <= target * (1 + 1e-9)


def test_the_noise_that_is_given_is_that_of_all_sums_of_a_purpose_together() -> None:
    made = config("privacy.noise_multiplier=2.0")
    assert sum_release(made, "evaluation", 9) == Release(6.0)
    assert sum_release(made, "statistics", 9) == Release(2.0)  # of each step
    with pytest.raises(ValueError, match="schedule of its own"):
        sum_release(made, "training", 1)


@pytest.mark.parametrize(("every", "rounds", "asked"), [(1, 7, 7), (3, 7, 3), (3, 6, 2), (9, 2, 1)])
def test_rounds_that_are_evaluated_are_counted_with_the_last(
    every: int, rounds: int, asked: int
) -> None:
    made = parse_config("", [f"evaluation.every={every}", f"federation.rounds={rounds}"])
    said = [one for one in range(1, rounds + 1) if one % every == 0 or one == rounds]
    assert evaluations(made, rounds) == asked == len(said)


@pytest.mark.parametrize(
    "releases",
    [
        [Release(20.0), Release(8.0), Release(8.0), Release(8.0)],
        [Release(20.0), Release(9.0), Release(1.1, 0.02, 300)],
        [Release(20.0), Release(5.0), Release(0.9, 0.1, 60), Release(30.0, 1.0, 20)],
    ],
)
def test_all_of_a_run_is_within_a_percent_of_dp_accounting_and_not_below(
    releases: list[Release],
) -> None:
    found = epsilon(releases, DELTA)
    assert reference(releases, above=False) <= found <= reference(releases, above=True) * 1.01


# --- what is covered ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["privacy.covers=['preparation']"], "privacy.covers: lacks 'training'"),
        (["privacy.covers=['training', 'training']"], "stands there twice"),
        (["privacy.covers=[]"], "privacy.covers"),
        (["privacy.covers=['training']", "privacy.shares.evaluation=0.5"], "evaluation isn't cov"),
        (["procedure.name=describe", "privacy.covers=['training']"], "lacks 'statistics'"),
    ],
)
def test_what_no_sum_can_have_is_refused_by_key(sets: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_covers(config("privacy.epsilon=3", *sets))


@pytest.mark.parametrize("purpose", ["preparation", "evaluation"])
@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["privacy.unit=hospital"], "any number of rows.*set 'patient' or 'example', or leave"),
        (["privacy.noise=central"], "where the rows are.*set 'local' or 'distributed', or leave"),
    ],
)
def test_what_noise_cant_cover_is_refused_with_the_mend(
    sets: list[str], says: str, purpose: str
) -> None:
    made = config("privacy.epsilon=3", *sets)
    assert covered(made) == ("training",)
    with pytest.raises(ConfigError, match=f"'{purpose}' can't be covered: .*{says}"):
        check_covers(
            config("privacy.epsilon=3", *sets, f"privacy.covers=['training', '{purpose}']")
        )


@pytest.mark.parametrize(("set_", "key"), [("unit=hospital", "unit"), ("noise=central", "noise")])
@pytest.mark.parametrize("name", ["statistics", "describe", "trees"])
def test_no_study_of_sums_protects_a_whole_hospital_or_by_the_servers_noise(
    name: str, set_: str, key: str
) -> None:
    text = f'[procedure]\nname = "{name}"\n' + CURVE * (name == "statistics")
    made = parse_config(text, ["privacy.unit=example", "privacy.epsilon=3", f"privacy.{set_}"])
    with pytest.raises(ConfigError, match=f"privacy.{key}: .*set '"):
        check_covers(made)
    with pytest.raises(ConfigError, match=f"privacy.{key}: .*set '"):  # as a hospital builds it
        make_procedure(made, make_task(made))


@pytest.mark.parametrize(
    ("sets", "pays"),
    [
        (["task.name=text"], False),
        (["task.name=imaging", "task.normalise=none"], False),
        (["task.name=imaging"], True),
    ],
)
def test_a_preparation_that_sums_nothing_of_rows_takes_nothing_from_training(
    sets: list[str], pays: bool
) -> None:
    made = config("privacy.epsilon=3", *sets)
    assert "preparation" in covered(made)
    assert len(before_training(made)) == (2 if pays else 1)
    shared = config("privacy.epsilon=3", *sets, "privacy.shares.preparation=0.2")
    if pays:
        check_covers(shared)
    else:
        with pytest.raises(ConfigError, match="has no effect: nothing of the rows is summed"):
            check_covers(shared)


def test_nothing_is_covered_without_privacy_and_a_study_covers_all_it_asks() -> None:
    assert covered(parse_config("")) == ()
    assert covered(config("privacy.epsilon=3", "procedure.name=describe")) == ("statistics",)


def test_shares_need_an_epsilon() -> None:
    made = config("privacy.noise_multiplier=1", "privacy.shares.preparation=0.5")
    with pytest.raises(ConfigError, match="shares.preparation: has no effect: noise_multiplier"):
        check_covers(made)


def test_one_release_for_all_is_calibrated_once() -> None:
    made = config("privacy.epsilon=3")
    whole = budget.sum_release(made, "statistics", 1).noise_multiplier
    assert math.isclose(budget.sum_release(made, "statistics", 4).noise_multiplier, 2 * whole)
