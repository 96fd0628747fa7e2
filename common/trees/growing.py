"""A round of trees, grown level by level from sums over hospitals.

    round = GrowingRound(...)
    while asked := round.asked():          # hospitals know these too, from the trees so far
        round.add(sums of those nodes)     # over all hospitals, whole
    round.trees()

It is the same on whichever side it runs: nothing is drawn but from the seed. A round that lost its
server is grown again from the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.trees.bins import Bins
from wardround.common.trees.gains import NO_BOUNDS, Rules
from wardround.common.trees.histograms import (
    GRADIENT,
    HESSIAN,
    Units,
    asked_nodes,
    width,
)
from wardround.common.trees.plan import Growth
from wardround.common.trees.sampling import features_drawn
from wardround.common.trees.splits import Search, Split
from wardround.common.trees.tree import NONE, Tree

Ints = NDArray[np.int64]
Asked = tuple[int, int]
"""A tree of the round, and a node of it."""


@dataclass
class _Node:
    total: Ints
    parent: int = NONE
    left: int = NONE
    right: int = NONE
    split: Split | None = None
    lower: np.float32 = NO_BOUNDS[0]
    upper: np.float32 = NO_BOUNDS[1]
    weight: np.float32 = np.float32(0)


@dataclass
class _Growing:
    """One tree: its nodes, those of the level that is being grown, and sums of nodes by number."""

    nodes: list[_Node] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    sums: dict[int, Ints] = field(default_factory=dict)


class GrowingRound:
    """The trees of one round: ``num_parallel_tree`` for each output, all of them at once.

    Parameters
    ----------
    rules : as ``Rules.of`` makes them of the plan
    number : of the round, from 0
    outputs : K; tree t adds to output t // num_parallel_tree
    """

    def __init__(
        self, bins: Bins, units: Units, growth: Growth, rules: Rules, number: int, outputs: int = 1
    ) -> None:
        self._bins, self._units, self._growth, self._rules = bins, units, growth, rules
        self._number, self.level = number, 0
        self._search = Search(bins, units, growth, rules)
        self._trees = [_Growing() for _ in range(outputs * growth.num_parallel_tree)]

    def asked(self) -> list[Asked]:
        """Trees and nodes whose sums are wanted next; empty when the round is grown."""
        if self.level >= self._growth.max_depth:
            return []
        return asked_of(self.trees(), self.level, self._rules.least)

    def add(self, sums: Ints) -> None:
        """Grow a level.

        sums : one for each of ``asked``: ``width(bins)`` x C, over all hospitals

        Raises TaskError for sums that aren't these.
        """
        asked = self.asked()
        if sums.shape != (len(asked), width(self._bins), self._units.channels) or not len(asked):
            raise TaskError(f"sums of a level have the shape {sums.shape}")
        for (tree, node), one in zip(asked, sums, strict=True):
            growing = self._trees[tree]
            if not self.level:
                growing.nodes.append(_Node(one[self._bins.places]))
                self._weigh(growing.nodes[0])
            elif (one[self._bins.places] != growing.nodes[node].total).any():
                raise TaskError("a node's sums aren't what its parent's split left it")
            growing.sums[node] = one
        for growing in self._trees:
            self._complete(growing)
        for tree, growing in enumerate(self._trees):
            self._grow(tree, growing)
        self.level += 1

    def trees(self) -> list[Tree]:
        """The trees so far; before the first level, of a single leaf each."""
        return [self._tree(growing.nodes) for growing in self._trees]

    def _complete(self, growing: _Growing) -> None:
        """The sums of those nodes that weren't asked: the parent's less the other child's."""
        for number in list(growing.sums):
            node = growing.nodes[number]
            if node.parent == NONE or number not in growing.level:
                continue
            above = growing.nodes[node.parent]
            other = above.right if above.left == number else above.left
            if other not in growing.sums and node.parent in growing.sums:
                growing.sums[other] = growing.sums[node.parent] - growing.sums[number]

    def _grow(self, tree: int, growing: _Growing) -> None:
        level = growing.level if self.level else [0]
        level = [number for number in level if number in growing.sums]
        here = [growing.nodes[number] for number in level]
        following = list[int]()
        if level:
            features = features_drawn(
                self._growth, self._number, tree, self.level, len(self._bins.features)
            )
            best = self._search.best(
                np.stack([growing.sums[number] for number in level]),
                np.tile(features, (len(level), 1)),
                np.array([one.lower for one in here], np.float32),
                np.array([one.upper for one in here], np.float32),
            )
            for number, split in zip(level, best, strict=True):
                if split is not None:
                    following += self._divide(growing.nodes, number, split)
        growing.sums = {number: growing.sums[number] for number in level}
        growing.level = following

    def _divide(self, nodes: list[_Node], number: int, split: Split) -> list[int]:
        node = nodes[number]
        node.split, node.left, node.right = split, len(nodes), len(nodes) + 1
        left = _Node(split.left, number, lower=node.lower, upper=node.upper)
        right = _Node(node.total - split.left, number, lower=node.lower, upper=node.upper)
        self._weigh(left)
        self._weigh(right)
        middle = (left.weight + right.weight) / np.float32(2)
        sign = self._bins.features[split.feature].monotone
        if sign > 0:
            left.upper = right.lower = middle
        elif sign < 0:
            left.lower = right.upper = middle
        nodes += [left, right]
        return [node.left, node.right]

    def _weigh(self, node: _Node) -> None:
        sums = self._units.numbers(node.total)
        weight = self._rules.weight(
            sums[GRADIENT, None],
            sums[HESSIAN, None],
            np.array([node.lower]),
            np.array([node.upper]),
        )
        node.weight = np.float32(weight[0])

    def _tree(self, nodes: Sequence[_Node]) -> Tree:
        nodes = nodes or [_Node(np.zeros(self._units.channels, np.int64))]
        rate = np.float32(self._growth.rate)
        values, categories = list[float](), dict[int, tuple[int, ...]]()
        for number, node in enumerate(nodes):
            if node.split is None:
                values.append(float(node.weight * rate))
            elif node.split.right_categories is not None:
                values.append(0.0)
                categories[number] = node.split.right_categories
            else:
                values.append(self._bins.cut(node.split.feature, node.split.last))
        splits = [node.split for node in nodes]
        totals = self._units.numbers(np.stack([node.total for node in nodes]))
        return Tree(
            left=np.array([node.left for node in nodes], np.int32),
            right=np.array([node.right for node in nodes], np.int32),
            parent=np.array([node.parent for node in nodes], np.int32),
            feature=np.array([one.feature if one else 0 for one in splits], np.int32),
            value=np.array(values, np.float32),
            default_left=np.array([bool(one and one.default_left) for one in splits], np.bool_),
            gain=np.array([one.gain if one else 0.0 for one in splits], np.float32),
            hessian=totals[:, HESSIAN].astype(np.float32),
            weight=np.array([node.weight for node in nodes], np.float32),
            categories=categories,
        )


def asked_of(trees: Sequence[Tree], level: int, least: float) -> list[Asked]:
    """Of trees as they are, those nodes whose sums are asked for this level.

    least : ``Rules.least``
    """
    return [
        (number, node)
        for number, tree in enumerate(trees)
        for node in asked_nodes(tree, level, least)
    ]
