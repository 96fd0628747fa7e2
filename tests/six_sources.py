"""The same patients in six places: CSV, Excel, Parquet, PostgreSQL, OMOP and FHIR.

    python -m tests.six_sources --patients 5000

prints the digest of the model that each of them gives; it exits with 1 unless all are one.
``tests/integration/test_six_sources.py`` does the same with fewer.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests import postgres
from tests.clinical import COHORT, COLUMNS, Population
from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.settings import FileSource, RowsTable
from wardround.client.sources.snapshot import take_rows
from wardround.client.sources.source import Asked
from wardround.client.sources.sql.settings import SqlSource
from wardround.common.config.load import parse_config
from wardround.simulations import simulate

HOSPITALS = {"north": 0.5, "south": 0.3, "east": 0.2}
"""Each one's share of the patients."""
RUN = """
[federation]
rounds = 2
seed = 3
[data]
path = "{folder}"
[simulation]
partition = "sites"
baselines = false
[secure_aggregation]
enabled = false
[training]
lr = 0.1
batch_size = 16
"""
NAMES = ("csv", "excel", "parquet", "postgresql", "omop", "fhir")
Make = Callable[[Population, Path], RowsTable]
_SQL = {
    int: "BIGINT",
    float: "DOUBLE PRECISION",
    str: "TEXT",
}


class Places:
    """Puts a population into each kind of place, and says how ``site.toml`` names it.

    server : for the databases
    """

    def __init__(self, server: postgres.PostgreSQL) -> None:
        self._server = server
        self._address = dict[Path, str]()

    def put(self, name: str, people: Population, base: Path) -> RowsTable:
        """``base``: the folder of the hospital's ``site.toml``."""
        make: Make = getattr(self, f"_{name}")
        return make(people, base)

    def _csv(self, people: Population, base: Path) -> RowsTable:
        with open(base / "rows.csv", "w", newline="", encoding="utf-8") as file:
            lines = csv.DictWriter(file, COLUMNS)
            lines.writeheader()
            lines.writerows(people.rows())
        return FileSource(path="rows.csv", patient_id="patient_id")

    def _excel(self, people: Population, base: Path) -> RowsTable:
        import openpyxl

        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("rows")
        sheet.append(COLUMNS)
        for row in people.rows():
            sheet.append([row[name] for name in COLUMNS])
        book.save(base / "rows.xlsx")
        return FileSource(path="rows.xlsx", patient_id="patient_id")

    def _parquet(self, people: Population, base: Path) -> RowsTable:
        pq.write_table(pa.Table.from_pylist(people.rows()), base / "rows.parquet")
        return FileSource(path="rows.parquet", patient_id="patient_id")

    def _postgresql(self, people: Population, base: Path) -> RowsTable:
        rows = people.rows()
        kinds = {
            name: next(_SQL[type(row[name])] for row in rows if row[name] is not None)
            for name in COLUMNS
        }
        declared = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        late_first = [tuple(row[name] for name in COLUMNS) for row in reversed(rows)]
        self._fill(base, {"stays": (declared, late_first)})
        # the order is the database's own but for this: by bytes, as a cohort's rows are
        query = f'SELECT {", ".join(COLUMNS)} FROM stays ORDER BY patient_id COLLATE "C"\n'
        (base / "stays.sql").write_text(query)
        return SqlSource(url="file:ehr.url", query="stays.sql", patient_id="patient_id")

    def _omop(self, people: Population, base: Path) -> RowsTable:
        self._fill(base, people.omop())
        return OmopSource(url="file:ehr.url")

    def _fhir(self, people: Population, base: Path) -> RowsTable:
        people.write_fhir(base / "export")
        return FhirSource(path="export", time_zone="Europe/Berlin")

    def _fill(self, base: Path, tables: dict[str, tuple[str, list[tuple[Any, ...]]]]) -> None:
        """A database of the hospital's own, whose address is in a private file."""
        import psycopg

        url = self._server.fresh().replace("+psycopg", "")
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            for name, (columns, rows) in tables.items():
                cursor.execute(f"CREATE TABLE {name} ({columns})".encode())
                with cursor.copy(f"COPY {name} FROM STDIN".encode()) as copy:
                    for row in rows:
                        copy.write_row(row)
        file = base / "ehr.url"
        file.touch(0o600)
        file.write_text(url)


def models(patients: int, names: tuple[str, ...], folder: Path) -> Iterator[tuple[str, bytes, int]]:
    """Name of the place, bytes of the model file, and number of rows, of each."""
    people = {
        name: Population(round(share * patients), seed)
        for seed, (name, share) in enumerate(HOSPITALS.items())
    }
    with postgres.running() as server:
        for name in names:
            yield name, *model(Places(server), name, people, folder / name)


def model(
    places: Places, name: str, people: dict[str, Population], folder: Path
) -> tuple[bytes, int]:
    """Take every hospital's snapshot of one kind of place, and train on them."""
    shards, rows = folder / "shards", 0
    shards.mkdir(parents=True)
    config = parse_config(COHORT + RUN.format(folder=shards))
    for hospital, population in people.items():
        base = folder / hospital
        base.mkdir()
        source = places.put(name, population, base)
        asked = Asked(config, base, "records", lambda line: None)
        rows += take_rows(source, asked, shards / f"{hospital}.parquet").rows
    path = folder / "federation.toml"
    result = simulate(parse_config(COHORT + RUN.format(folder=shards), path=path))
    return (result.run_directory / "model" / "model.safetensors").read_bytes(), rows


def main() -> int:
    """Whether all models are one."""
    parser = argparse.ArgumentParser(prog="python -m tests.six_sources")
    parser.add_argument("--patients", type=int, default=5000)
    parser.add_argument("--only", default=",".join(NAMES), help="some of the places")
    words = parser.parse_args()
    found = set()
    with tempfile.TemporaryDirectory(prefix="six-") as folder:
        os.chdir(folder)
        began = time.monotonic()
        for name, data, rows in models(words.patients, tuple(words.only.split(",")), Path(folder)):
            found.add(data)
            spent = time.monotonic() - began
            print(f"{name:<11}{rows:>7,} rows  {hashlib.sha256(data).hexdigest()}  {spent:.1f} s")
            began = time.monotonic()
    return 0 if len(found) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
