"""Trees as arrays and back, and what a tree must be before it is believed.

Arrays have one entry for each node of all trees, tree after tree; they are what a request between
two levels carries and what is stored. A tree that comes from elsewhere is checked as a whole:
children stand behind their parents (so nothing goes in a circle), each node but the root is the
child of one, and every number lies where the features allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import WardroundError
from wardround.common.trees.features import Feature
from wardround.common.trees.tree import NONE, Tree

Arrays = dict[str, NDArray[np.generic]]
MOST_NODES = 1 << 13
MOST_TREES = 100_000
_FLOATS = ("value", "gain", "hessian", "weight")
_WHOLE = ("left", "right", "parent", "feature")
_SIZES, _DEFAULT = "nodes", "default_left"
_SPLIT, _RIGHT, _COUNTS = "category_nodes", "categories", "category_counts"
DTYPES: dict[str, np.dtype[np.generic]] = {
    _SIZES: np.dtype(np.int32),
    **{name: np.dtype(np.int32) for name in _WHOLE},
    **{name: np.dtype(np.float32) for name in _FLOATS},
    _DEFAULT: np.dtype(np.uint8),
    _SPLIT: np.dtype(np.int32),
    _COUNTS: np.dtype(np.int32),
    _RIGHT: np.dtype(np.int32),
}
"""Names of the arrays, each of one dimension: ``nodes`` of each tree; of each node the fields of a
``Tree``; nodes of all trees that split by categories, how many go right there, and which."""


def arrays_of(trees: Sequence[Tree]) -> Arrays:
    """The trees as arrays of ``DTYPES``."""
    starts = np.cumsum([0, *map(len, trees)])
    split = [
        (int(start) + node, tree.categories[node])
        for start, tree in zip(starts, trees, strict=False)
        for node in sorted(tree.categories)
    ]
    found: dict[str, list[NDArray[np.generic]]] = {
        name: [getattr(tree, name) for tree in trees] for name in (*_WHOLE, *_FLOATS, _DEFAULT)
    }
    joined = {
        name: np.concatenate(parts) if parts else np.empty(0) for name, parts in found.items()
    }
    joined |= {
        _SIZES: np.array([len(tree) for tree in trees]),
        _SPLIT: np.array([node for node, _ in split]),
        _COUNTS: np.array([len(right) for _, right in split]),
        _RIGHT: np.array([one for _, right in split for one in right]),
    }
    return {name: joined[name].astype(dtype) for name, dtype in DTYPES.items()}


def trees_from(
    arrays: Mapping[str, NDArray[np.generic]],
    features: Sequence[Feature],
    most_depth: int,
    error: type[WardroundError],
) -> tuple[Tree, ...]:
    """The trees of such arrays. Raises ``error`` for arrays that are none."""
    _check_arrays(arrays, error)
    sizes = np.asarray(arrays[_SIZES], np.int64)
    ends = np.cumsum(sizes)
    sides = np.cumsum(np.asarray(arrays[_COUNTS], np.int64))
    split = arrays[_SPLIT].tolist()
    right = arrays[_RIGHT].tolist()
    found = list[Tree]()
    place = 0
    for start, end in zip((ends - sizes).tolist(), ends.tolist(), strict=True):
        categories = dict[int, tuple[int, ...]]()
        while place < len(split) and start <= split[place] < end:
            first = int(sides[place - 1]) if place else 0
            categories[split[place] - start] = tuple(right[first : int(sides[place])])
            place += 1
        tree = Tree(
            **{name: np.array(arrays[name][start:end]) for name in (*_WHOLE, *_FLOATS)},
            default_left=np.array(arrays[_DEFAULT][start:end]) != 0,
            categories=categories,
        )
        check_tree(tree, features, most_depth, error)
        found.append(tree)
    if place != len(split):
        raise error("trees aren't sound: a node by categories is in no tree")
    return tuple(found)


def _check_arrays(arrays: Mapping[str, NDArray[np.generic]], error: type[WardroundError]) -> None:
    if arrays.keys() != DTYPES.keys():
        raise error("trees aren't sound: an array is missing or unknown")
    for name, dtype in DTYPES.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise error(f"trees aren't sound: '{name}' is no row of {dtype}")
    sizes, counts = arrays[_SIZES], arrays[_COUNTS]
    if len(sizes) > MOST_TREES or not (
        ((np.asarray(sizes) >= 1) & (np.asarray(sizes) <= MOST_NODES)).all()
        and (np.asarray(counts) >= 1).all()
    ):
        raise error("trees aren't sound: sizes out of range")
    nodes = int(np.asarray(sizes, np.int64).sum())
    if (
        any(len(arrays[name]) != nodes for name in (*_WHOLE, *_FLOATS, _DEFAULT))
        or (np.asarray(arrays[_DEFAULT]) > 1).any()
        or len(arrays[_SPLIT]) != len(counts)
        or (np.diff(np.asarray(arrays[_SPLIT], np.int64)) <= 0).any()
        or len(arrays[_RIGHT]) != int(np.asarray(counts, np.int64).sum())
    ):
        raise error("trees aren't sound: arrays of different trees")


def check_tree(
    tree: Tree, features: Sequence[Feature], most_depth: int, error: type[WardroundError]
) -> None:
    """Raises ``error`` where it is no tree over these features."""
    nodes = np.arange(len(tree))
    inner = tree.left != NONE
    children = np.concatenate([tree.left[inner], tree.right[inner]])
    parents = np.concatenate([nodes[inner], nodes[inner]])
    if (
        (inner != (tree.right != NONE)).any()
        or tree.parent[0] != NONE
        or (children <= parents).any()
        or not np.array_equal(np.sort(children), nodes[1:])
        or (tree.parent[children] != parents).any()
    ):
        raise error("trees aren't sound: nodes don't form a tree")
    if int(tree.depth.max()) > most_depth:
        raise error(f"trees aren't sound: one is deeper than {most_depth}")
    if (tree.feature < 0).any() or (tree.feature >= len(features)).any():
        raise error("trees aren't sound: a feature that there isn't")
    if any(not np.isfinite(getattr(tree, name)).all() for name in _FLOATS):
        raise error("trees aren't sound: a number that isn't finite")
    if (tree.hessian < 0).any():
        raise error("trees aren't sound: a negative hessian")
    by_level = np.array([not one.number for one in features])
    expected = set(nodes[inner & by_level[tree.feature]].tolist())
    if expected != set(tree.categories):
        raise error("trees aren't sound: a split by categories of a number, or the other way")
    for node, right in tree.categories.items():
        levels = features[int(tree.feature[node])].levels or ()
        rising = all(one < other for one, other in zip(right, right[1:], strict=False))
        if not right or not rising or right[0] < 0 or right[-1] >= len(levels):
            raise error("trees aren't sound: a category that there isn't")
