"""What hospitals write in the ring and the server reads is the mean of their changes, unbiased."""

from __future__ import annotations

import numpy as np
import pytest

from wardround.common.compression.scales import next_scales
from wardround.common.compression.writing import CLIP, REACH, Writing, ring
from wardround.common.config.load import parse_config
from wardround.common.secagg.encoding import Encoding, dequantise
from wardround.common.secagg.rounding import quantise

SHAPE = (40, 60)


def writing(rotation: str, scale: float) -> Writing:
    config = parse_config(f'[compression]\nbits = 8\nrotation = "{rotation}"\n')
    return Writing.of(config, 3, ["other", "layer"], np.array([9.0, scale]))


def mean_of(changes: np.ndarray, how: Writing, draw: int) -> np.ndarray:
    """As masks would add them up: in words of 8 bits."""
    encoding = Encoding(8, CLIP, len(changes), 1)
    words = np.zeros(changes[0].size, np.uint8)
    for number, change in enumerate(changes):
        key = bytes([number, draw]) * 8
        quantise(how.written("layer", change), 1.0, encoding, key, words)
    mean = dequantise(words, encoding.step / len(changes))
    return how.read("layer", mean).reshape(SHAPE)


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("hospitals", [3, 10, 60])
def test_the_mean_has_the_error_that_levels_give(rotation: str, hospitals: int) -> None:
    """Below clip^2 / (4 S^2 n) in each coordinate, on average over two thirds of it: an even
    fraction f between two levels has a variance of f (1 - f), of which the mean is 1/6. And over
    many draws it has no bias."""
    rng = np.random.default_rng(hospitals)
    changes = rng.normal(size=(hospitals, *SHAPE)).astype(np.float32)
    how, draws = writing(rotation, 1.0), 20
    error = [mean_of(changes, how, draw) - changes.mean(axis=0) for draw in range(draws)]
    most = REACH[rotation] ** 2 / (4 * Encoding(8, CLIP, hospitals, 1).span ** 2 * hospitals)
    assert np.mean(np.square(error)) < most
    assert np.mean(np.square(error)) > most / 8
    assert np.mean(np.square(np.mean(error, axis=0))) < 2 * most / draws


def test_a_rotated_layer_with_one_large_number_isnt_clipped() -> None:
    """As it comes its largest number is 40 root mean squares, four times what is written."""
    change = np.full(SHAPE, 0.01, np.float32)
    change[3, 5] = 1.0
    rms = float(np.sqrt(np.mean(change**2)))
    assert change.max() / rms > 40
    for rotation, share in (("hadamard", 0.98), ("none", 0.3)):
        found = mean_of(np.stack([change] * 3), writing(rotation, rms), 1)
        assert (found[3, 5] > share) == (rotation == "hadamard")


def test_ratios_are_mean_squares_over_those_of_scales() -> None:
    how = writing("hadamard", 0.5)
    changes = {"other": np.full((3,), 900.0), "layer": np.full(SHAPE, 0.4)}
    ratios = how.ratios(changes.__getitem__)
    assert ratios == pytest.approx([1.0, 0.32])  # bounded at 2, which is 1; 0.64 / 2
    assert next_scales(how.scales, 2 * ratios) == pytest.approx([9 * np.sqrt(2), 0.4])


def test_the_ring_is_the_settings() -> None:
    assert ring(parse_config("")) == (32, 8.0)
    assert ring(parse_config("[compression]\nbits = 16\n")) == (16, CLIP)
