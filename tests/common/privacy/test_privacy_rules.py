"""What can't be private together is refused by key, with a mend."""

from __future__ import annotations

import pytest
from torch import nn

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, StrategyError, TaskError
from wardround.common.privacy.incompatible import check_model, check_settings, check_task
from wardround.common.tasks import load_task
from wardround.server.strategies import build_strategy

EXAMPLE = ["privacy.unit=example", "privacy.epsilon=3"]
SUMMED = [*EXAMPLE, "privacy.noise=distributed", "training.local_steps=1"]
HOSPITAL = ["privacy.unit=hospital", "privacy.epsilon=3"]
PLAIN = "secure_aggregation.enabled=false"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ([*SUMMED, PLAIN], "privacy.noise: 'distributed'"),
        ([*SUMMED, "secure_aggregation.bits=16"], "secure_aggregation.bits"),
        ([*HOSPITAL, "secure_aggregation.bits=16"], "secure_aggregation.bits"),
        ([*SUMMED, "strategy.weighting=examples"], "strategy.weighting"),
        ([*HOSPITAL, "strategy.weighting=examples"], "strategy.weighting"),
        ([*EXAMPLE, "training.max_grad_norm=1.0"], "training.max_grad_norm"),
        ([*EXAMPLE, "privacy.noise=central"], "training.local_steps"),
        ([*SUMMED, "training.local_steps=2"], "training.local_steps"),
        ([*SUMMED, "training.optimizer=adam"], "training.optimizer"),
        ([*SUMMED, "training.momentum=0.9"], "training.optimizer"),
        ([*SUMMED, "training.weight_decay=0.1"], "training.optimizer"),
        ([*EXAMPLE, "privacy.delta=1e-14"], "privacy.delta"),
        ([*EXAMPLE[:1], "privacy.noise_multiplier=1e-6"], "privacy.noise_multiplier"),
        ([*EXAMPLE, "privacy.size_noise=0.3"], "privacy.size_noise"),
        ([*EXAMPLE, "privacy.size_noise=1e13"], "privacy.size_noise"),
        ([*EXAMPLE[:1], "privacy.epsilon=0.1"], "privacy.size_noise"),
    ],
)
def test_settings_are_refused_by_key(sets: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set {says.split(':')[0]}|{says}"):
        check_settings(parse_config("", sets))


@pytest.mark.parametrize("name", ["scaffold", "feddyn", "fedbn"])
def test_strategies_that_keep_something_can_not_go_with_summed_steps(name: str) -> None:
    with pytest.raises(StrategyError, match=f"'{name}'.*use fedavg"):
        check_settings(parse_config("", [*SUMMED, f"strategy.name={name}"]))


@pytest.mark.parametrize("name", ["scaffold", "feddyn", "fednova"])
def test_strategies_that_send_more_can_not_go_with_a_hospital_as_unit(name: str) -> None:
    with pytest.raises(StrategyError, match=f"'{name}'"):
        check_settings(parse_config("", [*HOSPITAL, f"strategy.name={name}"]))


def test_a_robust_rule_can_not_go_with_central_noise() -> None:
    sets = [*HOSPITAL, "privacy.noise=central", "strategy.name=krum", PLAIN]
    with pytest.raises(StrategyError, match="'krum'.*central"):
        build_strategy(parse_config("", sets))


def test_personal_layers_can_not_go_with_summed_steps() -> None:
    with pytest.raises(StrategyError, match="personal_layers"):
        check_settings(parse_config("", [*SUMMED, "strategy.personal_layers=['x']"]))


def test_one_of_epsilon_and_noise_is_needed() -> None:
    for sets in (["privacy.unit=example"], [*EXAMPLE, "privacy.noise_multiplier=1.0"]):
        with pytest.raises(ConfigError, match="either epsilon"):
            parse_config("", sets)


def test_a_loss_that_couples_rows_has_no_single_ones() -> None:
    options = {"kind": "survival", "columns": {"time": "t", "event": "e"}}
    task = load_task("tabular", options, parse_config("").folder)
    with pytest.raises(TaskError, match="others of its batch.*'hospital'"):
        check_task(parse_config("", EXAMPLE), task)
    check_task(parse_config("", HOSPITAL), task)


def test_batch_normalisation_is_named_with_its_mend() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    own = ["1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    for personal in ([], own):
        with pytest.raises(TaskError, match=r"layer '1' \(BatchNorm1d\) mixes.*group norm"):
            check_model(parse_config("", EXAMPLE), model, personal)
    with pytest.raises(TaskError, match="'fedbn'"):
        check_model(parse_config("", HOSPITAL), model, [])
    check_model(parse_config("", HOSPITAL), model, own)
    check_model(parse_config(""), model, [])
