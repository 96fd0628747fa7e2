"""Ten unlike hospitals in memory, trees grown over them, and xgboost over their pooled rows.

One has a single row, one 33, one no positive and no event, one measures in another scale, one has a
constant column, one lacks a category and a class, one has 40 % of its values missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from wardround.common.trees.agreeing import cells_at, cuts_of
from wardround.common.trees.bins import Bins
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.gains import Rules
from wardround.common.trees.grid import fitting
from wardround.common.trees.growing import GrowingRound
from wardround.common.trees.histograms import Units
from wardround.common.trees.local import LocalRows
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Objective
from wardround.common.trees.plan import Growth

Floats = NDArray[np.float64]
SIZES = (160, 1, 33, 90, 120, 70, 110, 60, 80, 76)
LEVELS = ("a", "b", "c", "d", "e", "f", "g")
FEATURES = (
    Feature("age"),
    Feature("crp"),
    Feature("visits"),
    Feature("ward", LEVELS),
    Feature("sex", ("f", "m")),
    Feature("constant"),
)


@dataclass(frozen=True)
class Hospitals:
    """Rows of each, and a score that outcomes follow."""

    rows: tuple[Floats32, ...]
    scores: tuple[Floats, ...]
    draws: tuple[Floats, ...]

    @cached_property
    def pooled(self) -> Floats32:
        """All rows."""
        return np.concatenate(self.rows)

    def binary(self) -> list[Floats]:
        """0 and 1; the fourth hospital has no 1."""
        found = [
            (draw < 1 / (1 + np.exp(-score))).astype(np.float64)
            for score, draw in zip(self.scores, self.draws, strict=True)
        ]
        found[3][:] = 0
        return found

    def classes(self) -> list[Floats]:
        """0, 1, 2; the fifth hospital has no 2."""
        found = [
            np.digitize(score + 2 * draw - 1, [-0.5, 0.8]).astype(np.float64)
            for score, draw in zip(self.scores, self.draws, strict=True)
        ]
        found[4][found[4] == 2] = 1
        return found

    def numbers(self) -> list[Floats]:
        """Numbers."""
        return [
            np.round(40 + 10 * score + 8 * draw, 1)
            for score, draw in zip(self.scores, self.draws, strict=True)
        ]


def hospitals(seed: int = 0) -> Hospitals:
    """The ten, drawn anew."""
    draws = np.random.default_rng(seed)
    rows, scores = list[Floats32](), list[Floats]()
    for number, size in enumerate(SIZES):
        x = np.empty((size, len(FEATURES)))
        x[:, 0] = draws.normal(62, 14, size)
        x[:, 1] = np.exp(draws.normal(2, 1.2, size)) * (1e4 if number == 5 else 1)
        x[:, 2] = draws.poisson(3, size)
        x[:, 3] = draws.integers(0, len(LEVELS), size)
        x[:, 4] = draws.integers(0, 2, size)
        x[:, 5] = 7
        if number == 6:
            x[:, 2] = 4
        if number == 7:
            x[x[:, 3] == 6, 3] = 2
        score = (x[:, 0] - 62) / 10 + np.isin(x[:, 3], [1, 4, 6]) * 1.4 - 0.3 * x[:, 2] + x[:, 4]
        x[draws.random(x.shape) < (0.4 if number == 8 else 0.05)] = np.nan
        rows.append(x.astype(np.float32))
        scores.append(score)
    return Hospitals(tuple(rows), tuple(scores), tuple(draws.random(size) for size in SIZES))


def agreed_bins(
    rows: Sequence[Floats32], features: Sequence[Feature], most: int = 64, fewest: int = 1
) -> Bins:
    """Bins from counts over hospitals."""
    cuts = list[Floats32]()
    for place, feature in enumerate(features):
        counts = list[NDArray[np.int64]]()
        while feature.number and (cells := cells_at(counts, most, fewest)) is not None:
            parts = [cells.counted(one[:, place]) for one in rows]
            counts.append(np.sum(parts, axis=0))
        cuts.append(cuts_of(counts, most, fewest) if counts else np.empty(0, np.float32))
    return Bins(tuple(features), tuple(cuts))


def grown(
    bins: Bins,
    objective: Objective,
    rows: Sequence[Floats32],
    targets: Sequence[Floats],
    growth: Growth,
    rounds: int,
) -> TreeModel:
    """Trees over hospitals, level by level, in 64-bit words."""
    locals_ = [
        LocalRows(bins, objective, one, target) for one, target in zip(rows, targets, strict=True)
    ]
    gradient, hessian = (fitting(sum(map(len, rows)), one, 64) for one in objective.largest)
    units = Units(gradient, hessian)
    bounded = any(one.monotone for one in bins.features)
    rules = Rules.of(growth, growth.min_child_weight, bounded)
    model = TreeModel(bins.features, objective, (), growth.num_parallel_tree)
    for number in range(rounds):
        growing = GrowingRound(bins, units, growth, rules, number, objective.outputs)
        whole = [one.gradients(units) for one in locals_]
        while asked := growing.asked():
            trees = growing.trees()
            parts = [
                one.level_sums(mine, trees, asked, growth, f"hospital {place}")
                for place, (one, mine) in enumerate(zip(locals_, whole, strict=True))
            ]
            growing.add(np.sum(parts, axis=0))
        for one in locals_:
            one.take_round(growing.trees(), model.parallel)
        model = TreeModel(
            model.features, objective, (*model.trees, *growing.trees()), model.parallel
        )
    return model


def pooled_xgboost(
    bins: Bins,
    objective: Objective,
    rows: Floats32,
    target: Floats,
    growth: Growth,
    rounds: int,
    **more: Any,
) -> tuple[xgboost.Booster, Floats32]:
    """xgboost's ``hist`` over all rows, each value replaced by its bin, and what it predicts."""
    places = bins.place(rows)
    codes = np.where(places == bins.places, np.nan, places - bins.starts[:, None]).T
    matrix = xgboost.DMatrix(
        codes.astype(np.float32),
        target,
        feature_types=["q" if one.number else "c" for one in bins.features],
        enable_categorical=True,
    )
    settings = {
        "objective": objective.name,
        "tree_method": "hist",
        "max_bin": 2048,
        "base_score": objective.base_score,
        "eta": growth.learning_rate,
        "max_depth": growth.max_depth,
        "min_child_weight": growth.min_child_weight,
        "gamma": growth.gamma,
        "lambda": growth.reg_lambda,
        "alpha": growth.reg_alpha,
        "max_delta_step": growth.max_delta_step,
        "num_parallel_tree": growth.num_parallel_tree,
        "max_cat_to_onehot": growth.max_cat_to_onehot,
        "max_cat_threshold": growth.max_cat_threshold,
        "nthread": 1,
        **({"num_class": objective.outputs} if objective.outputs > 1 else {}),
        **more,
    }
    booster = xgboost.train(settings, matrix, rounds)
    return booster, booster.predict(matrix)


def trees_of(booster: xgboost.Booster) -> list[dict[str, Any]]:
    """As xgboost has written them."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    found: list[dict[str, Any]] = model["trees"]
    return found
