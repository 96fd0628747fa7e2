"""How many sums a training round tells of one update, and of how many hospitals that is too much.

A strategy's further record may be the update once more with another factor, that follows from the
hospital's steps, and so from its rows (SCAFFOLD's control variates: the update over steps times
rate). Two such sums are two equations: of two hospitals they give both updates.
"""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.common.secagg.graph import Thresholds

FURTHER = {"scaffold": 1}
"""By algorithm, records of a reply that are the update once more."""


def weighting_of(config: Config) -> str:
    """What hospitals count with: 'examples', 'uniform', or '' where only the class of a strategy of
    one's own says so."""
    table, privacy = config.strategy, config.privacy
    if table.weighting != "auto":
        return table.weighting
    if privacy.summed or privacy.unit == "hospital":
        return "uniform"
    return table.settings.weighting if table.settings else ""


def too_few(config: Config, algorithm: str, limits: Thresholds) -> str:
    """Why such a group must not train so: a sentence; '' if it may.

    With privacy noise is on all of it. Where all make as many steps and count the same, the sums
    are multiples of each other.
    """
    sums = 1 + FURTHER.get(algorithm, 0)
    same = bool(config.training.local_steps) and weighting_of(config) == "uniform"
    if sums == 1 or same or config.privacy.enabled:
        return ""
    colluding = config.secure_aggregation.colluding
    honest = limits.honest(colluding)
    if honest > sums:
        return ""
    return (
        f"an update is told in {sums} sums with strategy '{algorithm}', and of {honest} honest "
        f"hospitals (of {limits.clients}, of which {colluding} may collude) each one's could be "
        "solved for; have more hospitals, set training.local_steps, or another strategy.name"
    )
