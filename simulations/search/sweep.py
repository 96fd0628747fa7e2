"""``sweep(config, grid, seeds) -> SweepResult``: one run for each combination of settings and seed.

    runs/<name>-sweep-<time>/
        sweep.json           grid, seeds, and of each combination status, run and figures
        001/ 002/ ...        a combination's configuration and its run: ``search/runs.py``
        sweep.csv  sweep.html

Every combination is checked before the first one runs. ``sweep.json`` is written whole, last of a
new sweep's files and after every combination, so a sweep that was stopped at any moment goes on and
ends with the figures of an undisturbed one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from wardround.common.config.load import Config
from wardround.common.durable.files import write_atomically
from wardround.common.durable.lock import take_lock
from wardround.common.durable.versioned import Format
from wardround.common.errors import ConfigError, RunDirectoryError
from wardround.common.text import to_json
from wardround.simulations.search.base import OWN_KEYS, Base, make_folder, refuse_own_keys
from wardround.simulations.search.combination import Combination
from wardround.simulations.search.page import write_page
from wardround.simulations.search.runs import (
    CONFIG,
    Failure,
    prepare_folder,
    run_in,
    run_of,
)
from wardround.simulations.search.summary import Row, summarise, write_csv

_STATE = "sweep.json"
_FORMAT = Format("sweep", "start the sweep again")
_SEED = "federation.seed"
_OWN = OWN_KEYS | {_SEED: "give --seeds, so that figures are averaged over them"}


class SweepResult(BaseModel):
    """A sweep, as ``sweep.json`` holds it.

    >>> from wardround.simulations import SweepResult
    >>> runs = [
    ...     {"number": n, "point": 0, "settings": {"training.lr": 9.0}, "seed": n,
    ...      "config_digest": "", "status": "failed", "reason": "not finite"} for n in (1, 2)
    ... ]
    >>> result = SweepResult(folder=".", grid={"training.lr": [9.0]}, seeds=[1, 2],
    ...                      combinations=runs)
    >>> [(row.settings, row.complete, row.failed) for row in result.rows]
    [({'training.lr': 9.0}, 0, 2)]
    >>> {one.reason for one in result.failed}
    {'not finite'}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    grid: dict[str, list[Any]]
    seeds: list[int]
    combinations: list[Combination]

    @property
    def rows(self) -> list[Row]:
        """One row for each point of the grid: means and deviations over seeds."""
        points = itertools.groupby(self.combinations, lambda one: one.point)
        return [summarise(list(runs)) for _, runs in points]

    @property
    def failed(self) -> list[Combination]:
        """The combinations that ended with an error."""
        return [one for one in self.combinations if one.status == "failed"]


class SweepObserver:
    """Does nothing; displays override what they show."""

    def started(self, combination: Combination, total: int) -> None:
        """A combination begins, or goes on."""

    def finished(self, combination: Combination, total: int, seconds: float | None) -> None:
        """It ended, complete or failed; ``seconds`` is None if an earlier call had done it."""


def sweep(
    config: Config | Path | str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: Sequence[int] = (),
    *,
    overrides: Sequence[str] = (),
    resume: Path | str | None = None,
    observer: SweepObserver | None = None,
) -> SweepResult:
    """Run the cartesian product of the grid and the seeds, or go on with such a sweep.

    Parameters
    ----------
    config, overrides : as for ``simulate``
    grid : dotted key to its values, e.g. ``{"training.lr": [0.01, 0.1]}``
    seeds : values of ``federation.seed``; the configuration's own one if empty
    resume : a sweep's folder, instead of everything above; what failed is tried again

    A combination that fails is recorded and doesn't stop the others. Raises ConfigError and others
    of the tree before anything runs; KeyboardInterrupt says how to go on.

    >>> from wardround.simulations import sweep
    >>> tiny = ["federation.rounds=1", "simulation.baselines=false"]
    >>> result = sweep(grid={"training.lr": [0.01, 0.1]}, overrides=tiny)
    >>> [(one.settings, one.status) for one in result.combinations]
    [({'training.lr': 0.01}, 'complete'), ({'training.lr': 0.1}, 'complete')]
    >>> (result.folder / "sweep.csv").exists()
    True
    """
    if resume is None:
        state = _plan(Base.read(config, overrides), dict(grid or {}), list(seeds))
    elif config is not None or grid or seeds or overrides:
        raise ConfigError(
            "--resume: goes on with the sweep's own settings; leave out the file, --set, --sweep "
            "and --seeds"
        )
    else:
        state = read_sweep(Path(resume))
    with take_lock(state.folder / "lock"):
        _check_unchanged(state)
        try:
            for index in range(len(state.combinations)):
                state = _run_one(state, index, observer or SweepObserver())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; go on with --resume {state.folder}") from None
        write_csv(state.rows, state.folder / "sweep.csv")
        write_page(state.rows, state.folder.name, state.folder / "sweep.html")
    return state


def read_sweep(folder: Path) -> SweepResult:
    """A sweep as it stands on disk. Raises RunDirectoryError if it can't be read."""
    try:
        stored = json.loads((folder / _STATE).read_bytes())
        values = _FORMAT.read(stored, RunDirectoryError, str(folder / _STATE))
        state = SweepResult.model_validate_json(json.dumps(values))
    except OSError:
        raise RunDirectoryError(f"{folder}: not a sweep (it has no {_STATE})") from None
    except ValueError:
        raise RunDirectoryError(
            f"{folder / _STATE}: damaged, or of another version; start the sweep again"
        ) from None
    return state.model_copy(update={"folder": folder})


def _plan(base: Base, grid: dict[str, Sequence[Any]], seeds: list[int]) -> SweepResult:
    """A new sweep's folder, once every combination's configuration is known to be right."""
    configs = _checked(base, grid, seeds)
    first = configs[0][2]
    stem = f"{first.federation.name}-sweep-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = make_folder(first.runs_folder(), stem).resolve()
    combinations = []
    for number, (point, settings, config) in enumerate(configs, 1):
        text = prepare_folder(_numbered(folder, number, len(configs)), config)
        combinations.append(
            Combination(
                number=number,
                point=point,
                settings=settings,
                seed=config.federation.seed,
                config_digest=_digest(text.encode()),
            )
        )
    state = SweepResult(
        folder=folder,
        grid={key: list(values) for key, values in grid.items()},
        seeds=seeds or [first.federation.seed],
        combinations=combinations,
    )
    _save(state)
    return state


def _checked(
    base: Base, grid: dict[str, Sequence[Any]], seeds: list[int]
) -> list[tuple[int, dict[str, Any], Config]]:
    """Of each combination the point's number, its settings and the whole configuration."""
    refuse_own_keys(list(grid), "--sweep", _OWN)
    if repeated := [seed for seed in seeds if seeds.count(seed) > 1]:
        raise ConfigError(f"--seeds: {repeated[0]} stands there twice; leave one out")
    if empty := [key for key, values in grid.items() if not len(values)]:
        raise ConfigError(f"--sweep {empty[0]}: has no values; give at least one")
    if wrong := [seed for seed in seeds if not 0 <= seed < 2**63]:
        raise ConfigError(f"--seeds: {wrong[0]} must be at least 0 and below 2^63")
    seeded: list[dict[str, Any]] = [{_SEED: seed} for seed in seeds] or [{}]
    found = []
    for point, values in enumerate(itertools.product(*grid.values())):
        settings = dict(zip(grid, values, strict=True))
        found += [(point, settings, base.checked(settings | one, "--sweep")) for one in seeded]
    return found


def _run_one(state: SweepResult, index: int, observer: SweepObserver) -> SweepResult:
    """Run, resume or skip one combination; the state with its result, which is on disk, too."""
    one, total = state.combinations[index], len(state.combinations)
    if one.status == "complete":
        observer.finished(one, total, None)
        return state
    folder = _folder(state, one)
    begun = time.monotonic()
    state, one = _changed(state, index, {"status": "running", "reason": None})
    observer.started(one, total)
    found = run_in(folder)
    run = run_of(folder)
    values: dict[str, Any] = {"run": str(run.relative_to(state.folder)) if run else None}
    if isinstance(found, Failure):
        values |= {"status": "failed", "reason": found.reason}
    else:
        values |= {"status": "complete", "figures": found}
    state, one = _changed(state, index, values)
    observer.finished(one, total, time.monotonic() - begun)
    return state


def _changed(
    state: SweepResult, index: int, values: dict[str, Any]
) -> tuple[SweepResult, Combination]:
    combinations = list(state.combinations)
    combinations[index] = one = combinations[index].model_copy(update=values)
    state = state.model_copy(update={"combinations": combinations})
    _save(state)
    return state, one


def _save(state: SweepResult) -> None:
    value = state.model_dump(mode="json") | {"folder": "."}  # a sweep may be moved
    write_atomically(state.folder / _STATE, to_json(_FORMAT.seal(value), indent=2).encode())


def _check_unchanged(state: SweepResult) -> None:
    """A sweep whose configurations differ from what ran would mix two experiments."""
    for one in state.combinations:
        path = _folder(state, one) / CONFIG
        try:
            digest = _digest(path.read_bytes())
        except OSError:
            digest = ""
        if digest != one.config_digest:
            raise ConfigError(f"{path}: changed since the sweep began; start a new sweep")


def _folder(state: SweepResult, one: Combination) -> Path:
    return _numbered(state.folder, one.number, len(state.combinations))


def _numbered(folder: Path, number: int, total: int) -> Path:
    digits = max(3, len(str(total)))
    return folder / f"{number:0{digits}d}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
