"""Rows out of PostgreSQL beside pyarrow's reading of the same table as CSV: time and memory.

    python -m benchmarks.database [--quick] [--json PATH]

The table of ``benchmarks.tables`` (1,000,000 rows x 40 columns; quick 100,000) in a server of the
run's own, as the tests start one. Each measurement is a process of its own, three times in turn,
medians; memory is what its peak is above what it had before it read. ``read``: typed batches as
``source = "sql"`` gives them, one held at a time. ``snapshot``: the same written as the Parquet
file that a study computes on. The limit of memory is 1,000 MB; the server's own isn't counted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import Row, arguments, emit
from benchmarks.tables import QUICK_ROWS, ROWS, RUNS, make, status_kb
from tests.postgres import PostgreSQL, running

CASES = ("pyarrow", "read", "snapshot")
LIMIT_MB = 1000.0


def main() -> None:
    """Run, print and write; with a hidden argument, be one of the measured processes."""
    if len(sys.argv) == 4 and sys.argv[1] == "--measure":
        print("RESULT " + json.dumps(_measured(sys.argv[2], Path(sys.argv[3]))), flush=True)
        return
    options = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as place, running() as server:
        folder = Path(place)
        make(folder / "table.csv", QUICK_ROWS if options.quick else ROWS)
        os.environ["WARD_URL"] = _fill(server, folder / "table.csv")
        (folder / "ward.sql").write_text("select * from ward order by patient")
        rows = _compared(folder)
    emit("Rows out of PostgreSQL", rows, options.json)


def _fill(server: PostgreSQL, path: Path) -> str:
    """Copy the table into a database. Gives its URL."""
    import psycopg
    import pyarrow.csv

    kinds = {"double": "double precision", "int64": "bigint", "string": "text"}
    schema = pyarrow.csv.open_csv(path).schema
    columns = ", ".join(f'"{one.name}" {kinds[str(one.type)]}' for one in schema)
    url = server.fresh()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(f"create table ward ({columns})")  # type: ignore[call-overload]
        with connection.cursor() as cursor, open(path, "rb") as file:
            with cursor.copy("copy ward from stdin (format csv, header)") as copy:
                while piece := file.read(1 << 20):
                    copy.write(piece)
    return url


def _compared(folder: Path) -> list[Row]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(RUNS):
        for name, measured in found.items():
            measured.append(_in_a_process(name, folder))
    rows = []
    for name in CASES[1:]:
        for position, metric in enumerate(("time, s", "peak memory, MB")):
            own, peer = (
                statistics.median(one[position] for one in found[case]) for case in (name, CASES[0])
            )
            limit = LIMIT_MB if position else None
            rows.append(Row(name, metric, own, "lower", {"pyarrow, CSV": peer}, limit))
    return rows


def _in_a_process(case: str, folder: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.database", "--measure", case, str(folder)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    line = next(x for x in output.splitlines() if x.startswith("RESULT "))
    seconds, memory_mb = json.loads(line.removeprefix("RESULT "))
    return seconds, memory_mb


def _measured(case: str, folder: Path) -> tuple[float, float]:
    """Seconds, and MB of the peak above what the process had when its imports were done."""
    work = _work(case, folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status_kb("VmRSS")
    start = time.perf_counter()
    kept = work()
    seconds = time.perf_counter() - start
    assert kept is not None
    return seconds, (status_kb("VmHWM") - before) / 1024


def _work(case: str, folder: Path) -> Any:
    import pyarrow.csv

    from wardround.client.sources.readers import rows_of
    from wardround.client.sources.snapshot import take_rows
    from wardround.client.sources.source import Asked
    from wardround.client.sources.sql.settings import SqlSource
    from wardround.common.config.load import Config

    if case == "pyarrow":
        return lambda: pyarrow.csv.read_csv(folder / "table.csv")
    source = SqlSource(url="env:WARD_URL", query="ward.sql")
    asked = Asked(Config(), folder, "ward", lambda line: None)
    if case == "snapshot":
        return lambda: take_rows(source, asked, folder / f"taken-{os.getpid()}.parquet")
    return lambda: sum(len(batch) for batch in rows_of(source).batches(asked))


if __name__ == "__main__":
    main()
