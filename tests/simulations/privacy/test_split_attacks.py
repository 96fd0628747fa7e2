"""Attacks on split networks: what they must find where it is there, and what noise leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from wardround.common.config.load import parse_config
from wardround.simulations.privacy.attacks.split_features import read_features, structural
from wardround.simulations.privacy.attacks.split_labels import read_outcomes
from wardround.simulations.privacy.attacks.split_rows import split_and_rows
from wardround.simulations.privacy.attacks.split_run import SplitAudit, audit_split
from wardround.simulations.privacy.cli import commands

TOML = """
[data]
path = "{folder}"
[simulation]
partition = "sites"
[task]
name = "linked"
[task.identifiers]
id = "exact"
[task.parties.lab]
numeric = ["a", "b", "same"]
[task.parties.registry]
numeric = ["age"]
outcome = "died"
[procedure]
name = "split"
link = "who"
batches = 40
batch_size = 32
held_out = 40
width = 4
hidden = 8
learning_rate = 0.01
"""
NOISE = "clip = 1.0\nnoise_multiplier = 2.0\n"


def test_outcomes_are_read_from_gradients_of_a_logistic_head() -> None:
    """(p - y) w: their signs are the outcomes', and those of the rarer class are longer."""
    generator = np.random.default_rng(1)
    outcome = (generator.random(200) < 0.2).astype(np.float64)
    direction = generator.normal(size=5)
    p = generator.uniform(0.1, 0.3, 200)
    rows = [generator.permutation(200)[:50] for _ in range(20)]
    batches = [(one, (p - outcome)[one, None] * direction) for one in rows]
    leak = read_outcomes(batches, outcome)
    assert leak.direction == 1.0 and leak.length == 1.0
    blind = [(one, generator.normal(size=(50, 5))) for one in rows]
    assert abs(read_outcomes(blind, outcome).direction - 0.5) < 0.15
    assert abs(read_outcomes(blind, outcome).length - 0.5) < 0.15


def test_noise_of_single_batches_is_averaged_out() -> None:
    """Noise as long as the gradients themselves hides no outcome of who is in 14 batches."""
    generator = np.random.default_rng(5)
    outcome = (generator.random(400) < 0.4).astype(np.float64)
    p, head = generator.uniform(0.2, 0.7, 400), generator.normal(size=4)
    head /= 2 * np.linalg.norm(head)
    batches = []
    for _ in range(175):
        rows = generator.permutation(400)[:32]
        exact = (p - outcome)[rows, None] * head
        batches.append((rows, exact + generator.normal(0, 0.25, exact.shape)))
    assert read_outcomes(batches, outcome).direction > 0.95


def test_features_are_read_where_numbers_hold_them() -> None:
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(200, 3))
    truth[:, 2] = 7.0
    whole = read_features(truth[:, :2] @ generator.normal(size=(2, 4)), truth, 0)
    assert whole.explained > 0.99 and whole.column in (0, 1)
    assert read_features(generator.normal(size=(200, 4)), truth, 0).explained < 0.1


def test_structural_similarity() -> None:
    """1 of an image with itself; of a constant with another one what the formula's first factor
    is."""
    image = np.random.default_rng(3).random((8, 8))
    assert structural(image, image) == pytest.approx(1.0)
    dark, light = np.full((2, 2), 0.2), np.full((2, 2), 0.6)
    assert structural(dark, light) == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parties' files of 200 persons, in other orders, 20 of whom are at one of them only."""
    folder = tmp_path_factory.mktemp("parties")
    generator = np.random.default_rng(4)
    values = generator.normal(size=(220, 3))
    died = generator.random(220) < 1 / (1 + np.exp(1 - 2 * values[:, 0] - values[:, 2]))
    lab = [f"p{n},{values[n, 0]:.4f},{values[n, 1]:.4f},5" for n in generator.permutation(210)]
    registry = [f"p{n},{values[n, 2]:.4f},{int(died[n])}" for n in range(10, 220)]
    (folder / "lab.csv").write_text("\n".join(["id,a,b,same", *lab]) + "\n")
    (folder / "registry.csv").write_text("\n".join(["id,age,died", *registry]) + "\n")
    return folder


def audited(folder: Path, more: str) -> SplitAudit:
    config = parse_config(TOML.format(folder=folder) + more)
    split, rows = split_and_rows(config)
    return audit_split(split, rows, config.federation.seed)


def test_without_noise_everything_is_read_and_noise_ends_it(folder: Path) -> None:
    found = audited(folder, NOISE)
    bare, noised = found.bare, found.as_configured
    assert noised is not None and 0 < found.epsilon < 100
    assert bare.outcomes["lab"].direction > 0.97
    assert noised.outcomes["lab"].direction < 0.7
    assert bare.features["lab"].explained > 0.7
    assert noised.features["lab"].explained < 0.2 < bare.features["lab"].explained
    assert found.own_columns["lab"] < 0.2
    assert bare.auc is not None and found.alone is not None and bare.auc > found.alone


def test_the_command_says_what_was_read(folder: Path, tmp_path: Path) -> None:
    path, page = tmp_path / "split.toml", tmp_path / "page.html"
    path.write_text(TOML.format(folder=folder))
    told = CliRunner().invoke(commands, ["privacy", "audit", str(path), "--page", str(page)])
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    assert "No noise is configured: what crosses protects nobody" in words
    assert "Outcomes read by 'lab' from its gradients, without bound and noise: area" in words
    assert "as configured" not in words  # the same
    assert "Outcomes read by 'lab'" in page.read_text().replace("&#x27;", "'").replace("&#39;", "'")
    refused = CliRunner().invoke(commands, ["privacy", "audit", str(path), "--canaries", "500"])
    assert "have no effect on a split network" in str(refused.exception)
