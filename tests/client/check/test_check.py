"""``wardround data check``: everything that is wrong with a hospital's data, at once, before it
joins; nothing of a patient is shown, and nothing is sent."""

from __future__ import annotations

import random
import stat
import tomllib
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.common.tasks.imaging.shards import png
from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from tests.networks import Network
from tests.provisioning import federation
from wardround.client.check.check import checked
from wardround.client.check.finding import Checked, count_of
from wardround.client.check.page import page
from wardround.client.site.kit import Kit
from wardround.client.site.policy import load_site
from wardround.client.site.studies import StudyFolders
from wardround.client.site.terms import Data, Terms
from wardround.client.sources.kept import Located
from wardround.common.config.load import load_config
from wardround.common.process.main import app
from wardround.common.settings import TaskTable
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

QUESTION = """
[task.columns]
target = "died"
numeric = ["creatinine", "age", "stay_days"]
categorical = ["sex"]
patient_id = "patient"
categories = { sex = ["female", "male"] }
expected = { creatinine = { unit = "umol/L", median = 88.0, range = [20.0, 2000.0] } }
"""
SITE = """
[data.ward]
path = "ward.csv"
[data.ward.map]
rename = { creatinine = "Krea [mg/dL]", sex = "Geschlecht", patient = "PatNr" }
codes = { sex = { female = ["w"], male = ["m"] } }
units = { creatinine = { from = "mg/dL", to = "umol/L", analyte = "creatinine" } }
derive = { stay_days = "days(date(discharge) - date(admission))" }
"""
HEAD = "PatNr,Krea [mg/dL],Geschlecht,age,admission,discharge,died"
CANARY = "Smith-4711"


def rows(count: int = 60) -> list[str]:
    draw = random.Random(1)
    return [
        f"P{n // 2},{draw.uniform(0.6, 1.6):.2f},{'wm'[n % 2]},{draw.randint(20, 89)},"
        f"2024-01-{1 + n % 9:02d},2024-01-{11 + n % 9:02d},{int(draw.random() < 0.3)}"
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("federation")
    federation(folder, hospitals=("north", "south", "east"))
    toml = folder / "federation.toml"
    toml.write_text(toml.read_text() + QUESTION)
    return Kit.open(provision.provision(load_config(toml), now=now_utc()).kits[0])


@cache
def rules(path: Path) -> str:
    return path.read_text()


def check(kit: Kit, lines: list[str], site: str = SITE, head: str = HEAD) -> Checked:
    (kit.folder / "ward.csv").write_text("\n".join([head, *lines]) + "\n")
    kit.site_path.write_text(rules(kit.site_path) + site)
    found = checked(Terms.read(kit, "cpu", data=Data(none=True)), datetime(2026, 1, 1))
    shown = page(found) + "".join(one.line for one in found.findings)
    assert CANARY not in shown
    assert not list(kit.state.glob(".check-*"))
    return found


def told(found: Checked, *states: str) -> list[str]:
    return [one.line for one in found.findings if one.state in states]


def test_data_that_fit_have_no_errors_and_their_numbers_are_shown(kit: Kit) -> None:
    found = check(kit, rows())
    assert told(found, "error") == []
    assert found.rows == 60 and found.worst in ("warning", "ok")
    assert "patients: 30 in 60 rows; a patient's rows stay on one side of the split" in told(
        found, "ok"
    )
    values = {one.name: one.values for one in found.columns}
    assert values["sex"] == "female (30), male (30)"
    assert 80 < float(values["creatinine"].removeprefix("median ")) < 110
    assert values["patient"] == ""
    assert [name for name, _ in found.parts] == ["train", "validation", "test"]


def test_each_thing_that_is_wrong_is_said_at_once(kit: Kit) -> None:
    lines = rows()
    lines[3] = lines[3].replace(",m,", f",{CANARY},")
    lines[4] = lines[4].replace("P2,", "P2,x")
    lines[10] = lines[10].replace("2024-01-02", "1824-01-02")
    lines += lines[-1:] * 3
    found = check(kit, lines, SITE.replace('from = "mg/dL"', 'from = "g/L"'))
    errors, warnings = told(found, "error"), told(found, "warning")
    place = f"{kit.folder / 'ward.csv'}"
    assert (
        f"{place}:5: column 'Geschlecht': a text that map.codes.sex doesn't list; add it there, or "
        "to map.missing.sex" in errors
    )
    assert any(line.startswith(f"{place}:6: column 'Krea [mg/dL]': no number") for line in errors)
    assert any(
        "its median is" in line and "times that which the study expects" in line for line in errors
    )
    assert any("map.units takes it from g/L" in line for line in warnings)
    assert any(
        line.startswith(f"{place}:64: fewer than 5 rows of 61 are copies") for line in warnings
    )


def test_names_and_units_that_are_another_are_said_with_the_mend(kit: Kit) -> None:
    head = HEAD.replace("Krea [mg/dL]", "Creatinine [mg/dL]").replace("Geschlecht", "sex")
    site = '[data.ward]\npath = "ward.csv"\npatient_id = "PatNr"\n'
    errors = told(check(kit, rows(), site, head), "error")
    assert (
        "column 'creatinine': isn't there; there is 'Creatinine [mg/dL]'; in [data.ward.map] write "
        'rename."creatinine" = "Creatinine [mg/dL]"'
    ) in errors
    assert (
        "column 'sex': has categories that the study doesn't name: 'm' (30), 'w' (30); say in "
        "map.codes.sex which of female, male they are"
    ) in errors
    head = HEAD.replace("Krea [mg/dL]", "creatinine")
    site += "[data.ward.map]\n" + "\n".join(
        line for line in SITE.splitlines() if line.startswith(("codes", "derive"))
    )
    site += '\nrename = { sex = "Geschlecht", patient = "PatNr" }\n'
    errors = told(check(kit, rows(), site.replace('patient_id = "PatNr"\n', ""), head), "error")
    write = '"creatinine" = { from = "mg/dL", to = "umol/L", analyte = "creatinine" }'
    assert any(
        line.endswith(f", as if it were in mg/dL; in [data.NAME.map.units] write {write}")
        for line in errors
    )


def test_a_mapping_that_doesnt_fit_names_its_keys(kit: Kit) -> None:
    errors = told(check(kit, rows(), SITE, HEAD.replace("Geschlecht", "Sex")), "error")
    assert errors == [
        "data.ward.map.rename.sex: there is no column 'Geschlecht'; name a column of the file, or "
        "leave this out"
    ]


def test_what_the_advice_says_of_missing_columns_can_be_copied_line_by_line(kit: Kit) -> None:
    site = '[data.ward]\npath = "ward.csv"\n[data.ward.map]\n'
    errors = told(check(kit, rows(), site), "error")
    advice = [line.partition(" write ")[2] for line in errors if "isn't there" in line]
    assert len(advice) == 4
    copied = "\n".join(advice).replace("YOUR COLUMN", "age")
    assert tomllib.loads(copied)["rename"]["creatinine"] == "age"
    errors = told(check(kit, rows(), SITE, HEAD.replace("age", "Alter")), "error")
    assert any(line.endswith('add "age" = "YOUR COLUMN" to rename') for line in errors)


def test_a_column_that_the_hospital_holds_back_is_no_lacking_one(kit: Kit) -> None:
    allowed = 'columns = ["died", "creatinine", "stay_days", "sex", "patient"]\n'
    errors = told(check(kit, rows(), allowed + SITE), "error")
    assert len(errors) == 1 and errors[0].startswith("this hospital's rules: site.toml:")
    assert errors[0].endswith("the study asks for column 'age'")


def test_a_readers_advice_is_the_hospitals_own_to_follow(kit: Kit) -> None:
    book = openpyxl.Workbook()
    for sheet in (book.active, book.create_sheet("second")):
        sheet.append(HEAD.split(","))
        sheet.append(rows()[0].split(","))
    book.save(kit.folder / "ward.xlsx")
    site = '[data.ward]\npath = "ward.xlsx"\n'
    errors = told(check(kit, rows(), site), "error")
    assert errors == [
        f"{kit.folder}/ward.xlsx: several sheets hold rows ('Sheet', 'second'); say which in "
        "[data.ward.dialect] sheet"
    ]
    asked = Located(name="ward").own_words("a: not 0/1; name them in task.columns.positive.a")
    assert asked.endswith("; here codes of [data.ward.map] can make 1 and 0 of a column's texts")


def test_small_groups_are_not_shown_by_value(kit: Kit) -> None:
    lines = rows()
    for n in (0, 2, 4):
        lines[n] = lines[n].replace(",w,", f",{CANARY},")
    site = SITE.replace('codes = { sex = { female = ["w"], male = ["m"] } }\n', "")
    (error,) = [line for line in told(check(kit, lines, site), "error") if "sex" in line]
    assert "'m' (30), 'w' (27), 1 that fewer than 5 rows each have" in error
    assert (
        count_of(0) == "0 rows" and count_of(4) == "fewer than 5 rows" and count_of(5) == "5 rows"
    )


def test_images_are_read_as_a_study_would(kit: Kit, tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / ("ill" if number % 3 else "well")
        png(folder / f"{CANARY}{number}.png", np.full((8, 8), number, dtype=np.uint8))
    (tmp_path / "ill" / f"a{CANARY}.png").write_bytes(b"x")
    kit.site_path.write_text(
        rules(kit.site_path) + f'[data.scans]\npath = "{tmp_path}"\nleft_out_share = 0.1\n'
    )
    options = {"classes": ["well", "ill"], "size": [8, 8]}
    terms = Terms.read(kit, "cpu", data=Data(none=True))
    task = TaskTable.model_validate({"name": "imaging", **options})
    terms = replace(terms, config=terms.config.model_copy(update={"task": task}))
    found = checked(terms, datetime(2026, 1, 1))
    assert told(found, "error") == [] and found.rows == 24
    assert found.labels == [("well", "8 rows"), ("ill", "16 rows")]
    assert any("1 image was left out" in line for line in told(found, "warning"))
    site = kit.site_path.read_text().replace("left_out_share = 0.1", "left_out_share = 0.0")
    kit.site_path.write_text(site)
    located = load_site(kit.site_path).located("scans")
    (error,) = told(checked(replace(terms, data=located), datetime(2026, 1, 1)), "error")
    assert "not readable as an image" in error and CANARY not in error


def test_conversations_are_read_as_a_study_would(kit: Kit, tmp_path: Path) -> None:
    options = {"kind": "causal", "base_model": str(tiny_llama(tmp_path / "base"))}
    options |= {"choices": ["no", "yes"], "max_length": 96}
    terms = Terms.read(kit, "cpu", data=Data(none=True))
    task = TaskTable.model_validate({"name": "text", **options})
    terms = replace(terms, config=terms.config.model_copy(update={"task": task}))
    lines = [asked(f"{CANARY} {number}?", ["no", "yes"][number % 3 > 0]) for number in range(24)]
    for name, more in {"good": [], "bad": [asked(CANARY, " ")]}.items():
        path = write_lines(tmp_path / f"{name}.jsonl", [*lines, *more])
        found = checked(replace(terms, data=Located(path)), datetime(2026, 1, 1))
        assert CANARY not in page(found) + "".join(told(found, "ok", "warning", "error"))
        if name == "good":
            assert told(found, "error") == [] and found.rows == 24
            assert found.labels == [("no", "8 rows"), ("yes", "16 rows")]
    (error,) = told(found, "error")
    assert "bad.jsonl:25" in error and "'response' is empty" in error


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", "check", *arguments])


def test_the_command_writes_a_private_page_and_ends_by_what_it_found(kit: Kit) -> None:
    check(kit, rows())
    good = run(str(kit.folder))
    assert good.exit_code == 0, good.output
    written = kit.state / "data_check.html"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    html = written.read_text()
    assert "http" not in html.replace("http-equiv", "") and "<script" not in html
    check(kit, rows(), SITE.replace('female = ["w"]', 'female = ["x"]'))
    bad = run(str(kit.folder), "ward")
    assert bad.exit_code == 1 and "map.codes.sex" in bad.output
    by_path = run(str(kit.folder), str(kit.folder / "ward.csv"))
    assert by_path.exit_code == 1 and "column 'creatinine': isn't there" in by_path.output
    unknown = run(str(kit.folder), "icu")
    assert "there: ward" in str(unknown.exception)


def test_in_a_network_a_study_that_was_shown_is_the_question(tmp_path: Path) -> None:
    served = Network(tmp_path)
    served.close()  # what is asked for lies here already
    north = Kit.open(served.kits / "north")
    write = "age,note,malignant\n" + "".join(f"{n},fine,{n % 2}\n" for n in range(30))
    (north.folder / "rows.csv").write_text(write)
    nothing = run(str(north.folder), str(north.folder / "rows.csv"))
    assert "was shown no study yet" in str(nothing.exception)
    for name in ("sepsis", "delirium"):
        signed = served.submission(name=name).accepted(served.desk.server, now_utc())
        StudyFolders(north.state).keep(signed, now_utc())
    which = run(str(north.folder), str(north.folder / "rows.csv"))
    assert "sepsis, delirium: name one with --study" in str(which.exception)
    told = run(str(north.folder), str(north.folder / "rows.csv"), "--study", "sepsis")
    assert told.exit_code == 1 and "for study 'sepsis'" in told.output
    assert "column 'note': holds one text, and would be an input of numbers" in told.output


STATISTICS = """
[procedure]
name = "statistics"
[[procedure.analyses]]
name = "a table"
kind = "table_one"
columns = ["age"]
categories = ["died"]
by = "sex"
"""


def test_of_statistics_only_the_columns_that_analyses_read_are_looked_at(tmp_path: Path) -> None:
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + STATISTICS)
    kit = Kit.open(provision.provision(load_config(toml), now=now_utc()).kits[0])
    lines = [f"{20 + n % 7},{'fm'[n % 2]},0,2024-01-{1 + n % 9:02d},north" for n in range(30)]
    site = '[data.ward]\npath = "ward.csv"\n'
    found = check(kit, lines, site, "age,sex,died,admitted,ward")
    assert told(found, "error") == []
    assert told(found, "warning") == ["column 'died': is the same in every row here"]
    assert "rows: 30 rows count" in told(found, "ok")
    wrong = check(kit, [line.replace("f", "fine") for line in lines], site, "weight,sex,dead,a,b")
    assert {line.partition(":")[0] for line in told(wrong, "error")} == {
        "column 'age'",
        "column 'died'",
    }
