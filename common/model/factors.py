"""Where low-rank factors are combined by another rule than their mean: what goes with it."""

from __future__ import annotations

from collections.abc import Collection

from wardround.common.config.load import Config
from wardround.common.tasks.low_rank import LowRank

_PLAIN = ("fedavg", "fedprox")
"""Strategies whose next model is the mean of the hospitals', no more."""


def check_factors(config: Config, factors: LowRank | None, personal: Collection[str]) -> None:
    """Raise ConfigError, by key and mend, for what would make another mean than the rule's.

    personal : names of the entries that stay at hospitals
    """
    if factors is None:
        return
    told = any(pair.probes for pair in factors.pairs)
    key = "task.lora_error" if told else "task.lora_aggregation"
    value = "true" if told else f"'{factors.aggregation}'"
    if config.privacy.enabled:
        raise config.error(
            key,
            f"with {value} more leaves a hospital than [privacy] clips and noises; leave it out, "
            "or set task.tuning = 'ffa_lora', whose mean is exact",
        )
    if config.strategy.name not in _PLAIN:
        raise config.error(
            key,
            f"{value} is about the mean of the hospitals' models, and strategy "
            f"'{config.strategy.name}' makes another; set strategy.name = 'fedavg' or 'fedprox'",
        )
    if config.compression.enabled:
        raise config.error(
            key,
            f"{value} is for an exact mean, and [compression] rounds what is averaged; leave one "
            "of the two out",
        )
    if kept := sorted(set(personal) & set(factors.names)):
        raise config.error(
            "strategy.personal_layers",
            f"{kept[0]} stays at each hospital, so its product can't be averaged; leave adapters "
            "out of the patterns, or task.lora_aggregation and task.lora_error out",
        )
