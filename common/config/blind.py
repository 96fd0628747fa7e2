"""What can't go with a coordinator that can't read the model: by key and mend, before training.

A blind server knows no mean. What works on one must be what hospitals do themselves, each the same:
the strategies of ``common/secagg/server_step.py``, and nothing that another table makes of it.
"""

from __future__ import annotations

from typing import Any, Protocol

from wardround.common.config import pace
from wardround.common.settings.key_errors import WrongKey

_MEANS = ("apfl", "ditto", "fedavg", "fedbn", "fedper", "fedprox", "fedrep", "moon")
BLIND_STRATEGIES = (*_MEANS, "fedavgm", "fedadam", "fedadagrad", "fedyogi")
"""Strategies whose step at the server is a function of the mean alone, which hospitals can take."""


class Settings(pace.Settings, Protocol):
    """The tables of a configuration that have a say in it."""

    @property
    def judgement(self) -> Any: ...


def check_blind(config: Settings) -> None:
    """Raise WrongKey for the first setting that a run with ``secure_aggregation.blind`` can't
    have."""
    if config.secure_aggregation.scheme != "masks" and not config.secure_aggregation.blind:
        raise WrongKey(
            "secure_aggregation.scheme",
            "'ckks' encrypts a sum that the server mustn't read; set secure_aggregation.blind = "
            "true, or leave scheme out",
        )
    if config.secure_aggregation.blind and (found := _wrong(config)) is not None:
        key, why = found
        raise WrongKey(key, f"{why}, or secure_aggregation.blind")


def _wrong(config: Settings) -> tuple[str, str] | None:
    """Key, what is wrong with it, and what to leave out."""
    name, blind = config.strategy.name, "the server can't read the sum (secure_aggregation.blind)"
    options = config.task.options
    if not config.procedure.trains:
        return "procedure.name", (
            f"'{config.procedure.name}' trains nothing, and its sums are the result that everybody "
            "gets; leave it out"
        )
    if name not in BLIND_STRATEGIES:
        return "strategy.name", (
            f"'{name}' can't be: {blind}, and this strategy needs more of it than hospitals can do "
            f"alone; choose one of {', '.join(BLIND_STRATEGIES)}"
        )
    if config.federation.buffered:
        return "federation.pace", f"'buffered' can't be: {blind} that it would scale; leave it out"
    if config.compression.enabled:
        return "compression", f"can't be: {blind} that scales follow from; leave [compression] out"
    if config.privacy.enabled:
        return "privacy.enabled", (
            "can't be: the server has no part in a blind run's sums, and hospitals don't read sums "
            "with noise there yet; leave [privacy] out"
        )
    if config.judgement is not None:
        return "judgement", "can't be: the server judges a model; leave [judgement] out"
    if options.get("lora_aggregation", "factors") != "factors" or options.get("lora_error"):
        key = "lora_error" if options.get("lora_error") else "lora_aggregation"
        return f"task.{key}", f"can't be: {blind} whose products it takes; leave it out"
    if config.simulation.partition == "virtual":
        return "simulation.partition", (
            "'virtual' clients keep no models between rounds; choose another partition"
        )
    return None
