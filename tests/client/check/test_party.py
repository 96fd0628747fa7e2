"""``wardround data check`` of a joint study: identifiers by their rules, and a party's columns."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.common.identifiers.made import nhs_numbers
from tests.provisioning import federation
from wardround.client.check.check import checked
from wardround.client.check.finding import Checked
from wardround.client.check.page import page
from wardround.client.site.kit import Kit
from wardround.client.site.opted_out import OptedOut
from wardround.client.site.terms import Data, Terms
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.durable.private import write_private
from wardround.common.errors import DataError
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

QUESTION = """
[task]
name = "linked"
[task.identifiers]
nhs = "nhs"
surname = "name"
[task.parties.lab]
numeric = ["crp"]
categorical = { sex = ["female", "male"] }
[task.parties.registry]
outcome = "died"
[procedure]
name = "linkage"
"""
SITE = """
[data.lab]
path = "lab.csv"
patient_id = "nhs"
[data.lab.map]
rename = { nhs = "NHS-No", crp = "CRP" }
codes = { sex = { female = ["w"], male = ["m"] } }
"""
CANARY = "Smith-4711"
HEAD = ("nhs", "surname", "crp", "sex")


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kit]:
    folder = tmp_path_factory.mktemp("federation")
    federation(folder, hospitals=("lab", "registry", "west"))
    toml = folder / "federation.toml"
    toml.write_text(toml.read_text() + QUESTION)
    made = provision.provision(load_config(toml), now=now_utc()).kits
    return {kit.name: kit for kit in map(Kit.open, made)}


@cache
def rules(path: Path) -> str:
    return path.read_text()


def check(
    kit: Kit, rows: list[str], site: str = SITE, head: str = "NHS-No,surname,CRP,sex"
) -> Checked:
    (kit.folder / "lab.csv").write_text("\n".join([head, *rows]) + "\n")
    kit.site_path.write_text(rules(kit.site_path) + site)
    found = checked(Terms.read(kit, "cpu", data=Data(none=True)), datetime(2026, 1, 1))
    shown = page(found) + "".join(one.line for one in found.findings)
    assert CANARY not in shown and nhs_numbers(1)[0] not in shown
    return found


def told(found: Checked, *states: str) -> list[str]:
    return [one.line for one in found.findings if one.state in states]


def good() -> list[str]:
    return [f"{n},{CANARY},{k}.5,{'wm'[k % 2]}" for k, n in enumerate(nhs_numbers(40))]


def test_a_party_that_fits_has_no_errors(kits: dict[str, Kit]) -> None:
    found = check(kits["lab"], good())
    assert told(found, "error") == []
    assert found.rows == 40 and found.parts == [("all, held out or not", "40 rows")]
    roles = {one.name: (one.role, one.values) for one in found.columns}
    assert roles["nhs"] == ("identifier (nhs)", "") and roles["surname"][0] == "identifier (name)"
    assert roles["sex"] == ("category", "female (20), male (20)")


def test_a_database_and_a_sheet_are_read_as_a_file_is(kits: dict[str, Kit]) -> None:
    """Keys of numbers that a database or Excel holds as such are those of their texts."""
    kit = kits["registry"]
    numbers = nhs_numbers(30)
    with sqlite3.connect(kit.folder / "rows.db") as base:
        base.execute("create table r (id integer, surname text, died integer)")
        cells = [(int(n), CANARY, k % 2) for k, n in enumerate(numbers)]
        base.executemany("insert into r values (?, ?, ?)", cells)
    base.close()
    (kit.folder / "query.sql").write_text("select id as nhs, surname, died from r")
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in [("nhs", "surname", "died"), *((float(n), CANARY, "no") for n in numbers)]:
        book.active.append(row)
    book.save(kit.folder / "rows.xlsx")
    sources = {
        "base": 'source = "sql"\nurl = "sqlite:///rows.db"\nquery = "query.sql"\n',
        "sheet": 'path = "rows.xlsx"\nsnapshot = true\n',
    }
    for name, lines in sources.items():
        kit.site_path.write_text(rules(kit.site_path) + f"[data.{name}]\n{lines}")
        found = checked(Terms.read(kit, "cpu", data=Data(none=True)), datetime(2026, 1, 1))
        assert told(found, "error") == [] and found.rows == 30, name


def test_who_has_opted_out_is_linked_to_nobody(kits: dict[str, Kit], tmp_path: Path) -> None:
    """By the hospital's own word on whose a row is: identifiers are in another form."""
    rows = [f"{n},{CANARY},{k}.5,female" for k, n in enumerate(nhs_numbers(30))]
    listed = tmp_path / "opted_out.txt"
    write_private(listed, f"{nhs_numbers(3)[2]}\n".encode())
    config = kits["lab"].description.config()
    task = make_task(config)
    table = pa.table({name: [row.split(",")[n] for row in rows] for n, name in enumerate(HEAD)})
    pq.write_table(table, tmp_path / "lab.parquet")
    raw = task.at(task.load(tmp_path / "lab.parquet"), "lab")
    list_of_all = OptedOut(listed, b"k" * 32)
    with pytest.raises(DataError, match="don't say whose each row is"):
        list_of_all.without(task, raw)
    people = np.array(nhs_numbers(30))
    said = replace(raw, table=replace(raw.table, people=people))
    kept = list_of_all.without(task, said)
    assert len(kept) == 29 and list(kept.keys) == [*raw.keys[:2], *raw.keys[3:]]


def test_what_can_not_be_linked_is_counted_and_what_lacks_is_named(kits: dict[str, Kit]) -> None:
    rows = good()
    rows[:6] = [f"9434765918,{CANARY},1,w"] * 6
    rows[6:12] = [f"{n},,1,w" for n in nhs_numbers(12)[6:]]
    warned = told(check(kits["lab"], rows), "warning")
    assert any("6 rows were left out: column 'surname' is empty" in line for line in warned)
    assert any("6 rows were left out: column 'nhs' isn't by the rule 'nhs'" in x for x in warned)
    errors = told(check(kits["lab"], good(), SITE.replace('crp = "CRP"', 'crq = "CRP"')), "error")
    assert any(line.startswith("column 'crp': isn't there") for line in errors)
    without = good()[:1] * 2
    errors = told(check(kits["lab"], [*good(), *without]), "error")
    assert any("2 rows have the same identifiers (" in line for line in errors)


def test_a_kit_that_is_no_party_is_told(kits: dict[str, Kit]) -> None:
    (error,) = told(check(kits["west"], good()), "error")
    assert "'west' is none of the study's parties: lab, registry" in error
