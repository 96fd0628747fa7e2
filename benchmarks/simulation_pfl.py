"""pfl-research's side of ``benchmarks.simulation``; runs in an environment of its own.

    .peers/pfl/bin/python -m benchmarks.simulation_pfl SIDE WORKLOAD CLIENTS ROUNDS

SIDE: 'pfl'; 'pfl-private' (each update clipped, Gaussian noise on the sum); 'pfl-local' (each
update clipped, and noise on each: it has no DP-SGD).

Prints the seconds of each round through pfl's own public API: simulated backend, federated
averaging, one process and one thread, which was its fastest form for these models.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByUser
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from pfl.privacy.gaussian_mechanism import GaussianMechanism
from pfl.privacy.privacy_mechanism import CentrallyAppliedPrivacyMechanism

from benchmarks.simulation_work import BATCH, EXAMPLES, LR, WORKLOADS, pooled


def gaussian() -> GaussianMechanism:
    """The norm and noise of our side."""
    return GaussianMechanism(clipping_bound=0.5, relative_noise_stddev=0.5)


PRIVATE: dict[str, Callable[[], list[Any]]] = {
    "pfl": lambda: [],
    "pfl-private": lambda: [CentrallyAppliedPrivacyMechanism(gaussian())],
    "pfl-local": lambda: [gaussian()],
}


class Clock(TrainingProcessCallback):
    """Notes when each central iteration ends."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_begin(self, *, model: Any) -> Metrics:
        self.stamps = [time.perf_counter()]
        return Metrics()

    def after_central_iteration(self, *args: Any, **kwargs: Any) -> tuple[bool, Metrics]:
        self.stamps.append(time.perf_counter())
        return False, Metrics()


def loss(self: Any, x: Any, y: Any, eval: bool = False) -> Any:
    """What pfl asks a model for."""
    self.eval() if eval else self.train()
    return F.cross_entropy(self(x), y)


def metrics(self: Any, x: Any, y: Any, eval: bool = True) -> Any:
    """The same; nothing is evaluated."""
    return {"loss": Weighted(0.0, 1)}


def main() -> None:
    """Run and print."""
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    side, name, clients, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model = WORKLOADS[name].make()
    model.loss = types.MethodType(loss, model)  # type: ignore[assignment]
    model.metrics = types.MethodType(metrics, model)  # type: ignore[assignment]
    inputs, targets = pooled(name, clients)
    users = list(zip(inputs.split(EXAMPLES), targets.split(EXAMPLES), strict=True))
    sampler = get_user_sampler("minimize_reuse", range(clients))
    backend = SimulatedBackend(
        training_data=FederatedDataset.from_slices(users, sampler),
        val_data=None,
        postprocessors=[WeightByUser(), *PRIVATE[side]()],
    )
    clock = Clock()
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds + 1,
            evaluation_frequency=10**6,
            train_cohort_size=clients,
            val_cohort_size=0,
        ),
        backend=backend,
        model=PyTorchModel(
            model=model,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(model.parameters(), 1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_learning_rate=LR, local_num_epochs=1, local_batch_size=BATCH
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=100),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    seconds = np.diff(clock.stamps)[1:]  # the first iteration evaluates every user
    print("RESULT " + json.dumps(seconds.tolist()), flush=True)


if __name__ == "__main__":
    main()
