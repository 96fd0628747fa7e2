"""SCAFFOLD, client side (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1, option II).

y <- x
repeat K times:  y <- y - eta_l (g(y) - c_i + c)
c_i+ <- c_i - c + (x - y) / (K eta_l)
send y, c_i+ - c_i;   c_i <- c_i+
"""

from __future__ import annotations

from torch import Tensor

from wardround.client.algorithms.base import LocalAlgorithm, to_arrays
from wardround.common.flower.arrays import Arrays, Layout
from wardround.common.protocol.names import CONTROL


class Scaffold(LocalAlgorithm):
    """Corrects every gradient by c - c_i and reports the change of c_i as record ``control``."""

    request_records = (CONTROL,)

    def begin(self) -> None:
        self.c = {k: v.to(self.start[k].device) for k, v in self.received(CONTROL).items()}
        self.c_i = {k: v.to(self.start[k].device) for k, v in self.remembered(CONTROL).items()}
        self.correction = {name: self.c[name] - self.c_i[name] for name in self.c}

    def shift(self) -> dict[str, Tensor]:
        return self.correction

    def reply_records(self, parameters: Layout) -> dict[str, Layout]:
        return {CONTROL: parameters}

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        c_i_plus = {
            name: (x - self.parameters[name].detach()) / (steps * lr) - self.correction[name]
            for name, x in self.start.items()
        }
        self.remember(CONTROL, c_i_plus)
        return {CONTROL: to_arrays({name: c_i_plus[name] - self.c_i[name] for name in c_i_plus})}
