"""Augmentation moves pixels as it says, and the scaling is the pooled one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wardround.common.figures.sums import add_sums
from wardround.common.tasks.imaging import ImagingTask
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.layers import Augment, Standardise
from wardround.common.tasks.imaging.options import AugmentOptions


class Given(Augment):
    """An augmentation whose draws are given: one number for all."""

    def __init__(self, options: AugmentOptions, monkeypatch: pytest.MonkeyPatch, value: float):
        super().__init__(options)
        monkeypatch.setattr(torch, "rand", lambda *shape: torch.full(shape, value))


def image(*size: int) -> Tensor:
    return torch.linspace(0, 1, 2 * math.prod(size)).sin().reshape(2, 1, *size)


def test_a_quarter_turn_is_rot90(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Given(AugmentOptions(rotation=90.0), monkeypatch, 1.0)
    turned = layer(image(9, 9))
    assert any(
        torch.allclose(turned, torch.rot90(image(9, 9), k, (2, 3)), atol=1e-5) for k in (1, -1)
    )


def test_a_turn_of_a_wide_image_does_not_shear_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Given(AugmentOptions(rotation=90.0), monkeypatch, 1.0)
    bar = torch.zeros(1, 1, 9, 27)
    bar[..., 4, 9:18] = 1.0  # nine wide becomes nine high
    turned = layer(bar)
    assert torch.allclose(turned[0, 0, :, 13], torch.ones(9), atol=1e-4)
    assert abs(float(turned.sum()) - 9) < 1e-3


@pytest.mark.parametrize(("name", "axis"), [("horizontal", 3), ("vertical", 2)])
def test_flips(monkeypatch: pytest.MonkeyPatch, name: str, axis: int) -> None:
    x = image(6, 8)
    layer = Given(AugmentOptions(flip=[name]), monkeypatch, 0.0)  # type: ignore[list-item]
    assert torch.allclose(layer(x), x.flip(axis), atol=1e-5)
    never = Given(AugmentOptions(flip=[name]), monkeypatch, 0.9)  # type: ignore[list-item]
    assert torch.allclose(never(x), x, atol=1e-5)


def test_a_flip_in_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    x = image(4, 6, 8)
    layer = Given(AugmentOptions(flip=["depth"]), monkeypatch, 0.0)
    assert torch.allclose(layer(x), x.flip(2), atol=1e-5)


def test_translation_is_a_share_of_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4, 4] = 1.0
    moved = Given(AugmentOptions(translation=0.25), monkeypatch, 1.0)(x)
    assert moved[0, 0, 2, 2] == pytest.approx(1.0, abs=1e-4)  # two of eight pixels


def test_scaling_enlarges_about_the_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[..., 6:10, 6:10] = 1.0
    bigger = Given(AugmentOptions(scaling=0.5), monkeypatch, 1.0)(x)
    assert float(bigger.sum()) == pytest.approx(16 * 1.5**2, rel=0.02)


@given(
    rotation=st.floats(0, 180),
    translation=st.floats(0, 0.9),
    scaling=st.floats(0, 0.9),
    seed=st.integers(0, 2**32),
    volume=st.booleans(),
)
def test_a_constant_image_stays_one(
    rotation: float, translation: float, scaling: float, seed: int, volume: bool
) -> None:
    layer = Augment(AugmentOptions(rotation=rotation, translation=translation, scaling=scaling))
    x = torch.full((3, 1, *((5, 6, 7) if volume else (6, 7))), 0.25)
    torch.manual_seed(seed)
    assert torch.allclose(layer(x), x, atol=1e-4)
    torch.manual_seed(seed)
    again = layer(x)
    torch.manual_seed(seed)
    assert torch.equal(layer(x), again)


def test_evaluation_sees_images_as_they_are() -> None:
    layer = Augment(AugmentOptions(rotation=90.0, flip=["horizontal"])).eval()
    x = image(6, 6)
    assert layer(x) is x


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), whole=st.booleans())
def test_hospitals_agree_on_the_pooled_scaling(counts: list[int], whole: bool) -> None:
    task = ImagingTask(channels=3, size=[8, 8])
    generator = np.random.default_rng(1)
    shards = []
    for count in counts:
        pixels = torch.from_numpy(generator.integers(0, 256, (count, 3, 8, 8)).astype(np.uint8))
        shards.append(Images(pixels if whole else pixels / 255, np.zeros(count, dtype=np.int64)))
    totals = task.condense(add_sums([task.statistics(shard, 0, {}) for shard in shards]))
    layer = task.model(totals).get_submodule("scale")
    assert isinstance(layer, Standardise)
    pooled = torch.cat([x.pixels / 255 if whole else x.pixels for x in shards])
    standard = layer(torch.cat([x.pixels for x in shards]))
    assert torch.allclose(standard.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(standard.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    assert torch.allclose(layer.mean.flatten(), pooled.mean((0, 2, 3)), atol=1e-5)
