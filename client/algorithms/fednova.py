"""FedNova, client side (Wang et al. 2020, arXiv 2007.07481), for plain SGD: a_i = K local steps.

Sends x - d_i with d_i = (x - y) / a_i instead of y, so that the server's weighted mean is that of
the normalised updates, also where only the mean is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import to_numpy


class FedNova(LocalAlgorithm):
    """Divides the local change by the number of steps that made it."""

    @staticmethod
    def scale(steps: Any) -> Any:
        return 1.0 / steps

    @staticmethod
    def sent(start: NDArray[Any], trained: NDArray[Any], steps: Any) -> NDArray[Any]:
        sent: NDArray[Any] = start + (trained - start) / np.asarray(steps, trained.dtype)
        return sent

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        for name, x in self.start.items():
            y = self.parameters[name].detach()
            arrays[name] = self.sent(to_numpy(x), to_numpy(y), steps)
        return {}
