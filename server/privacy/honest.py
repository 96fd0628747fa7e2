"""How many honest hospitals a sum has at least, who carry distributed noise."""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.common.secagg.graph import thresholds


def fewest_honest(config: Config, hospitals: int) -> int | None:
    """In a sum over so many; None without masks."""
    table = config.secure_aggregation
    if not table.enabled:
        return None
    found = thresholds(hospitals, table.threshold, table.colluding, table.min_cohort)
    return found.honest(table.colluding)
