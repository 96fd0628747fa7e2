"""Odd batches and bad records; and what becomes of the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.client.gradients import ClippedSum, Clipping, make_unit_gradients
from wardround.common.errors import TaskError

FORMS = ("bookkeeping", "functional", "loop")
BAD = (math.nan, math.inf, -math.inf)


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs[:, 0] - targets) ** 2 / 2


def same(one: ClippedSum, other: ClippedSum, rtol: float = 1e-3) -> None:
    for a, b in zip(one.gradients, other.gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-5)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "sequence": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2), nn.Flatten(), nn.Linear(14, 3)),
        (7, 4),
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv1d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(20, 3)
        ),
        (2, 7),
    ),
}


# --- records ----------------------------------------------------------------------------------
@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("patients", [False, True])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_bad_record_adds_nothing_and_spoils_nothing(
    name: str, form: str, bad: float, patients: bool, per_layer: bool
) -> None:
    """Its patient is left out whole; the others' sum is what it is without that patient."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, targets = make(), torch.randint(0, 3, (6,))
    inputs = torch.randn(6, *shape)
    inputs[2].view(-1)[0] = bad
    units = torch.tensor([0, 2, 1, 1, 2, 0]) if patients else None
    engine = make_unit_gradients(model, losses, form)
    clipping = Clipping(0.5, per_layer)
    found = engine.clipped_sum(inputs, targets, units, 3 if patients else 6, clipping)
    rest = torch.tensor([0, 1, 4, 5] if patients else [0, 1, 3, 4, 5])
    others = torch.tensor([0, 1, 1, 0]) if patients else None
    wanted = engine.clipped_sum(inputs[rest], targets[rest], others, 2 if patients else 5, clipping)
    same(found, wanted)
    gone = 1 if patients else 2
    assert found.dropped == 1 and found.norms[gone] == math.inf
    assert torch.isfinite(found.norms).sum() == len(found.norms) - 1


@pytest.mark.parametrize("large", [1e15, 1e25, 3e38])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_a_huge_record_stays_within_the_bound(name: str, form: str, large: float) -> None:
    """Whether its gradient overflows or not."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    inputs = torch.randn(2, *shape)
    inputs[0].view(-1)[0] = large
    found = make_unit_gradients(make(), losses, form).clipped_sum(
        inputs, torch.tensor([0, 1]), torch.tensor([0, 0]), 1, Clipping(0.5)
    )
    size = torch.cat([g.double().flatten() for g in found.gradients]).norm()
    assert float(size) <= 0.5 * (1 + 1e-6) and not torch.isnan(found.norms).any()
    assert found.dropped == int(found.norms[0] == math.inf)


@pytest.mark.parametrize("form", FORMS)
def test_an_infinite_loss_is_dropped_although_its_activations_are_finite(form: str) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 1), torch.randn(3, 3)
    targets = torch.tensor([0.0, math.inf, 1.0])
    found = make_unit_gradients(model, squares, form).clipped_sum(
        inputs, targets, None, 3, Clipping(1.0)
    )
    assert found.dropped == 1 and all(torch.isfinite(g).all() for g in found.gradients)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("per_layer", [False, True])
def test_a_zero_gradient_is_zero(form: str, per_layer: bool) -> None:
    model = nn.Linear(3, 1)
    inputs = torch.randn(2, 3)
    targets = model(inputs)[:, 0].detach()
    found = make_unit_gradients(model, squares, form).clipped_sum(
        inputs, targets, torch.tensor([0, 0]), 1, Clipping(1.0, per_layer)
    )
    assert found.dropped == 0 and float(found.norms) <= 1e-6
    assert all(float(g.norm()) <= 1e-6 for g in found.gradients)


@pytest.mark.parametrize("form", [*FORMS, "auto"])
@pytest.mark.parametrize("count", [0, 3])
def test_an_empty_batch_is_zeros(form: str, count: int) -> None:
    engine = make_unit_gradients(nn.Linear(3, 2), losses, form)
    units = torch.zeros(0, dtype=torch.int64)
    found = engine.clipped_sum(
        torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), units, count, Clipping(1.0)
    )
    assert [g.abs().sum() for g in found.gradients] == [0, 0]
    assert found.norms.tolist() == [0.0] * count
    assert found.losses.shape == (0,) and found.dropped == 0


def test_arguments_that_do_not_fit() -> None:
    engine = make_unit_gradients(nn.Linear(3, 2), losses)
    inputs, targets = torch.randn(2, 3), torch.tensor([0, 1])
    for units, count in [
        (None, 3),
        (torch.tensor([0]), 1),
        (torch.tensor([0.0, 1.0]), 2),
        (torch.tensor([0, 2]), 2),
        (torch.tensor([-1, 0]), 2),
    ]:
        with pytest.raises(ValueError, match="units"):
            engine.clipped_sum(inputs, targets, units, count, Clipping(1.0))
    for norm in (0.0, -1.0, math.inf, math.nan, []):
        with pytest.raises(ValueError, match="clipping norm"):
            Clipping(norm)
    with pytest.raises(ValueError, match="per_layer"):
        Clipping([1.0, 2.0])
    with pytest.raises(ValueError, match="2 clipping norms for 1 layers"):
        engine.clipped_sum(inputs, targets, None, 2, Clipping([1.0, 2.0], per_layer=True))
    with pytest.raises(ValueError, match="form 'ghost'"):
        make_unit_gradients(nn.Linear(3, 2), losses, "ghost")


def test_a_bound_for_each_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    found = make_unit_gradients(model, losses).clipped_sum(
        torch.randn(1, 3), torch.tensor([1]), None, 1, Clipping([1e-3, 2e-3], per_layer=True)
    )
    first, second = (
        torch.cat([g.flatten() for g in found.gradients[i : i + 2]]).norm() for i in (0, 2)
    )
    torch.testing.assert_close(torch.stack([first, second]), torch.tensor([1e-3, 2e-3]))


# --- the model stays as it is -----------------------------------------------------------------
@pytest.mark.parametrize("form", [*FORMS, "auto"])
def test_the_model_is_left_as_it_was(form: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Sequential(nn.Linear(4, 2)))
    model[2].eval()
    model.register_buffer("steps", torch.tensor(7))
    for p in model.parameters():
        p.grad = torch.full_like(p, 5.0)
    before = copy.deepcopy(model)
    gradients = [p.grad for p in model.parameters()]
    engine = make_unit_gradients(model, losses, form)
    engine.clipped_sum(torch.randn(4, 3), torch.tensor([0, 1, 1, 0]), None, 4, Clipping(1.0))
    with pytest.raises(TaskError, match="one loss per example"):
        make_unit_gradients(model, lambda outputs, targets: outputs.sum(), form).clipped_sum(
            torch.randn(4, 3), torch.tensor([0, 1, 1, 0]), None, 4, Clipping(1.0)
        )
    for one, other in zip(model.modules(), before.modules(), strict=True):
        assert vars(one).keys() == vars(other).keys() and one.training == other.training
        assert not one._forward_hooks and not one._backward_hooks and not one._forward_pre_hooks
    for p, q, g in zip(model.parameters(), before.parameters(), gradients, strict=True):
        assert vars(p).keys() == vars(q).keys() and p.requires_grad and torch.equal(p, q)
        assert p.grad is g and float(g.min()) == float(g.max()) == 5.0
    assert int(model.steps) == 7


def test_frozen_parameters_have_no_gradient_but_pass_it_on() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[1].requires_grad_(False)
    model[2].requires_grad_(False).eval()
    model[3].weight.requires_grad_(False)
    inputs, targets = torch.randn(6, 3), torch.tensor([0, 1, 1, 0, 1, 1])
    ours, loop = (make_unit_gradients(model, losses, form) for form in ("bookkeeping", "loop"))
    assert [name for name, _ in ours.parameters] == ["0.weight", "0.bias", "3.bias"]
    units, clipping = torch.tensor([0, 1, 0, 2, 2, 2]), Clipping(0.3)
    same(
        ours.clipped_sum(inputs, targets, units, 3, clipping),
        loop.clipped_sum(inputs, targets, units, 3, clipping),
    )
    with pytest.raises(TaskError, match="no trainable parameter"):
        make_unit_gradients(model.requires_grad_(False), losses)


def test_dropout_differs_between_examples() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 2))
    inputs, targets = torch.ones(8, 64), torch.zeros(8, dtype=torch.int64)
    for form in ("bookkeeping", "functional"):
        found = make_unit_gradients(model, losses, form).clipped_sum(
            inputs, targets, None, 8, Clipping(1.0)
        )
        assert len(set(found.norms.tolist())) > 4


def test_inputs_may_be_tuples_and_dictionaries() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.left(input=left) + self.right(right)

    torch.manual_seed(0)
    model, left, right = Two(), torch.randn(4, 3), torch.randn(4, 4)
    targets, units = torch.tensor([0, 1, 1, 0]), torch.tensor([1, 0, 1, 1])
    wanted = make_unit_gradients(model, losses, "loop").clipped_sum(
        (left, right), targets, units, 2, Clipping(0.4)
    )
    for form in ("auto", *FORMS):
        engine = make_unit_gradients(model, losses, form)
        for inputs in ((left, right), {"right": right, "left": left}):
            same(engine.clipped_sum(inputs, targets, units, 2, Clipping(0.4)), wanted)
