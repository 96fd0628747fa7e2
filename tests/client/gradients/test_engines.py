"""Both engines against a loop over examples by autograd, and what Opacus's is held to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import register_grad_sampler
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.layers import DPLSTM
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tests.client.gradients.by_hand import LowRank, agree, by_hand, losses
from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, functional, make_unit_gradients
from wardround.client.gradients.sampled import Sampled
from wardround.client.privacy.steps import ClippedGradients
from wardround.common.errors import TaskError
from wardround.common.privacy.schedule import Bound
from wardround.common.settings import PrivacyTable, TrainingTable
from wardround.common.tasks.base import Examples

LENGTH, WORDS = 5, 9


class Recurrent(nn.Module):
    """Tokens, a recurrent layer, head; packed: sequences end at their first 0."""

    def __init__(self, make: Callable[..., nn.Module], packed: bool = False, **more: Any) -> None:
        super().__init__()
        self.tokens = nn.Embedding(WORDS, 4, padding_idx=0)
        self.inner, self.packed = make(4, 6, **more), packed
        self.head = nn.Linear(12 if more.get("bidirectional") else 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.inner.batch_first
        given = self.tokens(x) if first else self.tokens(x).transpose(0, 1)
        if self.packed:
            lengths = (x != 0).long().cumprod(1).sum(1).clamp_min(1)
            given = pack_padded_sequence(given, lengths, batch_first=True, enforce_sorted=False)
        out, _ = self.inner(given)
        if self.packed:
            out, _ = pad_packed_sequence(out, batch_first=True)
            return self.head(out.sum(1))
        out = out if first else out.transpose(0, 1)
        return self.head(out[:, -1] + out.mean(1))


class Attending(nn.Module):
    """Tokens and shared places, torch's own attention with both kinds of masks, head."""

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(WORDS, 8), nn.Embedding(LENGTH, 8)
        self.inner, self.head = nn.MultiheadAttention(8, 2, **more), nn.Linear(8, 3)
        self.register_buffer("numbers", torch.arange(LENGTH)[None])

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places(self.numbers)
        given = h if self.inner.batch_first else h.transpose(0, 1)
        later = torch.ones(LENGTH, LENGTH).triu(1).bool()
        hidden = (x == 0) & (self.numbers > 0)
        out, _ = self.inner(given, given, given, key_padding_mask=hidden, attn_mask=later)
        return self.head((out if self.inner.batch_first else out.transpose(0, 1)).mean(1))


class Scale(nn.Module):
    """A layer of one's own, without a grad sampler."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([1.0, -0.5, 2.0, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


class Power(Scale):
    """One with a grad sampler: see ``sampler``."""

    def forward(self, x: Tensor) -> Tensor:
        return self.by * x.abs() ** 1.5


def sampler(layer: Power, given: list[Tensor], backward: Tensor) -> dict[nn.Parameter, Tensor]:
    return {layer.by: backward * given[0].abs() ** 1.5}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    register_grad_sampler(Power)(sampler)
    yield
    GradSampleHooks.GRAD_SAMPLERS.pop(Power, None)


class Tied(nn.Module):
    """Embedding and output share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.inner = nn.Embedding(3, 4), nn.Linear(4, 4)
        self.out = nn.Linear(4, 3, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.inner(self.tokens(x % 3).mean(1))))


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(False)
    return model


BOTH = ("own", "opacus")
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "mlp, in place": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)),
        (4,),
        BOTH,
    ),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.GroupNorm(2, 4), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, bias=False), nn.Flatten(), nn.Linear(4, 3),
        ),
        (2, 8, 8),
        BOTH,
    ),
    "norms": (
        lambda: nn.Sequential(
            nn.LayerNorm((2, 6)), nn.InstanceNorm1d(2, affine=True), nn.RMSNorm(6),
            nn.Flatten(), nn.Linear(12, 3),
        ),
        (2, 6),
        BOTH,
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(WORDS, 4, 0), nn.Flatten(), nn.Linear(20, 3)),
        (),
        BOTH,
    ),
    "lstm": (lambda: Recurrent(nn.LSTM, batch_first=True), (), BOTH),
    "lstm of two layers, both ways": (
        lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True), (), ("opacus",)
    ),
    "packed lstm": (
        lambda: Recurrent(nn.LSTM, True, num_layers=2, batch_first=True), (), ("opacus",)
    ),
    "gru, packed both ways": (
        lambda: Recurrent(nn.GRU, True, bidirectional=True, batch_first=True), (), ("opacus",)
    ),
    "rnn": (
        lambda: Recurrent(nn.RNN, nonlinearity="relu", bias=False, batch_first=True),
        (),
        ("opacus",),
    ),
    "Opacus's own lstm": (lambda: Recurrent(DPLSTM, batch_first=True), (), ("opacus",)),
    "attention": (lambda: Attending(batch_first=True), (), BOTH),
    "attention, length first": (lambda: Attending(add_bias_kv=True), (), BOTH),
    "attention with zeros": (
        lambda: Attending(batch_first=True, bias=False, add_zero_attn=True), (), ("opacus",)
    ),
    "transformer": (
        lambda: nn.Sequential(
            nn.Embedding(WORDS, 8),
            nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True),
            nn.Flatten(),
            nn.Linear(40, 3),
        ),
        (),
        BOTH,
    ),
    "LoRA": (lambda: nn.Sequential(LowRank(4), nn.Tanh(), nn.Linear(4, 3)), (4,), BOTH),
    "frozen": (frozen, (4,), BOTH),
    "tied": (Tied, (), BOTH),
    "layer of one's own": (
        lambda: nn.Sequential(nn.Linear(4, 4), Scale(), nn.Tanh(), nn.Linear(4, 3)), (4,), BOTH
    ),
    "layer with a sampler": (
        lambda: nn.Sequential(nn.Linear(4, 4), Power(), nn.Tanh(), nn.Linear(4, 3)), (4,), BOTH
    ),
}  # fmt: skip
CASES = [(name, engine) for name, (_, _, engines) in MODELS.items() for engine in engines]


def build(name: str, size: int = 9, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """The model, inputs and targets; tokens repeat and end early."""
    torch.manual_seed(seed)
    make, shape, _ = MODELS[name]
    model = make()
    inputs = torch.randn(size, *shape) if shape else torch.randint(0, WORDS, (size, LENGTH))
    return model, inputs, torch.randint(0, 3, (size,))


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_an_engine_gives_the_sums_of_a_loop(name: str, engine: str) -> None:
    """Each example its own unit, and patients of several rows in any order, one without; flat and
    per layer."""
    model, inputs, targets = build(name)
    units = [3, 1, 0, 3, 1, 0, 1, 0, 3]
    gradients = make_unit_gradients(model, losses, engine)
    for numbers, count, per_layer in ((None, 9, False), (units, 5, False), (units, 5, True)):
        tensor = None if numbers is None else torch.tensor(numbers)
        found = gradients.clipped_sum(inputs, targets, tensor, count, Clipping(0.5, per_layer))
        wanted = by_hand(model, inputs, targets, numbers, count, 0.5, per_layer)
        agree(found, wanted)
        for one, other in zip(found.gradients, wanted[0], strict=True):
            torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5)
    assert (gradients.form == "opacus") == (engine == "opacus")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([name for name, engine in CASES if engine == "opacus"]),
    st.lists(st.integers(0, 4), max_size=8),
    st.floats(0.01, 10.0),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_samples_are_right_for_any_batch(
    name: str, units: list[int], norm: float, per_layer: bool, seed: int
) -> None:
    """Of no row, one, a few, of any patients."""
    register_grad_sampler(Power)(sampler)
    model, inputs, targets = build(name, len(units), seed)
    wanted = by_hand(model, inputs, targets, units, 6, norm, per_layer)
    numbers = torch.tensor(units, dtype=torch.int64)
    found = Sampled(model, losses).clipped_sum(
        inputs, targets, numbers, 6, Clipping(norm, per_layer)
    )
    for one, other in zip(found.gradients, wanted[0], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-3, atol=1e-5 * max(1.0, norm))


def test_a_patient_s_rows_are_added_up_across_what_memory_takes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, inputs, targets = build("packed lstm", 12)
    units = [0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 3, 3]
    dimension = sum(p.numel() for p in model.parameters())
    monkeypatch.setattr(functional, "MOST_FLOATS", 2 * dimension)
    gradients = Sampled(model, losses)
    found = gradients.clipped_sum(inputs, targets, torch.tensor(units), 4, Clipping(0.3))
    agree(found, by_hand(model, inputs, targets, units, 4, 0.3))


def test_the_model_stays_as_it_was_and_what_it_becomes_is_followed() -> None:
    model, inputs, targets = build("transformer")
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    gradients = make_unit_gradients(model, losses, "opacus")
    ask = (inputs, targets, None, 9, Clipping(0.5))
    first, again = gradients.clipped_sum(*ask), gradients.clipped_sum(*ask)
    assert all(map(torch.equal, first.gradients, again.gradients))
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks and not module._backward_hooks
    for p in model.parameters():
        assert p.grad is None and not vars(p)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    agree(gradients.clipped_sum(*ask), by_hand(model, inputs, targets, None, 9, 0.5))


def test_dropout_between_recurrent_layers_is_not_within_the_recurrence() -> None:
    """Opacus's own replacement drops states on their way to the next position: over many draws the
    first layer, whose output alone is dropped, has the same losses as torch's."""
    torch.manual_seed(0)
    model = Recurrent(nn.LSTM, batch_first=True, num_layers=2, dropout=0.5)
    inputs, targets = torch.randint(1, WORDS, (1, LENGTH)), torch.tensor([1])
    inputs, targets = inputs.expand(600, -1), targets.expand(600)
    found = Sampled(model, losses).clipped_sum(inputs, targets, None, 600, Clipping(1.0)).losses
    wanted = losses(model(inputs), targets).detach()
    error = float((found.var() + wanted.var()).sqrt()) / 600**0.5
    assert float(wanted.std()) > 0.01 and abs(float(found.mean() - wanted.mean())) < 4 * error
    assert 0.9 < float(found.std() / wanted.std()) < 1.1


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "adaptive"])
def test_patients_sums_are_the_same_whatever_the_engine(clipping: str) -> None:
    """As a hospital's round asks for them: of the drawn patients, with the quantile coordinate."""
    model, inputs, targets = build("lstm", 40)
    units = Units.of(np.repeat(np.arange(9), [1, 9, 2, 3, 5, 1, 4, 12, 3]), 8, 0)
    bound = Bound(0.2, 0.1 if clipping == "adaptive" else 0.0)
    drawn = np.array([1, 3, 7, 8])
    totals = []
    for engine, rows_at_once in (("own", None), ("opacus", 12), ("auto", 3)):  # 1, 3 and 4 pieces
        table = PrivacyTable(unit="patient", noise_multiplier=1.0, engine=engine, clipping=clipping)
        pieces = TrainingTable(micro_batch_size=rows_at_once)
        sums = ClippedGradients(model, losses, Examples(inputs, targets), units, table, pieces)
        totals.append(sums.total(drawn, bound))
        assert not sums.total(drawn[:0], bound).any()  # nobody was drawn
    rows = np.concatenate([units.rows[units.starts[i] : units.starts[i + 1]] for i in drawn])
    owner = np.repeat(np.arange(4), np.diff(units.starts)[drawn]).tolist()
    wanted, norms = by_hand(
        model, inputs[rows], targets[rows], owner, 4, 0.2, clipping == "per_layer"
    )
    expected = torch.cat([g.flatten() for g in wanted]).numpy()
    if clipping == "adaptive":
        expected = np.append(expected, 0.1 * sum(0.5 if n <= 0.2 else -0.5 for n in norms))
    for total in totals:
        np.testing.assert_allclose(total, expected, atol=1e-6)


# --- what is told -------------------------------------------------------------------------------
def test_auto_takes_opacus_for_recurrent_layers_and_says_so_once(caplog) -> None:
    model, inputs, targets = build("gru, packed both ways")
    with caplog.at_level(logging.WARNING, "wardround.client"):
        for _ in range(3):  # rounds
            gradients = make_unit_gradients(model, losses)
            gradients.clipped_sum(inputs, targets, None, 9, Clipping(0.5))
    assert gradients.form == "opacus"
    (told,) = [one.message for one in caplog.records if "slower form" in one.message]
    assert told.startswith("inner (GRU) has no book-keeping form;") and told.endswith("(opacus)")


@pytest.mark.parametrize("name", ["packed lstm", "gru, packed both ways", "rnn"])
def test_own_says_how_what_it_can_not_do_is_done(name: str) -> None:
    model, inputs, targets = build(name)
    with pytest.raises(TaskError, match=r"inner .* form; vmap can't .*engine = 'opacus'") as said:
        make_unit_gradients(model, losses, "own").clipped_sum(
            inputs, targets, None, 9, Clipping(0.5)
        )
    assert "\n" not in str(said.value)


class Two(nn.Module):
    """A layer of one's own that is given two things."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return x * self.by + other


class GivenTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pair, self.head = Two(), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pair(x, x))


class Outside(nn.Module):
    """The weight is used by its layer's call, and again by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x) + F.linear(x, self.layer.weight.detach() * 0))


class Used(Outside):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x) + 1e-2 * F.linear(x, self.layer.weight))


class Centred(Outside):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x - x.mean(0)))


class Places(Outside):
    """The batch is the second axis inside."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x[None].expand(2, -1, -1))[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (GivenTwo, [r"pair (Two) has no grad sampler", "docs/tasks.md"]),
        (Used, ["parameter layer.weight don't add up to its gradient"]),
        (Centred, ["mixes the examples"]),
        (Places, ["2 samples of parameter layer.weight for a batch of", "batch first"]),
    ],
)
def test_opacus_refuses_what_it_would_get_wrong(
    make: Callable[[], nn.Module], words: list[str]
) -> None:
    torch.manual_seed(0)
    model, inputs, targets = make(), torch.randn(9, 4), torch.randint(0, 3, (9,))
    ask = (inputs, targets, None, 9, Clipping(0.5))
    with pytest.raises(TaskError) as said:
        make_unit_gradients(model, losses, "opacus").clipped_sum(*ask)
    text = str(said.value)
    assert all(one in text for one in words) and "engine = 'auto'" in text and "\n" not in text
    found = make_unit_gradients(model, losses, "auto").clipped_sum(*ask)
    alone = make_unit_gradients(model, losses, "loop").clipped_sum(*ask)
    for one, other in zip(found.gradients, alone.gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda found: 2 * found, "don't add up"),
        (lambda found: found.mean(0).expand_as(found).clone(), "a grad sampler is wrong"),
        (lambda found: found.roll(1, 0), "a grad sampler is wrong"),
    ],
)
def test_a_wrong_sampler_is_found(wrong: Callable[[Tensor], Tensor], words: str) -> None:
    """Twice the gradient; the batch's share for everyone; another example's."""

    def registered(layer: Power, given: Any, backward: Tensor) -> dict[nn.Parameter, Tensor]:
        return {layer.by: wrong(sampler(layer, given, backward)[layer.by])}

    register_grad_sampler(Power)(registered)
    model, inputs, targets = build("layer with a sampler")
    with pytest.raises(TaskError, match=words):
        make_unit_gradients(model, losses, "opacus").clipped_sum(
            inputs, targets, None, 9, Clipping(0.5)
        )


def test_a_sampler_that_is_wrong_for_some_batches_ends_a_later_one() -> None:
    """Correct while it is looked at, then twice the gradient for large inputs."""

    def registered(layer: Power, given: Any, backward: Tensor) -> dict[nn.Parameter, Tensor]:
        factor = 2.0 if float(given[0].abs().max()) > 50 else 1.0
        return {layer.by: factor * sampler(layer, given, backward)[layer.by]}

    register_grad_sampler(Power)(registered)
    model, inputs, targets = build("layer with a sampler")
    gradients = make_unit_gradients(model, losses, "opacus")
    gradients.clipped_sum(inputs, targets, None, 9, Clipping(0.5))
    with pytest.raises(TaskError, match="don't add up"):
        gradients.clipped_sum(100 * inputs, targets, None, 9, Clipping(0.5))


def test_opacus_is_imported_without_the_root_logger_that_it_sets_up(monkeypatch) -> None:
    """A notebook's records would all be printed twice."""
    for name in [one for one in sys.modules if one.partition(".")[0] == "opacus"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "wardround.client.gradients.sampled")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    gradients = make_unit_gradients(nn.Linear(2, 2), lambda o, t: o.sum(1), "opacus")
    assert gradients.form == "opacus" and "opacus.utils.module_utils" in sys.modules
    assert logging.getLogger().handlers == []
