"""Language models through the product: masked sums, executors, privacy, a saved model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.training.evaluation import evaluate_model
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import WardroundError
from wardround.common.model.named import model_arrays
from wardround.common.predict import load_model
from wardround.common.tasks import load_task
from wardround.simulations import Result, parse_config, simulate

TINY = """
[federation]
rounds = 2
[task]
name = "text"
kind = "causal"
base_model = "base"
choices = ["yes", "no", "maybe"]
max_length = 96
[data]
path = "data"
[training]
optimizer = "adamw"
lr = 0.02
batch_size = 8
[simulation]
baselines = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, and three unlike hospitals: one is small, one never says 'maybe'."""
    place = tmp_path_factory.mktemp("causal")
    tiny_llama(place / "base")
    draw = np.random.default_rng(0)
    for name, rows, answers in (
        ("north", 40, ["yes", "no", "maybe"]),
        ("south", 30, ["yes", "no"]),
        ("west", 9, ["no", "yes", "maybe"]),
    ):
        said = [answers[one] for one in draw.integers(0, len(answers), rows)]
        # the answer's first letter is in the question, so that there is something to learn
        lines = [
            asked(f"{one[0] * 3} {number % 7}?", one, who=number // 2)
            for number, one in enumerate(said)
        ]
        write_lines(place / "data" / f"{name}.jsonl", lines)
    return place


def run(folder: Path, *overrides: str) -> Result:
    sets = [f"federation.runs={folder / 'runs'}", *overrides]
    return simulate(parse_config(TINY, sets, folder / "federation.toml"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> Result:
    return run(folder)


def test_it_learns_under_masked_sums(plain: Result) -> None:
    assert plain.config.secure_aggregation.enabled
    first, last = (row["train_loss"] for row in plain.rounds)
    assert last < first - 0.05 and first < 1.1 * math.log(259)
    assert 0 <= plain.figure("accuracy") <= 1 and plain.figure("perplexity") < 259
    names = set(model_arrays(plain.model))
    assert names and all(".lora_" in name for name in names)


@pytest.mark.parametrize("executor", ["sequential", "processes"])
def test_executors_train_the_same_model(folder: Path, plain: Result, executor: str) -> None:
    other = model_arrays(run(folder, f"simulation.executor={executor}").model)
    for name, value in model_arrays(plain.model).items():
        np.testing.assert_allclose(other[name], value, rtol=1e-4, atol=1e-6)


def test_a_saved_model_has_the_same_figures(folder: Path, plain: Result) -> None:
    task = load_task("text", dict(plain.config.task.options), folder)
    raw = task.load(folder / "data" / "north.jsonl")
    examples = task.prepare(raw, {}, raw)
    own = task.summarise(evaluate_model(plain.model, examples, task))
    read = load_model(plain.run_directory).module
    assert task.summarise(evaluate_model(read, examples, task)) == pytest.approx(own, rel=1e-6)


def test_another_base_is_refused(folder: Path, plain: Result) -> None:
    kept = folder / "kept"
    (folder / "base").rename(kept)
    tiny_llama(folder / "base", seed=1)
    try:
        with pytest.raises(WardroundError, match="not those that the federation agreed on"):
            load_model(plain.run_directory)
    finally:
        for one in (folder / "base").iterdir():
            one.unlink()
        (folder / "base").rmdir()
        kept.rename(folder / "base")


@pytest.mark.parametrize("form", ["bookkeeping", "functional"])
def test_units_gradients_are_those_of_a_loop(folder: Path, form: str) -> None:
    """Rows of unlike length, which ordinary training takes apart."""
    options = {"base_model": str(folder / "base"), "max_length": 96}
    task = load_task("text", {"kind": "causal", "choices": ["yes", "no", "maybe"]} | options)
    raw = task.load(folder / "data" / "west.jsonl")
    examples = task.prepare(raw, {}, raw)
    torch.manual_seed(0)
    model = task.model({}).train()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(0, 0.1)
    inputs, targets = examples.tensor(), examples.targets
    found = [
        make_unit_gradients(model, task.loss, one).clipped_sum(
            inputs, targets, None, len(targets), Clipping(0.05)
        )
        for one in ("loop", form)
    ]
    torch.testing.assert_close(found[0].norms, found[1].norms, rtol=1e-3, atol=1e-6)
    for one, other in zip(found[0].gradients, found[1].gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("unit", ["example", "patient"])
def test_a_private_run_trains(folder: Path, unit: str) -> None:
    sets = ["task.tuning=ffa_lora", f"privacy.unit={unit}", "privacy.epsilon=20"]
    sets += ["privacy.covers=['training']", "task.columns.patient_id=who"]
    result = run(folder, *sets, "federation.rounds=1")
    assert math.isfinite(result.figure("perplexity"))
    assert all(math.isnan(row["train_loss"] or math.nan) for row in result.rounds)


def test_packing_needs_rows_that_are_units(folder: Path) -> None:
    result = run(folder, "task.packing=true", "federation.rounds=1")
    assert math.isfinite(result.figure("loss"))
    with pytest.raises(WardroundError, match=r"task\.packing"):
        run(folder, "task.packing=true", "privacy.unit=example", "privacy.epsilon=20")


def test_a_loss_that_is_no_number_in_16_bits_is_told_with_the_mend(folder: Path) -> None:
    sets = ["training.precision=bf16", "training.local_steps=1"]
    config = parse_config(TINY, sets, folder / "federation.toml")
    task = load_task("text", dict(config.task.options), folder)
    raw = task.load(folder / "data" / "west.jsonl")
    model = task.model({})
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.fill_(3e38)
    with pytest.raises(WardroundError, match="set it to 'float32'"):
        train_on_batches(model, task.prepare(raw, {}, raw), task, config, (1, 1, "west"))
