"""Which run a server goes on with: the one that its folder points to, until that is complete."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from wardround.common.config.load import Config, load_config
from wardround.common.durable.files import write_atomically
from wardround.common.errors import RunDirectoryError
from wardround.common.run.directory import DEPLOYED, RunDirectory
from wardround.common.run.shaping import check_same, check_unedited, digest
from wardround.server.display.console import shown_path

_CURRENT = "current-run"
COMMAND = "`wardround server` goes on with it"
"""How a run that stopped goes on."""
ANEW = "begin another with `wardround server --new`"
"""How another run begins."""


def present_run(
    config: Config, folder: Path, new: bool, say: Callable[[str], None]
) -> RunDirectory | None:
    """The present run, or a new one; None if the present one is complete.

    folder : the server's
    new : begin another run, whatever has become of the last one

    Raises RunDirectoryError, or ConfigError where the settings that shape the model are others.
    """
    pointer = folder / _CURRENT
    if new or not pointer.exists():
        return _begin(config, pointer)
    path = Path(os.path.normpath(folder / pointer.read_text("utf-8")))  # or it is absolute
    try:
        run = RunDirectory.open(path)
    except RunDirectoryError:
        raise RunDirectoryError(
            "the run that was going on is not there any more",
            who=str(path),
            mend="bring it back, or begin another with --new",
        ) from None
    if run.summary().get("status") == "complete":
        say(f"{shown_path(path)} is complete; begin another run with --new")
        return None
    begun = load_config(run.config_path)
    check_unedited(run, begun)
    check_same(begun, config, deployed=True, who=shown_path(path))
    write_atomically(run.config_path, config.to_toml(path).encode())
    say(f"going on with {shown_path(path)}")
    return run


def _begin(config: Config, pointer: Path) -> RunDirectory:
    runs = config.runs_folder()
    text, identity = config.to_toml(runs / "run"), digest(config, deployed=True)
    name = config.federation.name
    run = RunDirectory.create(runs, name, text, kind=DEPLOYED, identity=identity)
    relative = os.path.relpath(run.path.resolve(), pointer.parent.resolve())
    write_atomically(pointer, relative.encode())
    return run
