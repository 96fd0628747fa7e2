"""Private trees: splits that need no data, and leaves of clipped gradients whose sums carry noise.

In each round one oblivious tree is drawn (the same test for all nodes of a level: a feature, and a
cut in its declared range, or categories of it), by the plan's seed alone. So it costs no privacy
whatever it is; what costs is one sum per round: gradients and hessians of each leaf. Random splits
and noised leaves are a scheme of Maddock et al. 2022 (Federated boosted decision trees with
differential privacy); in S-GBDT (Kirsche et al. 2023) too, clipped gradients bound what a row does.

*Sensitivity.* A row lies in one leaf, the same for all K outputs. Its numbers there, K gradients in
units of ``scale`` and K hessians, are a vector v, which is scaled down to the norm ``CLIP``; then
each is counted in units of CLIP / WHOLE and *cut towards zero*, so none grows: what the row adds is
a vector of whole numbers with a norm of at most WHOLE. Other leaves get nothing of it. A unit with
up to r rows adds r such vectors, whose sum has, by the triangle inequality, a norm of at most
r WHOLE; adding or leaving out the unit changes the sums by that, whatever its rows are. Margins,
which gradients depend on, are post-processing of sums that were paid for before.

Base scores are no sums here: two classes start at 1/2, a number at the middle of its declared
range, whose half is the scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wardround.common import rng
from wardround.common.errors import ConfigError
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.tree import NONE, Tree

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
WHOLE = 1 << 12
CLIP = float(np.sqrt(1 + 1 / 16))
"""Norm of a row's numbers at most, before WHOLE units are counted in it: what a row of two classes
reaches (a gradient of 1 beside a hessian of 1/4), so that none of these is ever clipped."""
_NOISE_WEIGHT = 2.0
_LARGEST = 1e100


@dataclass(frozen=True)
class PrivateGrowth:
    """How private trees are grown.

    depth : levels of a tree, which has 2^depth leaves
    learning_rate : what a tree counts
    reg_lambda : L2 of a leaf's weight
    largest_weight : a leaf adds at most this, in the target's scale
    scale : of the target: half of its declared range for a number, else 1
    """

    depth: int = 6
    learning_rate: float = 0.3
    reg_lambda: float = 5.0
    largest_weight: float = 1.0
    scale: float = 1.0
    seed: int = 0


def sensitivity(records: int) -> float:
    """The most (L2) that a unit with up to so many rows changes the whole sums of a round: see the
    module."""
    return float(records * WHOLE)


def drawn_tree(
    features: Sequence[Feature],
    ranges: Mapping[str, tuple[float, float]],
    growth: PrivateGrowth,
    round_number: int,
) -> Tree:
    """The tree of a round, whose leaves add nothing yet.

    ranges : of each feature of numbers, as declared

    Raises ConfigError for a number without a range.
    """
    draws = rng.numpy_generator(growth.seed, "private tree", round_number)
    tests = [_test(features, ranges, draws) for _ in range(growth.depth)]
    inner, nodes = (1 << growth.depth) - 1, (2 << growth.depth) - 1
    every = np.arange(nodes)
    level = np.floor(np.log2(every + 1)).astype(np.int64)
    is_inner = every < inner

    at_level = [*tests, _Test(0, 0.0, False, ())]

    return Tree(
        left=np.where(is_inner, 2 * every + 1, NONE).astype(np.int32),
        right=np.where(is_inner, 2 * every + 2, NONE).astype(np.int32),
        parent=np.where(every > 0, (every - 1) // 2, NONE).astype(np.int32),
        feature=np.array([one.feature for one in at_level], np.int32)[level],
        value=np.array([one.cut for one in at_level], np.float32)[level],
        default_left=np.array([one.default_left for one in at_level], np.bool_)[level],
        gain=np.zeros(nodes, np.float32),
        hessian=np.zeros(nodes, np.float32),
        weight=np.zeros(nodes, np.float32),
        categories={
            node: tests[level[node]].right for node in range(inner) if tests[level[node]].right
        },
    )


@dataclass(frozen=True)
class _Test:
    feature: int
    cut: float
    default_left: bool
    right: tuple[int, ...]


def _test(
    features: Sequence[Feature],
    ranges: Mapping[str, tuple[float, float]],
    draws: np.random.Generator,
) -> _Test:
    """A feature; a cut in its range, or a part of its categories that is neither none nor all."""
    place, default_left = int(draws.integers(len(features))), bool(draws.integers(2))
    feature = features[place]
    if feature.levels is None:
        low, high = _range(feature.name, ranges)
        return _Test(
            place, float(np.float32(low + (high - low) * draws.random())), default_left, ()
        )
    order = draws.permutation(len(feature.levels))
    count = int(draws.integers(1, max(2, len(order))))
    return _Test(place, 0.0, default_left, tuple(sorted(order[:count].tolist())))


def _range(name: str, ranges: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    low, high = ranges.get(name, (np.nan, np.nan))
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ConfigError(
            f"private trees need the range of column '{name:.50}'",
            mend="declare its smallest and largest value, or leave the column out",
        )
    return low, high


def leaf_sums(
    tree: Tree, rows: Floats32, gradients: Floats32, hessians: Floats32, growth: PrivateGrowth
) -> Ints:
    """A hospital's sums of a round: leaves x K x 2 whole numbers.

    gradients, hessians : N x K, as ``Objective.gradients`` gives them
    """
    count, leaf = 1 << growth.depth, leaves_of(tree, rows, growth.depth)
    whole = clipped(gradients / growth.scale, hessians)
    flat = whole.reshape(len(whole), int(np.prod(whole.shape[1:])))
    sums = [np.bincount(leaf, one, count) for one in flat.T.astype(np.float64)]
    return np.stack(sums, axis=1).reshape(count, *whole.shape[1:]).astype(np.int64)


def leaves_of(tree: Tree, rows: Floats32, depth: int) -> Ints:
    """The leaf of each row, from 0: a level's test is the same for all its nodes, so this takes a
    comparison a level (``Tree.reached`` says the same)."""
    found = np.zeros(len(rows), np.int64)
    for level in range(depth):
        node = (1 << level) - 1
        values = rows[:, tree.feature[node]]
        if node in tree.categories:
            goes_right = np.isin(values, np.array(tree.categories[node], np.float32))
        else:
            goes_right = values >= tree.value[node]
        goes_right = np.where(np.isnan(values), not tree.default_left[node], goes_right)
        found = 2 * found + goes_right
    return found


def added(margins: Floats32, trees: Sequence[Tree], leaf: Ints) -> Floats32:
    """Margins N x K with the trees of a round more, of the leaf that each row is in."""
    leaves = np.stack([tree.value[-((len(tree) + 1) // 2) :] for tree in trees], axis=1)
    found: Floats32 = margins + leaves[leaf]
    return found


def clipped(gradients: NDArray[np.floating], hessians: NDArray[np.floating]) -> Ints:
    """Each row's N x K x 2 whole numbers, whose norm is at most WHOLE. A row that is no number
    counts nothing."""
    numbers = np.stack([gradients, hessians], axis=-1).astype(np.float64)
    numbers[~np.isfinite(numbers).all(axis=(1, 2))] = 0
    numbers = np.clip(numbers, -_LARGEST, _LARGEST)  # squares can't overflow
    norm = np.sqrt((numbers * numbers).sum(axis=(1, 2), keepdims=True))
    factor = WHOLE / CLIP * (CLIP / np.maximum(norm, CLIP))
    # 1 - 2^-40: no rounding of float64 in between takes a norm above WHOLE
    found: Ints = np.trunc(numbers * factor * (1 - 2.0**-40)).astype(np.int64)
    return found


def with_leaves(tree: Tree, sums: Floats, deviation: float, growth: PrivateGrowth) -> Tree:
    """The tree of one output, with what its leaves add.

    A leaf's weight is -G / (H + lambda + 2 s): the noise's own deviation s stands beside what it
    drowns, so that a leaf of few rows adds little.

    Parameters
    ----------
    sums : leaves x 2, over all hospitals, noise and all
    deviation : of the noise on each of them, in the same whole units
    """
    unit = CLIP / WHOLE
    gradient, hessian = sums[:, 0] * unit, np.maximum(sums[:, 1] * unit, 0)
    below = hessian + growth.reg_lambda + _NOISE_WEIGHT * deviation * unit
    weight = -growth.learning_rate * gradient / below
    weight = np.clip(weight, -growth.largest_weight, growth.largest_weight) * growth.scale
    count, value, shown = len(sums), tree.value.copy(), tree.hessian.copy()
    value[-count:] = weight
    shown[-count:] = hessian
    for node in range(len(tree) - count - 1, -1, -1):
        shown[node] = shown[tree.left[node]] + shown[tree.right[node]]
    own = np.where(tree.left == NONE, value, 0).astype(np.float32)
    return replace(tree, value=value, hessian=shown, weight=own)
