"""What a strategy changes inside local training: gradients before a step, records after the last.

Notation, as in the papers: x the model received, y the local model, K local steps, eta_l the local
learning rate. Only trainable parameters that are shared take part; buffers and personal layers
don't.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.state import ClientState
from wardround.common.flower.arrays import Arrays, Layout, layout_of
from wardround.common.model.named import to_numpy, to_tensor
from wardround.common.protocol.strategy import PROXIMAL_MU
from wardround.common.protocol.train import TrainRequest


class LocalAlgorithm:
    """Plain local training; subclasses override the hooks they need.

    Parameters
    ----------
    parameters : the shared trainable parameters by name, holding x; updated in place by training
    request : the training request
    state : what this client remembers
    start : copies of ``parameters``, where the caller has them; they aren't changed
    """

    request_records: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays' records that a request must have, besides the model."""
    keeps_start = True
    """Whether ``start``, a copy of x, is always needed."""
    at_once: ClassVar[bool] = True
    """Whether its local work is plain steps on all parameters with these terms, so that a
    simulation may train many clients together and a hospital in several processes."""
    has_own_model: ClassVar[bool] = False
    """Whether the hospital has a whole model of its own beside the shared one."""
    proximal = 0.0
    """a in g + a (y - x) + shift, which is what every strategy makes of a gradient g."""

    def __init__(
        self,
        parameters: dict[str, Tensor],
        request: TrainRequest,
        state: ClientState,
        start: dict[str, Tensor] | None = None,
    ) -> None:
        self.parameters = parameters
        self.request = request
        self.state = state
        self.server_round = request.model.server_round
        self.state_round = request.model.state_round
        self.start: dict[str, Tensor] = {}
        self._given = start
        if self.keeps_start:
            self.keep_start()
        self.begin()

    def keep_start(self) -> None:
        """Have ``start``."""
        self.start = copies(self.parameters) if self._given is None else self._given

    def begin(self) -> None:
        """What is read once, before the first step: from the request, and what is remembered."""

    def shift(self) -> dict[str, Tensor]:
        """What is added to the gradient of each parameter at every step; {} for nothing."""
        return {}

    @staticmethod
    def scale(steps: Any) -> Any:
        """What y - x is multiplied with before it leaves, by a number (or an array) of steps: 1,
        of the shape of ``steps``. FedNova's is 1 / steps."""
        return steps * 0.0 + 1.0

    @staticmethod
    def sent(start: NDArray[Any], trained: NDArray[Any], steps: Any) -> NDArray[Any]:
        """Of a parameter what leaves instead of y, by x and how many steps made it, to the bit what
        ``finish`` makes of it; a row for each client, or one."""
        return trained

    def adjust_gradients(self) -> None:
        """Change ``.grad`` of the parameters in place, after backward and before the step."""
        adjust(self.parameters, self.start, self.proximal, self.shift())

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        """After the last step: alter the outgoing ``arrays`` in place, return further records."""
        return {}

    def reply_records(self, parameters: Layout) -> dict[str, Layout]:
        """What ``finish`` returns, known beforehand; ``parameters``: the layout of theirs."""
        return {}

    def received(self, name: str) -> dict[str, Tensor]:
        """A record of the request that mirrors the parameters. RequestRefused if it doesn't."""
        return to_tensors(self.request.record(name, layout_of(to_arrays(self.start))))

    def remembered(self, name: str) -> dict[str, Tensor]:
        """This client's own arrays from its last accepted round; zeros before the first. Not from
        its newest: a round that the server refused, or repeats, must find what was there before."""
        arrays = self.state.load(name, self.state_round)
        if arrays is None:
            return {key: torch.zeros_like(value) for key, value in self.start.items()}
        return to_tensors(arrays)

    def remember(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Keep the tensors as this round's version."""
        self.state.save(name, to_arrays(tensors), self.server_round, self.state_round)


class Plain(LocalAlgorithm):
    """FedAvg's client, and FedProx's when the request carries ``proximal-mu``.

    FedProx (Li et al. 2020, arXiv 1812.06127) adds mu/2 |y - x|^2 to the loss, so mu (y - x) to the
    gradient.
    """

    keeps_start = False

    def begin(self) -> None:
        self.proximal = self.request.setting(PROXIMAL_MU, 0.0)
        if self.proximal:
            self.keep_start()


def adjust(
    parameters: dict[str, Tensor],
    start: dict[str, Tensor],
    proximal: float,
    shift: dict[str, Tensor],
) -> None:
    """g <- g + proximal (y - start) + shift, for the gradient of each parameter y that has one."""
    if not proximal and not shift:
        return
    for name, y in parameters.items():
        if y.grad is not None:
            if proximal:
                y.grad.add_(y.detach() - start[name], alpha=proximal)
            if shift:
                y.grad.add_(shift[name])


def copies(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the values, without gradients."""
    return {name: p.detach().clone() for name, p in parameters.items()}


def to_arrays(tensors: dict[str, Tensor]) -> Arrays:
    """Numpy copies of the tensors."""
    return {name: to_numpy(t).copy() for name, t in tensors.items()}


def to_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Tensors of the arrays."""
    return {name: to_tensor(a) for name, a in arrays.items()}
