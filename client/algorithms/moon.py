"""MOON, client side (Li et al. 2021, arXiv 2103.16257, algorithm 1).

The loss has a term of three models' representations of a row (``training/contrast.py``): the local
one's, the received one's, and that of the local model which this hospital sent last.
"""

from __future__ import annotations

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.common.flower.arrays import Arrays

SENT = "sent"


class Moon(LocalAlgorithm):
    """Keeps the local model of its last accepted round."""

    keeps_start = False
    at_once = False

    def last_sent(self) -> Arrays | None:
        """The shared entries of that model; None before there is one."""
        return self.state.load(SENT, self.state_round)

    def finish(self, arrays: Arrays, steps: int, lr: float) -> dict[str, Arrays]:
        self.state.save(SENT, arrays, self.server_round, self.state_round)
        return {}
