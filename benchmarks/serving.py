"""A served model beside bare onnxruntime on the same graph and rows, in the same run.

    python -m benchmarks.serving [--quick] [--json PATH]

Single requests go over a real port, one after the other on one connection, JSON in and out. Batches
are measured as what the server's one worker does for a request (reading the body, the graph,
counting, writing the answer), beside the graph alone on columns that are ready: the ratio is the
share of bare onnxruntime's throughput. Three models of 30 inputs (22 numbers, 4 binary, 4
categories): linear, an MLP of 64, and one of 3 x 512. One thread, one core.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from pydantic_core import to_json
from safetensors.numpy import save

from benchmarks.report import Row, arguments, emit
from wardround.client.serving.app import Served, predict_work
from wardround.client.serving.asked import Reader
from wardround.client.serving.binary import MEDIA_TYPE
from wardround.client.serving.serving import Asking, Reach, Trusting, opened, server
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.export.exporting import export_model
from wardround.common.export.source import Source
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import MODEL, ModelForm, write_preparation
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.model_folder.write import describe_model, seal_folder

NUMBERS, BINARY, CATEGORIES = 22, 4, 4
ROWS = 10_000
WARDS = [f"ward {number}" for number in range(8)]
MODELS = {
    "linear": 'kind = "linear"',
    "MLP 64": 'kind = "mlp"\nhidden = [64]',
    "MLP 3 x 512": 'kind = "mlp"\nhidden = [512, 512, 512]',
}


def columns(rows: int, seed: int) -> dict[str, list[Any]]:
    """Rows with a gap in one cell of twenty."""
    draw = np.random.default_rng(seed)

    def gaps(values: list[Any]) -> list[Any]:
        missing = draw.random(rows) < 0.05
        return [None if gap else value for gap, value in zip(missing, values, strict=True)]

    found: dict[str, list[Any]] = {}
    for number in range(NUMBERS):
        found[f"lab_{number}"] = gaps(draw.normal(60, 15, rows).round(2).tolist())
    for number in range(BINARY):
        found[f"yes_{number}"] = gaps(draw.integers(0, 2, rows).tolist())
    for number in range(CATEGORIES):
        found[f"ward_{number}"] = gaps([WARDS[one] for one in draw.integers(0, 8, rows)])
    return found


def as_tensors(given: dict[str, list[Any]]) -> bytes:
    """The same columns as safetensors."""
    texts = {f"ward_{number}": json.dumps(WARDS) for number in range(CATEGORIES)}
    place = {text: number for number, text in enumerate(WARDS)} | {None: -1}
    found = {
        name: np.array([place[one] for one in values], np.int32)
        if name in texts
        else np.array(values, np.float64)
        for name, values in given.items()
    }
    return bytes(save(found, texts))


def make_export(folder: Path, form: str) -> Path:
    """An export of a model with drawn weights."""
    binary = [f"yes_{number}" for number in range(BINARY)]
    categorical = [f"ward_{number}" for number in range(CATEGORIES)]
    config = parse_config(
        f'[task]\nname = "tabular"\n[task.model]\n{form}\n'
        f'[task.columns]\ntarget = "died"\nbinary = {binary}\ncategorical = {categorical}\n'
    )
    task: Any = make_task(config)
    path = folder / "rows.csv"
    rows = columns(400, 1) | {"died": (np.arange(400) % 2).tolist()}
    lines = [",".join(rows)]
    for cells in zip(*rows.values(), strict=True):
        lines.append(",".join("" if cell is None else str(cell) for cell in cells))
    path.write_text("\n".join(lines) + "\n")
    shard, totals = task.load(path), Sums()
    for phase in range(task.phases):
        totals |= add_sums([task.statistics(shard, phase, totals)])
    totals = task.condense(totals)
    torch.manual_seed(0)
    model = build_model(task, totals, 0)
    (folder / "model").mkdir()
    ModelForm.of(task, model, Entries.of(model)).write(
        folder / "model" / MODEL, model_arrays(model), 1, 0
    )
    write_preparation(folder / "model", totals)
    describe_model(folder / "model", config, task, totals)
    seal_folder(folder / "model", run="benchmark", round=1, identity=None)
    export_model(Source.of(ModelFolder.open(folder / "model")), folder / "export")
    return folder / "export"


def median_s(work: Callable[[], Any], times: int) -> float:
    """Of several runs, after one that isn't counted."""
    work()
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


_ASK = """
import http.client, json, sys, time
port, times = int(sys.argv[1]), int(sys.argv[2])
body, found = sys.stdin.buffer.read(), []
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
for number in range(times + 50):
    began = time.perf_counter()
    connection.request("POST", "/predict", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    found.append(time.perf_counter() - began)
print(json.dumps(sorted(found[50:])))
"""


def single(app: Any, listening: Any, body: bytes, times: int) -> list[float]:
    """Seconds of each of several requests, one after the other on one connection of a process of
    its own."""
    serving = server(app, None)
    thread = threading.Thread(
        target=serving.run, kwargs={"sockets": [listening.socket]}, daemon=True
    )
    thread.start()
    port = listening.socket.getsockname()[1]
    command = [sys.executable, "-c", _ASK, str(port), str(times)]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True)
    serving.should_exit = True
    thread.join()
    found: list[float] = json.loads(done.stdout)
    return found


def batches(served: Served, rows: int, times: int) -> dict[str, float]:
    """Rows a second of processor time, of bare onnxruntime and of a request in each form."""
    given = columns(rows, 2)
    reader = Reader(served.model.schema, rows)
    by_column = to_json({"columns": given})
    names = list(given)
    records = [dict(zip(names, one, strict=True)) for one in zip(*given.values(), strict=True)]
    by_row = to_json({"rows": records})
    ready = reader.asked(by_column).columns
    tensors = as_tensors(given)
    work, packed = predict_work(served), predict_work(served, MEDIA_TYPE)
    works = {
        "bare": lambda: served.model.run(ready),
        "safetensors": lambda: packed(tensors),
        "columns": lambda: work(by_column),
        "rows": lambda: work(by_row),
    }
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(times + 1):  # in turn, so that what else the machine does meets all alike
        for name, one in works.items():
            began = time.process_time()
            one()
            took[name].append(time.process_time() - began)
    return {name: rows / statistics.median(found[1:]) for name, found in took.items()}


def measure(name: str, form: str, quick: bool) -> list[Row]:
    """One model's figures."""
    times, requests = (3, 100) if quick else (11, 1000)
    with tempfile.TemporaryDirectory() as folder:
        path = make_export(Path(folder), form)
        asking = Asking(path, Reach("127.0.0.1:0"), Trusting(unsigned=True))
        with opened(asking) as (app, listening, served):
            row = {key: values[0] for key, values in columns(1, 3).items()}
            ready = Reader(served.model.schema, 1).of_rows([row])
            bare = 1e3 * median_s(lambda: served.model.run(ready), requests)
            found = batches(served, ROWS, times)
            took = single(app, listening, to_json({"rows": [row]}), requests)
    peers = {"onnxruntime": bare}
    late = 1e3 * took[int(0.99 * len(took))]
    return [
        Row(name, "one row: median ms", 1e3 * statistics.median(took), "lower", peers, 3.0),
        Row(name, "one row: 99 % ms", late, "lower", peers),
        *(
            Row(
                name,
                f"{ROWS} rows by {key}: thousand rows a CPU second",
                found[key] / 1e3,
                "higher",
                {"onnxruntime": found["bare"] / 1e3},
                0.9 * found["bare"] / 1e3,
            )
            for key in ("safetensors", "columns", "rows")
        ),
    ]


def main() -> None:
    """Print the table."""
    options = arguments(__doc__ or "")
    rows = [one for name, form in MODELS.items() for one in measure(name, form, options.quick)]
    emit("A served model beside bare onnxruntime", rows, options.json)


if __name__ == "__main__":
    main()
