"""An exported model of a table beside the model that it was made of.

    python -m benchmarks.export [--quick] [--json PATH]

Both get the same columns in one process, on one thread, and give named predictions: the graph by
``GraphSession``, the model by the steps of training (``prepare``, the torch module,
``predictions``). ``bare`` is onnxruntime alone with the feed at hand. Times are processor time, the
median of calls that take turns, with one row and with 10,000.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks.report import Row, arguments, emit
from wardround.common.export.exporting import export_model
from wardround.common.export.rows import columns_of
from wardround.common.export.source import Source
from wardround.common.export.tabular import task_of
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.data.table import Table
from wardround.simulations import simulate

MODELS = {
    "linear": [],
    "MLP 64-32": ['task.model = { kind = "mlp", norm = "layer" }', "training.lr = 0.05"],
}
MANY = 10_000


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    rows = []
    for name, settings in MODELS.items():
        with tempfile.TemporaryDirectory(prefix="export-") as place:
            rows += measured(name, settings, Path(place), 300 if options.quick else 2000)
    emit("An exported model of a table", rows, options.json)


def measured(name: str, settings: list[str], place: Path, calls: int) -> list[Row]:
    """Figures of one model, trained for two rounds on the breast cancer data."""
    quick = ["federation.rounds=2", "simulation.baselines=false", f"federation.runs='{place}'"]
    run = simulate(overrides=[*quick, *(x.replace(" = ", "=", 1) for x in settings)])
    source = Source.of(ModelFolder.open(run.run_directory))
    made = export_model(source, place / "export")
    task = task_of(source)
    table = task.load(None)
    own = table.select(np.arange(MANY) % len(table))
    session = made.session()
    bare = onnxruntime.InferenceSession(made.path / "model.onnx", options_of_one_thread())
    found = []
    for count, times in ((1, calls), (MANY, max(5, calls // 100))):
        part = own.select(np.arange(count))
        columns = columns_of(part, task.options, source.schema.inputs)
        feed = {key: values[:, None] for key, values in columns.items()}
        took = seconds(
            [
                partial(session.run, columns),
                partial(bare.run, None, feed),
                partial(own_path, source, part),
            ],
            times,
        )
        ours, alone, model = (1e6 * one / count for one in took)
        case = f"{name}, {count:,} at once"
        peers: dict[str, float | None] = {"the model": model, "bare": alone}
        found.append(Row(case, "us a row", ours, "lower", peers))
    size = (made.path / "model.onnx").stat().st_size / 1000
    weights = (source.path / "model.safetensors").stat().st_size / 1000
    found.append(Row(name, "kB", size, "lower", {"the model": weights}))
    parity = made.info.parity
    apart, allowed = parity.largest * 1e9, parity.tolerance * 1e9
    found.append(Row(f"{name}, {parity.rows} rows", "1e-9 apart", apart, "lower", {}, allowed))
    return found


def own_path(source: Source, table: Table) -> Any:
    """The model's own predictions of rows that are read."""
    inputs = source.task.prepare(table, source.totals, table).inputs
    with torch.no_grad():
        return source.task.predictions(source.module(inputs), source.totals)


def options_of_one_thread() -> Any:
    """Of a bare session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def seconds(calls: Sequence[Callable[[], Any]], times: int) -> list[float]:
    """The median of processor time of each, called in turn."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(times + 1):
        for call, own in zip(calls, found, strict=True):
            began = time.process_time()
            call()
            own.append(time.process_time() - began)
    return [statistics.median(own[1:]) for own in found]


if __name__ == "__main__":
    main()
