"""Training with channels innermost: the same steps to rounding, and weights that lie as before."""

from __future__ import annotations

import copy
import itertools
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from tests.client.small_models import Classes, configured, dirty_memory, vector
from wardround.client.training import steps
from wardround.client.training.channels_last import channels_last
from wardround.client.training.steps import train_on_batches
from wardround.common.model.precision import WholeConvolutions
from wardround.common.tasks.base import Examples

SEED = (7, 2, "a")


def network() -> nn.Module:
    """Groups, a stride, a kernel of one, a layer that is used twice, and one that isn't trained."""
    torch.manual_seed(0)
    twice = nn.Conv2d(8, 8, 3, padding=1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), twice, nn.GroupNorm(2, 8), twice, nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4), nn.Tanh(), nn.Conv2d(16, 4, 1),
        nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip
    model[8].requires_grad_(False)
    return model


def images(count: int) -> Examples:
    generator = torch.Generator().manual_seed(1)
    return Examples(torch.randn(count, 3, 13, 13, generator=generator), torch.arange(count) % 3)


@pytest.mark.parametrize("count", [1, 33])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_round_is_the_same_to_rounding(
    count: int, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, one, other = configured(optimizer=optimizer, local_epochs=2), network(), network()
    start = vector(one)
    train_on_batches(one, images(count), Classes(), config, SEED)
    monkeypatch.setattr(steps, "channels_last", lambda *_: nullcontext())
    train_on_batches(other, images(count), Classes(), config, SEED)
    moved = (vector(other) - start).norm()
    assert moved > 0 and (vector(one) - vector(other)).norm() < 2e-3 * moved


def test_weights_lie_innermost_within_and_after_it_where_and_as_they_lay() -> None:
    model = network()
    before = [(p.data_ptr(), p.stride(), copy.deepcopy(p.detach())) for p in model.parameters()]
    for failing in (False, True):
        try:
            with channels_last(model, "cpu"):
                for p in model.parameters():
                    if p.dim() == 4:
                        assert p.is_contiguous(memory_format=torch.channels_last)
                    p.data += 1.0
                assert model(images(2).inputs).shape == (2, 3)
                if failing:
                    raise RuntimeError("a step fails")
        except RuntimeError:
            assert failing
        for p, (place, stride, value) in zip(model.parameters(), before, strict=True):
            assert (p.data_ptr(), p.stride()) == (place, stride)
            torch.testing.assert_close(p.detach(), value + 1.0 + failing)


def test_nothing_is_done_for_another_device_or_other_convolutions() -> None:
    model = network()
    with channels_last(model, "cuda:0"):
        assert all(p.is_contiguous() for p in model.parameters())
    line = nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv3d(4, 4, 3), nn.ConvTranspose2d(4, 4, 3))
    before = [p.data_ptr() for p in line.parameters()]
    with channels_last(line, "cpu"):
        assert [p.data_ptr() for p in line.parameters()] == before


@pytest.mark.parametrize("size", [(1, 4), (2, 5), (3, 2), (8, 8)])
def test_gradients_in_16_bits_hold_nothing_of_the_memory(size: tuple[int, int]) -> None:
    """What oneDNN leaves unwritten in some shapes would be NaN here (``test_precision.py``)."""
    for inputs, kernel, stride, groups in itertools.product((1, 16), (1, 3), (1, 2), (1, 4)):
        if inputs % groups:
            continue
        found = []
        for precise in (True, False):
            torch.manual_seed(1)
            layer = nn.Conv2d(inputs, 16, kernel, stride, padding=1, groups=groups)
            x = torch.randn(4, inputs, *size, requires_grad=True)
            with channels_last(layer, "cpu"), WholeConvolutions():
                dirty_memory()
                with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
                    value = torch.tanh(layer(x)).float().square().sum()
                dirty_memory()
                given = torch.autograd.grad(value, [layer.weight, x])
                found.append(torch.cat([one.flatten() for one in given]))
        assert (found[0] - found[1]).norm() <= 0.03 * found[0].norm()  # NaN is not
