"""Weights of leaves and gains of splits, rounded where xgboost rounds: sums are float64, each
weight and each side's gain float32. Equal gains are then equal in both, and ties fall alike.

For sums G of gradients and H of hessians, lambda and alpha of the plan:

    T(G)  = G less alpha towards 0
    w     = -T(G) / (H + lambda)                    within bounds, and 0 below min_child_weight
    gain  = T(G)^2 / (H + lambda)                   where w is free
          = -(2 G w + (H + lambda) w^2)             where w is bounded
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.features import LARGEST, Floats32
from wardround.common.trees.plan import Growth

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What weights and gains depend on, as float32 has it.

    least : smallest sum of hessians of a child
    limit : largest magnitude of a weight; 0 for none
    bounded : whether any feature is monotone
    fewest_rows : of a child, where rows are counted
    """

    reg_lambda: float
    reg_alpha: float
    gamma: float
    least: float
    limit: float
    bounded: bool
    fewest_rows: int = 1

    @classmethod
    def of(cls, growth: Growth, least: float, bounded: bool, fewest_rows: int = 1) -> Rules:
        """By the plan. least : as ``plan.least_hessian`` gives it"""
        reg_lambda, reg_alpha, gamma, smallest, limit = (
            float(np.float32(one))
            for one in (
                growth.reg_lambda,
                growth.reg_alpha,
                growth.gamma,
                least,
                growth.max_delta_step,
            )
        )
        return cls(reg_lambda, reg_alpha, gamma, smallest, limit, bounded, fewest_rows)

    def _shrunk(self, gradient: Floats) -> Floats:
        if not self.reg_alpha:
            return gradient
        return np.sign(gradient) * np.maximum(np.abs(gradient) - self.reg_alpha, 0)

    def free_weight(self, gradient: Floats, hessian: Floats) -> Floats32:
        """w without a monotone bound."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = -self._shrunk(gradient) / (hessian + self.reg_lambda)
        if self.limit:
            found = np.clip(found, -self.limit, self.limit)
        found = np.where((hessian < self.least) | (hessian <= 0), 0.0, found)
        return found.astype(np.float32)

    def weight(
        self, gradient: Floats, hessian: Floats, lower: Floats32, upper: Floats32
    ) -> Floats32:
        """w."""
        found = self.free_weight(gradient, hessian)
        return np.clip(found, lower, upper) if self.bounded else found

    def gain(self, gradient: Floats, hessian: Floats, weight: Floats32) -> Floats32:
        """Of one side with that weight."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.bounded or self.limit:
                wide = weight.astype(np.float64)
                found = -(2 * gradient * wide + (hessian + self.reg_lambda) * wide * wide)
            else:
                shrunk = self._shrunk(gradient)
                found = shrunk * shrunk / (hessian + self.reg_lambda)
            return np.where(hessian <= 0, 0.0, found).astype(np.float32)


NO_BOUNDS = (np.float32(-LARGEST), np.float32(LARGEST))
