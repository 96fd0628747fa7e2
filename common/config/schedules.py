"""The learning rate of each round.

With warm-up W, round r <= W (from 1) gets r / (W + 1) of ``lr``. Then, with s = r - 1 - W rounds
done and S = R - W rounds from there to the last one, ``lr`` is multiplied with:

| ``training.schedule`` | factor                                             |
|-----------------------|----------------------------------------------------|
| exponential           | lr_decay^s                                         |
| step                  | lr_decay^floor(s / step_rounds)                    |
| constant              | 1                                                  |
| linear                | 1 - s / S                                          |
| cosine                | (1 + cos(pi s / S)) / 2 (Loshchilov and Hutter     |
|                       | 2017, arXiv 1608.03983, one period)                |

Linear and cosine would reach zero one round after the last: no round trains with a rate of zero.
"""

from __future__ import annotations

import math

from wardround.common.settings import TrainingTable


def learning_rate(training: TrainingTable, server_round: int, rounds: int) -> float:
    """The local learning rate of ``server_round`` (from 1) in a run of ``rounds`` rounds."""
    warm = training.warmup_rounds
    if server_round <= warm:
        return training.lr * max(1, server_round) / (warm + 1)
    length = max(1, rounds - warm)
    done = max(0, server_round - 1 - warm)
    if training.schedule == "exponential":
        return training.lr * training.lr_decay**done
    if training.schedule == "step":
        return training.lr * training.lr_decay ** (done // training.step_rounds)
    if training.schedule == "constant":
        return training.lr
    share = min(done, length - 1) / length
    if training.schedule == "linear":
        return training.lr * (1.0 - share)
    return training.lr * (1.0 + math.cos(math.pi * share)) / 2.0
