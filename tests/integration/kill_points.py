"""For test_kill_resume.py: kill a run at its n-th durable write, resume it, print its hash.

    python -m tests.integration.kill_points STRIDE CONFIG...

One line of JSON per case: {"config": ..., "case": ..., "sha256": ...}. Every case is a fork
of this process, so that the imports are paid once; no torch work is done before the forks. Runs
lie in a folder beside each file.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sklearn.datasets  # noqa: F401 - the task's, paid once like ours

from wardround.common.config.load import load_config
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


def kill_before(number: int) -> None:
    """SIGKILL this process before its ``number``-th fsync or rename (0: never)."""
    count = 0

    def guarded(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*args: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
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
    for config in map(Path, sys.argv[2:]):
        kill_and_resume(config, config.with_suffix(".runs"), int(sys.argv[1]))


def kill_and_resume(config: Path, folder: Path, stride: int) -> None:
    """An undisturbed run, then one that is killed before each ``stride``-th write."""

    def case(name: str, kill: int) -> bool:
        """Returns whether the kill point was reached."""
        runs = folder / name

        def first() -> None:
            kill_before(kill)
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
        return killed

    case("uninterrupted", 0)
    number, reached = 1, True
    with ThreadPoolExecutor(AT_ONCE) as pool:  # their work is in forks, one core each
        while reached:
            numbers = [number + stride * index for index in range(AT_ONCE)]
            reached = all(pool.map(lambda n: case(f"killed before write {n}", n), numbers))
            number += AT_ONCE * stride


def void(value: object) -> None:
    """A statement out of an expression."""


AT_ONCE = 2
SAYING = threading.Lock()

if __name__ == "__main__":
    main()
