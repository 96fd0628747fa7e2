"""The audit: its statistics against closed forms, its power, and what its users see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm
from torch import nn
from typer.testing import CliRunner

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.process.main import app
from wardround.simulations.default import default_config_text
from wardround.simulations.population.hospitals import Population
from wardround.simulations.privacy.attacks.inversion import Search, correlation, gradient_of, invert
from wardround.simulations.privacy.attacks.membership_inference import loss_threshold
from wardround.simulations.privacy.attacks.one_run import (
    Canaries,
    epsilon_lower_bound,
    judge,
    p_value,
)
from wardround.simulations.privacy.attacks.training import observe_training
from wardround.simulations.run.simulate import torch_threads

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small models are many times slower with several threads on a busy machine."""
    with torch_threads(1):
        yield


# --- the bound ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("guesses", "correct"), [(10, 10), (100, 90), (1000, 700)])
def test_without_delta_the_p_value_is_a_binomials_tail(guesses: int, correct: int) -> None:
    """Steinke et al. 2023, theorem 5.2 with delta = 0."""
    for epsilon in (0.0, 0.5, 2.0):
        right = math.exp(epsilon) / (1 + math.exp(epsilon))
        expected = sum(binom.pmf(k, guesses, right) for k in range(correct, guesses + 1))
        assert p_value(2000, guesses, correct, epsilon, 0) == pytest.approx(min(1, expected))


def test_all_guesses_right_bounds_epsilon_in_closed_form() -> None:
    """(e^eps / (1 + e^eps))^r = 0.05."""
    root = 0.05 ** (1 / 50)
    expected = math.log(root / (1 - root))
    assert epsilon_lower_bound(1000, 50, 50, 0) == pytest.approx(expected, abs=1e-3)
    assert epsilon_lower_bound(1000, 50, 25, 0) == 0


@given(st.integers(1, 300), st.data())
def test_more_right_guesses_and_a_smaller_delta_never_lower_the_bound(
    guesses: int, data: st.DataObject
) -> None:
    correct = data.draw(st.integers(0, guesses - 1))
    one = epsilon_lower_bound(1000, guesses, correct, 1e-5)
    assert one <= epsilon_lower_bound(1000, guesses, correct + 1, 1e-5) + 1e-3
    assert one <= epsilon_lower_bound(1000, guesses, correct, 0) + 1e-3


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Randomised response at epsilon 1: the bound passes the truth in at most 5 % of 400 runs."""
    generator, wrong, m = np.random.default_rng(7), 0, 400
    for _ in range(400):
        included = generator.random(m) < 0.5
        kept = generator.random(m) < math.e / (1 + math.e)
        scores = np.where(kept, included, ~included) + generator.random(m) * 1e-9
        wrong += judge(scores.astype(float), included, 0.0).lower_bound > 1.0
    assert wrong <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)


# --- canaries in the real training ----------------------------------------------------------------
FORMS = {
    "local": ["privacy.unit=example"],
    "distributed": [
        "privacy.unit=example",
        "privacy.noise=distributed",
        "training.local_steps=1",
        "training.batch_size=40",
    ],
    "central": ["privacy.unit=hospital", "privacy.noise=central"],
    "adaptive": ["privacy.unit=example", "privacy.clipping=adaptive"],
}


def bound_of(kind: str, noise_scale: float, canaries: int = 4000) -> float:
    config: Config = parse_config(default_config_text(), [*FORMS[kind], "privacy.epsilon=1.5"])
    population = Population(config, make_task(config))
    watched = Canaries(canaries, config.privacy.clipping_norm)
    observe_training(config, population, watched, noise_scale)
    return judge(watched.scores, watched.included, config.privacy.delta).lower_bound


@pytest.mark.parametrize("kind", FORMS)
def test_right_noise_is_not_accused_and_a_quarter_of_it_is_caught(kind: str) -> None:
    """At epsilon 1.5. Coins and noise are real; both failures have a chance below 1e-4 (the bound
    with a quarter is 2.3 to 3.4 over runs, that with all of it 0.3 to 0.8)."""
    assert bound_of(kind, 1.0) < 1.5
    assert bound_of(kind, 0.25) > 1.5


def test_canaries_see_the_noise_that_is_configured() -> None:
    """Scores of canaries that are out are noise: their variance is the steps' z^2."""
    config = parse_config(
        default_config_text(), ["privacy.unit=example", "privacy.noise_multiplier=2.0"]
    )
    population = Population(config, make_task(config))
    watched = Canaries(4000, config.privacy.clipping_norm)
    observe_training(config, population, watched, 1.0)
    out = watched.scores[~watched.included]
    smallest = min(population.hospital(n).unit_counts()["train"] for n in population.names)
    steps = config.federation.rounds * math.ceil(smallest / config.training.batch_size)
    reach = norm.isf(1e-8) * math.sqrt(2 / len(out))
    assert out.var() / (4 * steps) == pytest.approx(1, abs=reach + 0.003)
    inside = watched.scores[watched.included].mean()
    expected = steps * config.training.batch_size / smallest
    assert inside == pytest.approx(expected, abs=6 * 2 * math.sqrt(steps / len(out)) + 0.3)


# --- membership -----------------------------------------------------------------------------------
def test_a_loss_that_tells_nothing_is_guessing_and_one_that_tells_all_is_found() -> None:
    generator = np.random.default_rng(0)
    losses = generator.random(4000)
    nothing = loss_threshold(losses[:2000], losses[2000:], 1e-5)
    assert nothing.interval[0] < 0.5 < nothing.interval[1] and nothing.lower_bound < 0.2
    everything = loss_threshold(losses[:2000] * 0.5, 1 + losses[2000:], 1e-5)
    assert everything.auc == 1 and set(everything.found.values()) == {1.0}
    # 1,000 of 1,000 right and none of 1,000 wrong: Clopper-Pearson in closed form
    expected = math.log((0.025 ** (1 / 1000)) / (1 - 0.025 ** (1 / 1000)))
    assert everything.lower_bound == pytest.approx(expected, rel=0.01)


def test_gaussian_losses_have_their_auc() -> None:
    """AUC of two unit normals one apart is Phi(1 / sqrt 2)."""
    generator = np.random.default_rng(1)
    found = loss_threshold(generator.normal(0, 1, 20000), generator.normal(1, 1, 20000), 1e-5)
    assert found.auc == pytest.approx(norm.cdf(1 / math.sqrt(2)), abs=0.01)
    assert found.found[0.1] == pytest.approx(norm.cdf(1 + norm.ppf(0.1)), abs=0.02)


def test_too_few_others_show_no_small_rate() -> None:
    found = loss_threshold(np.arange(50.0), np.arange(50.0), 1e-5)
    assert set(found.found) == {0.1}
    with pytest.raises(ValueError, match="two"):
        loss_threshold(np.ones(1), np.ones(5), 1e-5)


# --- inversion ------------------------------------------------------------------------------------
def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[:, 0] - targets) ** 2


def test_a_linear_first_layer_gives_its_row_away() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
    row, target = torch.randn(1, 6), torch.tensor([2.0])
    found = invert(model, squared, gradient_of(model, squared, row, target), row, target)
    torch.testing.assert_close(found.row, row, rtol=1e-3, atol=1e-4)
    assert found.correlation == pytest.approx(1, abs=1e-4)


def test_an_image_is_found_by_search_and_not_under_noise() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(8 * 64, 5)
    )
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:6, 3:5] = 1
    target = torch.tensor([3])
    loss = nn.CrossEntropyLoss(reduction="none")
    bare = gradient_of(model, loss, image, target)
    assert invert(model, loss, bare, image, target, search=Search(steps=200)).correlation > 0.8
    size = torch.cat([g.flatten() for g in bare]).norm()
    noised = [g + size * torch.randn_like(g) for g in bare]
    assert (
        abs(invert(model, loss, noised, image, target, search=Search(steps=200)).correlation) < 0.5
    )
    assert correlation(image, 3 * image + 1) == pytest.approx(1)
    assert correlation(image, torch.ones_like(image)) == 0


# --- as its users run it --------------------------------------------------------------------------
def test_the_command_says_what_it_found_and_exits_with_10_for_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wardround.simulations.privacy.attacks.run._ROWS", 2
    )  # the search takes its time
    config = ROOT / "examples" / "own_task" / "federation.toml"
    page = tmp_path / "audit.html"
    common = ["--page", str(page), "--set", "federation.rounds=2", "--set", "privacy.unit=example"]
    common += ["--set", "privacy.epsilon=1.5", "--set", "task.channels=4"]
    fine = CliRunner().invoke(app, ["privacy", "audit", str(config), *common])
    assert fine.exit_code == 0, fine.output
    assert "doesn't contradict" in fine.output and "four times too small" in fine.output
    text = page.read_text()
    assert "heatmap" in text and "What this can&#39;t tell" in text
    fault = CliRunner().invoke(
        app, ["privacy", "audit", str(config), *common, "--noise-scale", "0.2"]
    )
    assert fault.exit_code == 10 and "FAULT" in fault.output
    none = CliRunner().invoke(app, ["privacy", "audit", str(config)])
    assert "nothing to audit" in str(none.exception)
