"""A hospital's kit with a finished, signed model of two others, and rows of its own that differ."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wardround.client.site.kit import Kit
from wardround.common.config.load import load_config
from wardround.common.model_folder.write import seal_folder
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.provision.kits import load_server_folder
from wardround.simulations import simulate

_BASE = """
[federation]
name = "heart"
rounds = 4
seed = 1
[server]
hospitals = ["north", "south", "east"]
[training]
lr = 0.5
[secure_aggregation]
enabled = false
[simulation]
baselines = false
[data]
path = "data"
[task]
name = "tabular"
"""
TASKS = {
    "binary": 'kind = "binary"\ncolumns = { target = "out", numeric = ["x", "z"], '
    'patient_id = "who" }',
    "multiclass": 'kind = "multiclass"\nclasses = ["a", "b", "c"]\ncolumns = { target = "out", '
    'numeric = ["x", "z"], patient_id = "who" }',
    "regression": 'kind = "regression"\ncolumns = { target = "out", numeric = ["x", "z"], '
    'patient_id = "who" }',
    "survival": 'kind = "survival"\ncolumns = { time = "days", event = "out", '
    'numeric = ["x", "z"], patient_id = "who" }',
}


@dataclass(frozen=True)
class AtHome:
    """``run``: the simulation's directory; ``data``: a file of the hospital's rows."""

    kit: Kit
    run: Path
    data: Path

    @property
    def model(self) -> Path:
        """The folder of the results."""
        return self.kit.folder / "results" / self.run.name / "model"


def at_home(folder: Path, kind: str = "binary", rows: int = 400) -> AtHome:
    """Make it all. The hospital's outcomes are rarer, and follow the inputs less."""
    (folder / "data").mkdir(parents=True)
    for seed, name in enumerate(("south", "east")):
        write_rows(folder / "data" / f"{name}.csv", kind, 200, seed)
    write_rows(folder / "recent.csv", kind, rows, 7, level=-1.5, slope=0.5)
    (folder / "federation.toml").write_text(_BASE + TASKS[kind])
    run = simulate(folder / "federation.toml").run_directory
    config = load_config(folder / "federation.toml")
    provision.provision(config, now=now_utc())
    shutil.copytree(folder / "provision" / "kits" / "north", folder / "north")
    put_results(folder / "north", run)
    seal_folder(
        folder / "north" / "results" / run.name / "model",
        run=run.name,
        round=4,
        identity=load_server_folder(config).identity,
        network="heart",
    )
    return AtHome(Kit.open(folder / "north"), run, folder / "recent.csv")


def put_results(kit: Path, run: Path) -> None:
    """A run's model, as results that have come."""
    target = kit / "results" / run.name
    shutil.copytree(run / "model", target / "model")
    (target / "ended.json").write_text(json.dumps({"format": "study's end", "version": 1}))


def write_rows(
    path: Path, kind: str, rows: int, seed: int, level: float = 0.0, slope: float = 1.0
) -> None:
    """Two rows of each patient."""
    generator = np.random.default_rng(seed)
    x, z = generator.normal(size=(2, rows))
    score = level + slope * (2 * x - z)
    chance = 1 / (1 + np.exp(-score))
    whose = [f"P{seed}-{n // 2}" for n in range(rows)]
    out: list[object] = (generator.random(rows) < chance).astype(int).tolist()
    if kind == "multiclass":
        noise = generator.gumbel(size=(rows, 3))
        out = ["abc"[n] for n in np.argmax(np.outer(score, [1, 0, -1]) + noise, axis=1)]
    elif kind == "regression":
        out = (50 + 10 * score + generator.normal(0, 4, rows)).round(2).tolist()
    days = np.ceil(generator.exponential(30 * np.exp(-score / 2))).astype(int)
    lines = [f"{x[n]:.4f},{z[n]:.4f},{whose[n]},{days[n]},{out[n]}" for n in range(rows)]
    path.write_text("\n".join(["x,z,who,days,out", *lines]) + "\n")
