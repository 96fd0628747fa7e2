"""For test_kill_resume.py: kill a run at its n-th durable write, resume it, print its hash.

    python -m tests.integration.kill_points CONFIG...

One line of JSON per case: {"config": ..., "case": ..., "sha256": ...}. Every case is a fork
of this process, so that the imports are paid once; no torch work is done before the forks. Runs
lie in a folder beside each file. Killed is where what a crash may lose differs: before the first
round, after the first, before the second is committed, and after the last. (Every so many writes
would mostly be of how a run begins and ends.)
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas  # noqa: F401 - pyarrow looks for it
import sklearn.datasets  # noqa: F401 - the task's, paid once like ours

from wardround.common.config.load import load_config
from wardround.common.run.report import from_run, page  # noqa: F401 - of a run's end
from wardround.simulations import simulate


def in_child(work: Callable[[], None]) -> int:
    """Run ``work`` in a fork; the exit status as os.waitpid gives it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitpid(child, 0)[1]


def kill_before(number: int, commits: Path | None = None) -> None:
    """SIGKILL this process before its ``number``-th fsync or rename (0: never).

    commits : file for the numbers of the renames that commit a round, a line each
    """
    count = 0

    def guarded(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*args: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            if commits is not None and name == "replace" and COMMIT.search(str(args[1])):
                with commits.open("a") as log:
                    log.write(f"{count}\n")
            return original(*args)

        return call

    for name in ("fsync", "replace"):
        setattr(os, name, guarded(name))


def digest(run: Path) -> str:
    files = ["model/model.safetensors", "metrics.jsonl"]
    sums = (run / "sums.safetensors").read_bytes()
    model = hashlib.sha256((run / files[0]).read_bytes() + sums).hexdigest()
    rows = [json.loads(line) for line in (run / files[1]).read_text().splitlines()]
    for row in rows:
        # a resumed run greets again
        del row["seconds"], row["bytes_up"], row["bytes_down"], row["training_bytes"]
    return hashlib.sha256((model + json.dumps(rows)).encode()).hexdigest()


def main() -> None:
    page._template()  # compiled once for all cases
    for config in map(Path, sys.argv[1:]):
        kill_and_resume(config, config.with_suffix(".runs"))


def kill_and_resume(config: Path, folder: Path) -> None:
    """An undisturbed run, then one that is killed at each point."""
    commits = config.with_suffix(".commits")

    def case(name: str, kill: int) -> None:
        runs = folder / name

        def first() -> None:
            kill_before(kill, None if kill else commits)
            simulate(load_config(config, [f'federation.runs="{runs}"']))

        status = in_child(first)
        killed = os.WIFSIGNALED(status)
        if kill and not killed and os.WEXITSTATUS(status):
            raise SystemExit(f"{name}: failed by itself")
        found = [run for run in runs.iterdir() if (run / "config.toml").exists()]
        if killed and found:
            if in_child(lambda: void(simulate(resume=found[0]))):
                raise SystemExit(f"{name}: could not be resumed")
        if found and (killed or not kill):
            said = {"config": config.stem, "case": name, "sha256": digest(found[0])}
            line = json.dumps(said)
            with SAYING:
                builtins.print(line, flush=True)

    case("uninterrupted", 0)
    start, one, two, last = map(int, commits.read_text().split())
    points = (start, one + 1, two, last + 1)
    with ThreadPoolExecutor(AT_ONCE) as pool:  # their work is in forks, one core each
        list(pool.map(lambda n: case(f"killed before write {n}", n), points))


def void(value: object) -> None:
    """A statement out of an expression."""


AT_ONCE = 2
COMMIT = re.compile(r"checkpoints/round-\d+\.safetensors$")
SAYING = threading.Lock()

if __name__ == "__main__":
    main()
