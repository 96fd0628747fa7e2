"""Mixed precision: forward and loss in 16 bits where torch deems it safe, all else in float32.

Parameters, their gradients, optimiser and updates stay float32; so do outputs, losses and figures
(``common/model/precision.py``).
"""

from __future__ import annotations

import torch

from wardround.client.training.devices import no_device
from wardround.common.config.load import Config
from wardround.common.settings import TrainingTable

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


def make_scaler(training: TrainingTable) -> torch.amp.GradScaler | None:
    """For fp16, whose gradients would vanish unscaled: grows and shrinks a factor on the loss, and
    leaves out a step whose gradients overflow. It counts as a step."""
    if training.precision != "fp16":
        return None
    kind = torch.device(training.device).type
    return torch.amp.GradScaler(kind, init_scale=_FIRST_SCALE)
