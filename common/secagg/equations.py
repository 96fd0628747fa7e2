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
_FOR_PRODUCTS = 3
"""Of n hospitals r^2 (n - 1)^2 numbers of a layer's factors aren't told by the sum of their
products and the sums of the factors (``docs/threat_model.md``): of two just one r x r matrix."""


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
    honest = limits.honest(config.secure_aggregation.colluding)
    if config.task.options.get("lora_aggregation") == "products" and honest < _FOR_PRODUCTS:
        return (
            "task.lora_aggregation = 'products': of the sum of products and the sums of factors of "
            f"{honest} honest hospitals little of each one's adapters would stay unknown; have "
            f"{_FOR_PRODUCTS} honest ones, or set 'alternate'"
        )
    sums = 1 + FURTHER.get(algorithm, 0)
    same = bool(config.training.local_steps) and weighting_of(config) == "uniform"
    if sums == 1 or same or config.privacy.enabled:
        return ""
    colluding = config.secure_aggregation.colluding
    if honest > sums:
        return ""
    return (
        f"an update is told in {sums} sums with strategy '{algorithm}', and of {honest} honest "
        f"hospitals (of {limits.clients}, of which {colluding} may collude) each one's could be "
        "solved for; have more hospitals, set training.local_steps, or another strategy.name"
    )
