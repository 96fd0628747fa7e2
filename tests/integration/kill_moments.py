"""kill -9 of simulations at drawn moments, then ``--resume``: the run that nobody disturbed.

    python -m tests.integration.kill_moments [--runs 40] [--seed 7] [--first 0] [--keep FOLDER]

``kill_points.py`` kills before durable writes of small runs. Here a run is drawn (privacy, masks,
executor, strategy, how large its state is, how many hospitals pay into one book) and killed by
another process, whatever it does just then: while the thread of a large state's commit writes,
while hospitals pay, or have paid and nothing follows; it is gone on with, killed again, up to
three times. At its end everything is as of the same run without a kill: model, every round's line,
figure sums, clients' states, and of each hospital the requests that it has paid for, once.

One line of JSON per run. A failure prints what was drawn and ends with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import sklearn.datasets  # noqa: F401 - the task's, paid once like ours

from tests.integration.kill_points import in_child, void
from wardround.client.privacy.book import BOOK, Book
from wardround.client.privacy.ledger import Ledger
from wardround.common.config.load import load_config
from wardround.common.run.directory import RunDirectory
from wardround.simulations import simulate

ROUNDS = 8
LARGE, SMALL = "[640, 560]", "[4]"
"""Hidden layers: a state of 1.5 MB is committed by the thread."""
PRIVACY = {
    "none": "",
    "example, local": 'unit = "example"\nnoise = "local"\nnoise_multiplier = 1.0\n',
    "example, distributed": (
        'unit = "example"\nnoise = "distributed"\nnoise_multiplier = 1.0\n'
        "[training]\nlocal_steps = 1\n"
    ),
    "hospital, distributed": 'unit = "hospital"\nnoise_multiplier = 0.7\n',
    "hospital, central": 'unit = "hospital"\nnoise = "central"\nnoise_multiplier = 0.7\n',
    "hospital, adaptive": 'unit = "hospital"\nclipping = "adaptive"\nnoise_multiplier = 0.7\n',
}
STRATEGIES = {
    "fedavg": "",
    "fedadam": 'name = "fedadam"\n',
    "scaffold": 'name = "scaffold"\n',
    "personal": 'personal_layers = ["*.bias"]\n',
}
PER_HOSPITAL = ("scaffold", "personal")
"""Not private per hospital or by all together."""
MASKS = ("none", "protocol", "emulated")
EXECUTORS = ("sequential", "cohort", "processes")


def drawn(number: int, seed: int) -> dict[str, Any]:
    """What a run is."""
    draw = random.Random(f"{seed} {number}")
    privacy, masks = draw.choice(list(PRIVACY)), draw.choice(MASKS)
    if masks == "none" and "distributed" in privacy or "adaptive" in privacy:
        masks = "emulated"
    allowed = [one for one in STRATEGIES if privacy == "none" or one not in PER_HOSPITAL]
    return {
        "privacy": privacy,
        "masks": masks,
        "strategy": draw.choice(allowed),
        "executor": draw.choice(EXECUTORS),
        "hidden": draw.choice((LARGE, LARGE, SMALL)),
        "clients": draw.choice((6, 6, 70) if masks != "protocol" else (6,)),
        "dropout": draw.choice((0.0, 0.15)),
        "kills": [draw.random() for _ in range(draw.choice((1, 1, 2, 3)))],
        "everything": draw.random() < 0.5,
    }


def text(run: dict[str, Any]) -> str:
    """Its configuration."""
    privacy, _, training = PRIVACY[run["privacy"]].partition("[training]\n")
    few = run["clients"] == 6
    secure = "enabled = false\n" if run["masks"] == "none" else "threshold = 0.5\n"
    return (
        f'[federation]\nname = "kill"\nrounds = {ROUNDS}\nround_attempts = 9\nmin_clients = 3\n'
        f"retry_wait_s = 0.0\nclients_per_round = {5 if few else 40}\n"
        f"[secure_aggregation]\n{secure}"
        '[task]\nkind = "binary"\n[task.model]\nkind = "mlp"\n'
        f"hidden = {run['hidden']}\n[training]\n{training or 'local_steps = 2' + chr(10)}"
        f"[strategy]\n{STRATEGIES[run['strategy']]}"
        + (f"[privacy]\n{privacy}" if privacy else "")
        + f"[simulation]\nclients = {run['clients']}\nbaselines = false\n"
        f'partition = "{"dirichlet" if few else "iid"}"\n'
        f'executor = "{run["executor"]}"\ndropout = {run["dropout"]}\nmin_examples = 3\n'
        + ("" if run["masks"] == "none" else f'masks = "{run["masks"]}"\n')
    )


def left_by(run: Path) -> dict[str, Any]:
    """What a run leaves that counts."""
    directory = RunDirectory(run)
    rows = directory.rounds()
    for row in rows:
        for key in ("seconds", "bytes_up", "bytes_down", "training_bytes"):  # it greets again
            del row[key]
    return {
        "model": digest(run / "model" / "model.safetensors"),
        "sums": digest(run / "sums.safetensors"),
        "clients": digest(run / "checkpoints" / f"round-{ROUNDS:04d}.clients"),
        "rounds": rows,
        "paid": paid(run),
        "checkpoints": sorted(one.name for one in directory.checkpoints.iterdir()),
    }


def digest(path: Path) -> str:
    """SHA-256 of a file; '' where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def paid(run: Path) -> dict[str, list[Any]]:
    """By hospital, what its ledger has; each request once."""
    found = {}
    folder = run / "ledgers"
    if (folder / BOOK).exists():
        with Book.open(folder / BOOK) as book:
            found = {name: book.entries_of(name) for name in book.hospitals()}
    for path in folder.glob("[!_]*.sqlite"):
        with Ledger.open(path, path.stem) as ledger:
            found[path.stem] = ledger.entries()
    for name, entries in found.items():
        twice = [one for one, n in Counter(e.request for e in entries).items() if n > 1]
        assert not twice, f"{name} paid twice for {twice}"
    return {name: sorted((e.unit, str(e.releases), e.units) for e in entries)
            for name, entries in sorted(found.items())}  # fmt: skip


def begin(config: Path, runs: Path) -> int:
    """A process group of its own that simulates; its number."""
    return forked(lambda: void(simulate(load_config(config, [f'federation.runs="{runs}"']))))


def go_on(run: Path) -> int:
    """One that resumes."""
    return forked(lambda: void(simulate(resume=run)))


def forked(work: Any) -> int:
    child = os.fork()
    if child:
        return child
    os.setsid()
    try:
        work()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def lines(runs: Path) -> int:
    """Rounds that a run has told of."""
    return sum(path.read_bytes().count(b"\n") for path in runs.glob("*/metrics.jsonl"))


def kill_when(child: int, runs: Path, rounds: float, everything: bool) -> bool:
    """kill -9 once it has got so far: after so many rounds, and a part of the next; whether it was
    before its end."""
    whole, begun, took = int(rounds), time.monotonic(), 0.05
    while lines(runs) < whole:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return _reap(child)
        time.sleep(0.002)
    if whole:
        took = min(0.3, (time.monotonic() - begun) / whole)
    time.sleep((rounds - whole) * took)
    (os.killpg if everything else os.kill)(child, signal.SIGKILL)
    return _reap(child)


def _reap(child: int) -> bool:
    """Whether it was killed. Raises SystemExit where it failed by itself."""
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
        raise SystemExit("failed by itself")
    return os.WIFSIGNALED(status)


def one(number: int, seed: int, folder: Path) -> dict[str, Any]:
    """A run undisturbed, and the same killed and gone on with. Raises AssertionError."""
    run = drawn(number, seed)
    config = folder / "config.toml"
    config.write_text(text(run))
    if in_child(lambda: void(simulate(load_config(config, [f'federation.runs="{folder}/whole"'])))):
        raise SystemExit(f"{run}: the undisturbed run failed")
    (whole,) = (folder / "whole").iterdir()
    runs, kills = folder / "killed", 0
    child = begin(config, runs)
    for part in sorted(run["kills"]):
        at = (ROUNDS + 1) * part
        if not kill_when(child, runs, at, run["everything"]):
            child = 0
            break
        kills += 1
        made = [one for one in runs.glob("*") if (one / "config.toml").exists()]
        child = go_on(made[0]) if made else begin(config, runs)
    if child and _reap(child):
        raise SystemExit("killed by somebody else")
    (killed,) = (one for one in runs.iterdir() if (one / "config.toml").exists())
    expected, found = left_by(whole), left_by(killed)
    other = [key for key in expected if expected[key] != found[key]]
    assert not other, f"{run}: other {other} than of the undisturbed run"
    return {"run": run, "killed": kills}


def main() -> None:
    """See the module's documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    failed = 0
    for number in range(asked.first, asked.first + asked.runs):
        folder = Path(tempfile.mkdtemp(prefix="kill-"))
        try:
            print(json.dumps({"number": number, **one(number, asked.seed, folder)}), flush=True)
        except (AssertionError, SystemExit) as error:
            failed += 1
            print(f"--seed {asked.seed} --first {number} --runs 1: {error}", flush=True)
            if asked.keep:
                shutil.copytree(folder, asked.keep / f"{asked.seed}-{number}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
