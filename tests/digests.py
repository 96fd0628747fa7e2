"""Digests of the models of some sixty combinations: a net under changes that must change nothing.

    python -m tests.digests                 hold this checkout against tests/vectors/models.json
    python -m tests.digests --against DIR   hold it against another checkout, run here and now
    python -m tests.digests --only lora ... of the combinations with this in their name
    python -m tests.digests --freeze        write tests/vectors/models.json

The same configuration and seed give the same bytes on one machine with one version of torch; other
processors round differently. So the file names both, and is compared only where they are the same.
``--against`` needs neither: it runs both sides, with this environment's packages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.unlike import make_consortium
from wardround.simulations import simulate

ROOT = Path(__file__).parent.parent
FROZEN = ROOT / "tests" / "vectors" / "models.json"
Combination = tuple[str, tuple[str, ...]]

_PLAIN = ("secure_aggregation.enabled=false",)
_MLP = ('task.model.kind="mlp"', "task.model.hidden=[8]")
_EXAMPLE = ('privacy.unit="example"', "privacy.noise_multiplier=1.0", "privacy.delta=1e-3")
_SUMMED = (*_EXAMPLE, 'privacy.noise="distributed"', "training.local_steps=1")
_HOSPITAL = ('privacy.unit="hospital"', "privacy.noise_multiplier=1.0", "privacy.delta=1e-3")
_STRATEGIES = {
    "fedavg": (),
    "fedprox": ("strategy.proximal_mu=0.1",),
    "fedavgm": ("strategy.server_momentum=0.9",),
    "fedadam": ("strategy.eta=0.01",),
    "fedadagrad": ("strategy.eta=0.01",),
    "fedyogi": ("strategy.eta=0.01",),
    "scaffold": (),
    "fednova": (),
    "feddyn": (),
}


def combinations() -> dict[str, Combination]:
    """Name to (kind of consortium, overrides)."""
    found: dict[str, Combination] = {}
    for name, options in _STRATEGIES.items():
        chosen = (f'strategy.name="{name}"', *options)
        found[f"binary {name} masked"] = ("binary", chosen)
        found[f"binary {name} plain, mlp"] = ("binary", (*chosen, *_PLAIN, *_MLP))
    norm = (*_MLP, 'task.model.norm="batch"', "training.batch_size=8")
    found["binary fedbn"] = ("binary", ('strategy.name="fedbn"', *norm))
    for name in ("fedmedian", "fedtrimmedavg", "krum", "multikrum"):
        found[f"multiclass {name}"] = ("multiclass", (f'strategy.name="{name}"', *_PLAIN))
    for kind in ("multiclass", "regression", "survival", "images2d", "images3d"):
        found[f"{kind} masked"] = (kind, ())
        found[f"{kind} 16 bits"] = (kind, ("secure_aggregation.bits=16",))
        found[f"{kind} plain, adam"] = (kind, (*_PLAIN, 'training.optimizer="adam"'))
        found[f"{kind} processes"] = (kind, ('simulation.executor="processes"',))
    for tuning in ("full", "lora", "ffa_lora", "adalora", "head"):
        found[f"entities {tuning}"] = ("entities", (f'task.tuning="{tuning}"',))
    found["texts lora, plain"] = ("texts", _PLAIN)
    found["texts full, clipped gradients"] = (
        "texts",
        ('task.tuning="full"', "training.max_grad_norm=1.0"),
    )
    found["images2d augmented"] = (
        "images2d",
        ("task.augment.rotation=10.0", "task.augment.translation=0.1"),
    )
    found["binary personal bias"] = ("binary", ('strategy.personal_layers=["*bias"]',))
    found["binary cohort"] = ("binary", ('simulation.executor="cohort"', *_MLP))
    found["binary dropouts"] = (
        "binary",
        ("simulation.dropout=0.1", "simulation.unmask_dropout=0.1", "federation.rounds=4"),
    )
    found["binary examples local"] = ("binary", _EXAMPLE)
    found["binary examples distributed"] = ("binary", _SUMMED)
    found["binary hospitals"] = ("binary", _HOSPITAL)
    found["binary hospitals adaptive"] = ("binary", (*_HOSPITAL, 'privacy.clipping="adaptive"'))
    found["binary cosine, momentum"] = (
        "binary",
        ('training.schedule="cosine"', "training.momentum=0.9", "training.weight_decay=0.01"),
    )
    found["multiclass distillation"] = ("multiclass", ("training.distillation=0.5", *_MLP))
    return found


def digests(names: list[str]) -> Iterator[tuple[str, str]]:
    """(name, digest of the model file's arrays, or the refusal) of each combination."""
    from wardround.common.durable.tensors import read_tensors
    from wardround.common.errors import WardroundError

    known = combinations()
    with tempfile.TemporaryDirectory(prefix="digests-") as folder:
        made: dict[str, Any] = {}
        for name in names:
            kind, overrides = known[name]
            if kind not in made:
                made[kind] = make_consortium(kind, Path(folder) / kind)
            try:
                result = simulate(made[kind].config(*overrides, runs=Path(folder) / "runs"))
            except WardroundError as error:
                yield name, f"{type(error).__name__}: {error}".replace(folder, "")
                continue
            arrays, _ = read_tensors(result.run_directory / "model" / "model.safetensors")
            whole = hashlib.sha256()
            for key in sorted(arrays):
                whole.update(f"{key} {arrays[key].dtype} {arrays[key].shape}".encode())
                whole.update(arrays[key].tobytes())
            yield name, whole.hexdigest()


def machine() -> dict[str, str]:
    """What the bytes depend on beside the code."""
    return {
        "torch": torch.__version__,
        "processor": f"{_processor()} {torch.backends.cpu.get_cpu_capability()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), "unknown")


def of_checkout(place: Path, only: str = "") -> dict[str, str]:
    """The digests that another checkout's product gives, asked by this one's combinations."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place / ".typing"), str(ROOT)])}
    command = [sys.executable, "-m", "tests.digests", "--print", "--only", only]
    found = subprocess.run(
        command, env=environment, cwd=tempfile.gettempdir(), capture_output=True, text=True
    )
    if found.returncode:
        raise SystemExit(f"{place}: {found.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(found.stdout))


def compare(ours: dict[str, str], theirs: dict[str, str]) -> int:
    """Print what differs; 1 if anything does."""
    apart = [name for name in ours if ours[name] != theirs.get(name)]
    for name in apart:
        print(f"differs: {name}\n  here  {ours[name]}\n  there {theirs.get(name, 'not there')}")
    print(f"{len(ours) - len(apart)} of {len(ours)} models are the same")
    return int(bool(apart))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.digests", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--freeze", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT", help="what is in their names")
    parser.add_argument("--print", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    names = [name for name in combinations() if given.only in name]
    if given.only and (given.freeze or not names):
        parser.error("--only: no name has it" if not names else "all are frozen, or none")
    frozen = json.loads(FROZEN.read_text())
    alone = not (given.print or given.freeze or given.against)
    if alone and frozen["machine"] != machine():  # before minutes of work that nothing is held to
        raise SystemExit(f"frozen on another machine ({frozen['machine']}); use --against")
    ours = dict(digests(names))
    if given.print:
        print(json.dumps(ours))
        return 0
    if given.freeze:
        FROZEN.write_text(json.dumps({"machine": machine(), "models": ours}, indent=1) + "\n")
        print(f"wrote {FROZEN}: {len(ours)} models")
        return 0
    if given.against:
        return compare(ours, of_checkout(given.against.resolve(), given.only))
    return compare(ours, frozen["models"])


if __name__ == "__main__":
    sys.exit(main())
