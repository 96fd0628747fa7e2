"""The trees so far, as a state has them: arrays that only grow, and trees made of them once.

With a thousand trees each request brings them all; only what is new is read and checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.trees.codec import DTYPES, Arrays, arrays_of, trees_from
from wardround.common.trees.features import Feature
from wardround.common.trees.tree import Tree

TREES, ROUND = "trees/", "now/round/"
_NODES, _SPLIT = "nodes", "category_nodes"
_KEPT = "finished"
Trees = tuple[Tree, ...]


def named(prefix: str) -> frozenset[str]:
    """Names of all arrays of trees in a state."""
    return frozenset(f"{prefix}{name}" for name in DTYPES)


def arrays_at(state: Sums, prefix: str) -> Arrays:
    """Those of a state. Raises TaskError where one is missing."""
    try:
        return {name: state[f"{prefix}{name}"] for name in DTYPES}
    except KeyError:
        raise TaskError("the state that came has no trees") from None


def put(arrays: Arrays, prefix: str) -> dict[str, Any]:
    """Arrays as a state names them."""
    return {f"{prefix}{name}": one for name, one in arrays.items()}


def longer(arrays: Arrays, trees: Sequence[Tree]) -> Arrays:
    """The arrays with more trees behind."""
    new = arrays_of(trees)
    new[_SPLIT] = (new[_SPLIT] + len(arrays["left"])).astype(np.int32)
    return {name: np.concatenate([arrays[name], new[name]]) for name in DTYPES}


def all_trees(
    arrays: Arrays, features: Sequence[Feature], depth: int, working: dict[str, Any]
) -> Trees:
    """All trees of the arrays. Raises TaskError for what are none.

    working : where those that were read before are kept
    """
    known, trees = working.get(_KEPT, (arrays_of(()), ()))
    if not all(_begins(arrays[name], known[name]) for name in DTYPES):
        known, trees = arrays_of(()), ()
    rest = {name: arrays[name][len(known[name]) :] for name in DTYPES}
    if len(rest[_NODES]):
        split = np.asarray(rest[_SPLIT], np.int64) - len(known["left"])
        rest[_SPLIT] = split.astype(DTYPES[_SPLIT]) if rest[_SPLIT].dtype == np.int32 else split
    trees = (*trees, *trees_from(rest, features, depth, TaskError))
    working[_KEPT] = (dict(arrays), trees)
    return trees


def _begins(whole: Any, part: Any) -> bool:
    return (
        whole.dtype == part.dtype
        and whole.ndim == 1
        and len(whole) >= len(part)
        and np.array_equal(whole[: len(part)], part)
    )
