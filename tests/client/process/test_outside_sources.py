"""Of images, texts, exports and databases nothing of a patient is in what leaves, nor in a log or a
look at the data: no file's name, tag, word, code, identifier, cell.

The hospital's process is in this one, so that its log is seen whole.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from tests.client.sources.fhir import resources as r
from tests.client.sources.omop import made_up
from tests.common.tasks.imaging.shards import dicom, png
from tests.provisioning import federation
from wardround.client.check.check import checked
from wardround.client.process.doctor import examine
from wardround.client.process.main import HospitalProcess
from wardround.client.site.kit import Kit
from wardround.client.site.outward import Outward
from wardround.client.site.terms import Data, Terms
from wardround.common.config.load import load_config
from wardround.common.errors import WardroundError
from wardround.common.tasks.imaging.deidentify import silent_pydicom
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

PATIENT, OWN = "zqx", "hqw"
"""What is of a patient, which is nowhere; what is the hospital's own, which stays there."""
IMAGES = '[task]\nname = "imaging"\nclasses = ["normal", "ill"]\nsize = [8, 8]\n'
TAGGED = '[task]\nname = "text"\nkind = "tokens"\ntuning = "head"\n'
TEXTS = '[task]\nname = "text"\nkind = "sequence"\ntuning = "head"\n'
ROWS = '[task.columns]\ntarget = "ill"\nnumeric = ["first"]\npatient_id = "patient"\n'
COHORT = """
[task.columns]
target = "died"
numeric = ["creatinine"]
patient_id = "patient_id"
[cohort.index]
event = "visit"
concepts = ["ENCOUNTER:IMP", "OMOP:9201"]
[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-9, 9]
unit = "umol/L"
units = { "mg/dL" = 88.42 }
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""
FILES = "[data.{own}]\npath = '{path}'\n"
Make = Callable[[Path], str]


def _pixels(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (8, 8)).astype(np.uint8)


def _of_folder(folder: Path) -> str:
    return FILES.format(own=OWN, path=folder)


def _pictures(change: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> str:
        for number in range(12):
            kind = "ill" if number % 2 else "normal"
            png(folder / kind / f"{PATIENT} Doe {number}.png", _pixels(number))
        change(folder)
        return _of_folder(folder)

    return make


def _listed(row: str) -> Make:
    def make(folder: Path) -> str:
        lines = ["file,label"]
        for number in range(12):
            png(folder / f"{PATIENT}{number}.png", _pixels(number))
            lines.append(f"{PATIENT}{number}.png,{'ill' if number % 2 else 'normal'}")
        (folder / "labels.csv").write_text("\n".join([*lines, row]) + "\n")
        return _of_folder(folder)

    return make


def _scans(change: Callable[[Path], object]) -> Make:
    def make(folder: Path) -> str:
        for number in range(8):
            kind = "ill" if number % 2 else "normal"
            path = folder / kind / f"{PATIENT}{number}.dcm"
            dicom(path, _pixels(number), f"{PATIENT}-{number}", StudyInstanceUID=f"1.2.{number}")
        change(folder / "ill" / f"{PATIENT}3.dcm")
        return _of_folder(folder)

    return make


def _element(tag: int, kind: str) -> Callable[[Path], None]:
    """A value that is none of its kind, as a broken writer leaves it."""

    def change(path: Path) -> None:
        data, at = pydicom.dcmread(path), Tag(tag)
        value = f"{PATIENT} ".encode()
        data[at] = RawDataElement(at, kind, len(value), value, 0, False, True)
        with silent_pydicom():
            data.save_as(path)

    return change


def _text(name: str, text: str) -> Make:
    def make(folder: Path) -> str:
        folder.mkdir(parents=True)
        (folder / name).write_text(text)
        return _of_folder(folder)

    return make


_IOB = "".join(f"# patient = {PATIENT}{n}\n{PATIENT}fever\tB-Disease\nnow\tO\n\n" for n in range(9))
_CSV = "text,label\n" + "".join(
    f"{PATIENT} is at {n},{'present' if n % 2 else 'absent'}\n" for n in range(9)
)


def _export(kind: str, line: object) -> Make:
    def make(folder: Path) -> str:
        names = [f"{PATIENT}{n}" for n in range(12)]
        found = [r.patient(name) for name in names]
        found += [r.encounter(f"e{name}", name, "2024-01-02T10:00:00Z") for name in names]
        found += [r.observation(f"o{name}", name, "2024-01-02", 70) for name in names]
        folder.parent.mkdir(parents=True, exist_ok=True)
        r.write(folder, found)
        text = line if isinstance(line, str) else json.dumps(line)
        with open(folder / f"{kind}.ndjson", "a") as file:
            file.write(text + "\n")
        return f"[data.{OWN}]\nsource = 'fhir'\npath = '{folder}'\n"

    return make


def _observation(**more: object) -> dict[str, object]:
    return r.observation(PATIENT, f"{PATIENT}1", "2024-01-02", 7) | more


def _query(query: str, change: str = "") -> Make:
    def make(folder: Path) -> str:
        folder.mkdir(parents=True)
        with sqlite3.connect(folder / f"{OWN}.db") as connection:
            connection.execute("CREATE TABLE stays (first, patient, ill, note)")
            rows = [(n * 0.5, f"{PATIENT}{n}", n % 2, PATIENT) for n in range(20)]
            connection.executemany("INSERT INTO stays VALUES (?, ?, ?, ?)", rows)
            connection.execute(change or "SELECT 1")
        (folder / "own.sql").write_text(query)
        return (
            f"[data.{OWN}]\nsource = 'sql'\nurl = 'sqlite:///{folder}/{OWN}.db'\n"
            f"query = '{folder}/own.sql'\npatient_id = 'patient'\n"
        )

    return make


def _cdm(change: str) -> Make:
    def make(folder: Path) -> str:
        folder.mkdir(parents=True)
        tables = made_up.make(60, 3)
        tables["person"] = [(*row[:5], f"{PATIENT}{row[0]}") for row in tables["person"]]
        with sqlite3.connect(folder / f"{OWN}.db") as connection:
            made_up.fill_sqlite(connection, tables)
            connection.execute(change)
        return (
            f"[data.{OWN}]\nsource = 'omop'\nurl = 'sqlite:///{folder}/{OWN}.db'\n"
            "patients_by = 'person_source_value'\n"
        )

    return make


_FEW = "WHERE rowid < 3"  # a category of more is shown at home
_SQL = "SELECT first, patient, ill FROM stays"
CASES: dict[str, tuple[str, Make, str]] = {
    "a torn picture": (
        IMAGES,
        _pictures(lambda f: (f / "ill" / f"{PATIENT}.png").write_bytes(PATIENT.encode() * 9)),
        "image 1 by name: not readable|image 7 by name: not readable",
    ),
    "a folder more": (
        IMAGES,
        _pictures(lambda f: png(f / PATIENT / "a.png", _pixels(1))),
        "is none of task.classes",
    ),
    "a label more": (IMAGES, _listed(f"{PATIENT}1.png,{PATIENT}"), "labels.csv:14: column 'label'"),
    "a file that lacks": (IMAGES, _listed(f"{PATIENT}.png,ill"), "labels.csv:14: column 'file'"),
    "a file outside": (IMAGES, _listed(f"../{PATIENT}.png,ill"), "outside the CSV's folder"),
    "frames": (IMAGES, _scans(_element(0x00280008, "IS")), "not readable as an image"),
    "colours": (IMAGES, _scans(_element(0x00280004, "CS")), "photometric interpretation that"),
    "characters": (IMAGES, _scans(_element(0x00080005, "CS")), ""),
    "a series": (IMAGES, _scans(_element(0x0020000E, "UI")), ""),
    "birth": (IMAGES, _scans(_element(0x00100030, "DA")), ""),
    "a cut scan": (
        IMAGES,
        _scans(lambda p: p.write_bytes(p.read_bytes()[:700])),
        "ends before its pixels",
    ),
    "burned in": (IMAGES, _scans(lambda path: _burned(path)), "BurnedInAnnotation"),
    "a tag more": (TAGGED, _text("a.tsv", _IOB + f"x\tB-{PATIENT}\n"), "a.tsv:37: the tag is not"),
    "no tab": (TAGGED, _text("a.tsv", f"{_IOB}{PATIENT}\n"), "a.tsv:37: not a word, a tab"),
    "a class more": (TEXTS, _text("a.csv", f"{_CSV}{PATIENT},{PATIENT}\n"), "a.csv:11: column 'la"),
    "a long text": (TEXTS, _text("a.csv", f"{_CSV}{f'{PATIENT} ' * 400},absent\n"), "a.csv:11:"),
    "a torn table": (TEXTS, _text("a.csv", f'{_CSV}"{PATIENT},absent\n'), "not readable as CSV"),
    "a unit": (COHORT, _export("Observation", _observation(
        valueQuantity={"value": 3, "unit": PATIENT, "code": PATIENT})), "a unit that nothing"),
    "a date": (COHORT, _export("Observation", _observation(effectiveDateTime=PATIENT)), "a date"),
    "broken JSON": (COHORT, _export("Observation", '{"id": "' + PATIENT), "is broken JSON"),
    "a birth date": (COHORT, _export("Patient", r.patient(PATIENT, birthDate=PATIENT)), "Patient"),
    "no table": (ROWS, _query(f"SELECT {PATIENT} FROM stays"), "own.sql: SQLITE_ERROR"),
    "a function": (ROWS, _query("SELECT json(note) AS first, patient, ill FROM stays"), "own.sql"),
    "no number": (ROWS, _query(_SQL, f"UPDATE stays SET first = '{PATIENT}' {_FEW}"), "row 1: col"),
    "nobody": (ROWS, _query(_SQL, "UPDATE stays SET patient = NULL"), "'patient' is empty"),
    "a text of a date": (
        COHORT, _cdm(f"UPDATE measurement SET measurement_date = '{PATIENT}'"), "YYYY-MM-DD"),
    "a text of a number": (
        COHORT, _cdm(f"UPDATE measurement SET value_as_number = '{PATIENT}'"), "no finite number"),
    "a text of a unit": (
        COHORT,
        _cdm(f"UPDATE measurement SET unit_concept_id = 0, unit_source_value = '{PATIENT}'"),
        "a unit (unit_source_value)",
    ),
    "no visits": (COHORT, _cdm("DELETE FROM visit_occurrence"), "visit_occurrence has no rows"),
}  # fmt: skip


def _burned(path: Path) -> None:
    data = pydicom.dcmread(path)
    data.BurnedInAnnotation = "YES"
    data.save_as(path)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A hospital for each task."""
    made = {}
    for task in (IMAGES, TAGGED, TEXTS, ROWS, COHORT):
        folder = tmp_path_factory.mktemp("federation")
        federation(folder, hospitals=("north", "south", "east"))
        toml = folder / "federation.toml"
        toml.write_text(toml.read_text() + task)
        made[task] = provision.provision(load_config(toml), now=now_utc()).kits[0]
    return made


@pytest.mark.parametrize("share", ["", "left_out_share = 0.5\n"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_patient_is_told_or_logged(
    kits: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str, share: str
) -> None:
    task, make, words = CASES[case]
    kit = kits[task]
    (kit / "site.toml").write_text(make(tmp_path / f"{OWN} data") + share)
    with caplog.at_level(logging.INFO):
        try:
            process = HospitalProcess(Kit.open(kit), Data(none=True))
        except WardroundError as error:
            leaves, at_home = [Outward()(error)], [str(error)]
        else:
            leaves, at_home = process.own.place.work.hospital.warnings(), []
            process.close()
    assert not [line for line in leaves if PATIENT in line.lower() or OWN in line.lower()]
    terms = Terms.read(Kit.open(kit), data=Data(none=True))
    looks = [repr(checked(terms, datetime.now()))] + [one.text for one in examine(kit, None)]
    home = "\n".join([caplog.text, *at_home, *looks])
    assert PATIENT not in home.lower()
    assert not words or any(one in home for one in words.split("|"))
