"""What each entry of a model is, decided once: whoever moves, clips, noises, averages, keeps or
saves entries asks here, and doesn't look at the torch model itself.

| kind | what it is | what is done with it |
|---|---|---|
| parameter | trained, shared | stepped, clipped, noised, quantised, corrected by SCAFFOLD's terms |
| statistic | a buffer of numbers, shared (a batch norm's running mean) | averaged, and no more |
| counter | a buffer of whole numbers, shared (batches that were seen) | averaged and rounded |
| personal | stays at its hospital, trained or not | kept with the hospital's state |
| frozen | a parameter that isn't trained | each party makes it; saved, or pinned by a digest |
| tied | another name of an entry that stands before it | nothing: its values are that entry's |

A server's optimiser that steps running statistics drives a variance below zero; so none sees them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.common.config.load import Config
from wardround.common.errors import StrategyError
from wardround.common.model.output_layer import output_layer_keys
from wardround.common.settings.personal import FedPerOptions, MoonOptions

T = TypeVar("T")


class Kind(StrEnum):
    """What an entry is; see the module's table."""

    PARAMETER = "parameter"
    STATISTIC = "statistic"
    COUNTER = "counter"
    PERSONAL = "personal"
    FROZEN = "frozen"
    TIED = "tied"


SHARED = (Kind.PARAMETER, Kind.STATISTIC, Kind.COUNTER)
"""Kinds that travel in every round."""
AVERAGED = (Kind.STATISTIC, Kind.COUNTER)
"""Shared kinds that no optimiser moves: their next value is the weighted mean of the hospitals'."""


@dataclass(frozen=True)
class Entries:
    """The kind of every name in a model's state dict, in its order.

    own_model : whether each hospital has a whole model of its own beside the shared one
    """

    kinds: Mapping[str, Kind]
    own_model: bool = False

    @classmethod
    def of(
        cls, model: nn.Module, personal: Collection[str] = (), own_model: bool = False
    ) -> Entries:
        """The entries of this model, of which those named ``personal`` stay at each hospital.

        Of an entry with several names the first in the state dict is it, the others are tied; it is
        personal if any of its names is. A frozen parameter stays frozen, personal or not: it is the
        same everywhere.
        """
        first: dict[int, str] = {}
        objects = _objects(model)
        for name, one in objects.items():
            first.setdefault(id(one), name)
        owned = {first[id(objects[name])] for name in personal if name in objects}
        kinds = {}
        for name, value in model.state_dict().items():
            one = objects.get(name, value)
            tied = first.get(id(one), name) != name
            kinds[name] = Kind.TIED if tied else _kind(one, name in owned)
        return cls(kinds, own_model)

    def names(self, *kinds: Kind) -> list[str]:
        """Names of the entries of these kinds, in the model's order."""
        return [name for name, kind in self.kinds.items() if kind in kinds]

    def only(self, values: Mapping[str, T], *kinds: Kind) -> dict[str, T]:
        """Those of ``values`` that belong to an entry of these kinds, in their own order."""
        return {name: value for name, value in values.items() if self.kinds.get(name) in kinds}

    @property
    def parameters(self) -> list[str]:
        """What optimisers move."""
        return self.names(Kind.PARAMETER)

    @property
    def personal(self) -> list[str]:
        """What stays at each hospital."""
        return self.names(Kind.PERSONAL)

    @property
    def of_hospitals(self) -> list[str]:
        """Entries whose values differ from hospital to hospital: what stays there, or all that
        is shared where each has a whole model of its own besides."""
        return self.names(*SHARED, Kind.PERSONAL) if self.own_model else self.personal


def entries_of(config: Config, model: nn.Module) -> Entries:
    """The entries of this run's model: ``strategy.personal_layers``, and FedBN's norm layers, stay.
    So does the last layer with fedper and fedrep, where no layers are named. What a hospital keeps
    of a strategy with models of their own is a whole one.

    FedBN: Li et al. 2021, arXiv 2102.07623; running statistics stay too, not only
    the weights. Raises StrategyError if nothing would be shared, or if
    fedbn finds no batch normalisation.
    """
    kinds = Entries.of(model).kinds
    names = [name for name, kind in kinds.items() if kind is not Kind.FROZEN]
    keys = set(matching_keys(names, config.strategy.personal_layers))
    for pattern in config.strategy.personal_layers:
        if not matching_keys(names, [pattern]):
            raise config.error(
                "strategy.personal_layers", f"'{pattern}' matches none of {', '.join(names[:20])}"
            )
    if config.strategy.name == "fedbn":
        norms = batch_norm_keys(model)
        if not norms:
            raise StrategyError(
                "strategy 'fedbn' keeps batch normalisation layers local, but the model has none; "
                "add them (tabular: task.model.norm = 'batch') or use fedavg"
            )
        keys |= set(norms)
    if isinstance(config.strategy.settings, FedPerOptions) and not config.strategy.personal_layers:
        keys |= set(output_layer_keys(model))
    if isinstance(config.strategy.settings, MoonOptions):
        last = set(output_layer_keys(model))
        if not set(Entries(kinds).parameters) - last:
            raise StrategyError(
                "strategy 'moon' compares what comes into the last layer, and the model has no "
                "other; take one of several layers (tabular: task.model.kind = 'mlp') or fedavg"
            )
    entries = Entries.of(model, keys, config.strategy.keeps == "model")
    if not entries.names(*SHARED):
        raise StrategyError(
            "every layer is personal: nothing would be shared; name others in "
            "strategy.personal_layers (or take a model of several layers: tabular, task.model.kind "
            "= 'mlp')"
        )
    return entries


def batch_norm_keys(model: nn.Module) -> list[str]:
    """State-dict names of every batch normalisation layer (weights, biases, running statistics)."""
    keys: list[str] = []
    for prefix, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            keys += [f"{prefix}.{name}" if prefix else name for name in module.state_dict()]
    return keys


def matching_keys(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that match any of the shell-style patterns, in their order."""
    patterns = list(patterns)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _objects(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and kept buffers by every name they have, in the order of the state dict."""
    found: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    found |= dict(model.named_buffers(remove_duplicate=False))
    return {name: found.get(name, value) for name, value in model.state_dict().items()}


def _kind(one: Tensor, personal: bool) -> Kind:
    trained = isinstance(one, nn.Parameter)
    if trained and not one.requires_grad:
        return Kind.FROZEN
    if personal:
        return Kind.PERSONAL
    if trained:
        return Kind.PARAMETER
    return Kind.STATISTIC if one.is_floating_point() else Kind.COUNTER
