"""Whatever a study may ask, OMOP and FHIR answer it alike."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w

from tests.clinical import Population
from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.readers import rows_of
from wardround.client.sources.settings import RowsTable
from wardround.client.sources.source import Asked
from wardround.common.config.load import parse_config
from wardround.common.errors import DataError

LABS = (["LOINC:2160-0"], ["LOINC:2524-7", "OMOP:3020138"], ["OMOP:3016723", "LOINC:2160-0"])
CONDITIONS = (["ICD10CM:I50*"], ["ICD10CM:I50.9"], ["ICD10CM:I50.1", "ICD10CM:E11*"])
DRUGS = (["RXNORM:6809"], ["RXNORM:6809", "RXNORM:1191"])
VISITS = ([], ["ENCOUNTER:IMP", "OMOP:9201"], ["ENCOUNTER:AMB", "OMOP:9202"])
CONCEPTS = {"measurement": LABS, "condition": CONDITIONS, "drug": DRUGS, "visit": VISITS}


def cohort(seed: int) -> str:
    """A table that is drawn."""
    draw = random.Random(seed)
    event = draw.choice(["visit", "visit", "condition", "drug", "measurement"])
    index: dict[str, Any] = {"event": event, "concepts": draw.choice(CONCEPTS[event])}
    index["take"] = draw.choice(["first", "last", "each"])
    if event == "visit" and draw.random() < 0.3:
        index["date"] = "end"
    if draw.random() < 0.5:
        index["age_years"] = sorted((draw.randrange(90), draw.randrange(90)))
    if draw.random() < 0.4:
        index |= {"earliest": "2022-02-10", "latest": "2022-12-01"}
    variables = {f"v{number}": _variable(draw) for number in range(8)}
    variables |= {"age": {"of": "age"}, "sex": {"of": "sex"}}
    variables["death"] = {"of": "death", "window_days": [0, draw.randrange(60)]}
    if draw.random() < 0.3:
        variables["death"]["rows"] = draw.choice(["with", "without"])
    task = {"name": "own.py:Own", "columns": ["index_date"]}
    return tomli_w.dumps({"task": task, "cohort": {"index": index, "variables": variables}})


def _variable(draw: random.Random) -> dict[str, Any]:
    of = draw.choice(["measurement", "measurement", "condition", "drug", "visit"])
    low = draw.choice([-4000, -30, -2, 0, 1])
    found: dict[str, Any] = {"of": of, "concepts": draw.choice(CONCEPTS[of])}
    found["window_days"] = [low, low + draw.choice([0, 2, 40, 4000])]
    if of != "measurement":
        return found | {"take": draw.choice(["any", "count"])}
    found["take"] = draw.choice(["last", "first", "min", "max", "mean", "any", "count"])
    if found["take"] not in ("any", "count"):
        found |= {"unit": "umol/L", "units": {"mg/dL": 88.42}}
    return found


def answered(source: RowsTable, text: str, base: Path) -> pa.Table | str:
    """The table; or that there is no row."""
    rows = rows_of(source)
    try:
        asked = Asked(parse_config(text), base, "records", lambda line: None)
        return pa.Table.from_batches(rows.batches(asked))
    except DataError as error:
        assert "no row" in str(error), error
        return "no row"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("places")
    people = Population(150, 11)
    people.write_fhir(base / "export")
    with sqlite3.connect(base / "omop.sqlite") as connection:
        for name, (columns, rows) in people.omop().items():
            connection.execute(f"CREATE TABLE {name} ({columns})")
            marks = ", ".join("?" * (columns.count(",") + 1))
            connection.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
    (base / "omop.sqlite").chmod(0o444)
    return base


@pytest.mark.parametrize("seed", range(12))
def test_two_sources_of_records_agree(places: Path, seed: int) -> None:
    text = cohort(seed)
    fhir = answered(FhirSource(path="export", time_zone="Europe/Berlin"), text, places)
    omop = answered(OmopSource(url="sqlite:///omop.sqlite"), text, places)
    if isinstance(fhir, str) or isinstance(omop, str):
        assert fhir == omop
        return
    assert fhir.schema == omop.schema
    assert fhir.equals(omop), [
        (name, a, b)
        for name in fhir.column_names
        for a, b in zip(fhir[name].to_pylist(), omop[name].to_pylist(), strict=False)
        if a != b
    ][:3]
