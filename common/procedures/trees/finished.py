"""The trees so far, as a state has them: few numbers for each node, in arrays that only grow.

A request brings every tree, so a node takes 12 bytes: where its children are, its column and the
side of what is missing, and its cut or value. Of trees in growth hessians come too, by which both
ends know which nodes are asked. What else a file of trees has (gains, hessians), the server keeps.

    nodes                      of each tree, how many
    table                      of each node: left, 2 column + default_left, value, (hessian), as
                               int32; float32 bit by bit
    category_nodes, ...counts, categories    as in ``common/trees/codec.py``
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.trees.codec import DTYPES, Arrays, arrays_of, trees_from
from wardround.common.trees.features import Feature
from wardround.common.trees.tree import NONE, Tree

TREES, ROUND, FULL = "trees/", "now/round/", "full/"
_NODES, _TABLE, _SPLIT = "nodes", "table", "category_nodes"
_CATEGORIES = (_SPLIT, "category_counts", "categories")
_NAMES = (_NODES, _TABLE, *_CATEGORIES)
_KEPT = "finished"
Trees = tuple[Tree, ...]
Values = dict[str, Any]


def named(prefix: str) -> frozenset[str]:
    """Names of all arrays of trees in a state."""
    return frozenset(f"{prefix}{name}" for name in _NAMES)


def packed(trees: Sequence[Tree], prefix: str, hessians: bool = False) -> Values:
    """Trees as a state has them, under this prefix."""
    return _packed(arrays_of(trees), prefix, hessians)


def _packed(arrays: Mapping[str, Any], prefix: str, hessians: bool) -> Values:
    columns = [
        arrays["left"],
        2 * arrays["feature"] + arrays["default_left"],
        arrays["value"].view(np.int32),
    ]
    if hessians:
        columns.append(arrays["hessian"].view(np.int32))
    found = {name: arrays[name] for name in (_NODES, *_CATEGORIES)}
    found[_TABLE] = np.stack(columns, axis=1).astype(np.int32)
    return {f"{prefix}{name}": one for name, one in found.items()}


def longer(kept: Mapping[str, Any], trees: Sequence[Tree]) -> Values:
    """All that is known of the finished trees, with these behind: arrays of ``codec.DTYPES`` under
    ``FULL``.

    kept : where the others are, or none
    """
    new: Values = dict(arrays_of(trees))
    if f"{FULL}left" not in kept:
        return {f"{FULL}{name}": one for name, one in new.items()}
    new[_SPLIT] = (new[_SPLIT] + len(kept[f"{FULL}left"])).astype(np.int32)
    return {f"{FULL}{name}": np.concatenate([kept[f"{FULL}{name}"], new[name]]) for name in DTYPES}


def state_of(full: Mapping[str, Any]) -> Values:
    """What a state has of the finished trees."""
    return _packed({name: full[f"{FULL}{name}"] for name in DTYPES}, TREES, False)


def full_trees(full: Mapping[str, Any], features: Sequence[Feature], depth: int) -> Trees:
    """The finished trees with gains and hessians. Raises TaskError."""
    if f"{FULL}left" not in full:
        return ()
    arrays = {name: full[f"{FULL}{name}"] for name in DTYPES}
    return trees_from(arrays, features, depth, TaskError)


def all_trees(
    state: Sums, prefix: str, features: Sequence[Feature], depth: int, working: Values
) -> Trees:
    """All trees of a state. Raises TaskError for what are none.

    working : where those that were read before are kept, so that only what is new is read
    """
    try:
        arrays = {name: state[f"{prefix}{name}"] for name in _NAMES}
    except KeyError:
        raise TaskError("the state that came has no trees") from None
    trees: Trees
    known, trees = working.get(prefix + _KEPT, ({}, ()))
    if known and all(arrays[name] is known[name] for name in _NAMES):
        return trees
    if not known or not all(_begins(arrays[name], known[name]) for name in _NAMES):
        known, trees = {name: one[:0] for name, one in arrays.items()}, ()
    rest: Values = {name: arrays[name][len(known[name]) :] for name in _NAMES}
    if len(rest[_NODES]) or any(len(one) for one in rest.values()):
        if rest[_SPLIT].dtype == np.int32:
            rest[_SPLIT] = (rest[_SPLIT] - len(known[_TABLE])).astype(np.int32)
        found = trees_from(_whole(rest, prefix == ROUND), features, depth, TaskError)
        trees = (*trees, *found)
    working[prefix + _KEPT] = (arrays, trees)
    return trees


def _whole(arrays: Values, hessians: bool) -> Arrays:
    """As ``codec`` has them: the right child stands behind the left, and parents follow."""
    table, sizes = arrays[_TABLE], arrays[_NODES]
    if (
        table.dtype != np.int32
        or table.ndim != 2
        or table.shape[1] != 3 + int(hessians)
        or sizes.dtype != np.int32
        or sizes.ndim != 1
        or (sizes < 1).any()
        or int(sizes.sum(dtype=np.int64)) != len(table)
    ):
        raise TaskError("the trees that came are none: arrays of another form")
    left = table[:, 0]
    inner = left != NONE
    starts = np.repeat(np.cumsum(sizes, dtype=np.int64) - sizes, sizes)
    if ((left < NONE) | (left.astype(np.int64) + 1 >= np.repeat(sizes, sizes))).any():
        raise TaskError("the trees that came are none: a child that there isn't")
    parent = np.full(len(table), NONE, np.int32)
    own = (np.arange(len(table)) - starts).astype(np.int32)
    for behind in (0, 1):
        parent[(starts + left + behind)[inner]] = own[inner]
    zero = np.zeros(len(table), np.float32)
    return {
        **{name: arrays[name] for name in (_NODES, *_CATEGORIES)},
        "left": left,
        "right": np.where(inner, left + 1, NONE).astype(np.int32),
        "parent": parent,
        "feature": table[:, 1] >> 1,
        "default_left": (table[:, 1] & 1).astype(np.uint8),
        "value": np.ascontiguousarray(table[:, 2]).view(np.float32),
        "hessian": np.ascontiguousarray(table[:, 3]).view(np.float32) if hessians else zero,
        "gain": zero,
        "weight": zero,
    }


def _begins(whole: NDArray[Any], part: NDArray[Any]) -> bool:
    return (
        whole.dtype == part.dtype
        and whole.shape[1:] == part.shape[1:]
        and len(whole) >= len(part)
        and np.array_equal(whole[: len(part)], part)
    )
