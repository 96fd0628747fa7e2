"""Code that mixes the examples of a batch only while it trains, and buffers that keep them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.common.errors import TaskError

SIZE, NORM = 16, 0.01


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


class Standardised(nn.Module):
    """Batch statistics while it trains, nothing in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() if self.training else x


class Mixture(nn.Module):
    """Mixes each row with the one before, while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.6 * x + 0.4 * x.roll(1, 0) if self.training else x


class Following(nn.Module):
    """Subtracts a mean that follows the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        out = x - self.mean
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return out


class Counting(nn.Module):
    """Counts its calls and adds up what they held, without using it, and drops some numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.total += x.detach().sum(0)
        return F.dropout(x, 0.5, self.training)


def build(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), layer, nn.ReLU(), nn.Linear(8, 3))


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(SIZE, 6, generator=generator)
    return inputs, torch.randint(0, 3, (SIZE,), generator=generator)


@pytest.mark.parametrize("layer", [Standardised, Mixture])
def test_one_example_moves_the_sum_by_its_bound_although_training_mixes_them(
    layer: Callable[[], nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the model was proven right in evaluation mode before."""
    model, (inputs, targets) = build(layer()), batch()
    engine = make_unit_gradients(model.eval(), losses)
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert engine.form == "bookkeeping"
    model.train()
    sums = []
    with caplog.at_level(logging.WARNING, "wardround.client"):
        for first in (1.0, 1000.0):
            inputs[0] = first
            found = engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
            sums.append(torch.cat([one.flatten() for one in found.gradients]))
    assert float((sums[0] - sums[1]).norm()) <= 2 * NORM * (1 + 1e-4)
    assert "mixes the examples of a batch" in caplog.text


@pytest.mark.parametrize("form", [nn.Linear, nn.Bilinear])
def test_a_buffer_that_keeps_what_a_batch_held_is_named(form: type[nn.Module]) -> None:
    """Whichever form of gradients the model would take."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = build(Following())
            self.out = form(3, 3) if form is nn.Linear else form(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            return self.out(x) if form is nn.Linear else self.out(x, x)

    model, (inputs, targets) = Model(), batch()
    engine = make_unit_gradients(model, losses)
    with pytest.raises(TaskError, match=r"buffer 'body\.1\.mean'.*nn\.GroupNorm") as refused:
        engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert "\n" not in str(refused.value)
    assert not model.body[1].mean.any()


def test_dropout_and_a_buffer_that_nothing_depends_on_are_no_mixing_and_left_as_they_were() -> None:
    model, (inputs, targets) = build(Counting()), batch()
    counter = model[1].calls
    engine = make_unit_gradients(model, losses)
    torch.manual_seed(5)
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert engine.form == "bookkeeping"
    assert model[1].calls is counter
    looked = int(counter)
    after_first = torch.rand(1)
    torch.manual_seed(5)
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert int(counter) == looked + 1  # a trusted model is not looked at again
    torch.testing.assert_close(torch.rand(1), after_first)


def test_equal_examples_prove_nothing() -> None:
    model, (inputs, targets) = build(Mixture()), batch()
    engine = make_unit_gradients(model, losses)
    alike = inputs[:1].repeat(SIZE, 1), targets[:1].repeat(SIZE)
    engine.clipped_sum(*alike, None, SIZE, Clipping(NORM))
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert engine.form == "functional"
