"""``tune(config, params, trials) -> TuneResult``: search for the settings with the best validation.

    runs/<name>-tune-<time>/
        federation.toml      the configuration that is varied, resolved
        tune.json            where to search, how often, by which seed
        study.jsonl          every trial: ``search/study.py``
        001/ 002/ ...        a trial's configuration and its run: ``search/runs.py``
        trials.csv  best.toml

A trial's score is the primary figure on validation rows, of the round whose model would be kept.
Figures on test rows are read once, of the best trial, when the search is over. A search that was
stopped goes on with the trials it would have had.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from wardround.common.config.load import Config, config_text
from wardround.common.config.task import make_task
from wardround.common.durable.files import write_atomically
from wardround.common.durable.lock import take_lock
from wardround.common.durable.versioned import Format
from wardround.common.errors import ConfigError, RunDirectoryError, WardroundError
from wardround.common.figures.figure import Better, Figure
from wardround.common.figures.records import model_figure
from wardround.common.run.directory import RunDirectory
from wardround.common.text import to_json
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.simulations.search.base import OWN_KEYS, Base, make_folder, refuse_own_keys
from wardround.simulations.search.runs import (
    CONFIG,
    Failure,
    figures_of,
    prepare_folder,
    run_in,
    run_of,
)
from wardround.simulations.search.scored import WHY, changes_scored_rows
from wardround.simulations.search.space import Choice, Range, Space, check_space, corners
from wardround.simulations.search.values import shown

if TYPE_CHECKING:
    from wardround.simulations.search.study import Study, Trial

_STATE = "tune.json"
_FORMAT = Format("search", "start the search again")
_OWN = OWN_KEYS | {
    "federation.seed": "set it with --set, so that trials differ in their settings alone",
}


class Plan(BaseModel):
    """What ``tune.json`` holds. ``primary`` and ``better`` are of the task's figure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: dict[str, Range | Choice]
    trials: int
    seed: int
    prune: bool
    primary: str
    better: Better
    config_digest: str

    @property
    def figure(self) -> Figure:
        """What trials are ranked by."""
        return Figure(self.primary, self.better)


@dataclass(frozen=True)
class TuneResult:
    """A search that is over.

    trials : in order
    best : the one with the best score
    test : its primary figure on test rows, which had no part in the choice

    >>> from wardround.simulations import TuneResult
    >>> from wardround.simulations.search.study import Trial
    >>> trials = [Trial(n, {"training.lr": n / 10}, "complete", n / 4) for n in (1, 2)]
    >>> result = TuneResult(Path("."), plan=None, trials=trials, best=trials[1], test=0.8)
    >>> result.best.settings, result.best.score
    ({'training.lr': 0.2}, 0.5)
    """

    folder: Path
    plan: Plan
    trials: list[Trial]
    best: Trial
    test: float | None


class TuneObserver:
    """Does nothing; displays override what they show."""

    def finished(self, trial: Trial, total: int, seconds: float) -> None:
        """A trial ended: 'complete', 'pruned' or 'failed'."""


def tune(
    config: Config | Path | str | None = None,
    params: Space | None = None,
    trials: int | None = None,
    *,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    prune: bool = False,
    resume: Path | str | None = None,
    observer: TuneObserver | None = None,
) -> TuneResult:
    """Search, or go on with a search.

    Parameters
    ----------
    config, overrides : as for ``simulate``; hospitals must have validation rows, and
        ``evaluation.select`` is 'best' unless it is set
    params : dotted key to ``Range(low=, high=, log=)`` or ``Choice(values=)``
    trials : how many altogether (20); with ``resume`` it may be raised
    seed : of the search; ``federation.seed`` by default
    prune : stop a trial that is below the median of the earlier ones at the same round
    resume : a search's folder, instead of the configuration and all but ``trials``

    Needs optuna. A trial that fails is noted with its reason. Raises WardroundError subclasses:
    before anything runs, or if no trial at all was completed.

    >>> from wardround.simulations import Choice, tune
    >>> tiny = ["federation.rounds=1", "simulation.baselines=false", "data.validation_fraction=0.2"]
    >>> optimizer = Choice(values=["sgd", "adam"])
    >>> tune(params={"training.optimizer": optimizer}, trials=1, overrides=tiny).best.status
    'complete'
    """
    study_of = _optuna()
    if resume is None:
        if trials is not None and trials < 1:
            raise ConfigError(f"--trials {trials}: must be at least 1")
        folder, plan = _plan(
            Base.read(config, overrides), dict(params or {}), trials or 20, seed, prune
        )
    else:
        if config is not None or params or overrides or seed is not None or prune:
            raise ConfigError(
                "--resume: goes on with the search's own settings; leave out all but --trials"
            )
        folder, plan = _read(Path(resume), trials)
    with take_lock(folder / "lock"):
        return _begin_or_go_on(folder, plan, study_of, observer or TuneObserver())


def _begin_or_go_on(
    folder: Path, plan: Plan, study_of: type[Study], observer: TuneObserver
) -> TuneResult:
    """All trials that the folder's study lacks. The caller holds the folder's lock."""
    base = Base(config_text(folder / CONFIG), None)
    warmup = base.config(corners(plan.params)[0]).federation.rounds // 4
    study = study_of(folder, plan.params, plan.seed, plan.figure, warmup)
    try:
        _search(folder, plan, base, study, observer)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; go on with: wardround tune --resume {folder}"
        ) from None
    return _finish(folder, plan, base, study.trials)


def _optuna() -> type[Study]:
    try:
        from wardround.simulations.search.study import Study
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise ConfigError("wardround tune needs optuna: pip install 'wardround[tune]'") from None
    return Study


def _plan(
    base: Base, params: Space, trials: int, seed: int | None, prune: bool
) -> tuple[Path, Plan]:
    """A new search's folder, once all ends of its ranges are known to be right."""
    check_space(params)
    refuse_own_keys(list(params), "--param", _OWN)
    for key in params:
        if changes_scored_rows(key):
            raise ConfigError(f"--param {key}: can't be varied; {WHY}")
    config, figure = _checked(base, params)
    if "select" not in config.evaluation.model_fields_set:
        evaluation = config.evaluation.model_copy(update={"select": "best"})
        config = config.model_copy(update={"evaluation": evaluation})
    stem = f"{config.federation.name}-tune-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = make_folder(config.runs_folder(), stem).resolve()
    text = config.to_toml().encode()
    write_atomically(folder / CONFIG, text)
    plan = Plan(
        params=dict(params),
        trials=trials,
        seed=config.federation.seed if seed is None else seed,
        prune=prune,
        primary=figure.name,
        better=figure.better,
        config_digest=hashlib.sha256(text).hexdigest(),
    )
    _write(folder, plan)
    return folder, plan


def _write(folder: Path, plan: Plan) -> None:
    sealed = _FORMAT.seal(plan.model_dump(mode="json"))
    write_atomically(folder / _STATE, to_json(sealed, indent=2).encode())


def _checked(base: Base, params: Space) -> tuple[Config, Figure]:
    """The configuration at the first corner of the space, and what all corners are scored by."""
    configs = [base.checked(settings, "--param") for settings in corners(params)]
    scores = {make_task(config).figure_table().primary for config in configs}
    if len(scores) > 1:
        names = " and ".join(sorted(figure.name for figure in scores))
        raise ConfigError(
            f"--param: trials would be scored by {names}, which can't be compared; vary no key "
            "that changes the task's primary figure"
        )
    return configs[0], scores.pop()


def _read(folder: Path, trials: int | None) -> tuple[Path, Plan]:
    folder = folder.resolve()
    try:
        stored = json.loads((folder / _STATE).read_bytes())
        values = _FORMAT.read(stored, RunDirectoryError, str(folder / _STATE))
        plan = Plan.model_validate_json(json.dumps(values))
    except OSError:
        raise RunDirectoryError(f"{folder}: not a search (it has no {_STATE})") from None
    except ValueError:
        raise RunDirectoryError(
            f"{folder / _STATE}: damaged, or of another version; start the search again"
        ) from None
    found = hashlib.sha256(config_text(folder / CONFIG).encode()).hexdigest()
    if found != plan.config_digest:
        raise ConfigError(f"{folder / CONFIG}: changed since the search began; start a new one")
    if trials is not None and trials != plan.trials:
        if trials < plan.trials:
            raise ConfigError(f"--trials {trials}: the search has {plan.trials} already; raise it")
        plan = plan.model_copy(update={"trials": trials})
        _write(folder, plan)
    return folder, plan


# --- trials ---------------------------------------------------------------------------------------
def _search(folder: Path, plan: Plan, base: Base, study: Study, observer: TuneObserver) -> None:
    begun = [one for one in study.trials if one.status == "running"]
    while begun or len(study.trials) < plan.trials:
        trial = begun.pop(0) if begun else study.ask()
        started = time.monotonic()
        trial = _run(folder, plan, base, study, trial)
        observer.finished(trial, plan.trials, time.monotonic() - started)


def _run(folder: Path, plan: Plan, base: Base, study: Study, trial: Trial) -> Trial:
    place = _folder(folder, trial)
    if not (place / CONFIG).exists():
        config = base.config(trial.settings)
        simulation = config.simulation.model_copy(update={"baselines": False})
        prepare_folder(place, config.model_copy(update={"simulation": simulation}))
    figure = make_task(base.config(trial.settings)).figure_table().primary
    watch = _Watch(study, trial, figure, plan.prune)
    begun = run_of(place)
    rounds = RunDirectory.open(begun).rounds() if begun and plan.prune else []
    # a list: every round is noted, also those behind the hopeless one
    if any([watch.is_hopeless(row) for row in rounds]):  # killed before it was noted
        return study.fail(trial, "pruned: below the median of the others", pruned=True)
    found = run_in(place, watch)
    if watch.nothing_to_score:
        raise base.config(trial.settings).error("data.validation_fraction", _NOTHING_TO_SCORE)
    if isinstance(found, Failure):
        return study.fail(trial, found.reason, watch.pruned)
    if found.validation is None:
        return study.fail(trial, f"its {plan.primary} on validation rows is undefined")
    return study.finish(trial, found.validation, found.round)


class _Hopeless(WardroundError):
    """Ends a trial's run from inside."""


_NOTHING_TO_SCORE = (
    "no hospital has validation rows, and a search chooses by them, never by test rows; set it "
    "above 0, e.g. --set data.validation_fraction=0.2, or give validation rows with the data"
)


class _Watch(Observer):
    """Ends a run that has nothing to be scored by, or is worse than the earlier trials were."""

    def __init__(self, study: Study, trial: Trial, figure: Figure, prune: bool) -> None:
        self._study, self._trial, self._figure, self._prune = study, trial, figure, prune
        self.pruned = self.nothing_to_score = False

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        if members and not any(one.sizes["validation"] for one in members):
            self._refuse()

    def population(self, clients: int, sizes: Mapping[str, int] | None) -> None:
        if sizes is not None and not sizes["validation"]:
            self._refuse()

    def _refuse(self) -> None:
        self.nothing_to_score = True
        raise _Hopeless(_NOTHING_TO_SCORE)

    def round_committed(self, row: dict[str, Any]) -> None:
        if self._prune and self.is_hopeless(row):
            self.pruned = True
            raise _Hopeless(f"pruned after round {row['round']}: below the median of the others")

    def is_hopeless(self, row: dict[str, Any]) -> bool:
        """Note a round's score; whether the run should end."""
        score = model_figure(row, "validation", self._figure)
        if score is None:
            return False
        return self._study.is_hopeless(self._trial, row["round"], score)


# --- the end --------------------------------------------------------------------------------------
def ranked(trials: Sequence[Trial], figure: Figure) -> list[Trial]:
    """Completed trials, the best score first; of equal ones the earlier."""
    done = [one for one in trials if one.score is not None]
    return sorted(done, key=lambda one: -figure.goodness(one.score or 0.0))


def _finish(folder: Path, plan: Plan, base: Base, trials: list[Trial]) -> TuneResult:
    _write_csv(plan, trials, folder / "trials.csv")
    best = next(iter(ranked(trials, plan.figure)), None)
    if best is None:
        raise WardroundError(
            f"no trial of {len(trials)} was completed; the first: {trials[0].reason}; see {folder}"
        )
    write_atomically(folder / "best.toml", base.config(best.settings).to_toml().encode())
    run = run_of(_folder(folder, best))
    test = figures_of(RunDirectory.open(run)).test if run else None
    return TuneResult(folder, plan, trials, best, test)


def _write_csv(plan: Plan, trials: Sequence[Trial], path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "status", *plan.params, f"validation_{plan.primary}", "round", "why"])
    for one in trials:
        values = [shown(one.settings[key]) for key in plan.params]
        score = "" if one.score is None else repr(one.score)
        writer.writerow([one.number, one.status, *values, score, one.round, one.reason])
    write_atomically(path, text.getvalue().encode())


def _folder(folder: Path, trial: Trial) -> Path:
    return folder / f"{trial.number:03d}"
