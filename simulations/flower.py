"""Opens federations and simulated hospitals from a Flower context, for ``flwr run``.

The run configuration names a ``federation.toml`` that every node can read (``federation``, "" for
the built-in example) and overrides separated by ';'. A node is the hospital of its
``partition-id``, so as many nodes as ``simulation.clients`` must run. Their identity keys lie in
the folder of runs, because Flower runs them in processes of their own; so do their privacy
ledgers, in a folder for each of Flower's runs.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

from flwr.app import Context

from wardround.client.data.hospital import Hospital
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.privacy.noise import NoiseSource
from wardround.server.rounds.federation import Federation
from wardround.server.rounds.parts import FederationParts
from wardround.simulations.population.hospitals import Population, create_ledger
from wardround.simulations.population.identities import shared_identities
from wardround.simulations.run.begun import new_run
from wardround.simulations.run.simulate import load


def open_federation(context: Context) -> Federation:
    """A new run of the configured federation, in a run directory of its own."""
    config = _config(*_settings(context))
    if config.simulation.scenario:
        raise config.error(
            "simulation.scenario",
            "Flower's engine has no simulated clock; run it by `wardround simulate`, or leave it "
            "out",
        )
    if config.simulation.masks == "emulated":
        raise config.error(
            "simulation.masks",
            "Flower's engine carries the real protocol; set it to 'protocol', or leave it out",
        )
    run = new_run(config)
    population = _population(*_settings(context), context.run_id)
    seed = config.federation.seed
    parts = FederationParts(
        config=config,
        task=population.task,
        run_directory=run,
        roster=population.roster,
        make_source=lambda number: NoiseSource.seeded(seed, "central", number),
        keep_journal=False,
    )
    return Federation(parts)


def open_hospital(context: Context) -> Hospital:
    """The simulated hospital of this node."""
    hospital = _population(*_settings(context), context.run_id).open(context)
    create_ledger(hospital)
    return hospital


def _settings(context: Context) -> tuple[str, str]:
    values = context.run_config
    return str(values.get("federation", "")), str(values.get("overrides", ""))


def _config(federation: str, overrides: str) -> Config:
    path = Path(federation).expanduser() if federation else None
    return load(path, [part for part in overrides.split(";") if part.strip()])


@lru_cache(maxsize=4)
def _population(federation: str, overrides: str, run_id: int) -> Population:
    """Cached per process: Flower's engine runs many messages in one."""
    config = _config(federation, overrides)
    keys = partial(shared_identities, folder=config.runs_folder())
    population = Population(config, make_task(config), keys, may_emulate=False)
    population.keep_ledgers(config.runs_folder() / f".simulated-ledgers-{run_id}")
    return population
