"""How long a CSV takes to become typed columns, and tensors, and how much memory.

    python -m benchmarks.tables [--quick] [--json PATH]

1,000,000 rows x 40 columns (30 numbers, 4 whole numbers, 3 categories, 2 of two values, 1 patient;
one cell in 50 is empty), made in the run. Each reading is a process of its own, three times in
turn, medians; memory is what its peak is above what it had before it read. ``columns``: our
``read_file`` beside pyarrow's ``read_csv`` and DuckDB's ``read_csv``, which look for no odd cell
and no place. ``tensors``: the tabular task's rows, from the file to standardised inputs and
targets, beside the same sums written by hand on pyarrow's table. pandas is a peer where it is
installed.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, emit

ROWS, QUICK_ROWS, RUNS = 1_000_000, 100_000, 3
NUMBERS = [f"n{number}" for number in range(30)]
WHOLE = [f"w{number}" for number in range(4)]
WORDS = [f"c{number}" for number in range(3)]
TEXTS = [*WORDS, "smoker", "ill", "patient"]


def main() -> None:
    """Run, print and write; with a hidden argument, be one of the measured processes."""
    if len(sys.argv) == 4 and sys.argv[1] == "--measure":
        print("RESULT " + json.dumps(_measured(sys.argv[2], Path(sys.argv[3]))), flush=True)
        return
    options = arguments(__doc__ or "")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        make(path, QUICK_ROWS if options.quick else ROWS)
        for case in ("columns", "tensors"):
            rows += _compared(case, path)
    emit("From a CSV to columns and tensors", rows, options.json)


def make(path: Path, rows: int) -> None:
    """Write the table: the same bytes for the same number of rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv

    generator = np.random.default_rng(0)

    def with_gaps(values: Any) -> pa.Array:
        return pa.array(values, mask=generator.random(rows) < 0.02)

    words = np.array(["cardiology", "surgery", "internal medicine", "geriatrics"])
    columns = {name: with_gaps(generator.normal(size=rows).round(3)) for name in NUMBERS}
    columns |= {name: with_gaps(generator.integers(0, 300, rows)) for name in WHOLE}
    columns |= {name: with_gaps(words[generator.integers(0, 4, rows)]) for name in WORDS}
    columns |= {"smoker": with_gaps(np.array(["no", "yes"])[generator.integers(0, 2, rows)])}
    columns |= {"ill": pa.array(generator.integers(0, 2, rows))}
    columns |= {"patient": pa.array([f"P{number:07}" for number in range(rows)])}
    style = pyarrow.csv.WriteOptions(quoting_style="none")
    pyarrow.csv.write_csv(pa.table(columns), path, style)


def _compared(case: str, path: Path) -> list[Row]:
    peers = ["pyarrow"]
    if case == "columns":
        others = ("duckdb", "pandas")
        peers += [name for name in others if importlib.util.find_spec(name)]
    found: dict[str, list[list[float]]] = {name: [] for name in ("wardround", *peers)}
    for _ in range(RUNS):
        for name, measured in found.items():
            measured.append(_in_a_process(f"{case} {name}", path))
    rows = []
    for position, metric in enumerate(("time, s", "processor time, s", "peak memory, MB")):
        value, *others = (
            statistics.median(one[position] for one in measured) for measured in found.values()
        )
        limit = (1.5, 1.5, 2.0)[position] * others[0] if case == "columns" else None
        by_name = dict(zip(peers, others, strict=True))
        rows.append(Row(case, metric, value, "lower", by_name, limit))
    return rows


def _in_a_process(case: str, path: Path) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.tables", "--measure", case, str(path)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    line = next(x for x in output.splitlines() if x.startswith("RESULT "))
    return [float(x) for x in json.loads(line.removeprefix("RESULT "))]


def _measured(case: str, path: Path) -> tuple[float, float, float]:
    """Seconds, those of all its processors, and MB of the peak above what the process had when its
    imports were done."""
    work = WORK[case](path)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status_kb("VmRSS")
    start, worked = time.perf_counter(), time.process_time()
    kept = work()
    seconds, processors = time.perf_counter() - start, time.process_time() - worked
    peak = status_kb("VmHWM")
    assert kept is not None
    return seconds, processors, (peak - before) / 1024


def status_kb(key: str) -> int:
    """A line of this process's status, kB: VmRSS (now), VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def _our_columns(path: Path) -> Any:
    from wardround.common.tasks.data.reading.dialect import Dialect
    from wardround.common.tasks.data.reading.read import read_file

    return lambda: read_file(path, Dialect(), ["", "NA"], TEXTS)


def _arrow_columns(path: Path) -> Any:
    import pyarrow.csv

    return lambda: pyarrow.csv.read_csv(path)


def _duckdb_columns(path: Path) -> Any:
    import duckdb

    return lambda: duckdb.sql(f"select * from read_csv('{path}')").to_arrow_table()


def _pandas_columns(path: Path) -> Any:
    import pandas

    return lambda: pandas.read_csv(path)


def _our_tensors(path: Path) -> Any:
    from wardround.common.tasks.tabular import TabularTask

    columns = {
        "target": "ill",
        "numeric": [*NUMBERS, *WHOLE],
        "categorical": WORDS,
        "binary": ["smoker"],
        "patient_id": "patient",
    }
    task = TabularTask(columns=columns)

    def work() -> Any:
        table, totals = task.load(path), {}
        for phase in range(task.phases):
            totals |= task.statistics(table, phase, totals)
        return task.prepare(table, task.condense(totals), table)

    return work


def _arrow_tensors(path: Path) -> Any:
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.csv
    import torch

    gaps = pyarrow.csv.ConvertOptions(strings_can_be_null=True)

    def work() -> Any:
        table = pyarrow.csv.read_csv(path, convert_options=gaps)
        inputs = np.empty((len(table), len(NUMBERS) + len(WHOLE) + 1 + 4 * len(WORDS)), np.float32)
        for position, name in enumerate([*NUMBERS, *WHOLE]):
            values = table[name].to_numpy().astype(np.float64)
            values[np.isnan(values)] = np.nanmedian(values)
            inputs[:, position] = (values - values.mean()) / values.std()
        position = len(NUMBERS) + len(WHOLE)
        inputs[:, position] = pc.fill_null(pc.equal(table["smoker"], "yes"), False).to_numpy()
        for name in WORDS:
            for word in sorted(pc.unique(table[name]).drop_null().to_pylist()):
                position += 1
                hit = pc.fill_null(pc.equal(table[name], word), False)
                inputs[:, position] = hit.to_numpy()
        return torch.from_numpy(inputs), torch.from_numpy(table["ill"].to_numpy())

    return work


WORK = {
    "columns wardround": _our_columns,
    "columns pyarrow": _arrow_columns,
    "columns duckdb": _duckdb_columns,
    "columns pandas": _pandas_columns,
    "tensors wardround": _our_tensors,
    "tensors pyarrow": _arrow_tensors,
}

if __name__ == "__main__":
    main()
