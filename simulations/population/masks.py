"""Whether a simulation runs secure aggregation's protocol, or emulates its sums.

The protocol costs every client keys, shares and masks: it is what a real federation does, and runs
by itself up to 64 clients. Of thousands the sums are emulated (``common/secagg/emulated.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wardround.common.config.load import Config
from wardround.common.secagg.graph import COMPLETE
from wardround.common.settings import EMULATED


@dataclass(frozen=True)
class Masks:
    """How a simulation's updates are hidden.

    told : what a user should know of it before anything else, one line each
    """

    kind: Literal["none", "protocol", "emulated"]
    told: list[str]

    @property
    def emulated(self) -> bool:
        """Whether there are no keys."""
        return self.kind == "emulated"


def masks_of(config: Config, clients: int) -> Masks:
    """Those of so many clients. Raises ConfigError where they are to be emulated and can't be."""
    masks, why = config.simulation.masks, _only_real(config)
    if not config.secure_aggregation.enabled:
        return Masks("none", [])
    if masks == "emulated" and why:
        raise config.error(
            "simulation.masks",
            f"'emulated' isn't for {why}, of which keys and messages are a part",
            "set it to 'protocol', or leave it out",
        )
    few = clients <= COMPLETE and config.simulation.partition != "virtual"
    if masks == "protocol" or (masks == "auto" and few):
        return Masks("protocol", [])
    if why:
        needs = f"{why} needs the real protocol of secure aggregation, of {clients} clients"
        return Masks("protocol", [needs] if config.procedure.trains else [])
    return Masks("emulated", [EMULATED])


def recorded(now: Masks, before: Mapping[str, Any]) -> str:
    """What ``run.json`` has of a run's masks. One that was gone on with in another way has rounds
    of both: then it was emulated, so that nobody reads of keys that some of its rounds hadn't.

    before : its entries so far
    """
    return "emulated" if before.get("masks") == "emulated" else now.kind


def _only_real(config: Config) -> str:
    """What the real protocol alone can do; '' where nothing of it is asked for."""
    if not config.procedure.trains:
        return f"procedure '{config.procedure.name}'"
    if config.secure_aggregation.blind:
        return "secure_aggregation.blind"
    if config.federation.buffered:
        return "federation.pace = 'buffered'"
    return "[judgement]" if config.judgement is not None else ""
