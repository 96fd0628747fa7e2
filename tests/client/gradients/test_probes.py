"""Code that mixes the examples of a batch only while it trains, and buffers that keep them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wardround.client.gradients import Clipping, UnitGradients, make_unit_gradients
from wardround.client.gradients import make as making
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
    """Counts its calls and remembers what it was last given, unused, and drops numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen["last"], self.seen["calls"] = x, self.seen.get("calls", 0) + 1
        return F.dropout(x, 0.5, self.training)


class Attribute(nn.Module):
    """Keeps something of each batch, in a number, a list, an array or another object; without using
    it, or by a mean that the next batch is moved by."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.number, self.rows = kind, 0.0, list[float]()
        self.array, self.other = np.zeros(3), SimpleNamespace(total=0.0)

    def forward(self, x: Tensor) -> Tensor:
        mean = float(x.detach().mean())
        out = x - self.number
        if self.kind == "number":
            self.number = 0.9 * self.number + 0.1 * mean
        elif self.kind == "last":
            self.number = 1e-3 * mean
        elif self.kind == "rows":
            self.rows = [*self.rows, mean][-50:]
        elif self.kind == "array":
            self.array[0] += mean
        else:
            self.other.total += mean
        return out


class Sized(nn.Module):
    """Mixes rows at some sizes of a batch only."""

    def __init__(self, mixes: Callable[[int], bool], way: str = "mean") -> None:
        super().__init__()
        self.mixes, self.way = mixes, way

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.mixes(len(x)):
            return x
        if self.way == "backward":  # the same outputs, other gradients
            return x + x.mean(0) - x.mean(0).detach()
        other = {"mean": x.mean(0), "first": x[:1], "next": x.roll(1, 0), "size": x / len(x)}
        return x - other[self.way]


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


def test_dropout_counting_and_the_last_batch_are_no_mixing_and_left_as_they_were() -> None:
    model, (inputs, targets) = build(Counting()), batch()
    counter = model[1].calls
    engine = make_unit_gradients(model, losses)
    torch.manual_seed(5)
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert engine.form == "bookkeeping"
    assert model[1].calls is counter and int(counter) == 1
    after_first = torch.rand(1)
    torch.manual_seed(5)
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert int(counter) == 2
    torch.testing.assert_close(torch.rand(1), after_first)


def test_equal_examples_prove_nothing() -> None:
    model, (inputs, targets) = build(Mixture()), batch()
    engine = make_unit_gradients(model, losses)
    alike = inputs[:1].repeat(SIZE, 1), targets[:1].repeat(SIZE)
    engine.clipped_sum(*alike, None, SIZE, Clipping(NORM))
    engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert engine.form == "functional"


def moved(engine: UnitGradients, inputs: Tensor, targets: Tensor, units: Tensor | None) -> float:
    """How far the sum moves when the first unit goes, over the clipping norm."""
    sums = []
    for start in (0, 1):
        rows = torch.arange(len(targets)) if units is None else torch.nonzero(units >= start)[:, 0]
        rows = rows[start:] if units is None else rows
        own = None if units is None else units[rows] - start
        count = len(rows) if own is None else int(own.max()) + 1
        found = engine.clipped_sum(inputs[rows], targets[rows], own, count, Clipping(NORM))
        sums.append(torch.cat([one.flatten() for one in found.gradients]))
    return float((sums[0] - sums[1]).norm()) / NORM


@settings(max_examples=25, deadline=None)
@given(
    threshold=st.integers(0, 30),
    below=st.booleans(),
    way=st.sampled_from(["mean", "first", "next", "size", "backward"]),
    rows=st.integers(5, 40),
    patients=st.booleans(),
)
def test_one_unit_moves_the_sum_by_its_bound_whatever_sizes_a_model_mixes_at(
    threshold: int, below: bool, way: str, rows: int, patients: bool
) -> None:
    def mixes(size: int) -> bool:
        return (size <= threshold) == below and size > 1

    model = build(Sized(mixes, way)).train()
    generator = torch.Generator().manual_seed(rows)
    inputs = torch.randn(rows, 6, generator=generator)
    inputs[0] = 30.0
    targets = torch.randint(0, 3, (rows,), generator=generator)
    units = torch.arange(rows) // 3 if patients else None
    engine = make_unit_gradients(model, losses)
    assert moved(engine, inputs, targets, units) <= 1 + 1e-3


def test_a_model_that_mixes_above_eight_rows_moved_the_sum_by_more_than_its_bound() -> None:
    """What book-keeping alone does with it: 9.6 times the bound."""
    model, (inputs, targets) = build(Sized(lambda size: size > 8)).train(), batch()
    inputs[0] = 50.0
    trusting = make_unit_gradients(model, losses, "bookkeeping")
    assert moved(trusting, inputs, targets, None) > 2
    engine = make_unit_gradients(model, losses)
    assert moved(engine, inputs, targets, None) <= 1 + 1e-4 and engine.form == "functional"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("number", "number"),
        ("last", "number"),
        ("rows", r"rows\[0\]"),
        ("array", "array"),
        ("other", r"other\.total"),
    ],
)
def test_an_attribute_that_keeps_what_a_batch_held_is_named(kind: str, name: str) -> None:
    model, (inputs, targets) = build(Attribute(kind)).train(), batch()
    engine = make_unit_gradients(model, losses)
    with pytest.raises(TaskError, match=rf"attribute '1\.{name}' of the model.*keeps something"):
        engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert model[1].number == 0.0 and not model[1].rows


def test_what_a_loss_keeps_is_seen_although_it_is_no_part_of_the_model() -> None:
    kept = {"mean": 0.0}

    def centred(outputs: Tensor, targets: Tensor) -> Tensor:
        found = losses(outputs - kept["mean"] * outputs, targets)
        kept["mean"] = 0.9 * kept["mean"] + 0.1 * float(found.detach().mean())
        return found

    model, (inputs, targets) = build(nn.Tanh()), batch()
    engine = make_unit_gradients(model, centred)
    with pytest.raises(TaskError, match="something outside the attributes"):
        engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))


def test_a_parameter_that_a_forward_pass_changes_is_named() -> None:
    class Book(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codes = nn.Parameter(torch.zeros(8), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            self.codes.data.lerp_(x.detach().mean(0), 0.1)
            return x - self.codes

    model, (inputs, targets) = build(Book()), batch()
    engine = make_unit_gradients(model, losses)
    with pytest.raises(TaskError, match=r"parameter '1\.codes' is changed"):
        engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
    assert not model[1].codes.any()


@pytest.mark.parametrize("what", ["mixes", "keeps"])
def test_what_begins_later_ends_the_round(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that behaves while it is examined: one batch of so many is looked at again."""
    monkeypatch.setattr(making, "EVERY", 4)
    honest = [True]

    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torch.zeros(8)

        def forward(self, x: Tensor) -> Tensor:
            if honest[0]:
                return x
            if what == "mixes":
                return x - x.mean(0)
            out = x - self.mean
            self.mean = x.detach().mean(0)
            return out

    model, (inputs, targets) = build(Later()).train(), batch()
    engine = make_unit_gradients(model, losses)

    def step() -> Tensor:
        found = engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
        return torch.cat([one.flatten() for one in found.gradients])

    sums = [step() for _ in range(9)]  # looked at twice, which changes nothing
    assert all(torch.equal(one, sums[0]) for one in sums)
    honest[0] = False
    with pytest.raises(TaskError, match=f"{what} .*privacy.unit = 'hospital'"):
        for _ in range(4):
            step()


def test_looking_again_draws_no_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with comparisons is the run without."""
    inputs, targets = batch()
    ends = []
    for every in (2, 10**9):
        monkeypatch.setattr(making, "EVERY", every)
        engine = make_unit_gradients(build(Counting()).train(), losses)
        torch.manual_seed(3)
        for _ in range(5):
            found = engine.clipped_sum(inputs, targets, None, SIZE, Clipping(NORM))
        ends.append((found.gradients[0], torch.rand(3)))
    assert torch.equal(ends[0][0], ends[1][0]) and torch.equal(ends[0][1], ends[1][1])


def test_a_larger_batch_than_any_before_is_looked_at_before_it_is_used() -> None:
    model = build(Sized(lambda size: size > 40)).train()
    engine = make_unit_gradients(model, losses)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 6, generator=generator)
    targets = torch.randint(0, 3, (64,), generator=generator)
    engine.clipped_sum(inputs[:8], targets[:8], None, 8, Clipping(NORM))
    assert engine.form == "bookkeeping"
    inputs[0] = 50.0
    assert moved(engine, inputs, targets, None) <= 1 + 1e-4 and engine.form == "functional"


class Trimmed(nn.Module):
    """Cuts a batch to its longest row, as tokenised texts are, and drops numbers: longer company
    draws more of them."""

    def __init__(self, mixes: bool = False) -> None:
        super().__init__()
        self.head, self.mixes = nn.Linear(1, 3), mixes

    def forward(self, x: Tensor) -> Tensor:
        longest = int((x != 0).sum(1).max())
        x = F.dropout(x[:, :longest], 0.3, self.training).sum(1, keepdim=True)
        return self.head(x - x.mean(0) if self.mixes and self.training else x)


@pytest.mark.parametrize("mixes", [False, True])
def test_other_draws_in_longer_company_are_no_mixing(mixes: bool) -> None:
    torch.manual_seed(4)
    lengths = torch.arange(1, SIZE + 1)
    x = torch.rand(SIZE, SIZE) + 0.5
    x = torch.where(torch.arange(SIZE)[None] < lengths[:, None], x, 0.0)
    engine = make_unit_gradients(Trimmed(mixes), losses)
    assert engine.form == "bookkeeping"
    engine.clipped_sum(x, torch.arange(SIZE) % 3, None, SIZE, Clipping(1.0))
    assert (engine.form == "bookkeeping") == (not mixes)
