"""Strategies against calculations by hand, the papers' formulas and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.federate import Line
from wardround.common.errors import ConfigError, RoundFailed, StrategyError
from wardround.common.tasks.base import Examples
from wardround.server.strategies import INDIVIDUAL, MEAN, build_strategy

LR = 0.1
# Hospital a: x = 1, 2, 1 and y = 1, 2, 3: gradient of the mean loss at w is 2 w - 8/3.
# Hospital b: x = 1 and y = -1: gradient w + 1.
GRADIENT = {"a": lambda w: 2 * w - 8 / 3, "b": lambda w: w + 1}
SIZE = {"a": 3, "b": 1}


def local(name: str, w: float, steps: int, correct=lambda w: 0.0) -> float:
    for _ in range(steps):
        w = w - LR * (GRADIENT[name](w) + correct(w))
    return w


def config_text(name: str, rounds: int, steps: int, **options: float) -> str:
    lines = "\n".join(f"{key} = {value}" for key, value in options.items())
    return (
        f"[federation]\nrounds = {rounds}\n[training]\nlocal_steps = {steps}\n"
        f"[strategy]\nname = '{name}'\n{lines}\n"
    )


def test_fedavg_is_the_example_weighted_mean(federate, settings, shards) -> None:
    w = 0.0
    for _ in range(3):
        w = (3 * local("a", w, 2) + local("b", w, 2)) / 4
    run = federate(settings(config_text("fedavg", 3, 2)), shards)
    assert run.weight() == pytest.approx(w, rel=1e-6)


def test_uniform_weighting_counts_every_hospital_the_same(federate, settings, shards) -> None:
    text = config_text("fedavg", 1, 1) + "weighting = 'uniform'\n"
    expected = (local("a", 0, 1) + local("b", 0, 1)) / 2
    assert federate(settings(text), shards).weight() == pytest.approx(expected, rel=1e-6)


def test_fedprox_pulls_back_to_the_global_model(federate, settings, shards) -> None:
    mu, w = 0.5, 0.0
    for _ in range(2):
        x = w
        ends = {n: local(n, x, 3, lambda v, x=x: mu * (v - x)) for n in "ab"}
        w = (3 * ends["a"] + ends["b"]) / 4
    run = federate(settings(config_text("fedprox", 2, 3, proximal_mu=mu)), shards)
    assert run.weight() == pytest.approx(w, rel=1e-6)


def test_scaffold_by_hand(federate, settings, shards) -> None:
    """Karimireddy et al. 2020, algorithm 1, option II; one step, so the numbers fit a page.

    Round 1: c = c_a = c_b = 0. y_a = 0 - 0.1 (-8/3) = 4/15; y_b = 0 - 0.1 (1) = -0.1.
    c_a = (0 - 4/15) / 0.1 = -8/3; c_b = 1; x = (4/15 - 0.1) / 2 = 1/12; c = (-8/3 + 1) / 2 = -5/6.
    Round 2: g_a(1/12) = 1/6 - 8/3 = -5/2; corrected by c - c_a = -5/6 + 8/3 = 11/6: -2/3.
    g_b(1/12) = 13/12; corrected by c - c_b = -11/6: -3/4. y_a = 1/12 + 1/15, y_b = 1/12 + 3/40,
    so x = 1/12 + 17/240 = 37/240.
    """
    one = federate(settings(config_text("scaffold", 1, 1)), shards)
    assert one.weight() == pytest.approx(1 / 12, rel=1e-6)
    two = federate(settings(config_text("scaffold", 2, 1)), shards)
    assert two.weight() == pytest.approx(37 / 240, rel=1e-6)


def test_scaffold_with_several_steps_and_server_rate_follows_the_pseudocode(
    federate, settings, shards
) -> None:
    steps, eta_g, x, c = 4, 0.7, 0.0, 0.0
    c_i = {"a": 0.0, "b": 0.0}
    for _ in range(3):
        y = {n: local(n, x, steps, lambda v, n=n: c - c_i[n]) for n in "ab"}
        new = {n: c_i[n] - c + (x - y[n]) / (steps * LR) for n in "ab"}
        c, c_i = c + sum(new[n] - c_i[n] for n in "ab") / 2, new
        x = x + eta_g * sum(y[n] - x for n in "ab") / 2
    text = config_text("scaffold", 3, steps, server_learning_rate=eta_g)
    assert federate(settings(text), shards).weight() == pytest.approx(x, rel=1e-5)


def test_scaffold_with_part_of_the_clients_scales_the_server_control(
    federate, settings, shards
) -> None:
    """|S|/N: with one of two clients per round, c moves by half of its change."""
    text = config_text("scaffold", 6, 2).replace(
        "[federation]\n", "[federation]\nclients_per_round = 1\n"
    )
    run = federate(settings(text), shards)
    x, c, c_i = 0.0, 0.0, {"a": 0.0, "b": 0.0}
    for row in run.recorder.rows:
        (n,) = row["cohort"]
        y = local(n, x, 2, lambda v, n=n: c - c_i[n])
        new = c_i[n] - c + (x - y) / (2 * LR)
        c, c_i[n], x = c + (new - c_i[n]) / 2, new, y
    assert {row["cohort"][0] for row in run.recorder.rows} == {"a", "b"}
    assert run.weight() == pytest.approx(x, rel=1e-5)


def test_fednova_normalises_by_local_steps(federate, settings, shards) -> None:
    """Batch 1, so hospital a takes 3 steps and b one: tau_eff = (3 * 3 + 1 * 1) / 4 = 2.5."""
    text = config_text("fednova", 1, 1).replace("local_steps = 1", "batch_size = 1")
    run = federate(settings(text), shards)
    plain = federate(settings(text.replace("fednova", "fedavg")), {"a": shards["a"]}).weight()
    d_a, d_b = -plain / 3, LR * 1.0
    expected = 0 - 2.5 * (3 * d_a + 1 * d_b) / 4
    assert run.weight() == pytest.approx(expected, rel=1e-6)


def test_feddyn_follows_the_pseudocode(federate, settings, shards) -> None:
    alpha, steps, x, h = 0.3, 3, 0.0, 0.0
    h_i = {"a": 0.0, "b": 0.0}
    for _ in range(3):
        y = {n: local(n, x, steps, lambda v, n=n: alpha * (v - x) - h_i[n]) for n in "ab"}
        h_i = {n: h_i[n] - alpha * (y[n] - x) for n in "ab"}
        h = h - alpha * sum(y[n] - x for n in "ab") / 2
        x = sum(y.values()) / 2 - h / alpha
    run = federate(settings(config_text("feddyn", 3, steps, alpha=alpha)), shards)
    assert run.weight() == pytest.approx(x, rel=1e-5)


def test_fedavgm_is_momentum_on_the_mean_update(federate, settings, shards) -> None:
    w, momentum = 0.0, 0.0
    for _ in range(3):
        mean = (3 * local("a", w, 1) + local("b", w, 1)) / 4
        momentum = 0.9 * momentum + (w - mean)
        w = w - 0.5 * momentum
    text = config_text("fedavgm", 3, 1, server_learning_rate=0.5, server_momentum=0.9)
    assert federate(settings(text), shards).weight() == pytest.approx(w, rel=1e-6)


def test_fedyogi_follows_reddi_et_al(federate, settings, shards) -> None:
    """arXiv 2003.00295, algorithm 2, as Flower writes it; float32 parameters stay float32."""
    eta, b1, b2, tau = 0.1, 0.9, 0.99, 1e-3
    w = m = v = 0.0
    for _ in range(3):
        delta = (3 * local("a", w, 1) + local("b", w, 1)) / 4 - w
        m = b1 * m + (1 - b1) * delta
        v = v - (1 - b2) * delta**2 * np.sign(v - delta**2)
        w = w + eta * m / (np.sqrt(v) + tau)
    text = config_text("fedyogi", 3, 1, eta=eta, beta_1=b1, beta_2=b2, tau=tau)
    run = federate(settings(text), shards)
    assert run.weight() == pytest.approx(w, rel=1e-4)
    assert run.outcome.model["weight"].dtype == np.float32


@pytest.mark.parametrize("name", sorted(set(MEAN) - {"fedavg", "fedbn"}))
def test_statistics_and_counters_are_averaged_by_every_strategy(
    name: str, federate, settings, shards, line
) -> None:
    """The norm stands before the weight, so its statistics don't depend on what was trained."""
    kept = ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    rates = {"fedavgm": {"server_learning_rate": 1.0, "server_momentum": 0.9}}
    rates["scaffold"] = {"server_learning_rate": 0.5}

    def after(name: str, **options: float) -> list[np.ndarray]:
        text = config_text(name, 4, 3, **options) + "weighting = 'examples'\n"
        model = federate(settings(text), shards, task=line(norm=True)).outcome.model
        return [model[key] for key in kept]

    for found, expected in zip(after(name, **rates.get(name, {})), after("fedavg"), strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    assert after(name)[1][0] > 0


@pytest.mark.parametrize("name", ["krum", "fedtrimmedavg"])
def test_rules_that_compare_updates_do_not_see_counters(
    name: str, federate, settings, line, monkeypatch
) -> None:
    """Hospital b made ten times as many steps: that isn't what makes its update an outlier."""
    seen = []
    kind = INDIVIDUAL[name]
    original = kind.aggregate_train

    def aggregate(self, server_round, replies):
        seen.extend(set(reply.content["arrays"]) for reply in replies)
        return original(self, server_round, replies)

    monkeypatch.setattr(kind, "aggregate_train", aggregate)
    shards = {
        name: Examples(torch.arange(float(n)).view(-1, 1), torch.arange(float(n)) / n)
        for name, n in {"a": 4, "b": 40, "c": 6, "d": 6}.items()
    }
    options = {"beta": 0.3} if name == "fedtrimmedavg" else {}
    text = config_text(name, 1, 1, **options).replace("local_steps = 1", "batch_size = 2")
    model = federate(settings(text), shards, task=line(norm=True)).outcome.model
    assert seen and not any("0.num_batches_tracked" in names for names in seen)
    assert all("0.running_var" in names for names in seen)
    mean = (4 * 2 + 40 * 20 + 6 * 3 + 6 * 3) / 56
    assert model["0.num_batches_tracked"] == round(mean)


class FrozenLine(Line):
    """A frozen weight before the trained one, that every party draws for itself."""

    seeds = iter(())

    def model(self, totals):
        torch.manual_seed(next(self.seeds))
        return torch.nn.Sequential(torch.nn.Linear(1, 1).requires_grad_(False), super().model({}))


@pytest.mark.parametrize("same", [True, False])
def test_frozen_entries_must_be_equal_at_every_party(federate, settings, shards, same) -> None:
    FrozenLine.seeds = iter([1, 1] if same else [1, 2])
    text = config_text("fedavg", 1, 1)
    if same:
        assert list(federate(settings(text), shards, task=FrozenLine()).outcome.model) == [
            "1.weight"
        ]
        return
    with pytest.raises(RoundFailed, match="makes other frozen entries of the model than the s"):
        federate(settings(text), shards, task=FrozenLine())


def test_fedmedian_takes_the_middle_of_single_updates(federate, settings, shards) -> None:
    shards = shards | {"c": shards["a"]}
    run = federate(settings(config_text("fedmedian", 1, 1)), shards)
    assert run.weight() == pytest.approx(local("a", 0, 1), rel=1e-6)


def test_krum_ignores_the_outlier(federate, settings, shards) -> None:
    """Four agree, one is far off: krum takes one of the four."""
    many = {name: shards["a"] for name in "acde"} | {"b": shards["b"]}
    text = config_text("krum", 1, 1, num_malicious_nodes=1)
    assert federate(settings(text), many).weight() == pytest.approx(local("a", 0, 1), rel=1e-6)


@pytest.mark.parametrize("name", sorted(INDIVIDUAL))
def test_robust_rules_are_refused_where_only_the_sum_is_visible(name, settings) -> None:
    text = f"[strategy]\nname = '{name}'\n[secure_aggregation]\nenabled = true\n"
    with pytest.raises(StrategyError, match=f"'{name}' compares single updates"):
        build_strategy(settings(text))


OF_LAYERS = {"fedbn", "fedper", "fedrep", "moon"}
"""Those that need a layer besides the linear one."""


@pytest.mark.parametrize("name", sorted(MEAN))
def test_mean_strategies_give_the_same_model_where_only_sums_are_visible(
    name, federate, settings, shards, line
) -> None:
    """Up to rounding: a step is 8 / 2^22, weighted by rows up to 3 times that, and two rounds of
    adaptive steps (eta / tau = 100 for fedadam's kin) may multiply it."""
    many = {"a": shards["a"], "b": Examples(-torch.eye(2)[:, :1], torch.ones(2)), "c": shards["a"]}
    text = config_text(name, 2, 1)
    plain, secure = (
        federate(settings(text + table), many, task=line(norm=name in OF_LAYERS))
        for table in ("", "[secure_aggregation]\nenabled = true\n")
    )
    adaptive = name in ("fedadam", "fedadagrad", "fedyogi")
    for key, value in plain.outcome.model.items():
        np.testing.assert_allclose(
            secure.outcome.model[key], value, rtol=0, atol=2e-3 if adaptive else 2e-5
        )
    assert [row["hospitals"] for row in secure.recorder.rows] == [{}, {}]


MOVE_OTHERWISE = OF_LAYERS | {"fedadam", "fedadagrad", "fedyogi", "feddyn"}
SEVERAL = {"fedtrimmedavg", "krum", "multikrum", "bulyan"}


@pytest.mark.parametrize("name", sorted((MEAN | INDIVIDUAL).keys() - MOVE_OTHERWISE - SEVERAL))
def test_one_hospital_alone_is_its_own_local_training(name, federate, settings, shards) -> None:
    run = federate(settings(config_text(name, 1, 3)), {"a": shards["a"]})
    assert run.weight() == pytest.approx(local("a", 0, 3), rel=1e-6)


def test_fedbn_keeps_normalisation_at_home(federate, settings, line) -> None:
    """Li et al. 2021: after training, hospitals share the linear layer but not the norm's mean."""
    torch.manual_seed(0)
    here, there = torch.randn(20, 1), torch.randn(20, 1) + 5
    shards = {"a": Examples(here, here[:, 0]), "b": Examples(there, there[:, 0])}
    text = config_text("fedbn", 3, 2)
    run = federate(settings(text), shards, task=line(norm=True))
    states = {
        name: {k: v.numpy() for k, v in state[next(iter(sorted(state)[::-1]))].items()}
        for name, state in run.grid.clients.states().items()
    }
    assert set(states["a"]) == {f"0.{k}" for k in torch.nn.BatchNorm1d(1).state_dict()}
    assert abs(states["b"]["0.running_mean"][0] - states["a"]["0.running_mean"][0]) > 1
    assert list(run.outcome.model) == ["1.weight"], "what all share, and no more"
    avg = federate(
        settings(config_text("fedavg", 3, 2)), shards, task=line(norm=True)
    ).outcome.model
    assert avg["0.running_mean"] != 0, "fedavg does average it"


def test_fedbn_equals_fedavg_computed_by_hand_on_the_shared_layer(federate, settings, line) -> None:
    """One step from w = 1 on two points -1, 1 (mean 0, variance 1): the norm is y = x/sqrt(1+eps).

    Targets t x: gradient on w is (w s - t) s with s = 1/sqrt(1 + 1e-5), for t = 2 and t = 0: the
    shared w after one round is 1 - 0.1 ((s - 2) s + s s) / 2 = 1 - 0.1 s (s - 1).
    """
    x = [-1.0, 1.0]

    def shard(t: float) -> Examples:
        return Examples(torch.tensor(x).view(-1, 1), t * torch.tensor(x))

    run = federate(
        settings(config_text("fedbn", 1, 1)),
        {"a": shard(2.0), "b": shard(0.0)},
        task=line(start=1.0, norm=True),
    )
    s = 1 / np.sqrt(1 + 1e-5)
    assert run.weight("1.weight") == pytest.approx(1 - 0.1 * s * (s - 1), abs=1e-6)
    # the norm's own scale at a: gradient (w s - 2) w s with w = 1, at b: s * s
    states = run.grid.clients.states()
    scale = {n: state["personal@1"]["0.weight"].numpy()[0] for n, state in states.items()}
    assert scale["a"] == pytest.approx(1 - 0.1 * (s - 2) * s, abs=1e-6)
    assert scale["b"] == pytest.approx(1 - 0.1 * s * s, abs=1e-6)


def test_personal_layers_stay_by_pattern(federate, settings, line, shards) -> None:
    text = config_text("fedavg", 2, 1) + "personal_layers = ['0.*']\n"
    run = federate(settings(text), shards, task=line(norm=True))
    assert list(run.outcome.model) == ["1.weight"]
    with pytest.raises(ConfigError, match="'nothing' matches none"):
        text = config_text("fedavg", 1, 1) + "personal_layers = ['nothing']\n"
        federate(settings(text), shards)
    with pytest.raises(StrategyError, match="nothing would be shared"):
        text = config_text("fedavg", 1, 1) + "personal_layers = ['*']\n"
        federate(settings(text), shards)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'fedavgg'", "unknown strategy 'fedavgg'; known: apfl, bulyan"),
        ("name = 'fedavg'\neta = 0.1", "strategy.eta: 'fedavg' has no such option"),
        ("name = 'fedadam'\neta = 'x'", "strategy.eta: input should be a valid number"),
        ("name = 'fedtrimmedavg'\nbeta = 0.7", "strategy.beta: input should be less than 0.5"),
        ("name = 'feddyn'\nalpha = 0.0", "strategy.alpha: input should be greater"),
        ("name = 'nofile.py:X'", "no such file"),
    ],
)
def test_a_wrong_strategy_is_named(text, message, settings) -> None:
    with pytest.raises((ConfigError, StrategyError), match=message):
        build_strategy(settings(f"[strategy]\n{text}\n"))


@pytest.mark.parametrize("name", ["scaffold", "fednova"])
def test_strategies_for_plain_sgd_refuse_adam(name, settings) -> None:
    with pytest.raises(ConfigError, match="plain SGD"):
        build_strategy(settings(f"[strategy]\nname='{name}'\n[training]\noptimizer='adam'\n"))


def test_fedbn_without_norm_layers_is_refused(federate, settings, shards) -> None:
    with pytest.raises(StrategyError, match="the model has none"):
        federate(settings(config_text("fedbn", 1, 1)), shards)


def test_a_users_own_strategy_plugs_in(federate, settings, shards, tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "from flwr.serverapp.strategy import FedAvg\n"
        "from wardround.common.flower.arrays import decode_arrays, encode_arrays\n"
        "class Half(FedAvg):\n"
        "    def __init__(self, factor=0.5):\n"
        "        super().__init__()\n"
        "        self.factor, self.rounds = factor, []\n"
        "    def aggregate_train(self, server_round, replies):\n"
        "        arrays, metrics = super().aggregate_train(server_round, replies)\n"
        "        self.rounds.append(server_round)\n"
        "        half = {k: self.factor * v for k, v in decode_arrays(arrays).items()}\n"
        "        return encode_arrays(half), metrics\n"
    )
    text = config_text("fedavg", 1, 1, factor=0.25).replace(
        "'fedavg'", f"'{tmp_path / 'mine.py'}:Half'"
    )
    mean = (3 * local("a", 0, 1) + local("b", 0, 1)) / 4
    assert federate(settings(text), shards).weight() == pytest.approx(mean / 4, rel=1e-6)
