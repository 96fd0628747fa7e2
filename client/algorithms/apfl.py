"""APFL, client side (Deng et al. 2020, arXiv 2003.13461, algorithm 1).

w <- w - eta grad f(w)                                       the shared model, sent
v <- v - eta a grad f(m),   m = a v + (1 - a) w              by the same batch
a <- a - eta <v - w, grad f(m)>              if it adapts: once a round, at its start

m is the hospital's model: it stays, and is what is evaluated. Before its first round v is w as it
was received.
"""

from __future__ import annotations

import numpy as np

from wardround.client.algorithms.base import LocalAlgorithm
from wardround.common.flower.arrays import Arrays

_OWN, _SHARE = "v", "mixing"


class Apfl(LocalAlgorithm):
    """Of the shared model FedAvg's client; keeps v and a, and m for evaluation.

    mixed : m after the round, all shared entries; set by whoever trains
    """

    keeps_start = False
    at_once = False
    has_own_model = True
    mixed: Arrays

    def own(self) -> tuple[Arrays, float] | None:
        """v, its trained parameters by name, and a; None before the first round."""
        kept, share = (self.state.load(name, self.state_round) for name in (_OWN, _SHARE))
        return (kept, float(share[_SHARE][0])) if kept and share else None

    def keep(self, own: Arrays, share: float, mixed: Arrays) -> None:
        """Keep v and a as they are after this round; m is kept by the round's end."""
        self.state.save(_OWN, own, self.server_round, self.state_round)
        shares = {_SHARE: np.array([share])}
        self.state.save(_SHARE, shares, self.server_round, self.state_round)
        self.mixed = mixed
