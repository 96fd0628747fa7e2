"""FedDyn, client side (Acar et al. 2021, arXiv 2111.04263, algorithm 1).

y <- argmin L_i(y) - <h_i, y> + alpha/2 |y - x|^2      (here: K steps of the local optimiser)
h_i <- h_i - alpha (y - x);   send y
"""

from __future__ import annotations

from torch import Tensor

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.common.flower.arrays import Arrays
from wardround.common.protocol.strategy import FEDDYN_ALPHA

LAGRANGE = "lagrange"


class FedDyn(LocalAlgorithm):
    """Adds the dynamic regulariser's gradient, alpha (y - x) - h_i, and keeps h_i."""

    def begin(self) -> None:
        self.proximal = self.request.setting(FEDDYN_ALPHA)
        h_i = {k: v.to(self.start[k].device) for k, v in self.remembered(LAGRANGE).items()}
        self._minus_h_i = {name: -value for name, value in h_i.items()}

    def shift(self) -> dict[str, Tensor]:
        return self._minus_h_i

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        self.remember(
            LAGRANGE,
            {
                name: -self._minus_h_i[name] - self.proximal * (self.parameters[name].detach() - x)
                for name, x in self.start.items()
            },
        )
        return {}
