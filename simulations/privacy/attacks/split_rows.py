"""The split network of a configuration, and the rows of its simulated parties."""

from __future__ import annotations

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.joint.known import make_joint
from wardround.common.joint.party import check_parties
from wardround.common.split.procedure import Split
from wardround.common.tasks.linked import LinkedRows
from wardround.simulations.population.hospitals import Population


def split_and_rows(config: Config) -> tuple[Split, dict[str, LinkedRows]]:
    """Raises ConfigError, DataError."""
    task = make_task(config)
    split = make_joint(config, task)
    assert isinstance(split, Split)
    population = Population(config, task)
    check_parties(split, population.names)
    found: dict[str, LinkedRows] = {}
    for name in split.parties:
        (found[name],) = population.hospital(name).parts().values()
    return split, found
