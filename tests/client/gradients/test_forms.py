"""Models that book-keeping can't do take a slower form; what can't be private is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients import ClippedSum, Clipping, make_unit_gradients
from wardround.common.errors import TaskError

FORMS = ("bookkeeping", "functional", "loop")


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def same(one: ClippedSum, other: ClippedSum) -> None:
    for a, b in zip(one.gradients, other.gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


# --- models that book-keeping can't do --------------------------------------------------------
class Tied(nn.Module):
    """Embedding and output share their weight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.tokens(x).mean(1))


class UsedOutside(nn.Module):
    """The weight is used by its layer's call, and again by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(x).mean(1) @ self.tokens.weight.T


class OwnParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.randn(1, 1, 4))
        self.tokens, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        return self.out(torch.cat([self.start.expand(len(x), 1, 4), x], 1).tanh().sum(1))


class Places(nn.Module):
    """Positions without an axis for the batch: T x 4."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places, self.out = nn.Embedding(5, 4), nn.Embedding(6, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out((self.tokens(x) + self.places(torch.arange(x.shape[1]))).tanh().sum(1))


class LengthFirst(nn.Module):
    """The batch is the second axis inside."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.inner, self.out = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.tokens(x).transpose(0, 1)).tanh().sum(0))


class Centred(nn.Module):
    """Every example's output depends on the others."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x).sum(1)
        return self.out(x - 0.5 * x.mean(0))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.inner = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.tokens(x))[0][:, -1])


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        return self.out(self.inner(x, x, x, need_weights=False)[0].mean(1))


class Branches(nn.Module):
    """Control flow by value."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.out = nn.Embedding(5, 4), nn.Bilinear(4, 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = [self.tokens(row).sum(0) * (2 if int(row.sum()) % 2 else 1) for row in x]
        return self.out(torch.stack(rows), torch.stack(rows))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Tied, r"out \(Linear\) shares its weight with tokens \(Embedding\)"),
        (UsedOutside, "tokens.weight is used outside"),
        (OwnParameter, r"the model \(OwnParameter\) has no book-keeping form"),
        (Places, r"places \(Embedding\) was given a tensor of shape \(3,\)"),
        (LengthFirst, r"inner \(Linear\) was given a tensor of shape \(3, "),
        (Centred, None),
        (Recurrent, r"inner \(LSTM\) has no"),
        (Fused, r"inner \(MultiheadAttention\) has no"),
        (Branches, r"out \(Bilinear\) has no"),
    ],
)
def test_other_models_take_a_slower_form_and_say_so(
    make: Callable[[], nn.Module], reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the length is the number of examples, so that shapes tell nothing."""
    torch.manual_seed(0)
    model, size = make(), 8
    targets, units = torch.randint(0, 5, (size,)), torch.tensor([0, 1, 2, 2, 3, 3, 3, 1])
    inputs = torch.randint(0, 5, (size, 3))
    with caplog.at_level(logging.WARNING, "wardround.client"):
        engine = make_unit_gradients(model, losses)
        found = engine.clipped_sum(inputs, targets, units, 4, Clipping(0.3))
    assert engine.form in ("functional", "opacus", "loop") and "slower form" in caplog.text
    if make is Centred:  # each example is alone, so that its part is its own
        parts = [
            make_unit_gradients(model, losses, "loop").clipped_sum(
                inputs[i : i + 1], targets[i : i + 1], None, 1, Clipping(1e6)
            )
            for i in (0,)
        ]
        assert float(found.norms[0]) == pytest.approx(float(parts[0].norms[0]), rel=1e-4)
        assert "mixes the examples" in caplog.text
        return
    loop = make_unit_gradients(model, losses, "loop")
    same(found, loop.clipped_sum(inputs, targets, units, 4, Clipping(0.3)))
    with pytest.raises(TaskError, match=reason) as refused:
        make_unit_gradients(model, losses, "bookkeeping").clipped_sum(
            inputs, targets, units, 4, Clipping(0.3)
        )
    assert "use form 'auto'" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("make", [Places, LengthFirst])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_length_that_equals_the_batch_deceives_nobody(
    make: Callable[[], nn.Module], size: int
) -> None:
    torch.manual_seed(0)
    model, targets = make(), torch.randint(0, 5, (size,))
    inputs = torch.randint(0, 5, (size, size))
    found = make_unit_gradients(model, losses).clipped_sum(
        inputs, targets, None, size, Clipping(0.3)
    )
    loop = make_unit_gradients(model, losses, "loop")
    same(found, loop.clipped_sum(inputs, targets, None, size, Clipping(0.3)))


# --- refusals ---------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["auto", "own", "opacus", *FORMS])
@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.BatchNorm1d(4), ["1 (BatchNorm1d)", "mixes", "nn.GroupNorm"]),
        (nn.SyncBatchNorm(4), ["1 (SyncBatchNorm)", "nn.LayerNorm"]),
        (nn.InstanceNorm1d(4, track_running_stats=True), ["1 (InstanceNorm1d)", "=False"]),
        (nn.Embedding(4, 4, max_norm=1.0), ["1 (Embedding)", "max_norm", "leave"]),
        (nn.Embedding(4, 4, scale_grad_by_freq=True), ["1 (Embedding)", "scale_grad_by_freq"]),
    ],
)
def test_layers_that_cannot_be_private_are_named_with_the_mend(
    form: str, layer: nn.Module, words: list[str]
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 2))
    with pytest.raises(TaskError) as refused:
        make_unit_gradients(model, losses, form)
    assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


def test_batch_normalisation_is_refused_when_it_starts_to_train() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    engine = make_unit_gradients(model, losses)
    inputs, targets = torch.randn(2, 3), torch.tensor([0, 1])
    engine.clipped_sum(inputs, targets, None, 2, Clipping(1.0))
    model.train()
    with pytest.raises(TaskError, match=r"1 \(BatchNorm1d\)"):
        engine.clipped_sum(inputs, targets, None, 2, Clipping(1.0))
