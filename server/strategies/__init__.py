"""Strategies by name: Flower's as they are, and ours.

A strategy is handed the weighted mean as one reply. The robust rules compare single updates; they
get every reply where the run allows it and are refused, before anyone trains, where it doesn't. A
strategy never talks to a hospital.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy

from wardround.common.config.load import Config
from wardround.common.errors import StrategyError
from wardround.common.mends import Mend
from wardround.common.privacy.incompatible import check_settings
from wardround.common.tasks.loading import load_object
from wardround.server.strategies.base import SAMPLING, MeanStrategy
from wardround.server.strategies.feddyn import FedDyn
from wardround.server.strategies.fednova import FedNova
from wardround.server.strategies.personal import Apfl, Ditto, FedPer, FedRep, Moon
from wardround.server.strategies.scaffold import Scaffold

MEAN: dict[str, type[Strategy]] = {
    "fedavg": flower.FedAvg,
    "fedprox": flower.FedProx,
    "fedavgm": flower.FedAvgM,
    "fedadam": flower.FedAdam,
    "fedadagrad": flower.FedAdagrad,
    "fedyogi": flower.FedYogi,
    "fedbn": flower.FedAvg,
    "scaffold": Scaffold,
    "fednova": FedNova,
    "feddyn": FedDyn,
    "fedper": FedPer,
    "fedrep": FedRep,
    "ditto": Ditto,
    "apfl": Apfl,
    "moon": Moon,
}
INDIVIDUAL: dict[str, type[Strategy]] = {
    "fedmedian": flower.FedMedian,
    "fedtrimmedavg": flower.FedTrimmedAvg,
    "krum": flower.Krum,
    "multikrum": flower.MultiKrum,
    "bulyan": flower.Bulyan,
}
_NOT_OPTIONS = {*SAMPLING, "weighted_by_key", "arrayrecord_key", "configrecord_key"}
_NOT_OPTIONS |= {"train_metrics_aggr_fn", "evaluate_metrics_aggr_fn", "selection_rule"}


@dataclass(frozen=True)
class StrategyPlan:
    """A strategy and what the round loop must know about it.

    individual : it wants every single update, not only the mean
    weighting : 'examples' or 'uniform'
    algorithm : the client's half, by name
    fewest : answers that a round must have for the strategy's rule, whatever ``min_clients``
    """

    name: str
    strategy: Strategy
    individual: bool
    weighting: str
    algorithm: str
    fewest: int = 1

    @property
    def ours(self) -> MeanStrategy | None:
        """The strategy, if it is one of ours with further records and state."""
        return self.strategy if isinstance(self.strategy, MeanStrategy) else None


def build_strategy(config: Config) -> StrategyPlan:
    """The configured strategy. Raises ConfigError or StrategyError by name and mend."""
    table = config.strategy
    kind = _strategy_class(config)
    individual = table.name in INDIVIDUAL or bool(getattr(kind, "individual_updates", False))
    if individual and config.secure_aggregation.enabled:
        raise StrategyError(
            f"strategy '{table.name}' compares single updates, but secure aggregation shows the "
            f"server only their sum, which is all that {', '.join(sorted(MEAN))} need",
            mend=Mend.SHOW_UPDATES,
        )
    check_settings(config)
    privacy = config.privacy
    summed_up = privacy.summed or privacy.unit == "hospital"
    if individual and privacy.enabled and privacy.noise == "central":
        raise StrategyError(
            f"strategy '{table.name}' compares single updates, but central noise protects their "
            f"mean only; choose one of {', '.join(sorted(MEAN))}, or privacy.noise = 'local'"
        )
    if issubclass(kind, MeanStrategy):
        kind.check(config)
    options = _options(kind, config)
    try:
        strategy = kind(**options)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"strategy '{table.name}': {error}") from None
    if isinstance(strategy, FedAvg):
        vars(strategy).update(SAMPLING)
    if config.compression.bits and isinstance(strategy, MeanStrategy):
        if more := sorted(strategy.reply_records({})):
            raise StrategyError(
                f"strategy '{table.name}': its record '{more[0]}' has no scale that [compression] "
                "could write it by; leave that table out, or use another strategy"
            )
    weighting = table.weighting
    if weighting == "auto":
        weighting = "uniform" if summed_up else getattr(kind, "weighting", "examples")
    algorithm = getattr(kind, "algorithm", "plain")
    settings = table.settings
    fewest = settings.fewest() if settings else 1
    return StrategyPlan(table.name, strategy, individual, weighting, algorithm, fewest)


def check_hospitals(config: Config, hospitals: int) -> None:
    """Raise ConfigError, by key, for options that don't go with so many hospitals."""
    settings, buffer = config.strategy.settings, config.federation.buffer
    if buffer is not None and buffer > hospitals:
        raise config.error(
            "federation.buffer", f"is {buffer}, and there are {hospitals} hospitals; lower it"
        )
    cohort = min(hospitals, config.federation.cohort or hospitals)
    if settings is not None and (found := settings.why_not(cohort)):
        key, why = found
        raise config.error(f"strategy.{key}", f"'{config.strategy.name}': {why}")


def _strategy_class(config: Config) -> type[Strategy]:
    name = config.strategy.name
    if ":" in name:
        return load_object(
            name,
            config.folder,
            Strategy,  # type: ignore[type-abstract]
            StrategyError,
        )
    known = MEAN | INDIVIDUAL
    if name not in known:
        raise config.error(
            "strategy.name",
            f"unknown strategy '{name}'; known: {', '.join(sorted(known))}, "
            "or path/to/file.py:Class",
        )
    return known[name]


def _options(kind: type[Strategy], config: Config) -> dict[str, Any]:
    """What the class is made with: a built-in one's whole table, a user's own as it stands."""
    table = config.strategy
    if table.settings is not None:
        return table.settings.model_dump()
    signature = inspect.signature(kind)
    allowed = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in _NOT_OPTIONS and parameter.kind is not parameter.VAR_KEYWORD
    }
    for name, value in table.options.items():
        key = f"strategy.{name}"
        if name not in allowed:
            has = ", ".join(sorted(allowed)) or "no options"
            raise config.error(key, f"'{table.name}' has no such option; it has: {has}")
        default = allowed[name].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise config.error(key, f"must be a number (found {value!r:.60})")
    return table.options
