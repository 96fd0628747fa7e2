"""Mixed precision: forward and loss in 16 bits where torch deems it safe, all else in float32.

Parameters, their gradients, optimiser and updates stay float32; so do outputs, losses and figures
(``common/model/precision.py``).
"""

from __future__ import annotations

import time
from functools import cache

import torch
from torch import Tensor, nn

from wardround.client.training.devices import no_device
from wardround.common.config.load import Config
from wardround.common.settings import TrainingTable

_SLOWER = 1.2
_SIZE, _TRIES = 256, 4
_FIRST_SCALE = 2.0**10
"""Low enough that a round, which begins anew, loses hardly a step in finding its scale."""


def check_precision(config: Config) -> None:
    """Raise ConfigError, by key and mend, for a precision that can't be had here."""
    training = config.training
    if why := no_device(training.device):
        raise config.error("training.device", f"{training.device!r:.40} is {why}")
    if training.precision != "fp16":
        return
    if torch.device(training.device).type != "cuda":
        raise config.error(
            "training.precision",
            f"'fp16' needs a GPU, and training.device is '{training.device}'; set 'bf16' or "
            "'float32'",
        )
    if config.privacy.unit in ("example", "patient"):
        raise config.error(
            "training.precision",
            "'fp16' scales losses by what the rows' gradients are, which no noise covers; with "
            f"privacy.unit = '{config.privacy.unit}' set 'bf16' or 'float32'",
        )


def slow_precision(training: TrainingTable) -> str:
    """What to know where this processor takes longer with bf16 than with float32; '' where not.

    Measured once in a process, in about 10 ms: processors without instructions for it emulate it.
    """
    if training.precision != "bf16" or torch.device(training.device).type != "cpu":
        return ""
    ratio = bf16_ratio()
    if ratio <= _SLOWER:
        return ""
    return (
        f"training.precision = 'bf16' takes {ratio:.1f} times as long as 'float32' on this "
        "processor, which has no instructions for it; 'float32' is faster"
    )


@cache
def bf16_ratio() -> float:
    """Processor time of a training step of a small network in bf16, by that in float32: the best
    of some tries each."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        net, inputs = nn.Linear(_SIZE, _SIZE), torch.ones(_SIZE, _SIZE)
        times = {one: min(_step(net, inputs, one) for _ in range(_TRIES)) for one in (False, True)}
    return times[True] / max(times[False], 1e-9)


def _step(net: nn.Module, inputs: Tensor, narrow: bool) -> float:
    start = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        net(inputs).float().sum().backward()
    return time.process_time() - start


def make_scaler(training: TrainingTable) -> torch.amp.GradScaler | None:
    """For fp16, whose gradients would vanish unscaled: grows and shrinks a factor on the loss, and
    leaves out a step whose gradients overflow. It counts as a step."""
    if training.precision != "fp16":
        return None
    kind = torch.device(training.device).type
    return torch.amp.GradScaler(kind, init_scale=_FIRST_SCALE)
