"""What privacy rules out, said before anyone trains: settings, strategies, tasks, models."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.common.config.covers import check_covers
from wardround.common.config.load import Config
from wardround.common.errors import StrategyError, TaskError
from wardround.common.privacy.accounting import SMALLEST_DELTA, epsilon
from wardround.common.privacy.budget import announcement
from wardround.common.privacy.noise import LARGEST_SIGMA, SMALLEST_SIGMA
from wardround.common.tasks.base import Task

_LEAST_NOISE = 1e-3
_PER_HOSPITAL = ("scaffold", "feddyn", "fednova")
"""Strategies whose further arrays, or whose step counts, tell of a hospital what noise on its
update doesn't cover."""


_OTHER_STEPS = ("fedrep", "moon")
"""Strategies whose local steps aren't those of one loss on all that is trained."""


def check_settings(config: Config) -> None:
    """Raise ConfigError or StrategyError, by key and mend, for what can't be private together."""
    table = config.privacy
    if not table.enabled:
        return
    _check_numbers(config)
    training, secure = config.training, config.secure_aggregation
    if table.noise == "distributed" and not secure.enabled:
        raise config.error(
            "privacy.noise",
            "'distributed' noise is a share of each hospital that only a sum carries in full; set "
            "secure_aggregation.enabled = true, or privacy.noise = 'local'",
        )
    check_covers(config)
    if not config.procedure.trains:
        return  # what follows is of updates
    if table.noise != "local" or table.unit == "hospital":
        if secure.enabled and secure.bits != 32:
            raise config.error(
                "secure_aggregation.bits", "noise needs a ring of 32 bits; set bits = 32"
            )
        if config.strategy.weighting == "examples":
            raise config.error(
                "strategy.weighting",
                "a hospital's weight would tell its size, and raise what noise must hide; set "
                "'uniform' or 'auto'",
            )
    _check_strategy(config)
    if table.unit != "hospital":
        _check_training(config)
    if table.unit != "hospital" and training.max_grad_norm is not None:
        raise config.error(
            "training.max_grad_norm",
            "privacy clips every unit's gradient already; use privacy.clipping_norm",
        )
    if table.summed:
        _check_summed(config)
    if table.unit == "hospital" and config.strategy.name in _PER_HOSPITAL:
        raise StrategyError(
            f"strategy '{config.strategy.name}' sends more of a hospital than its clipped update; "
            "with privacy.unit = 'hospital' use fedavg, fedprox, fedavgm, fedadam, fedadagrad, "
            "fedyogi or fedbn"
        )


def _check_strategy(config: Config) -> None:
    """Hospitals' halves of strategies that no accountant knows of."""
    if config.strategy.keeps == "model":
        raise StrategyError(
            f"strategy '{config.strategy.name}' trains a model of each hospital's own, without "
            "noise, and what is told of it would be of its rows; with [privacy] use "
            "fedavg, fedprox or personal_layers, or leave [privacy] out"
        )
    if config.strategy.name in _OTHER_STEPS:
        raise StrategyError(
            f"strategy '{config.strategy.name}' makes other local steps than privacy accounts for; "
            "with [privacy] use fedavg, fedprox, fedper or personal_layers"
        )


def _check_training(config: Config) -> None:
    """What steps on clipped gradients can't do."""
    training, place = config.training, f"with privacy.unit = '{config.privacy.unit}'"
    if training.distillation:
        raise config.error(
            "training.distillation",
            f"{place} a unit's gradient is of the task's loss alone; set it to 0",
        )
    if training.checkpoint_activations:
        raise config.error(
            "training.checkpoint_activations",
            f"{place} every layer's input is kept until its part of a unit's gradient is "
            "clipped; set it to false, and training.micro_batch_size to save memory",
        )
    if training.compile:
        raise config.error(
            "training.compile",
            f"{place} each layer is watched by itself, which a compiled model hides; set it to "
            "false",
        )


def _check_numbers(config: Config) -> None:
    """What no accountant or generator can work with, and a budget that sizes alone use up."""
    table = config.privacy
    if table.delta < SMALLEST_DELTA:
        raise config.error("privacy.delta", f"must be at least {SMALLEST_DELTA:g}")
    if table.noise_multiplier is not None and table.noise_multiplier < _LEAST_NOISE:
        raise config.error(
            "privacy.noise_multiplier", f"below {_LEAST_NOISE:g} it protects nobody; raise it"
        )
    if not (releases := announcement(table)):
        return
    if not SMALLEST_SIGMA <= table.size_noise <= LARGEST_SIGMA:
        raise config.error(
            "privacy.size_noise", f"must be between {SMALLEST_SIGMA:g} and {LARGEST_SIGMA:g}"
        )
    sizes = epsilon(releases, table.delta)
    if table.epsilon is not None and sizes >= table.epsilon:
        raise config.error(
            "privacy.size_noise",
            f"announcing sizes with this noise costs epsilon {sizes:.3g} and leaves nothing of "
            f"{table.epsilon:g} for training; raise it",
        )


def _check_summed(config: Config) -> None:
    training, unit = config.training, config.privacy.unit
    place = f"with privacy.unit = '{unit}' and '{config.privacy.noise}' noise"
    if training.local_steps != 1:
        raise config.error(
            "training.local_steps",
            f"{place} each round is one step on the hospitals' summed gradient; set local_steps = "
            "1 (and more rounds), or privacy.noise = 'local'",
        )
    plain = training.optimizer == "sgd" and not training.momentum and not training.weight_decay
    if not plain:
        raise config.error(
            "training.optimizer",
            f"{place} the server takes the step; set optimizer = 'sgd' without momentum and "
            "weight_decay, and choose a strategy such as fedavgm or fedadam",
        )
    if config.strategy.name in ("scaffold", "feddyn") or config.strategy.keeps:
        raise StrategyError(
            f"strategy '{config.strategy.name}' {place}: what it keeps at a hospital would not be "
            "protected; use fedavg, fedprox, fednova, fedavgm, fedadam, fedadagrad or fedyogi "
            "without personal_layers, or privacy.noise = 'local'"
        )


def check_task(config: Config, task: Task[Any]) -> None:
    """Raise TaskError where the task's loss has no meaning for a single unit."""
    if config.privacy.unit in ("example", "patient") and task.coupled_examples:
        raise TaskError(
            f"this task's loss of one row depends on the others of its batch, so no single "
            f"{config.privacy.unit} can be protected in it; use privacy.unit = 'hospital'"
        )


def check_model(config: Config, model: nn.Module, personal: list[str]) -> None:
    """Raise TaskError for batch normalisation that would leave the hospital, or parameters of
    bfloat16, by layer and mend."""
    if not config.privacy.enabled:
        return
    for name, p in model.named_parameters():
        if p.requires_grad and str(p.dtype) == "torch.bfloat16":
            raise TaskError(
                f"'{name}' is of bfloat16, whose gradients no clipping bounds exactly; with "
                "[privacy] a model's trained parameters are of float32"
            )
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            own = {f"{name}.{key}" if name else key for key in module.state_dict()}
            kept = own <= set(personal)
            if config.privacy.unit != "hospital":
                why = "mixes the rows of a batch, so no single unit can be protected"
            elif not kept:
                why = "has running statistics that no noise covers; keep it local ('fedbn')"
            else:
                continue
            raise TaskError(
                f"layer '{name}' ({type(module).__name__}) {why}; or use layer or group "
                "normalisation (tabular: task.model.norm = 'layer')"
            )
