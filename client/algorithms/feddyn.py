"""FedDyn, client side (Acar et al. 2021, arXiv 2111.04263, algorithm 1).

y <- argmin L_i(y) - <h_i, y> + alpha/2 |y - x|^2      (here: K steps of the local optimiser)
h_i <- h_i - alpha (y - x);   send y
"""

from __future__ import annotations

from flwr.app import RecordDict
from torch import Tensor

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import Arrays

LAGRANGE = "lagrange"
ALPHA = "feddyn-alpha"


class FedDyn(LocalAlgorithm):
    """Adds the dynamic regulariser's gradient, alpha (y - x) - h_i, and keeps h_i."""

    def __init__(
        self,
        parameters: dict[str, Tensor],
        request: RecordDict,
        state: ClientState,
        start: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(parameters, request, state, start)
        alpha = self.config.get(ALPHA)
        if not isinstance(alpha, float) or not 0 < alpha < float("inf"):
            raise ReplyRefused(f"the request's {ALPHA} must be a positive number")
        self.proximal = alpha
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
