"""Run directories of simulations: a new one, and one that is gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wardround.common.config.load import Config, load_config
from wardround.common.durable.files import write_atomically
from wardround.common.errors import RunDirectoryError
from wardround.common.run.directory import SIMULATED, RunDirectory
from wardround.common.run.shaping import check_same, check_unedited, digest
from wardround.simulations.given.held import GivenData
from wardround.simulations.run.client_states import forget_torn

GIVEN = "given"
"""In ``run.json``: digests of the data that a program gave, by hospital."""


def new_run(config: Config) -> RunDirectory:
    """A run directory for a simulation with this configuration. Raises RunDirectoryError."""
    folder = config.runs_folder()
    text = config.to_toml(folder / "run")
    name = config.study.name if config.study is not None else config.federation.name
    identity = digest(config, deployed=False)
    return RunDirectory.create(folder, name, text, kind=SIMULATED, identity=identity)


def begun_settings(path: Path, overrides: Sequence[str]) -> Config:
    """The configuration that a simulated run goes on with: its own, and over it what may change.

    Raises RunDirectoryError for what is no simulated run, ConfigError if its file was edited, or
    the overrides change what shapes the model.
    """
    run = RunDirectory.open(path)
    if run.deployed:
        raise RunDirectoryError(
            "a run between machines, whose hospitals aren't here",
            who=str(path),
            mend="go on with it by `wardround server federation.toml`",
        )
    begun = load_config(run.config_path)
    check_unedited(run, begun)
    if not overrides:
        return begun
    settings = load_config(run.config_path, overrides)
    check_same(begun, settings, deployed=False, who=str(path))
    return settings


def take_up(run: RunDirectory, settings: Config) -> None:
    """Write down what a run goes on with, and forget rounds that the machine's end has torn."""
    forget_torn(run)
    write_atomically(run.config_path, settings.to_toml(run.path).encode())


def check_given_again(path: Path, given: GivenData | None) -> None:
    """A run whose data a program gave needs the same again. Raises RunDirectoryError."""
    known = RunDirectory.open(path).summary().get(GIVEN, {})
    now = {} if given is None else given.digests()
    if known and not now:
        raise RunDirectoryError(
            "its data were given by a program, which keeps no copy of them",
            who=str(path),
            mend="give them again: simulate(resume=..., data=...)",
        )
    odd = sorted(name for name in {*known, *now} if known.get(name) != now.get(name))
    if odd:
        raise RunDirectoryError(
            f"it was begun with other data ({', '.join(odd[:5])})",
            who=str(path),
            mend="give the same, or begin a new run",
        )
