"""What can't go with buffered rounds (``federation.pace``): by key and mend, before training."""

from __future__ import annotations

from typing import Protocol

from wardround.common.settings import (
    CompressionTable,
    FederationTable,
    PrivacyTable,
    ProcedureTable,
    SecureAggregationTable,
    SimulationTable,
    StrategyTable,
    TaskTable,
)
from wardround.common.settings.key_errors import WrongKey

CARRIED_BY = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedadagrad", "fedyogi")
"""Strategies that need nothing of a round but the mean of changes, whatever each one's start."""


class Settings(Protocol):
    """The tables of a configuration that have a say in it."""

    @property
    def federation(self) -> FederationTable: ...
    @property
    def strategy(self) -> StrategyTable: ...
    @property
    def task(self) -> TaskTable: ...
    @property
    def procedure(self) -> ProcedureTable: ...
    @property
    def compression(self) -> CompressionTable: ...
    @property
    def simulation(self) -> SimulationTable: ...
    @property
    def secure_aggregation(self) -> SecureAggregationTable: ...
    @property
    def privacy(self) -> PrivacyTable: ...


def check_pace(config: Settings) -> None:
    """Raise WrongKey for the first setting that a buffered run can't have."""
    if not config.federation.buffered:
        return
    for check in (_group, _training, _privacy):
        if (found := check(config)) is not None:
            raise WrongKey(*found)


def _group(config: Settings) -> tuple[str, str] | None:
    """How many a round is of."""
    federation, secure = config.federation, config.secure_aggregation
    if federation.buffer is None:
        return "federation.buffer", (
            "is missing: with federation.pace = 'buffered' it says of how many hospitals a round is"
        )
    if federation.buffer < federation.min_clients:
        return "federation.buffer", (
            f"is {federation.buffer}, below federation.min_clients {federation.min_clients}: no "
            "round could succeed"
        )
    if secure.enabled and federation.buffer < secure.min_cohort:
        return "federation.buffer", (
            f"is {federation.buffer}, below secure_aggregation.min_cohort {secure.min_cohort}: "
            "every hospital would refuse"
        )
    return None


def _training(config: Settings) -> tuple[str, str] | None:
    """What is trained, and what is made of it."""
    name, why = config.strategy.name, "federation.pace = 'buffered' adds changes of several models"
    if not config.procedure.trains:
        return "federation.pace", (
            f"'buffered' is of rounds of training, and procedure.name is "
            f"'{config.procedure.name}'; leave it out"
        )
    if name not in CARRIED_BY:
        return "strategy.name", (
            f"'{name}' can't be: {why}; choose one of {', '.join(CARRIED_BY)}, or leave pace out"
        )
    if config.strategy.personal_layers:
        return "strategy.personal_layers", (
            "what stays at a hospital belongs to a round that it was in, and its buffered update "
            "to another one; leave personal_layers out, or pace"
        )
    if config.compression.enabled:
        return "compression", (
            "scales follow from the round before, which a buffered update isn't of; leave "
            "[compression] out, or federation.pace"
        )
    options = config.task.options
    if options.get("lora_aggregation", "factors") != "factors" or options.get("lora_error"):
        key = "lora_error" if options.get("lora_error") else "lora_aggregation"
        return f"task.{key}", (
            "takes products and sketches of one round's factors, and buffered ones are of several; "
            "leave it out, or federation.pace"
        )
    if config.simulation.partition == "virtual":
        return "simulation.partition", (
            "'virtual' clients are made when they are asked, and buffered ones all train at once; "
            "choose another partition, or leave federation.pace out"
        )
    return None


def _privacy(config: Settings) -> tuple[str, str] | None:
    """Noise that is still what was promised once an update is scaled by its staleness."""
    table = config.privacy
    if not table.enabled:
        return None
    if table.unit == "hospital" or table.noise != "local":
        key = "privacy.unit" if table.unit == "hospital" else "privacy.noise"
        return key, (
            f"'{getattr(table, key.partition('.')[2])}' makes noise for a sum, of which staleness "
            "weights would take a part away; with federation.pace = 'buffered' set privacy.unit = "
            "'patient' or 'example' and privacy.noise = 'local'"
        )
    if table.clipping == "adaptive":
        return "privacy.clipping", (
            "'adaptive' goes from round to round, and a buffered update is of no round yet; set "
            "'flat' or 'per_layer', or leave federation.pace out"
        )
    return None
