"""``simulate(config) -> Result``: a whole federation on this machine.

The command line is a thin skin over this function; a notebook calls it directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from wardround.client.secagg.ckks import lacking
from wardround.client.training.precision import slow_precision
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.durable.files import writing
from wardround.common.durable.lock import take_lock
from wardround.common.errors import ConfigError, TaskError, WardroundError
from wardround.common.figures.records import simulated_time_notes
from wardround.common.mends import Mend
from wardround.common.model.saved import SavedModel
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.privacy.noise import NoiseSource
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.grouping import grouped_warnings
from wardround.common.run.report.outside import outside_lines
from wardround.common.tasks.base import Task
from wardround.common.tasks.own_model import OwnModelTask
from wardround.server.app import run_federation
from wardround.server.observer import Observer
from wardround.server.results.finish import finish_run
from wardround.server.rounds.checkpoint import newest_checkpoint
from wardround.server.rounds.parts import FederationParts
from wardround.server.tracking import tracked
from wardround.simulations.clients import Clients
from wardround.simulations.default import default_config_text
from wardround.simulations.executors import EXECUTORS, Auto, Executor, make_executor
from wardround.simulations.executors.on_ray import RAY, Recipe, check_ray, on_ray
from wardround.simulations.given.held import GivenData
from wardround.simulations.grid import InProcessGrid
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.masks import recorded
from wardround.simulations.run.begun import (
    GIVEN,
    begun_settings,
    check_given_again,
    new_run,
    take_up,
)
from wardround.simulations.run.client_states import blind_model, restore_clients, store_clients
from wardround.simulations.run.comparison import compare
from wardround.simulations.run.outside import evaluate_outside
from wardround.simulations.run.result import Result as Result
from wardround.simulations.run.saved_models import write_hospital_models
from wardround.simulations.scenario.file import inlined, load_scenario
from wardround.simulations.scenario.play import Scenario, TimedRun

_MOST_LINES = 20
"""Lines on single hospitals' data that a console is told as they are."""

for _brought in ("jinja2", "markupsafe", "plotly"):
    if find_spec(_brought) is None:  # told now: the report that needs it is made at the end
        raise ModuleNotFoundError(f"No module named '{_brought}'", name=_brought)


@with_ordinary_torch
def simulate(
    config: Config | Path | str | None = None,
    *,
    overrides: Sequence[str] = (),
    resume: Path | str | None = None,
    task: Task[Any] | None = None,
    given: GivenData | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run (or go on with) a simulated federation; ``python/simulate.py`` is what a program calls.

    Parameters
    ----------
    config, overrides, resume : as ``load`` has them
    task : a task object of your own; the configuration then has no ``[task]`` (but a resumed one,
        or one whose model alone is your own)
    given : the data, where a program holds them; a run that was begun so needs the same again

    Raises WardroundError subclasses; a run that stopped can be resumed.
    """
    settings, observer = _training(load(config, overrides, resume)), observer or Observer()
    if task is not None and resume is None and not isinstance(task, OwnModelTask):
        _check_own_task(settings, config is not None, overrides)
    observer.begins([settings.privacy.sentence, *settings.notes, *_without_effect(settings)])
    if settings.simulation.executor == RAY:
        check_ray(settings, own_task=task is not None, given=given is not None)
    if resume is not None:
        check_given_again(Path(resume), given)
    task = task or make_task(settings)
    population = Population(settings, task, given=given)
    observer.begins(population.masks.told)
    _check_hospitals(settings, len(population.names))
    file = load_scenario(settings)
    scenario = Scenario(settings, population.names, population.training_rows, file)
    if settings.simulation.baselines and settings.federation.initial:
        assert population.initial is not None  # read now: at the end it would be too late to tell
    run = new_run(inlined(settings, file)) if resume is None else RunDirectory.open(Path(resume))
    if given is not None:
        run.update(**{GIVEN: given.digests()})
    population.keep_ledgers(run.ledgers)
    with (
        take_lock(run.lock),
        writing(run.path, _go_on(run)),
        torch_threads(settings.simulation.threads),
    ):
        if resume is not None:
            take_up(run, settings)
        run.update(titles=population.titles, masks=recorded(population.masks, run.summary()))
        if newest_checkpoint(run.checkpoints) is None:  # afterwards a missing one stops training
            population.create_ledgers()
        return _run(settings, task, population, scenario, run, observer)


def _training(config: Config) -> Config:
    """The configuration. Raises ConfigError for one that trains nothing."""
    if not config.procedure.trains:
        raise config.error(
            "procedure.name",
            f"'{config.procedure.name}' trains nothing, so there is nothing to simulate so",
            "use `wardround analyse`, or leave [procedure] out",
        )
    return config


def _check_own_task(config: Config, given: bool, overrides: Sequence[str]) -> None:
    """Raise ConfigError for a ``[task]`` that somebody set, and that nothing would read."""
    if any(one.strip().startswith("task.") for one in overrides) or (
        given and "task" in config.model_fields_set
    ):
        raise config.error(
            "task",
            "has no effect beside simulate(task=...), whose options are its own",
            "leave the table out, or the argument",
        )


def _without_effect(config: Config) -> list[str]:
    """Settings without the effect, or the gain, that one would expect here."""
    lines = [slow] if (slow := slow_precision(config.training)) else []
    if config.training.processes == 1:
        return lines
    return [
        *lines,
        "training.processes has no effect in a simulation: each client trains in one process",
    ]


def _check_hospitals(config: Config, hospitals: int) -> None:
    """Raise WardroundError where so many can't be in a round."""
    check_min_clients(config, hospitals)
    cohort = config.federation.clients_per_round or hospitals
    if why := lacking(config.secure_aggregation, cohort):
        raise TaskError(why)


def check_min_clients(config: Config, hospitals: int) -> None:
    """Raise ConfigError where more hospitals are needed than there are: nobody else will ever
    connect, and waiting for them would take all of ``round_timeout_s``."""
    needed, secure = config.federation.min_clients, config.secure_aggregation
    if hospitals >= needed:
        return
    table = config.simulation
    dealt = hospitals == table.clients  # else each file or folder, or a column's value, is one
    where = f"simulation.clients = {hospitals}" if dealt else "in data.path"
    also = f", secure_aggregation.min_cohort {secure.min_cohort}" if secure.enabled else ""
    raise config.error(
        "federation.min_clients",
        f"is {needed}{also}, and there are {hospitals} hospitals ({where})",
        Mend.LOWER_MIN_CLIENTS,
    )


def load(
    config: Config | Path | str | None,
    overrides: Sequence[str] = (),
    resume: Path | str | None = None,
) -> Config:
    """The configuration that ``simulate`` would use for these arguments. Raises ConfigError."""
    if resume is not None:
        if config is not None:
            raise ConfigError(
                "--resume: goes on with the run's own configuration; leave out the file"
            )
        return begun_settings(Path(resume), overrides)
    if isinstance(config, Config):
        if overrides:
            raise ConfigError("--set: overrides go with a file, not with a finished Config")
        return config
    if config is None:
        return parse_config(default_config_text(), overrides)
    return load_config(Path(config), overrides)


def _run(
    config: Config,
    task: Task[Any],
    population: Population,
    scenario: Scenario,
    run: RunDirectory,
    observer: Observer,
) -> Result:
    with tracked(config, run, observer) as told:
        return _to_end(config, task, population, scenario, run, told)


def _to_end(
    config: Config,
    task: Task[Any],
    population: Population,
    scenario: Scenario,
    run: RunDirectory,
    observer: Observer,
) -> Result:
    executor = _executor(population, run, observer)
    grid = _grid(population, scenario, executor)
    restore_clients(grid.clients, run)
    _tell_left_out(config, population, run, observer)
    saved = SavedModel(run.model, task, config.federation.seed)
    timed = TimedRun(run.path, scenario)
    parts = FederationParts(
        config=config,
        task=task,
        run_directory=timed,
        observer=observer,
        roster=population.roster,
        host=scenario.host(go_on=_go_on(run)),
        make_source=lambda number: NoiseSource.seeded(config.federation.seed, "central", number),
        before_commit=lambda number: store_clients(grid.clients, timed, number),
        blind_model=lambda number: blind_model(grid.clients, number),
        keep_journal=False,  # its hospitals end with it, and their keys
    )
    try:
        outcome = run_federation(parts, grid)
        write_hospital_models(run, population, outcome)
        _record_executor(executor, run, observer)
        comparison = compare(config, population, run, outcome, saved, observer)
        outside = evaluate_outside(population, run, outcome, saved, observer)
        finish_run(parts, outcome.round)
        primary = task.figure_table().primary
        observer.warnings(outside_lines(outside, primary))
        observer.warnings(simulated_time_notes(run.rounds(), primary, scenario.target))
    except WardroundError as error:
        _stopped(run, str(error))
        raise
    except KeyboardInterrupt:
        _stopped(run, "interrupted")
        raise KeyboardInterrupt(f"interrupted; {_go_on(run)}") from None
    finally:
        executor.close()
    report_run(run)
    notes = (*config.notes, *population.notes)
    rounds, figures = run.rounds(), task.figure_table()
    return Result(run.path, config, rounds, comparison, saved, outcome.round, figures, task, notes)


def _tell_left_out(
    config: Config, population: Population, run: RunDirectory, observer: Observer
) -> None:
    """What no hospital tells the server: of data that are none's, and where masks or privacy are
    on, of its own, for the hospitals are all here."""
    if population.notes:
        observer.warnings(population.notes)
        run.update(left_out=population.notes)
    if config.secure_aggregation.enabled or config.privacy.enabled:
        warnings = population.warnings(observer.progress)
        observer.warnings(_together(warnings))
        run.update(warnings=warnings)


def _together(warnings: list[str]) -> list[str]:
    """Lines of hospitals for a console: where they are many, what is said of several once."""
    if len(warnings) <= _MOST_LINES:
        return warnings
    parted = [line.partition(": ") for line in warnings]  # no name has a colon
    rows = [{"hospital": name, "warnings": [text]} for name, _, text in parted]
    return [f"{names}: {text}" for names, text in grouped_warnings(rows, {})]


def _go_on(run: RunDirectory) -> str:
    return f"go on with --resume {run.path}"


def report_run(run: RunDirectory) -> None:
    """Write the run's report. What makes it isn't imported before: a second that nobody waits for
    in front of the first round."""
    from wardround.common.run.report import from_run

    from_run.report_run(run)


def _stopped(run: RunDirectory, why: str) -> None:
    """Keep why a run ended, if its disk lets us: that must not hide the reason itself."""
    with suppress(OSError):
        run.update(status=f"stopped: {why}")
        report_run(run)


def _grid(population: Population, scenario: Scenario, executor: Executor) -> InProcessGrid:
    clients = Clients(
        population.names, hospitals=population.open, intercept=scenario, keep=population.keep
    )
    emulates = population.masks.emulated
    return InProcessGrid(clients, executor, population.members, emulates_masks=emulates)


def _executor(population: Population, run: RunDirectory, observer: Observer) -> Executor:
    """The configured executor; a run that is resumed goes on with the one that was picked."""
    name: str = population.config.simulation.executor
    if name == RAY:
        return on_ray(Recipe.of(population), population.config)
    before = run.summary().get("executor")
    if name == Auto.name and isinstance(before, dict) and before.get("name") in EXECUTORS:
        name = before["name"]

    def picked(name: str, why: str) -> None:
        run.update(executor={"name": name, "why": why})
        observer.progress(f"executor '{name}': {why}")

    return make_executor(name, picked)


def _record_executor(executor: Executor, run: RunDirectory, observer: Observer) -> None:
    """Keep how clients were run, and tell what a user should know of it."""
    kept, notes = run.summary().get("executor"), executor.notes()
    used = executor.picked if isinstance(executor, Auto) else executor
    run.update(executor={**(kept or {}), "name": used.name, "notes": notes})
    if notes:
        observer.warnings([f"executor '{used.name}': {note}" for note in notes])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Small models are fastest, and results the same on every machine, with few threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
