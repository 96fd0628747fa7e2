"""Parameters of a party's part, their steps, and what bounds one person's part in a step.

Under noise a step is made of each person's own gradient, cut off at ``clip`` (L2), added, noised:
else later numbers, which other parties see, would tell of every earlier person by the weights
(Abadi et al. 2016, 1607.00133). Steps are Adam's (Kingma, Ba 2015, 1412.6980).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from wardround.common.errors import JointRefused
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import NoiseSource
from wardround.common.secagg.keys import derive

Named = dict[str, Tensor]
Objective = Callable[..., Tensor]
"""Parameters and rows of B persons to B numbers, each of its own person's row alone."""
GROWN = "the network's numbers aren't finite any more: lower procedure.learning_rate"
_FIRST, _SECOND, _LEAST = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Protection:
    """How what crosses is bounded.

    clip : of one person's numbers that cross in a step (L2), and of its gradient; None: not at all
    noise_multiplier : deviation of the noise on each number, over 2 ``clip``: the most that other
        values of that person can move them
    secret, session : noise is drawn from these, so that a party that was killed draws it again
    """

    clip: float | None
    noise_multiplier: float
    secret: bytes
    session: bytes

    def noised(self, values: NDArray[Any], purpose: str, number: int, each: int) -> NDArray[Any]:
        """Values with noise, in their shape, float32; as they are where there is none.

        purpose, number : what the draw is for
        each : how many of the numbers one person can move
        """
        if not np.isfinite(values).all():
            raise JointRefused(GROWN)
        if not self.noise_multiplier or self.clip is None:
            return values
        place = f"{purpose} {number}".encode()
        # bound to the values too: no other values ever carry the same noise, whatever a peer makes
        # of a step that is asked again
        own = hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()
        key = derive(self.secret, "split noise", self.session, place, own)
        grid = Grid.for_local(2 * self.clip, each)
        source = NoiseSource(key[:16], False)
        return grid.release(values, self.noise_multiplier, source).astype(np.float32)


def clipped(values: Tensor, clip: float | None) -> Tensor:
    """N x D, each row of norm at most ``clip`` (L2)."""
    if clip is None:
        return values
    norms = values.square().sum(dim=1, keepdim=True).clamp_min(1e-24).sqrt()
    return values * (clip / norms).clamp(max=1.0)


class Weights:
    """A module's parameters, and Adam's memory of their gradients.

    state : what ``state`` gave; None at the beginning
    """

    def __init__(
        self, module: nn.Module, rate: float, state: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        self._module, self._rate = module, rate
        self.named: Named = {n: p.detach().clone() for n, p in module.named_parameters()}
        self._first = {n: torch.zeros_like(p) for n, p in self.named.items()}
        self._second = {n: torch.zeros_like(p) for n, p in self.named.items()}
        self.steps = 0
        if state is not None:
            for part, found in self._parts():
                found.update({n: torch.from_numpy(state[f"{part}.{n}"].copy()) for n in found})
            self.steps = int(state["steps"])
        self._held: dict[str, NDArray[Any]] | None = None

    def _parts(self) -> list[tuple[str, Named]]:
        return [("weight", self.named), ("first", self._first), ("second", self._second)]

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it, as arrays that aren't altered later; the same ones until the next step."""
        if self._held is None:
            self._held = {"steps": np.array(self.steps)} | {
                f"{part}.{n}": t.numpy() for part, found in self._parts() for n, t in found.items()
            }
        return dict(self._held)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters."""
        return {name: tensor.numpy() for name, tensor in self.named.items()}

    def call(self, named: Named, *inputs: Tensor) -> Tensor:
        """The module with these parameters."""
        found: Tensor = functional_call(self._module, named, inputs)
        return found

    def gradient(self, objective: Objective, *rows: Tensor) -> Named:
        """Of the persons' mean objective."""
        found: Named = grad(lambda named: objective(named, *rows).mean())(self.named)
        return found

    def protected_gradient(
        self, objective: Objective, protection: Protection, purpose: str, *rows: Tensor
    ) -> Named:
        """``gradient``, with each person's bounded and the sum noised, where noise is asked for."""
        if not protection.noise_multiplier or protection.clip is None:
            return self.gradient(objective, *rows)

        def one(named: Named, *row: Tensor) -> Tensor:
            return objective(named, *(part[None] for part in row))[0]

        places = (None, *[0] * len(rows))
        each: Named = vmap(grad(one), in_dims=places)(self.named, *rows)
        flat = torch.cat([g.flatten(1) for g in each.values()], dim=1)
        total = clipped(flat, protection.clip).sum(0).double().numpy()
        noised = protection.noised(total, purpose, self.steps, len(total)) / len(flat)
        sizes = [g[0].numel() for g in each.values()]
        parts = torch.split(torch.from_numpy(noised).float(), sizes)
        shapes = [g.shape[1:] for g in each.values()]
        return {n: p.view(s) for n, p, s in zip(each, parts, shapes, strict=True)}

    def step(self, gradients: Named) -> None:
        """One of Adam's."""
        self.steps, self._held = self.steps + 1, None
        for name, found in gradients.items():
            first = _FIRST * self._first[name] + (1 - _FIRST) * found
            second = _SECOND * self._second[name] + (1 - _SECOND) * found.square()
            self._first[name], self._second[name] = first, second
            middle = first / (1 - _FIRST**self.steps)
            spread = (second / (1 - _SECOND**self.steps)).sqrt() + _LEAST
            self.named[name] = self.named[name] - self._rate * middle / spread
