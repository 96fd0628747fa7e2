"""What is held of a case beside its own run: other ways to compute it must give the same model, and
the saved one must be what was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign.draw import CHECKS
from tests.campaign.play import Played, Words, run, shared_arrays
from tests.campaign.written import FORMS, written
from tests.unlike import Consortium
from wardround.common.errors import WardroundError
from wardround.simulations import Result

ROOT = Path(__file__).parent.parent.parent
_STEPPED = {"fedadam", "fedyogi", "fedadagrad"}
"""Server optimisers that divide by the size of what may be rounding."""


def check(played: Played, consortium: Consortium, runs: Path) -> list[str]:
    """Faults that the case's own check finds."""
    if played.result is None:
        return []
    found = {
        "masks": _masks,
        "executor": _executor,
        "resume": _resume,
        "written": _written,
    }.get(played.case.check)
    return found(played, played.result, consortium, runs) if found else []


def judged(runs: list[Path]) -> dict[Path, list[str]]:
    """Faults by run directory, of a process that has nothing of ours but the files."""
    command = [sys.executable, "-m", "tests.campaign.judge", *map(str, runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode:
        return {run: [f"the judge failed: {done.stderr[-500:]}"] for run in runs}
    return {Path(run): faults for run, faults in json.loads(done.stdout).items()}


def _masks(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    """Emulated masks give the protocol's bytes, and masked sums the plain ones' model."""
    return [
        *_emulated(played, first, consortium, runs),
        *_plain(played, first, consortium, runs),
    ]


def _emulated(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    if not played.case.masked:
        return []
    now = played.case.settings.get("simulation.masks", "auto")
    other = "protocol" if now == "emulated" else "emulated"
    try:
        more: dict[str, Any] = {"simulation.masks": other}
        second = run(played.case, consortium, runs, Words(), **more)
    except WardroundError as error:
        refused = other == "emulated" and "simulation.masks: 'emulated' isn't for" in str(error)
        return [] if refused else [f"masks '{other}' refuse what '{now}' do: {error}"]
    if _bytes(first) != _bytes(second):
        return [f"masks '{other}' give another model than '{now}'"]
    return []


def _plain(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    case, settings = played.case, played.case.settings
    if settings.get("privacy.unit", "none") != "none":
        return []  # sizes, noise and places differ
    coarse = "compression.bits" in settings or settings.get("secure_aggregation.bits") == 16
    if coarse or _clipped(first):
        return []  # coarse by choice
    if "simulation.unmask_dropout" in settings or "secure_aggregation.max_examples" in settings:
        return []  # means something with masks only
    other = replace(case, masked=not case.masked)
    try:
        second = run(other, consortium, runs, Words())
    except WardroundError:
        return []  # what one of both can't do is refused by name: play() has tried one
    if _clipped(second):
        return []
    return _same("masked and plain", played, first, second, 1e-3)


def _executor(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    """Every executor gives the reference's model."""
    more: dict[str, Any] = {"simulation.executor": played.case.executor}
    try:
        second = run(played.case, consortium, runs, Words(), **more)
    except WardroundError as error:
        return [f"executor {played.case.executor} refuses what sequential does: {error}"]
    # a rounding of training may move a number by a level: 1 part in 42 of what is clipped beyond
    within = 0.02 if "compression.bits" in played.case.settings else 2e-4
    return _same(f"sequential and {played.case.executor}", played, first, second, within)


def _resume(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    """A run that is killed and gone on with leaves the same bytes."""
    number = played.case.number // len(CHECKS)
    at = ("started", "committed")[number % 2], 2 - number // 2 % 2
    before = set(runs.iterdir())
    if not killed(lambda: run(played.case, consortium, runs, Words(kill_at=at))):
        return []  # it ended before
    (stopped,) = set(runs.iterdir()) - before
    told = f"killed when round {at[1]} was {at[0]}"
    try:
        second = run(played.case, consortium, runs, Words(), resume=stopped)
    except WardroundError as error:
        return [f"{told}, then: {error}"]
    if _bytes(first) != _bytes(second):
        return [f"{told}: another model after --resume"]
    return []


def killed(work: Callable[[], object]) -> bool:
    """Whether a copy of this process that does the work is killed by it (SIGKILL: nothing of it is
    put in order, as at a power cut but for the disk)."""
    child = os.fork()
    if not child:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _written(played: Played, first: Result, consortium: Consortium, runs: Path) -> list[str]:
    """The same cells in files of another form give the same bytes."""
    form = sorted(FORMS)[played.case.number // len(CHECKS) % len(FORMS)]
    place = consortium.folder.parent / f"{consortium.folder.name} as {form}"
    other, more = written(consortium, form, place)
    try:
        second = run(played.case, other, runs, Words(), **more)
    except WardroundError as error:
        return [f"files as {form} are refused: {error}"]
    if _bytes(first) != _bytes(second):
        return [f"files as {form}: another model"]
    return []


def _same(what: str, played: Played, first: Result, second: Result, within: float) -> list[str]:
    settings = played.case.settings
    if settings.get("strategy.name") in _STEPPED or "training.optimizer" in settings:
        within = 0.1  # steps of a fixed size along what may be rounding
    a, b = shared_arrays(first), shared_arrays(second)
    if set(a) != set(b):
        return [f"{what}: models with other arrays"]
    scale = max((float(np.abs(x).max(initial=0)) for x in a.values()), default=0.0)
    apart = max(float(np.abs(a[k].astype(float) - b[k].astype(float)).max(initial=0)) for k in a)
    if apart > within * max(1.0, scale):
        return [f"{what}: models differ by {apart:.2g} (of {scale:.2g})"]
    return []


def _clipped(result: Result) -> bool:
    return any(row.get("clipped") for row in result.rounds)


def _bytes(result: Result) -> bytes:
    return (result.run_directory / "model" / "model.safetensors").read_bytes()
