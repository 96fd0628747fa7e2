"""Strategies that fit a model to each hospital, against calculations by hand.

Hospital a: x = 1, 2, 1 and y = 1, 2, 3: gradient of the mean loss at w is 2 w - 8/3.
Hospital b: x = 1 and y = -1: gradient w + 1.
"""

from __future__ import annotations

import pytest

from tests.server.strategies.test_strategies import GRADIENT, config_text, local
from wardround.common.errors import ConfigError, StrategyError

MASKED = "[secure_aggregation]\nenabled = true\n"
HELD = {"a": ([1.0, 2.0, 1.0], [1.0, 2.0, 3.0]), "b": ([1.0], [-1.0])}


def own(run, name: str, server_round: int, entry: str = "weight") -> float:
    """What a hospital keeps of a one-element entry after a round."""
    state = run.grid.clients.states()[name]
    return float(state[f"personal@{server_round}"][entry].numpy().reshape(-1)[0])


def ditto(rounds: int, steps: int, pull: float) -> tuple[float, dict[str, float]]:
    """Algorithm 1: v moves by its gradient and lambda (v - w), w being what was received."""
    w, v = 0.0, {"a": 0.0, "b": 0.0}
    for _ in range(rounds):
        for name in v:
            for _ in range(steps):
                v[name] -= 0.1 * (GRADIENT[name](v[name]) + pull * (v[name] - w))
        w = (3 * local("a", w, steps) + local("b", w, steps)) / 4
    return w, v


@pytest.mark.parametrize("pull", [0.0, 0.7])
def test_ditto_by_hand(pull, federate, settings, shards) -> None:
    w, v = ditto(3, 2, pull)
    run = federate(settings(config_text("ditto", 3, 2, pull=pull)), shards)
    assert run.weight() == pytest.approx(w, rel=1e-6)
    assert own(run, "a", 3) == pytest.approx(v["a"], rel=1e-6)
    assert own(run, "b", 3) == pytest.approx(v["b"], rel=1e-6)


def test_ditto_without_a_pull_is_training_alone(federate, settings, shards) -> None:
    run = federate(settings(config_text("ditto", 3, 2, pull=0.0)), shards)
    assert own(run, "a", 3) == pytest.approx(local("a", 0, 6), rel=1e-6)


def test_own_models_are_what_is_evaluated(federate, settings, shards, exact_parts) -> None:
    """a and b have each two equal rows, of which one is held out."""
    alike = {name: shards["b"] for name in "ab"}
    doubled = {
        name: type(one)(one.inputs.repeat(2, 1), sign * one.targets.repeat(2))
        for (name, one), sign in zip(alike.items(), (1.0, -1.0), strict=True)
    }
    config = config_text("ditto", 4, 1, pull=0.2) + "[data]\ntest_fraction = 0.5\n"
    run = federate(settings(config), doubled)
    for name, target in (("a", -1.0), ("b", 1.0)):
        v = own(run, name, 4)
        loss = run.recorder.rows[-1]["hospitals"][name]["test"]["loss"]
        assert loss == pytest.approx((v - target) ** 2 / 2, rel=1e-5)
        assert abs(v) > 0.1, "the shared model stays at 0"
    assert run.weight() == pytest.approx(0, abs=1e-7)


def test_masked_own_models_are_the_plain_ones(federate, settings, shards) -> None:
    many = {"a": shards["a"], "b": shards["b"], "c": shards["a"]}
    text = config_text("ditto", 3, 2, pull=0.5)
    plain, masked = (federate(settings(text + table), many) for table in ("", MASKED))
    for name in many:
        assert own(masked, name, 3) == pytest.approx(own(plain, name, 3), abs=1e-5)


def test_own_models_refuse_layers_and_privacy(settings, federate, shards) -> None:
    with pytest.raises(ConfigError, match="whole model of its own"):
        settings(config_text("ditto", 1, 1) + "personal_layers = ['weight']\n")
    text = config_text("ditto", 1, 1)
    text += "[privacy]\nunit = 'example'\nnoise = 'local'\nepsilon = 3\n"
    with pytest.raises(StrategyError, match="'ditto' trains a model of each hospital's own"):
        federate(settings(text), shards)
