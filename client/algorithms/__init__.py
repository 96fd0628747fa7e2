"""The client's half of each strategy, by the name that training requests carry.

What an algorithm adds to a gradient, remembers and sends besides the model. It never trains.
"""

from __future__ import annotations

from wardround.client.algorithms.apfl import Apfl
from wardround.client.algorithms.base import LocalAlgorithm, Plain
from wardround.client.algorithms.ditto import Ditto
from wardround.client.algorithms.feddyn import FedDyn
from wardround.client.algorithms.fednova import FedNova
from wardround.client.algorithms.fedrep import FedRep
from wardround.client.algorithms.moon import Moon
from wardround.client.algorithms.scaffold import Scaffold

ALGORITHMS: dict[str, type[LocalAlgorithm]] = {
    "plain": Plain,
    "scaffold": Scaffold,
    "fednova": FedNova,
    "feddyn": FedDyn,
    "fedrep": FedRep,
    "ditto": Ditto,
    "apfl": Apfl,
    "moon": Moon,
}

__all__ = ["ALGORITHMS", "LocalAlgorithm"]
