"""Images larger than memory: training from the disk under a limit, beside the same in memory.

    python -m benchmarks.images [--quick] [--json PATH]

40,000 grey images of 224 x 224 (2.0 GB as bytes) in an npz, made once per run. Hospitals read,
split, train one pass in batches of 32 and evaluate, each in a process of its own with one thread
that computes. The model is three strided convolutions: the faster it is, the more a disk has to
give.

memory   ``task.store = "memory"``, without a limit
disk     ``task.store = "auto"`` in a control group with 1 GiB, so that it goes to the disk by
         itself, and the page cache holds a part of the images at most
no limit the same file, where the page cache holds all of it

The sides take turns of 20 steps, so that what else the machine does is shared by all; figures are
sums over the turns. The sides' models are compared byte for byte. ``--quick``: 11,000 images (550
MB) under 512 MiB, and 1,920 drawn to train on. Where no control group can be made (it takes root,
or a delegated group), the limit is ``RLIMIT_DATA``, which doesn't count the page cache, and the
title says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Row, arguments, emit

SIZE = 224
CLASSES = ("normal", "pneumonia")
NAMES = ("memory", "disk", "no limit")
BATCH, TURN = 32, 20
LEAST = 0.6
"""Of the speed in memory, that the disk is to reach."""
_GROUPS = Path("/sys/fs/cgroup")


def main() -> None:
    """Measure, print, write."""
    if sys.argv[1:2] == ["--side"]:
        side(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
        return
    options = arguments(__doc__ or "")
    count, limit, steps = (11_000, 512 << 20, 60) if options.quick else (40_000, 1 << 30, 0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", ".")) as folder:
        made = Path(folder) / "images.npz"
        make(made, count)
        with limited(limit) as under:
            sides = {
                name: Side(name, made, steps, under if name == "disk" else Limit())
                for name in NAMES
            }
            found = {name: one.ask("read") for name, one in sides.items()}
            going = True
            while going:
                for name, one in sides.items():
                    going = not _added(found[name], one.ask("train")).pop("done", True)
            for _ in range(3):
                for name, one in sides.items():
                    _added(found[name], one.ask("evaluate"))
            for name, one in sides.items():
                found[name] |= one.ask("end")
    if len({one.pop("model") for one in found.values()}) != 1:
        raise RuntimeError("the sides' models differ")
    title = f"{count:,} images of {SIZE} x {SIZE}, {limit >> 20} MiB by {under.name}"
    emit(title, list(rows(found, limit)), options.json)


def _added(total: dict[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
    """Add a turn's numbers up."""
    for key, value in turn.items():
        if isinstance(value, float):
            total[key] = total.get(key, 0.0) + value
    return turn


def make(path: Path, count: int) -> None:
    """Noise, brighter in a square for the second class; written image by image."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, count)
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, SIZE, SIZE)}
            np.lib.format.write_array_header_1_0(file, header)
            for label in labels:
                image = draw.integers(0, 160, (SIZE, SIZE), dtype=np.uint8)
                row, column = draw.integers(0, SIZE - 64, 2)
                image[row : row + 64, column : column + 64] += np.uint8(60 * label)
                file.write(image.tobytes())
        with archive.open("labels.npy", "w") as file:
            np.lib.format.write_array(file, labels)


def rows(found: dict[str, dict[str, Any]], limit: int) -> Iterator[Row]:
    """The figures of all sides."""
    for one in found.values():
        for work in ("training", "evaluation"):
            one[f"{work} images/s"] = one.pop(f"{work} images") / one.pop(f"{work} s")
    least: dict[str, float] = {"peak memory MiB": limit / 2**20}
    for key in found["disk"]:
        peers = {"memory": found["memory"][key], "no limit": found["no limit"][key]}
        better = "higher" if key.endswith("images/s") else "lower"
        yield Row("disk", key, found["disk"][key], better, peers, least.get(key))
    key = "training images/s"
    ratio = found["disk"][key] / found["memory"][key]
    yield Row("disk", "training, of the speed in memory", ratio, "higher", limit=LEAST)


# --- one side, in a process of its own ------------------------------------------------------------
class Side:
    """A side's process; asked for one thing at a time."""

    def __init__(self, name: str, images: Path, steps: int, limit: Limit) -> None:
        told = json.dumps(asdict(limit))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.images",
                "--side",
                name,
                str(images),
                str(steps),
                told,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> dict[str, Any]:
        """Its figures of that. Raises RuntimeError where it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side ended with {self._process.wait()}")
        if what == "end":
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
        found: dict[str, Any] = json.loads(line)
        return found


@dataclass(frozen=True)
class Limit:
    """What a side's process puts itself under.

    name : for the table; procs : the file of a control group that its number is written to
    """

    name: str = "none"
    procs: str = ""
    data_bytes: int = 0


@contextmanager
def limited(limit: int | None) -> Iterator[Limit]:
    """A control group with so many bytes, page cache and all; or what else there is."""
    if limit is None:
        yield Limit()
        return
    name = f"wardround-images-{os.getpid()}"
    for folder, file, called in (
        (_GROUPS / name, "memory.max", "control group 2"),
        (_GROUPS / "memory" / name, "memory.limit_in_bytes", "control group 1"),
    ):
        if not (folder.parent / "cgroup.procs").exists():  # no control groups of this version
            continue
        with suppress(OSError):
            with suppress(OSError):  # version 2 hands controllers down only when asked
                (folder.parent / "cgroup.subtree_control").write_text("+memory")
            folder.mkdir()
            try:
                (folder / file).write_text(str(limit))
            except OSError:
                folder.rmdir()
                raise
            try:
                yield Limit(called, str(folder / "cgroup.procs"))
            finally:
                _removed(folder)
            return
    yield Limit("RLIMIT_DATA: no control group could be made", "", limit)


def _removed(folder: Path) -> None:
    for _ in range(50):  # the group of a process that has ended empties a moment later
        with suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


def light(**options: Any) -> Any:
    """The imaging task with a model that takes little time."""
    from torch import nn

    from wardround.common.tasks.imaging import ImagingTask
    from wardround.common.tasks.imaging.layers import Standardise

    class Light(ImagingTask):
        """Three strided convolutions on standardised pixels."""

        def model(self, totals: Any) -> nn.Module:
            return nn.Sequential(
                Standardise([0.35], [0.22], 2),
                nn.Conv2d(1, 16, 7, stride=4, padding=3),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveMaxPool2d(4),
                nn.Flatten(),
                nn.Linear(512, 1),
            )

    return Light(**options)


def side(name: str, images: Path, steps: int, told: str) -> None:
    """The process: what it is asked for, line by line, with figures as JSON in return."""
    limit = Limit(**json.loads(told))
    if limit.procs:
        Path(limit.procs).write_text(str(os.getpid()))
    if limit.data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (limit.data_bytes, limit.data_bytes))
    work = Work(name, images, steps)
    for line in sys.stdin:
        print(json.dumps(getattr(work, line.strip())()), flush=True)


class Work:
    """A hospital's; each method gives its figures."""

    def __init__(self, name: str, images: Path, steps: int) -> None:
        import torch

        from wardround.common.config.load import parse_config

        torch.set_num_threads(1)  # on a busy machine two wait for each other
        store = {"memory": "memory", "disk": "auto", "no limit": "disk"}[name]
        self.task = light(classes=list(CLASSES), size=[SIZE, SIZE], store=store)
        length = f"local_steps = {steps}" if steps else "local_epochs = 1"
        self.config = parse_config(f"[training]\nbatch_size = {BATCH}\n{length}\nlr = 0.02\n")
        self._name, self._images = name, images

    def read(self) -> dict[str, Any]:
        """From the files, and again as after a restart."""
        from wardround.client.data.hospital import Hospital
        from wardround.client.data.shard import OwnShard
        from wardround.common.model.named import build_model

        took = []
        for _ in range(2):
            self.examples: dict[str, Any] = {}
            os.utime(self._images)  # a process that begins remembers no digest
            started = time.perf_counter()
            shard = OwnShard("north", self.task, self.config, self._load)
            self.examples = Hospital(shard).examples({}, "totals")
            took.append(time.perf_counter() - started)
        if self.examples["train"].stored is (self._name == "memory"):
            raise RuntimeError(f"{self._name}: the images aren't where they should be")
        self.model = build_model(self.task, {}, 0)
        self._gradients = self._steps()
        return {"reading s": took[0], "reading again s": took[1]}

    def _load(self) -> Any:
        return self.task.load_large(self._images, self._images.parent / f"kept for {self._name}")

    def _steps(self) -> Iterator[Any]:
        from wardround.client.training.batches import Drawn
        from wardround.client.training.objective import Objective
        from wardround.client.training.steps import BatchGradients
        from wardround.common.rng import client_keys

        training = self.config.training
        drawn = Drawn(self.examples["train"], training, client_keys(0, "batches", 1, ["north"]))
        objective = Objective(self.model, self.task, training, None)
        return iter(BatchGradients(self.model, drawn, objective))

    def train(self) -> dict[str, Any]:
        """A turn."""
        from wardround.client.training.steps import train_model

        started = time.perf_counter()
        turn = islice(self._gradients, TURN)
        done = train_model(self.model, turn, self.config, (0, 1, "north")).steps
        took = time.perf_counter() - started
        return {"training images": float(done * BATCH), "training s": took, "done": done < TURN}

    def evaluate(self) -> dict[str, Any]:
        """The images that are held out."""
        from wardround.client.training.evaluation import evaluate_model

        started = time.perf_counter()
        evaluate_model(self.model, self.examples["test"], self.task)
        took = time.perf_counter() - started
        return {"evaluation images": float(len(self.examples["test"])), "evaluation s": took}

    def end(self) -> dict[str, Any]:
        """What is left to say."""
        from wardround.common.model.named import model_arrays

        arrays = model_arrays(self.model).values()
        return {
            "model": hashlib.sha256(b"".join(value.tobytes() for value in arrays)).hexdigest(),
            "peak memory MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


if __name__ == "__main__":
    main()
