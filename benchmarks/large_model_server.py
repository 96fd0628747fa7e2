"""Two updates of more numbers than fit into memory: from a server's spool to its checkpoint.

    python -m benchmarks.large_model_server PARAMETERS FOLDER      (started by large_model.py)

Each body lies in a file, as one that came from a hospital does. It is decoded, checked against the
model and folded into the weighted mean; the mean is written as a checkpoint. No model is built and
nobody trains: numbers are random bfloat16, and some hundred thousand of the mean are worked out
again by hand. The process may have 2 GB of memory of its own (RLIMIT_DATA: files that are mapped
are none).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row
from wardround.common import mapped
from wardround.common.bfloat16 import BFLOAT16
from wardround.common.flower.arrays import Arrays, ArraySpec, Layout, Making, encode_arrays
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol.train import TrainReply
from wardround.common.transport.frames import CHUNK_BYTES
from wardround.server.rounds.checkpoint import FederationState, write_checkpoint
from wardround.server.strategies.aggregation import RunningMean

LIMIT_BYTES = 2 << 30
LAYERS, WEIGHTS = 10, (100, 300)
_BLOCK = 1 << 20
_TRIED = 10_000
"""Numbers of each layer that are worked out again."""


def rows(parameters: int) -> list[Row]:
    """The figures of one run, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.large_model_server", str(parameters), folder]
        told = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    if told.returncode:
        raise RuntimeError(f"it failed:\n{told.stderr[-2000:]}")
    found = json.loads(told.stdout.splitlines()[-1])
    case = f"{parameters / 1e6:.0f} M of bfloat16, {len(WEIGHTS)} updates in the spool"
    bare = {"bare": found["bare_s"]}
    return [
        Row(case, "s from spool to checkpoint", found["seconds"], "lower", bare),
        Row(case, "a copy of the model, MB", 2 * parameters / 1e6, "lower"),
        Row(case, "memory, MB", found["memory_mb"], "lower", limit=LIMIT_BYTES / 1e6),
        Row(case, "of it not of files, MB", found["own_mb"], "lower"),
    ]


def main() -> None:
    """Run, hold the mean against one by hand, and print the figures."""
    parameters, folder = int(sys.argv[1]), Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    mapped.keep_in(folder)
    layout = {f"layer.{n}": ArraySpec((parameters // LAYERS,), "bfloat16") for n in range(LAYERS)}
    blocks = [numbers(seed) for seed in range(len(WEIGHTS))]
    spool = [body(folder, layout, block, seed) for seed, block in enumerate(blocks)]
    bare_s = copied(folder, [file for file, _ in spool])
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    mean = RunningMean(layout)
    for (file, size_bytes), weight in zip(spool, WEIGHTS, strict=True):
        content = decode_content(file, size_bytes, stored=True)
        reply = TrainReply.from_records(content, layout, {}, False)
        mean.add(reply.arrays, weight)
        del content, reply
    model = mean.mean()
    write_checkpoint(folder, FederationState(1, model, {}))
    seconds = time.perf_counter() - started
    check(model, blocks)
    figures = {"seconds": seconds, "bare_s": bare_s, **memory_mb()}
    print(json.dumps(figures))


def numbers(seed: int) -> NDArray[Any]:
    """A block that a layer's numbers repeat: each layer begins elsewhere in it."""
    return np.random.default_rng(seed).normal(0, 0.02, _BLOCK).astype(BFLOAT16)


def body(folder: Path, layout: Layout, block: NDArray[Any], seed: int) -> tuple[IO[bytes], int]:
    """The body of a reply, in a file without a name."""
    made, arrays = Making(layout), Arrays()
    for number, name in enumerate(layout):
        array = made.begun(name)
        shifted = np.roll(block, number)
        for start in range(0, len(array), _BLOCK):
            part = array[start : start + _BLOCK]
            part[:] = shifted[: len(part)]
            mapped.let_go(part)
        arrays[name] = made.finished(array)
    content = TrainReply(arrays, WEIGHTS[seed], 1, 0.5).to_records()
    content["arrays"] = encode_arrays(arrays)
    whole, file = encode_content(content), tempfile.TemporaryFile(dir=folder)
    for offset in range(0, whole.size_bytes, CHUNK_BYTES):
        file.write(whole.read(offset, CHUNK_BYTES))
    file.seek(0)
    return file, whole.size_bytes


def copied(folder: Path, files: list[IO[bytes]]) -> float:
    """Seconds that reading the bodies, and writing one of them, takes by itself."""
    started = time.perf_counter()
    with tempfile.TemporaryFile(dir=folder) as copy:
        for file in files:
            while piece := file.read(mapped.WINDOW_BYTES):
                if file is files[0]:
                    copy.write(piece)
            file.seek(0)
    return time.perf_counter() - started


def check(model: Arrays, blocks: list[NDArray[Any]]) -> None:
    """Raise AssertionError unless the mean is that of the blocks, rounded to the nearest."""
    total = sum(WEIGHTS)
    for number, array in enumerate(model.values()):
        parts = [np.roll(block, number)[:_TRIED].astype(np.float64) for block in blocks]
        exact = sum(w * part for w, part in zip(WEIGHTS, parts, strict=True)) / total
        found = array[_BLOCK : _BLOCK + _TRIED]
        below, above = (np.nextafter(found, np.array(end, BFLOAT16)) for end in (-np.inf, np.inf))
        near = np.abs(found.astype(np.float64) - exact)
        for other in (below, above):
            assert (near <= np.abs(other.astype(np.float64) - exact)).all()


def memory_mb() -> dict[str, float]:
    """The most that this process had, and what of it is no file's."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    size = {
        name: int(lines[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "VmRSS", "RssAnon")
    }
    return {"memory_mb": size["VmHWM"], "own_mb": size["RssAnon"]}


if __name__ == "__main__":
    main()
