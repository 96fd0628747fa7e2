"""Ditto, client side (Li et al. 2021, arXiv 2012.04221, algorithm 1).

w <- K local steps from the received model, on its loss alone; send w (FedAvg)
v <- v - eta (grad F(v) + lambda (v - w_t))      K local steps, w_t the model as received

v is the hospital's own model: it stays, and is what is evaluated. Before its first round it is w_t.
"""

from __future__ import annotations

from torch import Tensor

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.client.state import ClientState
from wardround.common.protocol.train import TrainRequest


class Ditto(LocalAlgorithm):
    """Of the shared model FedAvg's client."""

    keeps_start = False
    has_own_model = True


class Pull(LocalAlgorithm):
    """Of a model of the hospital's own, pulled to another: lambda (v - w) is added to a gradient,
    in the form that all have, lambda (v - v_0) + lambda (v_0 - w).

    Parameters
    ----------
    parameters : the own model's, holding v_0; updated in place by training
    towards : w, by the same names
    weight : lambda
    """

    def __init__(
        self,
        parameters: dict[str, Tensor],
        request: TrainRequest,
        state: ClientState,
        towards: dict[str, Tensor],
        weight: float,
    ) -> None:
        self._towards = towards
        super().__init__(parameters, request, state)
        self.proximal = weight

    def begin(self) -> None:
        self._apart = {name: v - self._towards[name] for name, v in self.start.items()}

    def shift(self) -> dict[str, Tensor]:
        if not self.proximal:
            return {}
        return {name: self.proximal * apart for name, apart in self._apart.items()}
