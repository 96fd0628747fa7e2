"""The compiled forward pass in place, and what happens where there is no compiler."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.training.batches import batches, on_device
from wardround.client.training.evaluation import model_outputs
from wardround.client.training.steps import train_on_batches
from wardround.common.rng import client_keys
from wardround.common.settings import TrainingTable

SEED = (7, 2, "a")


@pytest.fixture
def compiled_by(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a function in the place of torch's compiler: it gets the model's call."""

    def put(make: Any) -> None:
        def compile(self: nn.Module, **options: Any) -> None:
            self._compiled_call_impl = make(self._call_impl)

        monkeypatch.setattr(nn.Module, "compile", compile)

    return put


def test_steps_and_names_stay(compiled_by: Any) -> None:
    calls: list[int] = []

    def make(call: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append(len(args[0]))
            return call(*args, **kwargs)

        return forward

    compiled_by(make)
    torch.manual_seed(0)
    model = residual(dropout=0.2)
    plain, names = copy.deepcopy(model), list(model.state_dict())
    for _ in range(2):
        train_on_batches(model, rows(), Classes(), configured(compile=True), SEED)
        train_on_batches(plain, rows(), Classes(), configured(), SEED)
    assert torch.equal(vector(model), vector(plain)) and list(model.state_dict()) == names
    assert calls == 2 * [8, 8, 7]
    training = TrainingTable(compile=True)
    assert torch.equal(model_outputs(model, rows(), training), model_outputs(plain, rows()))
    copied = copy.deepcopy(model)  # a teacher isn't a compiled model's second name
    assert copied._compiled_call_impl is None


def test_without_a_compiler_it_goes_on_and_says_so_once(
    compiled_by: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def make(call: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            torch.rand(3)  # what it draws before it fails is drawn again
            raise RuntimeError("no C++ compiler\nwas found")

        return forward

    compiled_by(make)
    torch.manual_seed(0)
    model = residual(dropout=0.2)
    plain = copy.deepcopy(model)
    with caplog.at_level(logging.WARNING, "wardround.client"):
        for _ in range(2):
            train_on_batches(model, rows(), Classes(), configured(compile=True), SEED)
            train_on_batches(plain, rows(), Classes(), configured(), SEED)
    assert torch.equal(vector(model), vector(plain))
    (record,) = caplog.records
    assert "the model is not compiled: no C++ compiler was found" in record.getMessage()


def test_a_real_graph_gives_the_same_steps() -> None:
    """Through torch's own tracer, without generated code."""
    torch.manual_seed(0)
    model = residual(2)
    plain = copy.deepcopy(model)
    model.compile(dynamic=True, backend="eager")
    train_on_batches(model, rows(), Classes(), configured(compile=True), SEED)
    train_on_batches(plain, rows(), Classes(), configured(), SEED)
    torch.testing.assert_close(vector(model), vector(plain), rtol=1e-6, atol=1e-7)


def test_batches_come_as_they_are_drawn() -> None:
    data = rows()
    table = TrainingTable(batch_size=8, local_epochs=2)
    drawn = list(batches(23, table, client_keys(7, "batches", 2, ["a"])))
    found: list[tuple[Tensor, Tensor]] = list(on_device(data, drawn, "cpu"))
    assert len(found) == len(drawn) == 6
    for (inputs, targets), part in zip(found, drawn, strict=True):
        assert torch.equal(inputs, data.inputs[part]) and torch.equal(targets, data.targets[part])
