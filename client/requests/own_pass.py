"""Training of a hospital's own model, beside its part in the shared one.

The own model is of the shared one's form, begins as that was when the hospital first trained, and
lies in the hospital's state (``PERSONAL``): of it nothing leaves but what evaluation says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wardround.client.algorithms.apfl import Apfl
from wardround.client.algorithms.base import LocalAlgorithm
from wardround.client.algorithms.ditto import Ditto, Pull
from wardround.client.data.hospital import Hospital
from wardround.client.requests.kept import PERSONAL
from wardround.client.requests.ordinary import ordinary
from wardround.client.requests.received import Received
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import load_arrays, model_arrays
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.settings.personal import DittoOptions


@dataclass(frozen=True)
class Pulled:
    """Where a round's training of an own model starts, and what it is pulled to.

    start : v, all entries that are shared
    towards : w, the model as it was received
    weight : lambda, of lambda / 2 |v - w|^2
    """

    start: Arrays
    towards: Arrays
    weight: float


def pulled(hospital: Hospital, received: Received, algorithm: LocalAlgorithm) -> Pulled | None:
    """What Ditto's second training begins with; None for another strategy."""
    settings = hospital.config.strategy.settings
    if not isinstance(algorithm, Ditto) or not isinstance(settings, DittoOptions):
        return None
    start = algorithm.state.load(PERSONAL, algorithm.state_round) or received.arrays
    return Pulled(start, received.arrays, settings.pull)


@with_ordinary_torch
def train_own(hospital: Hospital, received: Received, algorithm: LocalAlgorithm) -> Arrays | None:
    """The hospital's own model after a round, all entries that are shared; None for a strategy that
    has none. ``received.model`` is moved, and holds it.

    Raises as ordinary training does.
    """
    if isinstance(algorithm, Apfl):
        return algorithm.mixed  # it moved with the shared one's steps
    own, model = pulled(hospital, received, algorithm), received.model
    if own is None:
        return None
    load_arrays(model, own.start)
    # (a simulation trains many at once: then an algorithm's parameters aren't the model's)
    parameters: dict[str, Tensor] = {
        k: p for k, p in model.named_parameters() if k in algorithm.parameters
    }
    towards = {
        name: torch.from_numpy(own.towards[name].copy()).to(p.device)
        for name, p in parameters.items()
    }
    pull = Pull(parameters, algorithm.request, algorithm.state, towards, own.weight)
    seed = (hospital.config.federation.seed, algorithm.server_round, hospital.name)
    ordinary(hospital, model, received.training_examples, pull, seed)
    return model_arrays(model)
