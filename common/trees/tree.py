"""One tree, in the arrays that xgboost's file has, and the leaf that each row ends in.

Nodes are numbered as they come to be, the root first: children of a level's nodes follow each
other, the left before the right. A row goes left where its value lies below the node's cut, or its
category isn't among the node's; where the value is missing, as ``default_left`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.features import Floats32

Ints32 = NDArray[np.int32]
Nodes = NDArray[np.int64]
NONE = -1


@dataclass(frozen=True, eq=False)
class Tree:
    """M nodes.

    left, right, parent : other nodes; NONE of a leaf, or of the root
    feature : that a node splits by; 0 of a leaf
    value : the cut of a split by a number; 0 of one by categories; what a leaf adds
    default_left : where a missing value goes
    gain : of the split; 0 of a leaf
    hessian : summed over the node's rows
    weight : what the node would add as a leaf, before the learning rate
    categories : of a split by categories, those that go right, rising
    """

    left: Ints32
    right: Ints32
    parent: Ints32
    feature: Ints32
    value: Floats32
    default_left: NDArray[np.bool_]
    gain: Floats32
    hessian: Floats32
    weight: Floats32
    categories: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.left)

    @cached_property
    def depth(self) -> Nodes:
        """Of each node; 0 of the root. A parent stands before its children."""
        found = np.zeros(len(self), np.int64)
        for node in range(1, len(self)):
            found[node] = found[self.parent[node]] + 1
        return found

    def reached(self, rows: Floats32) -> Nodes:
        """The leaf of each row.

        rows : N x P
        """
        at = np.zeros(len(rows), np.int64)
        if len(self) == 1 or not len(rows):
            return at
        everyone = np.arange(len(rows))
        right_of = self._category_table
        moving = everyone
        for _ in range(int(self.depth.max())):
            node = at[moving]
            inner = self.left[node] != NONE
            if not inner.all():
                moving, node = moving[inner], node[inner]
            values = rows[moving, self.feature[node]]
            goes_left = values < self.value[node]
            if right_of is not None:
                self._by_category(node, values, goes_left, *right_of)
            gone = np.isnan(values)
            if gone.any():
                goes_left[gone] = self.default_left[node[gone]]
            at[moving] = np.where(goes_left, self.left[node], self.right[node])
        return at

    @cached_property
    def _category_table(self) -> tuple[Nodes, NDArray[np.bool_]] | None:
        """Each node's line (NONE: splits by a number) in a table of which categories go right."""
        if not self.categories:
            return None
        most = max((max(one, default=0) for one in self.categories.values()), default=0)
        line, table = np.full(len(self), NONE), np.zeros((len(self.categories), most + 1), np.bool_)
        for number, (node, right) in enumerate(self.categories.items()):
            line[node] = number
            table[number, list(right)] = True
        return line, table

    @staticmethod
    def _by_category(
        node: Nodes,
        values: Floats32,
        goes_left: NDArray[np.bool_],
        line: Nodes,
        table: NDArray[np.bool_],
    ) -> None:
        """A category that the table doesn't have goes left, as in xgboost."""
        here = np.flatnonzero(line[node] != NONE)
        if not len(here):
            return
        with np.errstate(invalid="ignore"):
            known = (values[here] >= 0) & (values[here] < table.shape[1])
        code = np.where(known, np.nan_to_num(values[here]), 0).astype(np.int64)
        goes_left[here] = ~(known & table[line[node[here]], code])
