"""A study that isn't training, asked of a simulated federation."""

from __future__ import annotations

from contextlib import suppress

from wardround.common.config.load import Config
from wardround.common.errors import WardroundError
from wardround.common.run.directory import RunDirectory
from wardround.server.app import run_procedure
from wardround.server.observer import Observer
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.stepping import Answered
from wardround.simulations.clients import Clients
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.grid import InProcessGrid
from wardround.simulations.population.hospitals import Population
from wardround.simulations.scenario.play import Scenario


def ask(
    config: Config, population: Population, run: RunDirectory, observer: Observer, go_on: str
) -> Answered:
    """Ask a simulated federation, to the end. Raises WardroundError subclasses; why is kept in the
    run, too.

    go_on : how a person goes on with it
    """
    scenario = Scenario(config, population.names)
    clients = Clients(population.names, hospitals=population.open, intercept=scenario)
    parts = FederationParts(
        config=config,
        task=population.task,
        run_directory=run,
        observer=observer,
        roster=population.roster,
        host=scenario.host(go_on=go_on),
        keep_journal=False,  # its hospitals end with it, and their keys
        identity=population.coordinator,
    )
    try:
        return run_procedure(parts, InProcessGrid(clients, Sequential(), population.members))
    except WardroundError as error:
        with suppress(OSError):
            run.update(status=f"stopped: {error}")
        raise
