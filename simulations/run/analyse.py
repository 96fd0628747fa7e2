"""``analyse(config) -> Analysis``: a procedure that isn't training, over a simulated federation.

What is asked, summed and published is what a network's hospitals are asked; only the hospitals are
simulated.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wardround.common.config.load import Config, config_text
from wardround.common.config.task import make_task
from wardround.common.durable.files import writing
from wardround.common.durable.lock import take_lock
from wardround.common.errors import ConfigError
from wardround.common.export.finished import finished_model
from wardround.common.joint.known import make_joint
from wardround.common.joint.party import check_parties
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.procedure import FinishedModel
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.from_run import report_run
from wardround.common.settings import DESCRIBE, TRAIN, ProcedureTable
from wardround.common.tasks.base import Task
from wardround.server.observer import Observer
from wardround.server.rounds.stepping import STATE
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.ask import ask
from wardround.simulations.run.begun import new_run, take_up
from wardround.simulations.run.linking import LINKS, link_first
from wardround.simulations.run.simulate import check_min_clients, load, torch_threads

PARTS = Path("model", "hospitals")
"""In a run directory: each hospital's part of a joint procedure's model."""


@dataclass(frozen=True)
class Analysis:
    """What a procedure gives.

    run_directory : where everything was written
    config : the resolved configuration
    hospitals : names of those that it is of
    published : the contents of what was published, by file name; JSON decoded

    >>> from wardround.simulations import analyse
    >>> found = analyse().description
    >>> found["hospitals"], found["rows"], found["columns"][0]["name"]
    (5, 570, 'malignant')
    """

    run_directory: Path
    config: Config
    hospitals: list[str]
    published: dict[str, Any]

    @property
    def description(self) -> dict[str, Any]:
        """What ``description.json`` holds."""
        found: dict[str, Any] = self.published["description.json"]
        return found

    @property
    def statistics(self) -> dict[str, dict[str, Any]]:
        """What ``statistics.json`` holds of each analysis, by its name: ``tables``, ``plots``,
        ``notes``, ``values``."""
        return {one["name"]: one for one in self.published["statistics.json"]["analyses"]}


@with_ordinary_torch
def analyse(
    config: Config | Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    resume: Path | str | None = None,
    observer: Observer | None = None,
) -> Analysis:
    """Ask a simulated federation what its data hold, its statistics, or whatever
    ``procedure.name`` says.

    Parameters
    ----------
    config : a ``Config``, the path of a ``federation.toml`` or ``study.toml``, or None for the
        built-in example; one that would train is described
    overrides : 'table.key=value' strings, as ``--set`` on the command line; not with a ``Config``
    resume : a run directory to go on with, instead of a configuration
    observer : is told what happens

    Raises WardroundError subclasses.

    >>> from wardround.simulations import analyse
    >>> one, *_ = analyse(overrides=["procedure.smallest_cell=20"]).description["columns"]
    >>> [cell["rows"] for cell in one["cells"]]
    [360, 220]
    """
    observer = observer or Observer()
    if resume is None and not isinstance(config, Config) and not _names_one(config):
        overrides = [f'procedure.name="{DESCRIBE}"', *overrides]  # so that its options may be set
    settings = asking(load(config, overrides, resume))
    observer.begins([settings.privacy.sentence, *settings.notes])
    task = make_task(settings)
    population = _population(settings, task)
    run = new_run(settings) if resume is None else RunDirectory.open(Path(resume))
    population.keep_ledgers(run.ledgers)
    go_on = f"go on with --resume {run.path}"
    with (
        take_lock(run.lock),
        writing(run.path, go_on),
        torch_threads(settings.simulation.threads),
    ):
        if resume is not None:
            take_up(run, settings)
        run.update(titles=population.titles)
        population.keep_links(run.path / LINKS, run.path / PARTS)
        if not (run.path / STATE).exists():
            population.create_ledgers()
        if link_first(settings, population, run, go_on):
            observer.progress("the parties are linked")
        answered = ask(settings, population, run, observer, go_on)
        report_run(run)
    return Analysis(run.path, settings, answered.hospitals, _decoded(answered.files))


def _population(config: Config, task: Task[Any]) -> Population:
    """What doesn't go together is said before data are read. Raises ConfigError."""
    if config.procedure.joint:
        joint = make_joint(config, task)
        population = Population(config, task)
        check_parties(joint, population.names)
        return population
    make_procedure(config, task, _model(config))
    population = Population(config, task)
    check_min_clients(config, len(population.names))
    return population


def _names_one(config: Path | str | None) -> bool:
    """Whether a file says itself what is asked, and it isn't to train."""
    try:
        table = tomllib.loads(config_text(Path(config))).get("procedure") if config else None
    except tomllib.TOMLDecodeError:
        return False  # it is said when the file is read
    return isinstance(table, dict) and table.get("name", TRAIN) != TRAIN


def _model(config: Config) -> FinishedModel | None:
    """The finished model that is asked about; None of a procedure that needs none. A simulation's
    held-out rows follow from the seed: raises ConfigError for another one than the model's."""
    options = config.procedure.finished
    if options is None or not (options.model and options.model_digest):
        return None  # that there is none is said where it is needed
    model = finished_model(config.folder / options.model, config)
    own, theirs = config.federation.seed, model.config.federation.seed
    if own != theirs:
        raise config.error(
            "federation.seed",
            f"is {own}, and the model was trained with {theirs}: simulated hospitals would hold "
            "out other rows than then",
            f"set {theirs}",
        )
    return model


def _decoded(files: Mapping[str, str]) -> dict[str, Any]:
    return {k: json.loads(text) if k.endswith(".json") else text for k, text in files.items()}


def asking(config: Config) -> Config:
    """The same settings, of a description where they would train. Raises ConfigError for a
    simulation of thousands of clients, which are all of one make."""
    if config.procedure.trains:
        asked = {"procedure": ProcedureTable(name="describe"), "judgement": None, "teacher": None}
        config = config.model_copy(update=asked)
    if config.simulation.partition == "virtual":
        raise ConfigError(
            "simulation.partition: 'virtual' clients draw their rows from one pool, so there is "
            "nothing to describe but the pool",
            mend="describe the pool: simulation.partition = 'iid'",
        )
    return config
