"""Graph and thresholds of a group of hospitals, and what no group of these settings could be."""

from __future__ import annotations

from wardround.common.compression.writing import ring
from wardround.common.config.load import Config
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.mends import Mend
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.equations import too_few
from wardround.common.secagg.graph import Thresholds, thresholds


def group_limits(config: Config, clients: int) -> Thresholds:
    """Of a group of so many. Raises RoundFailed if it is too small."""
    table = config.secure_aggregation
    if clients < table.min_cohort:
        raise RoundFailed(
            f"{clients} hospitals are left; secure_aggregation.min_cohort is {table.min_cohort}"
        )
    try:
        limits = thresholds(clients, table.threshold, table.colluding, table.min_cohort)
        limits.check(table.colluding, table.min_cohort)
    except ProtocolRefused as error:
        raise RoundFailed(str(error)) from None
    return limits


def check_groups(config: Config, trains: int, members: int) -> None:
    """Say now, by key, what would fail in every round; ConfigError.

    trains, members : how many hospitals train, and how many there are
    """
    table = config.secure_aggregation
    cohort = min(trains, config.federation.cohort or trains)
    if cohort < table.min_cohort:
        raise config.error(
            "secure_aggregation.min_cohort",
            f"{cohort} hospitals take part in training, and a sum of fewer than "
            f"{table.min_cohort} tells too much of each",
            mend=Mend.SMALLER_SUMS,
        )
    # of a strategy of one's own only its class says it
    algorithm = config.strategy.settings.algorithm if config.strategy.settings else ""
    try:
        for clients in (cohort, trains, members):
            Encoding(*ring(config), clients, 1)
            if why := too_few(config, algorithm, group_limits(config, clients)):
                raise RoundFailed(why)
    except (ProtocolRefused, RoundFailed) as error:
        raise config.error("secure_aggregation", str(error)) from None
