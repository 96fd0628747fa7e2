"""What a report says of secure aggregation: what the server saw, and what masks did to numbers."""

from __future__ import annotations

from typing import Any

from wardround.common.config.load import Config
from wardround.common.settings import EMULATED


def aggregation_notes(
    config: Config | None,
    rounds: list[dict[str, Any]],
    simulated: bool,
    compared: bool,
    masks: str | None,
) -> list[str]:
    """What a reader must know of how updates came together, one sentence or two each.

    compared : whether the page has figures of single hospitals
    masks : as ``run.json`` has it, of a simulation
    """
    if config is None:
        return []
    if not config.secure_aggregation.enabled:
        return ["This run used no secure aggregation: the server saw each hospital's update."]
    sizes = "the sizes it announced" if config.privacy.enabled else "its rows per split"
    notes = [
        "Secure aggregation was on: the server saw sums over hospitals only. Of one hospital it "
        f"knew {sizes}, its times and its failures; everything else is hidden.",
    ]
    if simulated and compared:
        notes.append(
            "Figures of single hospitals in this page come from the hospitals that were simulated "
            "here, not from the server."
        )
    if masks == "emulated":
        notes.append(f"{EMULATED[:1].upper()}{EMULATED[1:]}; bytes leave out what these take.")
    elif simulated:
        notes.append(
            "In a simulation the rounding of updates derives from the run's seed, so that a run "
            "can be repeated exactly; the masks are secret all the same."
        )
    clipped = max((row.get("clipped") or 0.0 for row in rounds), default=0.0)
    if clipped > 0:
        notes.append(
            f"Up to {clipped:.2%} of the updates' coordinates were clipped at "
            f"secure_aggregation.clip = {config.secure_aggregation.clip:g} in a round."
        )
    found = [row.get("resolution") for row in rounds]
    coarse = sum(value is not None and value < 1 for value in found)
    if coarse:
        notes.append(
            f"In {coarse} of {len(rounds)} rounds the update was smaller than its rounding: a "
            "lower secure_aggregation.clip makes that finer."
        )
    return notes
