"""FedNova, client side (Wang et al. 2020, arXiv 2007.07481), for plain SGD: a_i = K local steps.

Sends x - d_i with d_i = (x - y) / a_i instead of y, so that the server's weighted mean is that of
the normalised updates, also where only the mean is known.
"""

from __future__ import annotations

from typing import Any

from wardround.client.algorithms.base import LocalAlgorithm, to_arrays
from wardround.common.flower.arrays import Arrays


class FedNova(LocalAlgorithm):
    """Divides the local change by the number of steps that made it."""

    @staticmethod
    def scale(steps: Any) -> Any:
        return 1.0 / steps

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        normalised = {
            name: x + (self.parameters[name].detach() - x) / steps for name, x in self.start.items()
        }
        arrays.update(to_arrays(normalised))
        return {}
