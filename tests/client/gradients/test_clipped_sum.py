"""Every form against a plain loop over patients, in double precision; and the bound itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.client.gradients.by_hand import LowRank, agree, by_hand, losses
from wardround.client.gradients import (
    Clipping,
    convolutions,
    make_unit_gradients,
    per_layer,
)
from wardround.client.gradients.groups import Groups

FORMS = ("bookkeeping", "functional", "loop")
SIZE = 12
UNITS = {
    "each its own": None,
    "in order": [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
    "mixed": [3, 1, 0, 3, 1, 0, 1, 0, 3, 3, 1, 0],
    "uneven": [0, 0, 0, 0, 4, 0, 0, 0, 0, 7, 0, 0],
    "one patient": [0] * 12,
}


class Attention(nn.Module):
    """Tokens and shared positions, two heads of Linear layers, norm, mean, head."""

    def __init__(self, linear: Callable[[int], nn.Module], length: int = 6) -> None:
        super().__init__()
        self.tokens = nn.Embedding(9, 8, padding_idx=0)
        self.places = nn.Embedding(length, 8)
        self.query, self.key, self.value = linear(8), linear(8), linear(8)
        self.norm, self.out = nn.LayerNorm(8), nn.Linear(8, 3)
        self.register_buffer("numbers", torch.arange(length)[None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x) + self.places(self.numbers)
        q, k, v = (
            layer(x).unflatten(2, (2, 4)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.out(self.norm(x + mixed).mean(1))


class Twice(nn.Module):
    """One layer used three times, on different numbers of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.layer(x))
        return self.out(x.mean(1) + self.layer(x[:, :2]).sum(1) + self.layer(x[:, 0]))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense, in place": (
        lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)),
        (5,),
    ),
    "no bias": (lambda: nn.Sequential(nn.Linear(5, 3, bias=False)), (5,)),
    "sequence, in place": (
        lambda: nn.Sequential(
            nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 2), nn.Flatten(), nn.Linear(18, 3)
        ),
        (3, 3, 5),
    ),
    "conv2d": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
            nn.GroupNorm(2, 6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 4, (2, 1), dilation=2, bias=False),
            nn.InstanceNorm2d(4, affine=True),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (4, 8, 9),
    ),
    "depthwise": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, groups=4, padding="same"), nn.Flatten(), nn.LazyLinear(3)
        ),
        (4, 5, 5),
    ),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 6, 3, padding=1, padding_mode="circular"),
            nn.GELU(),
            nn.Conv1d(6, 4, 2, stride=2),
            nn.InstanceNorm1d(4, affine=True),
            nn.Flatten(),
            nn.LazyLinear(3),
        ),
        (3, 10),
    ),
    "few positions, many channels": (
        lambda: nn.Sequential(nn.Conv2d(32, 32, 2), nn.Flatten(), nn.Linear(32, 3)),
        (32, 2, 2),
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.LayerNorm((2, 6)), nn.RMSNorm(6), nn.LayerNorm(6), nn.Flatten(), nn.Linear(12, 3)
        ),
        (2, 6),
    ),
    "attention": (lambda: Attention(lambda size: nn.Linear(size, size)), ()),
    "attention with LoRA": (lambda: Attention(LowRank), ()),
    "one layer, three calls": (Twice, (3, 4)),
}


def build(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Model, inputs, targets; tokens repeat within an example and include the padding."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = make()
    inputs = torch.randn(SIZE, *shape) if shape else torch.randint(0, 5, (SIZE, 6))
    model(inputs)
    return model, inputs, torch.randint(0, 3, (SIZE,))


def tensor(units: list[int] | None) -> tuple[Tensor | None, int]:
    return (None, SIZE) if units is None else (torch.tensor(units), max(units) + 2)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("name", MODELS)
def test_book_keeping_is_a_loop_over_patients(
    name: str, units: list[int] | None, per_layer: bool
) -> None:
    model, inputs, targets = build(name)
    numbers, count = tensor(units)
    engine = make_unit_gradients(model, losses)
    found = engine.clipped_sum(inputs, targets, numbers, count, Clipping(0.7, per_layer))
    agree(found, by_hand(model, inputs, targets, units, count, 0.7, per_layer))
    torch.testing.assert_close(found.losses, losses(model(inputs), targets).detach())
    assert engine.form == "bookkeeping"


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("form", ["functional", "loop"])
@pytest.mark.parametrize("name", ["dense, in place", "conv2d", "attention with LoRA"])
def test_the_slower_forms_too(name: str, form: str, units: list[int] | None) -> None:
    model, inputs, targets = build(name)
    numbers, count = tensor(units)
    found = make_unit_gradients(model, losses, form).clipped_sum(
        inputs, targets, numbers, count, Clipping(0.7)
    )
    agree(found, by_hand(model, inputs, targets, units, count, 0.7))


@pytest.mark.parametrize("cost", [0, 10**9])
@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("name", ["sequence, in place", "conv2d", "conv1d", "dense, in place"])
def test_both_ways_to_a_norm(
    monkeypatch: pytest.MonkeyPatch, name: str, units: list[int] | None, cost: int
) -> None:
    """Gradients formed everywhere, or ghost norms everywhere; convolutions by their own backward;
    small chunks."""
    monkeypatch.setattr(per_layer, "INSTANTIATE_COST", cost)
    monkeypatch.setattr(per_layer, "MOST_PAIRED", 0)
    monkeypatch.setattr(per_layer, "MOST_FLOATS", 2000)
    monkeypatch.setattr(convolutions, "LEAST_WORK", 0 if cost else 10**9)
    monkeypatch.setattr(convolutions, "CHUNK_FLOATS", 100)
    model, inputs, targets = build(name)
    numbers, count = tensor(units)
    found = make_unit_gradients(model, losses, "bookkeeping").clipped_sum(
        inputs, targets, numbers, count, Clipping(0.7)
    )
    agree(found, by_hand(model, inputs, targets, units, count, 0.7))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=24),
    st.floats(0.01, 100.0),
    st.integers(0, 2**31),
    st.sampled_from(["dense, in place", "attention", "conv1d"]),
)
def test_any_patients_any_bound_any_order(
    units: list[int], norm: float, seed: int, name: str
) -> None:
    model, inputs, targets = build(name)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, SIZE, (len(units),), generator=generator)
    inputs, targets, numbers = inputs[rows], targets[rows], torch.tensor(units)
    engine = make_unit_gradients(model, losses, "bookkeeping")  # what auto takes: above
    found = engine.clipped_sum(inputs, targets, numbers, 8, Clipping(norm))
    agree(found, by_hand(model, inputs, targets, units, 8, norm))
    order = torch.randperm(len(units), generator=generator)
    again = engine.clipped_sum(inputs[order], targets[order], numbers[order], 8, Clipping(norm))
    torch.testing.assert_close(found.norms, again.norms, rtol=1e-4, atol=1e-5)
    for one, other in zip(found.gradients, again.gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5 * max(1.0, norm))
    size = math.sqrt(sum(float((g.double() ** 2).sum()) for g in found.gradients))
    assert size <= norm * len(set(units)) * (1 + 1e-5)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_one_patient_moves_the_sum_by_at_most_the_bound(name: str, per_layer: bool) -> None:
    model, inputs, targets = build(name)
    clipping = Clipping(1e-3, per_layer)
    for form in FORMS:
        engine = make_unit_gradients(model, losses, form)
        units = torch.zeros(SIZE, dtype=torch.int64)
        found = engine.clipped_sum(inputs, targets, units, 1, clipping)
        size = math.sqrt(sum(float((g.double() ** 2).sum()) for g in found.gradients))
        assert size <= 1e-3 * (1 + 1e-6)
        if not per_layer:
            assert size >= 1e-3 * (1 - 1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_records_that_cancel_are_clipped_too_much_rather_than_too_little(scale: float) -> None:
    """A patient's two large gradients leave a small one; a Gram matrix alone would lose it."""
    torch.manual_seed(0)
    model = nn.Linear(300, 50, bias=False)
    x = torch.randn(1, 300)
    inputs = torch.cat([scale * x, -scale * x + 0.01 * torch.randn(1, 300)])

    def linear(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.sum(1)

    engine = make_unit_gradients(model, linear, "bookkeeping")
    found = engine.clipped_sum(inputs, torch.zeros(2), torch.tensor([0, 0]), 1, Clipping(0.1))
    (gradient,) = found.gradients
    assert float(gradient.double().norm()) <= 0.1 * (1 + 1e-6)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_blocks_hold_every_record_once(units: list[int]) -> None:
    groups = Groups(torch.tensor(units), len(units), 10)
    values = torch.arange(1.0, len(units) + 1)
    sums = torch.zeros(10)
    for block in groups.blocks:
        packed = block.pack(values)
        assert packed.numel() <= max(2 * len(units), packed.shape[0])
        sums[slice(None) if block.units is None else block.units] += packed.sum(1)
    torch.testing.assert_close(sums, groups.sums(values))
