"""Trees go through arrays unchanged, and arrays that are no trees are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wardround.common.errors import RequestRefused
from wardround.common.trees.codec import arrays_of, trees_from
from wardround.common.trees.features import Feature
from wardround.common.trees.tree import NONE, Tree

FEATURES = (Feature("age"), Feature("ward", ("a", "b", "c", "d")))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Any, with up to seven splits."""
    left, right, parent, depth = [NONE], [NONE], [NONE], [0]
    for _ in range(draw(st.integers(0, 7))):
        leaves = [node for node, one in enumerate(left) if one == NONE and depth[node] < 5]
        node = draw(st.sampled_from(leaves))
        left[node], right[node] = len(left), len(left) + 1
        left += [NONE, NONE]
        right += [NONE, NONE]
        parent += [node, node]
        depth += [depth[node] + 1] * 2
    size = len(left)
    feature = [draw(st.integers(0, 1)) if one != NONE else 0 for one in left]
    categories = {
        node: tuple(sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=3))))
        for node in range(size)
        if left[node] != NONE and feature[node]
    }
    numbers = st.floats(-1e6, 1e6, width=32)
    values = draw(st.lists(numbers, min_size=size, max_size=size))
    return Tree(
        *(np.array(one, np.int32) for one in (left, right, parent, feature)),
        value=np.array(values, np.float32),
        default_left=np.array([draw(st.booleans()) for _ in range(size)]),
        gain=np.array(values, np.float32),
        hessian=np.abs(np.array(values, np.float32)),
        weight=np.array(values, np.float32),
        categories=categories,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(trees(), max_size=4))
def test_trees_come_back_as_they_were(some: list[Tree]) -> None:
    arrays = arrays_of(some)
    back = trees_from(arrays, FEATURES, 5, RequestRefused)
    again = arrays_of(back)
    assert len(back) == len(some)
    assert all(arrays[name].tobytes() == again[name].tobytes() for name in arrays)


def stump() -> dict[str, NDArray[Any]]:
    return arrays_of(
        [
            Tree(
                left=np.array([1, NONE, NONE], np.int32),
                right=np.array([2, NONE, NONE], np.int32),
                parent=np.array([NONE, 0, 0], np.int32),
                feature=np.array([1, 0, 0], np.int32),
                value=np.array([0, 0.5, -0.5], np.float32),
                default_left=np.array([True, False, False]),
                gain=np.array([1, 0, 0], np.float32),
                hessian=np.array([4, 2, 2], np.float32),
                weight=np.array([0, 1, -1], np.float32),
                categories={0: (1, 3)},
            )
        ]
    )


FALSE: dict[str, tuple[str, list[float]]] = {
    "a circle": ("left", [0, NONE, NONE]),
    "one child of two": ("left", [2, NONE, NONE]),
    "one child only": ("right", [NONE, NONE, NONE]),
    "another's parent": ("parent", [NONE, 0, 1]),
    "a root with a parent": ("parent", [2, 0, 0]),
    "no such node": ("right", [7, NONE, NONE]),
    "no such feature": ("feature", [2, 0, 0]),
    "a number by categories": ("feature", [0, 0, 0]),
    "a leaf without an end": ("value", [0, np.inf, 0]),
    "no number": ("weight", [np.nan, 0, 0]),
    "a negative hessian": ("hessian", [1, -1, 2]),
    "no such direction": ("default_left", [2, 0, 0]),
    "no nodes": ("nodes", [0]),
    "too many nodes": ("nodes", [9]),
    "huge": ("nodes", [1 << 30]),
    "no such category": ("categories", [1, 4]),
    "categories twice": ("categories", [1, 1]),
    "no categories": ("category_counts", [0]),
    "a leaf by categories": ("category_nodes", [1]),
    "a node elsewhere": ("category_nodes", [-1]),
}


@pytest.mark.parametrize("name", FALSE)
def test_what_is_no_tree_is_refused(name: str) -> None:
    arrays = stump()
    assert len(trees_from(arrays, FEATURES, 1, RequestRefused)) == 1
    key, values = FALSE[name]
    false = arrays | {key: np.array(values).astype(arrays[key].dtype)}
    with pytest.raises(RequestRefused, match="trees aren't sound"):
        trees_from(false, FEATURES, 1, RequestRefused)
    with pytest.raises(RequestRefused, match="deeper than 0"):
        trees_from(arrays, FEATURES, 0, RequestRefused)
