"""Strategies that fit a model to each hospital, against calculations by hand.

Hospital a: x = 1, 2, 1 and y = 1, 2, 3: gradient of the mean loss at w is 2 w - 8/3.
Hospital b: x = 1 and y = -1: gradient w + 1.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.federate import Line
from tests.server.strategies.test_strategies import GRADIENT, LR, config_text, local
from wardround.common.errors import ConfigError, StrategyError
from wardround.common.figures.sums import Sums

MASKED = "[secure_aggregation]\nenabled = true\n"


class Deep(Line):
    """y = h (b_1 + .. + b_n) x: a body of n weights, and a head of the same h for all."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.width = width

    def model(self, totals: Sums) -> nn.Module:
        body, head = nn.Linear(1, self.width, bias=False), nn.Linear(self.width, 1, bias=False)
        with torch.no_grad():
            body.weight.copy_(0.5 + 0.25 * torch.arange(self.width).view(-1, 1))
            head.weight.copy_(1.0 - 0.5 * torch.arange(self.width).view(1, -1))
        return nn.Sequential(body, head)


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


@pytest.mark.parametrize("name", ["ditto", "apfl", "fedrep", "moon"])
def test_what_they_cant_carry_is_refused_by_name(name, settings, federate, shards) -> None:
    if name in ("ditto", "apfl"):
        with pytest.raises(ConfigError, match="whole model of its own"):
            settings(config_text(name, 1, 1) + "personal_layers = ['weight']\n")
    for unit in ("example", "hospital"):
        text = f"[privacy]\nunit = '{unit}'\nnoise = 'local'\nepsilon = 3\n"
        with pytest.raises(StrategyError, match=f"'{name}' .*with \\[privacy\\]"):
            federate(settings(config_text(name, 1, 1) + text), shards, Deep())


def body_gradient(name: str, b: float, h: float) -> float:
    """The loss depends on h b: that of b is h times GRADIENT there."""
    return h * GRADIENT[name](h * b)


def personal_heads(rounds: int, mu: float, head_steps: int, steps: int) -> tuple[float, dict]:
    """FedPer (head_steps 0: both move at once) or FedRep, of weights 3 and 1."""
    b, h = 0.5, {"a": 1.0, "b": 1.0}
    for _ in range(rounds):
        ends = {}
        for name in h:
            y = b
            for _ in range(head_steps):
                h[name] -= LR * body_gradient(name, h[name], y)
            for _ in range(steps):
                move = LR * (body_gradient(name, y, h[name]) + mu * (y - b))
                if not head_steps:
                    h[name] -= LR * body_gradient(name, h[name], y)
                y -= move
            ends[name] = y
        b = (3 * ends["a"] + ends["b"]) / 4
    return b, h


@pytest.mark.parametrize(("mu", "masked"), [(0.0, ""), (0.6, ""), (0.6, MASKED)])
def test_fedper_and_fedprox_on_personal_layers_by_hand(
    mu, masked, federate, settings, shards
) -> None:
    b, h = personal_heads(3, mu, 0, 2)
    text = config_text("fedper", 3, 2, proximal_mu=mu)
    if masked:
        text += masked + "min_cohort = 2\n"
    run = federate(settings(text), shards, Deep())
    near = 1e-5 if masked else 1e-6
    assert list(run.outcome.model) == ["0.weight"]
    assert run.weight("0.weight") == pytest.approx(b, abs=near)
    for name, value in h.items():
        assert own(run, name, 3, "1.weight") == pytest.approx(value, abs=near)


@pytest.mark.parametrize("mu", [0.0, 0.6])
def test_fedrep_moves_the_head_then_the_body(mu, federate, settings, shards) -> None:
    """A full batch is an epoch: head_epochs are steps."""
    b, h = personal_heads(3, mu, 3, 2)
    text = config_text("fedrep", 3, 2, proximal_mu=mu, head_epochs=3)
    run = federate(settings(text), shards, Deep())
    assert run.weight("0.weight") == pytest.approx(b, rel=1e-5)
    for name, value in h.items():
        assert own(run, name, 3, "1.weight") == pytest.approx(value, rel=1e-5)


def test_a_head_is_what_is_named_and_something_is_shared(federate, settings, shards) -> None:
    text = config_text("fedrep", 1, 1) + "personal_layers = ['0.*']\n"
    assert list(federate(settings(text), shards, Deep()).outcome.model) == ["1.weight"]
    with pytest.raises(StrategyError, match="nothing would be shared; name others"):
        federate(settings(config_text("fedper", 1, 1)), shards)


@pytest.mark.parametrize("adaptive", [True, False])
def test_apfl_by_hand(adaptive, federate, settings, shards) -> None:
    """Algorithm 1 with full batches; what is evaluated is a v + (1 - a) w with the local w."""
    w, v, share, mixed = 0.0, {"a": 0.0, "b": 0.0}, {"a": 0.3, "b": 0.3}, {}
    for _ in range(3):
        ends = {}
        for name in v:
            y = w
            for step in range(2):
                a = share[name]
                slope = GRADIENT[name](a * v[name] + (1 - a) * y)
                if adaptive and step == 0:
                    share[name] = min(1.0, max(0.0, a - LR * (v[name] - y) * slope))
                v[name] -= LR * a * slope
                y -= LR * GRADIENT[name](y)
            ends[name] = y
            mixed[name] = share[name] * v[name] + (1 - share[name]) * y
        w = (3 * ends["a"] + ends["b"]) / 4
    text = config_text("apfl", 3, 2, mixing=0.3) + f"adaptive = {str(adaptive).lower()}\n"
    run = federate(settings(text), shards)
    assert run.weight() == pytest.approx(w, rel=1e-6)
    for name, state in run.grid.clients.states().items():
        assert own(run, name, 3) == pytest.approx(mixed[name], rel=1e-5)
        assert state["mixing@3"]["mixing"].numpy()[0] == pytest.approx(share[name], rel=1e-5)
        assert (share[name] != 0.3) == adaptive


def test_moon_by_its_formula(federate, settings, shards) -> None:
    """Equation 3, with autograd's gradients. In round 1 no hospital has a last local model, and the
    term has no gradient."""
    mu, tau = 2.0, 0.4
    model, sent = list(Deep(3).model({}).parameters()), {}
    for _ in range(3):
        ends = {}
        for name, rows in shards.items():
            body, head = (p.detach().clone().requires_grad_() for p in model)
            for _ in range(2):
                z = rows.inputs @ body.T
                loss = (((z @ head.T)[:, 0] - rows.targets) ** 2 / 2).mean()
                if name in sent:
                    near = F.cosine_similarity(z, rows.inputs @ model[0].T) / tau
                    far = F.cosine_similarity(z, rows.inputs @ sent[name].T) / tau
                    loss = loss - mu * torch.log(near.exp() / (near.exp() + far.exp())).mean()
                slopes = torch.autograd.grad(loss, [body, head])
                with torch.no_grad():
                    body -= LR * slopes[0]
                    head -= LR * slopes[1]
            ends[name] = [body.detach(), head.detach()]
            sent = sent | {name: ends[name][0]}
        model = [(3 * a + b) / 4 for a, b in zip(ends["a"], ends["b"], strict=True)]
    text = config_text("moon", 3, 2, contrast=mu, temperature=tau)
    run = federate(settings(text), shards, Deep(3))
    for name, value in zip(("0.weight", "1.weight"), model, strict=True):
        np.testing.assert_allclose(run.outcome.model[name], value.numpy(), atol=1e-6)
    plain = federate(settings(config_text("fedavg", 3, 2)), shards, Deep(3))
    assert np.abs(plain.outcome.model["0.weight"] - model[0].numpy()).max() > 1e-3


def test_moon_needs_a_layer_before_the_last(federate, settings, shards) -> None:
    with pytest.raises(StrategyError, match="'moon' compares what comes into the last layer"):
        federate(settings(config_text("moon", 1, 1)), shards)
