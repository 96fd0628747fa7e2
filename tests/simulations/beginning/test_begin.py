"""``wardround init --data``: what it decides, that it runs, and what it says of the rest."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.simulations.beginning.tables import patients, plain, three_extracts, write
from tests.unlike import Consortium
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.simulations.beginning.begin import Begun, begin_at
from wardround.simulations.beginning.found import MISSING
from wardround.simulations.beginning.show import columns_table, hospitals_table
from wardround.simulations.beginning.words import target_rank
from wardround.simulations.cli import commands
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.simulate import Result, simulate

SHORT = ("federation.rounds=1", "simulation.baselines=false", "simulation.executor=sequential")


def begun(tmp_path: Path, data: Path, *args: Any, **more: Any) -> tuple[Begun, dict[str, Any]]:
    """What ``begin`` made, and its ``[task]``."""
    found = begin_at(tmp_path / "federation.toml", data, *args, **more)
    return found, tomllib.loads(found.text)["task"]


def config_of(found: Begun, tmp_path: Path) -> Config:
    return parse_config(found.text, SHORT, tmp_path / "federation.toml")


def run(found: Begun, tmp_path: Path) -> Result:
    return simulate(config_of(found, tmp_path))


def said(found: Begun, *words: str) -> bool:
    """Whether one of the lines has all these words; all lines are in the file, too."""
    lines = [*found.found.notes, *found.decision.told, *found.decision.problems]
    return any(all(word in line for word in words) for line in lines)


# --- what must run --------------------------------------------------------------------------------
def test_three_ordinary_extracts_run_without_a_hand_on_the_file(tmp_path: Path) -> None:
    found, task = begun(tmp_path, three_extracts(tmp_path / "h"), "verstorben")
    columns = task["columns"]
    assert (columns["target"], columns["patient_id"]) == ("verstorben", "PatNr")
    assert columns["numeric"] == ["Größe [cm]", "Alter", "CRP [mg/l]"]
    assert columns["categorical"] == ["Geschlecht"] and columns["ignore"] == ["Aufnahme"]
    assert columns["codes"] == {"Geschlecht": {"female": ["F", "f"], "male": ["M", "m"]}}
    assert task["positive"] == ["1", "dead", "ja"] and task["negative"] == ["0", "alive", "nein"]
    assert columns["expected"]["CRP [mg/l]"]["unit"] == "mg/l"
    assert columns["expected"]["Größe [cm]"]["median"] % 1 == 0  # to two digits: no patient's
    assert "." in MISSING and not {"missing_values", "dialect"} & set(task)
    result = run(found, tmp_path)
    assert result.rounds[0]["accepted"] == ["nord", "south", "west"]
    assert result.model.in_features == 5  # three numbers, two sexes


@pytest.mark.parametrize(
    ("kind", "target"),
    [("binary", None), ("multiclass", "stage"), ("regression", "cost"), ("survival", None)],
)
def test_hospitals_that_differ_run(
    unlike: Callable[[str], Consortium], tmp_path: Path, kind: str, target: str | None
) -> None:
    """1, 2 and 33 rows, a constant, a class that one lacks, a prevalence of 0.2 %, other units."""
    consortium = unlike(kind)
    found, task = begun(tmp_path, consortium.folder / "hospitals", target)
    assert task["kind"] == kind and task["columns"]["patient_id"] == "patient"
    assert task["columns"]["numeric"] == ["größe", "creatinine", "lactate", "marker", "wide"]
    assert said(found, "south", "'creatinine'", "times the others'")
    assert not said(found, "'wide'"), "values of any size at every hospital are no other unit"
    assert said(found, "1002: 1 row")
    alone = "all rows have the same class"
    assert said(found, "St. Mary's", alone) == (kind != "regression")
    assert not said(found, "1002", alone) and not said(found, "north", alone)
    assert not said(found, "north: column 'stage'")
    for title in ("Köln", "rare", "south"):
        lacks = f"{title}: column 'stage': no row is '2', as rows of other hospitals are"
        assert said(found, lacks) == (kind == "multiclass")
    if kind == "binary":  # ``begin`` has read and prepared the others'
        result = run(found, tmp_path)
        assert result.rounds[0]["accepted"] == sorted(consortium.names().values())


def test_an_event_coded_1_and_2(tmp_path: Path) -> None:
    """R's lung data: 1 is censored, 2 is dead (case T1)."""
    for name in ("a", "b", "c"):
        lines = (f"{10 * n % 997},{1 + n % 3 // 2},{40 + n % 40}" for n in range(60))
        write(tmp_path / "h" / f"{name}.csv", "time,status,age", *lines)
    found, task = begun(tmp_path, tmp_path / "h")
    assert task["kind"] == "survival" and task["positive"] == ["2"] and task["negative"] == ["1"]
    assert task["columns"] == {"event": "status", "time": "time", "numeric": ["age"]}
    assert said(found, "'2' is taken as 1, the larger number", "--positive")
    run(found, tmp_path)


def test_one_more_column_is_named_and_not_used(tmp_path: Path) -> None:
    """Case T13; and a hospital that calls a column otherwise, or measures in another unit."""
    folder = plain(tmp_path / "h")
    write(folder / "west.csv", *changed(folder / "west.csv", "CRP,age,extra", "crp,age,died"))
    found, task = begun(tmp_path, folder)
    assert task["columns"]["numeric"] == ["age"]
    assert {"crp", "CRP", "extra"} <= set(task["columns"]["ignore"])
    assert said(found, "column 'crp'", "west lacks it", "west has 'CRP'")
    assert said(found, "column 'extra'", "only west has it")


def changed(path: Path, header: str, keep: str) -> list[str]:
    """A plain hospital's lines with columns of other names, one more and the target at the end."""
    head, *lines = path.read_text().splitlines()
    assert head == "id,age,crp,died" and keep == "crp,age,died"
    rows = [line.split(",") for line in lines]
    return ["id," + header + ",died", *(f"{i},{c},{a},7,{d}" for i, a, c, d in rows)]


def test_yes_and_no_in_the_hospitals_words(tmp_path: Path) -> None:
    """Case T14: a binary predictor with Ja/Nein here and 1/0 there."""
    for number, (yes, no) in enumerate([("Ja", "Nein"), ("1", "0"), ("yes", "no")]):
        lines = (
            f"{p['age']},{yes if p['female'] else no},{int(bool(p['died']))}"
            for p in patients(number, 60)
        )
        write(tmp_path / "h" / f"h{number}.csv", "age,smoker,died", *lines)
    found, task = begun(tmp_path, tmp_path / "h")
    assert task["columns"]["binary"] == ["smoker"] and "categorical" not in task["columns"]
    assert task["columns"]["positive"] == {"smoker": ["1", "ja", "yes"]}
    assert task["columns"]["negative"] == {"smoker": ["0", "nein", "no"]}


def test_a_site_column_makes_hospitals(tmp_path: Path) -> None:
    """Case T15; the column is no input."""
    lines = (
        f"{p['age']},{p['crp']},{('Nord', 'Süd', 'West')[n % 3]},{int(bool(p['died']))}"
        for n, p in enumerate(patients(1, 120))
    )
    path = write(tmp_path / "all.csv", "age,crp,Klinik,died", *lines)
    found, task = begun(tmp_path, path)
    simulation = tomllib.loads(found.text)["simulation"]
    assert simulation == {"partition": "column", "column": "Klinik", "min_examples": 20}
    assert task["columns"]["ignore"] == ["Klinik"]
    assert len(run(found, tmp_path).rounds[0]["accepted"]) == 3


@pytest.mark.parametrize("rows", [12, 200])
def test_one_file_without_sites_is_dealt_out_by_patient(tmp_path: Path, rows: int) -> None:
    lines = (
        f"P{int(p['number']) // 2},{p['age']},{int(bool(p['died']))}" for p in patients(4, rows)
    )
    found, task = begun(tmp_path, write(tmp_path / "all.csv", "patient,age,died", *lines))
    simulation = tomllib.loads(found.text)["simulation"]
    assert simulation["partition"] == "patient" and task["columns"]["patient_id"] == "patient"
    config = config_of(found, tmp_path)
    assert len(Population(config, make_task(config)).names) == simulation["clients"] > 1


# --- the target -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("outcome", 2),
        ("died", 1),
        ("status", 1),
        ("Vital status", 1),
        ("disease_status", 1),
        ("smoking_status", 0),
        ("smoking status at the time of admission (self-reported)", 0),
        ("insurance status", 0),
    ],
)
def test_a_status_of_habits_is_no_target(name: str, rank: int) -> None:
    assert target_rank(name) == rank


def test_without_a_plain_target_the_columns_are_listed(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for name in "abc":
        lines = (
            f"{x},{y:.3f},note on {n} of {name}"
            for n, (x, y) in enumerate(
                zip(draw.integers(0, 2, 40), draw.normal(size=40), strict=True)
            )
        )
        write(tmp_path / "h" / f"{name}.csv", "flag,x,note", *lines)
    with pytest.raises(ConfigError, match=r"--target: flag \(two values\), x \(numbers\)$"):
        begin_at(tmp_path / "f.toml", tmp_path / "h")
    with pytest.raises(ConfigError, match="'flagg'; did you mean 'flag'"):
        begin_at(tmp_path / "f.toml", tmp_path / "h", "flagg")
    with pytest.raises(DataError, match="'note' can't be a target: free text; .*--target"):
        begin_at(tmp_path / "f.toml", tmp_path / "h", "note")


def test_a_target_of_any_script_with_few_ones_and_a_column_that_tells_it(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        lines = (
            f"{p['age']},{('home', 'rehab')[n % 2] if n % 12 else 'grave'},{'٣٤'[n % 2]}{n},"
            f"{int(n % 12 == 0)}"
            for n, p in enumerate(patients(number, 60))
        )
        write(tmp_path / "h" / f"{name}.csv", "age,went to,عمر,توفي", *lines)
    found, task = begun(tmp_path, tmp_path / "h", "توفي")
    assert said(found, "fewer than 20 rows") and said(found, "'went to' tells the target without")
    assert "digits of another script" in found.decision.roles["عمر"].why
    assert "went to" in task["columns"]["categorical"]
    assert config_of(found, tmp_path).federation.name == "study"
    with pytest.raises(ConfigError, match="--positive: 'JA' isn't in"):
        begin_at(tmp_path / "g.toml", tmp_path / "h", "توفي", ["JA"])


def test_tables_that_end_in_txt_say_which_ending_they_need(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    plain(tmp_path / "h", "north")
    (tmp_path / "h" / "north.csv").rename(tmp_path / "h" / "north.txt")
    with pytest.raises(DataError, match="end in .txt need the ending .csv"):
        begin_at(tmp_path / "f.toml", tmp_path / "h")


def test_what_lies_beside_the_hospitals_is_told_with_its_mend(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    (folder / "east.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "a.pdf").write_bytes(b"%PDF")
    found, _ = begun(tmp_path, folder)
    beside = "left out: east.xls (an old Excel file; save it as .xlsx or CSV), a.pdf"
    assert said(found, beside)
    config = config_of(found, tmp_path)
    assert any(beside in note for note in Population(config, make_task(config)).notes)


def test_a_number_without_end_and_a_link_to_nowhere(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    frame = {"id": [1, 2, 3], "age": [40.0, np.inf, 60.0], "crp": [1.5, 2, 3], "died": [0, 1, 1]}
    pq.write_table(pa.table(frame), folder / "east.parquet")
    found, task = begun(tmp_path, folder)
    assert (
        said(found, "east.parquet:2: column 'age': no number")
        and "age" in task["columns"]["ignore"]
    )
    (folder / "nowhere.csv").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="nowhere.csv: no such file"):
        begin_at(tmp_path / "g.toml", folder)


def test_a_target_that_does_not_vary_and_a_table_without_inputs_say_why(tmp_path: Path) -> None:
    for name in "abc":
        lines = (f"{n},{n % 7},0,2020-01-{1 + n % 28:02}" for n in range(40))
        write(tmp_path / "h" / f"{name}.csv", "case_id,x,died,day", *lines)
    with pytest.raises(ConfigError, match=r"\('died' is one value only\); say which .* x \(whole"):
        begin_at(tmp_path / "f.toml", tmp_path / "h")
    for name in "abc":
        lines = (f"{n},{n % 2},2020-01-{1 + n % 28:02}" for n in range(40))
        write(tmp_path / "h" / f"{name}.csv", "insurance,died,day", *lines)
    with pytest.raises(DataError) as caught:
        begin_at(tmp_path / "f.toml", tmp_path / "h")
    told = str(caught.value).splitlines()
    assert told[0] == "no column is left to predict 'died' from"
    assert "an identifier" in told[1] and "a date" in told[2]


def test_few_whole_numbers_and_a_third_text_are_classes_and_told(tmp_path: Path) -> None:
    for name in "abc":
        lines = (f"{n % 7},{n % 3},{('alive', 'dead', 'lost')[n % 5 % 3]}" for n in range(60))
        write(tmp_path / "h" / f"{name}.csv", "x,grade,status", *lines)
    found, task = begun(tmp_path, tmp_path / "h", "grade")
    assert task["kind"] == "multiclass" and said(found, "task.kind = 'regression'")
    found, task = begun(tmp_path, tmp_path / "h", "status")
    assert task["kind"] == "multiclass" and said(found, "'status'", "--positive dead")
    found, task = begun(tmp_path, tmp_path / "h", "status", ["dead"])
    assert (task["kind"], task["negative"]) == ("binary", ["alive", "lost"])
    assert said(found, "'alive', 'lost' count as 0")


def test_unknown_words_for_an_outcome_are_asked_for_once(tmp_path: Path) -> None:
    for number, words in enumerate([("gut", "schlecht"), ("A", "B"), ("0", "1")]):
        lines = (f"{p['age']},{words[int(bool(p['died']))]}" for p in patients(number, 60))
        write(tmp_path / "h" / f"h{number}.csv", "age,outcome", *lines)
    with pytest.raises(DataError) as caught:
        begin_at(tmp_path / "f.toml", tmp_path / "h")
    text = str(caught.value)
    assert "h0: column 'outcome' has 'gut', 'schlecht'" in text and "h1:" in text
    assert "--positive TEXT" in text.splitlines()[-1]
    found, task = begun(tmp_path, tmp_path / "h", None, ["schlecht", "B", "1"])
    assert task["positive"] == ["1", "b", "schlecht"] and task["negative"] == ["0", "a", "gut"]


def test_one_number_that_means_two_things_is_no_target(tmp_path: Path) -> None:
    for number, first in enumerate([0, 1, 0]):
        lines = (f"{p['age']},{first + int(bool(p['died']))}" for p in patients(number, 60))
        write(tmp_path / "h" / f"h{number}.csv", "age,outcome", *lines)
    with pytest.raises(DataError, match="means two things; recode the files alike"):
        begin_at(tmp_path / "f.toml", tmp_path / "h")


# --- what is odd between hospitals ----------------------------------------------------------------
def test_what_use_has_found_is_told(tmp_path: Path) -> None:
    """Case T12: another unit, a copy of the target, a numeric identifier, the same file twice."""
    for number, name in enumerate(("north", "south", "west")):
        factor = 88.42 if name == "south" else 1
        draw = np.random.default_rng(number)
        lines = (
            f"{2**53 + 1 + int(p['number'])},{factor * draw.gamma(20, 0.05):.3f},{p['age']},"
            f"{'dead' if p['died'] else 'alive'},{int(bool(p['died']))}"
            for p in patients(number, 80)
        )
        write(tmp_path / "h" / f"{name}.csv", "insurance,creatinine,age,state,died", *lines)
    (tmp_path / "h" / "west again.csv").write_bytes((tmp_path / "h" / "west.csv").read_bytes())
    found, task = begun(tmp_path, tmp_path / "h", "died")
    assert task["columns"]["numeric"] == ["creatinine", "age"]
    assert task["columns"]["ignore"] == ["insurance", "state"]
    roles = found.decision.roles
    assert "identifier" in roles["insurance"].why
    assert "the target in other words" in roles["state"].why
    assert said(found, "south", "'creatinine'", "mg/dL to umol/L of creatinine?")
    assert said(found, "the same rows as west", "remove one")


def test_one_column_by_several_names_is_told_once_with_its_units(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    for name, header in (("north", "crp [mg/L]"), ("south", "crp_mg_l"), ("west", "crp (ug/mL)")):
        text = (folder / f"{name}.csv").read_text()
        (folder / f"{name}.csv").write_text(text.replace("crp", header, 1))
    found, task = begun(tmp_path, folder)
    assert task["columns"]["numeric"] == ["age"]
    (line,) = [line for line in found.decision.problems if "crp" in line]
    assert "south: 'crp_mg_l'; west: 'crp (ug/mL)'); give it one, in the same unit" in line


def test_an_excel_file_beside_csvs_is_a_hospital(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h", "north south")
    book = openpyxl.Workbook()
    book.active.append(["id", "age", "crp", "died"])
    for p in patients(7, 40, 5001):
        book.active.append([p["number"], p["age"], p["crp"], "Ja" if p["died"] else "Nein"])
    book.save(folder / "west.xlsx")
    found, task = begun(tmp_path, folder)
    assert [shard.title for shard in found.found.shards] == ["north", "south", "west"]
    assert (task["positive"], task["negative"]) == (["1", "ja"], ["0", "nein"])


def test_names_of_columns_are_names_whatever_is_in_them(tmp_path: Path) -> None:
    names = ['a "b"', "x]# y", "= [1]", "\\u0041", "ä.b"]
    for number, name in enumerate("abc"):
        header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
        lines = (
            f"{p['age']},{p['crp']},{n % 7},{'mF'[n % 2]},{'Aba'[n % 3]},{n % 5 // 3}"
            for n, p in enumerate(patients(number, 40))
        )
        write(tmp_path / "h" / f"{name}.csv", header + ",died", *lines)
    _, task = begun(tmp_path, tmp_path / "h")
    columns = task["columns"]
    assert columns["numeric"] == names[:3] and columns["categorical"] == names[3:]
    assert columns["codes"] == {"\\u0041": {"female": ["F"], "male": ["m"]}, "ä.b": {"A": ["a"]}}


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h", "a b c d")
    write(folder / "a.csv", "id,age,age,died", "1,2,3,0", "2,3,4,1")
    write(folder / "b.csv", "id,age,crp,died")
    with pytest.raises(DataError) as caught:
        begin_at(tmp_path / "f.toml", folder)
    assert "a.csv" in str(caught.value) and "b.csv" in str(caught.value)
    assert not (tmp_path / "f.toml").exists()


def test_a_hospital_without_the_target_is_named(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    text = (folder / "west.csv").read_text()
    (folder / "west.csv").write_text(text.replace("died", "Died", 1))
    with pytest.raises(DataError, match="west: there is no column 'died', .*it has 'Died'"):
        begin_at(tmp_path / "f.toml", folder, "died")


def test_the_plain_target_that_one_hospital_lacks_or_spoils_is_told_by_its_place(
    tmp_path: Path,
) -> None:
    """Not asked for by --target, which would be the next message."""
    folder = plain(tmp_path / "h")
    head, *rows = (folder / "west.csv").read_text().splitlines()
    write(folder / "west.csv", head, *rows[:2], rows[2][:-1] + "Canary", *rows[3:])
    with pytest.raises(DataError, match=r"west\.csv:4: column 'died'") as caught:
        begin_at(tmp_path / "f.toml", folder)
    assert "Canary" not in str(caught.value)
    write(folder / "west.csv", "id,age,crp", *(row[:-2] for row in rows))
    with pytest.raises(DataError, match="west: there is no column 'died', the target; add it"):
        begin_at(tmp_path / "f.toml", folder)


def test_one_of_several_files_that_is_of_something_else_is_named(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    write(folder / "notes.csv", "Canary Smith,4711,1", "Canary Jones,4712,0")
    with pytest.raises(DataError, match=r"notes\.csv: no other file has any of its") as caught:
        begin_at(tmp_path / "f.toml", folder)
    assert "Canary" not in str(caught.value) and "\n" not in str(caught.value)


def test_cells_that_are_no_numbers_are_placed_and_the_column_left_out(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h")
    lines = (folder / "west.csv").read_text().splitlines()
    lines[7] = lines[7].replace(lines[7].split(",")[2], "SECRET-CELL")
    (folder / "west.csv").write_text("\n".join(lines) + "\n")
    found, task = begun(tmp_path, folder)
    assert "crp" in task["columns"]["ignore"]
    assert said(found, "west.csv:8: column 'crp': no number", "task.missing_values")
    assert "SECRET" not in found.text + str(found.decision.problems)


def test_no_cell_is_shown_but_shared_categories(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    for number, name in enumerate("abc"):
        lines = (
            f"CANARY{n}{name},{('icu', 'er', 'CANARY')[n % 30 // 14]},CANARY has come {n} times,"
            f"{p['age']},{int(bool(p['died']))}"
            for n, p in enumerate(patients(number, 60))
        )
        write(folder / f"{name}.csv", "case_id,ward,remark,age,died", *lines)
    found, task = begun(tmp_path, folder)
    assert task["columns"]["categorical"] == ["ward"]
    assert set(task["columns"]["ignore"]) == {"remark"}
    console = Console(file=(out := io.StringIO()), width=200)
    console.print(hospitals_table(found.found), columns_table(found.decision))
    assert "icu" in out.getvalue() and "CANARY" not in found.text + out.getvalue()


def test_numbers_for_missing_only_where_they_are_no_values(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        lines = (
            f"{-9 if n % 10 == 0 else p['age']},{'unk' if n % 12 == 0 else p['crp']},"
            f"{int(bool(p['died']))}"
            for n, p in enumerate(patients(number, 60))
        )
        write(tmp_path / "h" / f"{name}.csv", "age,crp,died", *lines)
    found, task = begun(tmp_path, tmp_path / "h")
    assert task["missing_values"][-2:] == ["-9", "unk"]
    for name in "abc":
        path = tmp_path / "h" / f"{name}.csv"
        head, *lines = path.read_text().splitlines()
        rows = [f"{n % 40 - 20},{line}" for n, line in enumerate(lines)]
        write(path, "base_excess," + head, *rows)
    found, task = begun(tmp_path, tmp_path / "h")
    assert task["missing_values"][-1] == "unk"
    assert said(found, "column 'age'", "leave these cells empty")


def test_a_file_that_can_be_read_in_two_ways_is_asked_about_and_can_be_told(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    for number, name in enumerate("abc"):
        lines = (
            f"{n % 9 + 1}.{100 + n};{p['age']};{int(bool(p['died']))}"
            for n, p in enumerate(patients(number, 60))
        )
        write(folder / f"{name}.csv", "count;age;died", *lines)
    with pytest.raises(DataError, match="--dialect KEY=VALUE"):
        begin_at(tmp_path / "f.toml", folder)
    found, task = begun(tmp_path, folder, None, [], ["thousands=.", "decimal=,"])
    assert task["dialect"] == {"thousands": ".", "decimal": ","}
    with pytest.raises(ConfigError, match="--dialect comma: write it as KEY=VALUE"):
        begin_at(tmp_path / "f.toml", folder, dialect=["comma"])


def test_a_first_line_that_is_a_patient_is_never_shown(tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        lines = [f"{p['age']},{p['crp']},CANARY{number},1" for p in patients(number, 30)]
        write(tmp_path / "h" / f"{name}.csv", *lines)
    for path, said in (
        (tmp_path / "h", "no column in common"),
        (tmp_path / "h" / "a.csv", "no header"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            begin_at(tmp_path / "f.toml", path)
        assert "CANARY" not in str(caught.value) and "--dialect 'header=" in str(caught.value)


def test_a_folder_of_a_split_is_one_data_set(tmp_path: Path) -> None:
    folder = plain(tmp_path / "h", "train test")
    found, _ = begun(tmp_path, folder)
    assert tomllib.loads(found.text)["simulation"]["partition"] == "iid"


# --- the command ----------------------------------------------------------------------------------
def test_the_command_writes_once_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain(tmp_path / "h")
    done = CliRunner().invoke(commands, ["init", "--data", "h"])
    assert done.exit_code == 0, done.output
    assert "wrote federation.toml" in done.output and "died" in done.output
    assert tomllib.loads(Path("federation.toml").read_text())["data"]["path"] == "h"
    again = CliRunner().invoke(commands, ["init", "--data", "h"])
    assert isinstance(again.exception, ConfigError) and "exists already" in str(again.exception)
    wrong = CliRunner().invoke(commands, ["init", "x.toml", "--target", "died"])
    assert isinstance(wrong.exception, ConfigError) and "--data" in str(wrong.exception)
    assert not Path("x.toml").exists()
