"""Inputs that lie on the disk train the very model that the same inputs in memory do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wardround.client.data.hospital import Units
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.client.training.ahead import made_ahead
from wardround.client.training.evaluation import evaluate_model, model_outputs
from wardround.client.training.steps import train_model, train_on_batches
from wardround.common.config.load import parse_config
from wardround.common.errors import DataError, TaskError
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.settings import PrivacyTable
from wardround.common.tasks.base import Examples
from wardround.common.tasks.data.stored.cache import StoreCache
from wardround.common.tasks.data.stored.store import Store
from wardround.common.tasks.imaging import ImagingTask

ROWS = 30
TASK = ImagingTask(classes=["a", "b", "c"], size=[10, 10], model={"width": 8, "norm": "batch"})
PRIVATE = ImagingTask(classes=["a", "b", "c"], size=[10, 10], model={"width": 8})
TOTALS = {"images": np.ones(1), "mean": np.full(1, 0.5), "squares": np.full(1, 0.3)}


@pytest.fixture(params=["bytes", "numbers"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Examples, Examples]:
    """The same examples in memory, and stored in another order."""
    draw = np.random.default_rng(1)
    pixels = torch.from_numpy(draw.integers(0, 256, (ROWS, 1, 10, 10), dtype=np.uint8))
    if request.param == "numbers":
        pixels = pixels.float().div(255).pow(1.1)
    targets = torch.from_numpy(draw.integers(0, 3, ROWS))
    writer = StoreCache(tmp_path, Path("x")).writer("a" * 64)
    order = draw.permutation(ROWS)
    for row in order:
        writer.add(pixels[row])
    stored = Store(writer.finish({})).rows().select(np.argsort(order))
    return Examples(pixels, targets), Examples(stored, targets)


def model(task: ImagingTask) -> torch.nn.Module:
    torch.manual_seed(5)
    return task.model(TOTALS)


def values(trained: torch.nn.Module) -> list[bytes]:
    return [value.detach().numpy().tobytes() for value in trained.state_dict().values()]


@pytest.mark.parametrize(
    "settings", ["local_epochs = 2\nbatch_size = 8", "local_steps = 5\nbatch_size = 7\nlr = 0.2"]
)
def test_ordinary_steps(both: tuple[Examples, Examples], settings: str) -> None:
    config = parse_config(f"[training]\n{settings}\n")
    found = []
    for examples in both:
        trained = model(TASK)
        outcome = train_on_batches(trained, examples, TASK, config, (3, 1, "north"))
        found.append((outcome.loss, outcome.steps, values(trained)))
    assert found[0] == found[1] and found[0][2] != values(model(TASK))


@pytest.mark.parametrize("patients", [ROWS, 11])
def test_private_steps(both: tuple[Examples, Examples], patients: int) -> None:
    """By example and by patient; several pieces to a step."""
    config = parse_config("[training]\nmicro_batch_size = 4\n")
    units = Units.of(np.arange(ROWS) % patients, 3, 0)
    schedule = Schedule(0.8, 0.5, steps=4, rounds=1, expected_units=len(units) / 2)
    found = []
    for examples in both:
        trained, table = model(PRIVATE), PrivacyTable()
        gradients = ClippedGradients(trained, PRIVATE.loss, examples, units, table, config.training)
        steps = PrivateSteps(
            gradients, len(units), schedule, table, 1.0, NoiseSource.seeded(1, "noise")
        )
        train_model(trained, steps, config, (3, 1, "north"))
        found.append(values(trained))
    assert found[0] == found[1] != values(model(PRIVATE))


def test_evaluation(both: tuple[Examples, Examples]) -> None:
    memory, stored = (evaluate_model(model(TASK), examples, TASK) for examples in both)
    assert memory.keys() == stored.keys()
    assert all(memory[key].tobytes() == stored[key].tobytes() for key in memory)


def test_large_inputs_go_through_in_pieces(tmp_path: Path) -> None:
    """32 MiB as float32: three rows of 10 MB are the most."""
    seen: list[int] = []

    class Seen(torch.nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(len(inputs))
            return inputs[:, :1].float()

    rows = torch.zeros(7, 2_600_000, dtype=torch.uint8)
    rows[:, 0] = torch.arange(7)
    outputs = model_outputs(Seen(), Examples(rows, torch.zeros(7)))
    assert seen == [3, 3, 1] and outputs[:, 0].tolist() == list(range(7))


def test_stored_inputs_are_never_loaded_at_once(both: tuple[Examples, Examples]) -> None:
    memory, stored = both
    assert torch.equal(memory.tensor(), memory.inputs)
    with pytest.raises(TaskError, match="needed in memory here; set task.store = 'memory'"):
        stored.tensor()
    part = stored.select(np.array([4, 1]))
    assert part.stored and torch.equal(part.batch(np.array([1]))[0][0], memory.inputs[1])


def test_one_batch_is_made_ahead_and_errors_come_where_it_is_due() -> None:
    asked: list[int] = []
    made = threading.Semaphore(0)

    def numbers() -> Iterator[int]:
        for number in range(4):
            asked.append(number)
            yield number

    def make(number: int) -> int:
        made.release()
        if number == 2:
            raise DataError("number 2")
        return number * number

    coming = made_ahead(make, numbers())
    assert next(coming) == 0
    assert made.acquire(timeout=10) and made.acquire(timeout=10) and asked == [0, 1]
    assert next(coming) == 1
    with pytest.raises(DataError, match="number 2"):
        next(coming)
    left = made_ahead(make, numbers())
    next(left)
    left.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("ahead")]
