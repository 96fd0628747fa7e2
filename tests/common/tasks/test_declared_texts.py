"""What a configuration declares meets what files hold: one form, one meaning, nothing guessed."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import add_sums
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.text.iob import read_iob
from wardround.common.tasks.text.options import TextOptions

Y = {"target": "y"}


def csv(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


def agree(task: TabularTask, shards: list) -> dict:
    totals: dict = {}
    for phase in range(task.phases):
        totals = totals | add_sums([task.statistics(shard, phase, totals) for shard in shards])
    return task.condense(totals)


def lines(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


# --- declared lists -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        {"columns": Y | {"categorical": ["a"], "categories": {"a": ["1", "2", "1.0"]}}},
        {"kind": "multiclass", "columns": Y, "classes": ["1", "2", "1.0"]},
        {"columns": Y, "positive": ["1", "1.0"]},
    ],
)
def test_two_forms_of_one_code_are_refused_before_anything_runs(options: dict) -> None:
    with pytest.raises(ValidationError, match="'1' and '1.0' are the same text; name it once"):
        TabularTask(**options)
    with pytest.raises(ValidationError, match="are the same text"):
        TextOptions(classes=["1", "1.0"])


def test_either_form_declared_reads_both_forms(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", lines("a,y", "1,0", "2.0,1", "1.0,1.0", "2,0.0"))
    columns = Y | {"categorical": ["a"], "categories": {"a": ["1.0", " 2"]}}
    task = TabularTask(columns=columns)
    raw = task.load(path)
    inputs = task.prepare(raw, agree(task, [raw]), raw).inputs
    assert inputs.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    classes = TabularTask(kind="multiclass", columns=Y | {"ignore": ["a"]}, classes=["0.0", "1"])
    assert classes.labels(classes.load(path)).tolist() == [0, 1, 1, 0]


# --- headers --------------------------------------------------------------------------------------
def test_a_header_in_another_normal_form_is_the_same_and_a_near_miss_is_suggested(tmp_path) -> None:
    size, columns = "größe", Y | {"numeric": ["größe", "body mass"]}
    task = TabularTask(columns=columns)
    for header in (size, unicodedata.normalize("NFD", size)):
        raw = task.load(csv(tmp_path / "a.csv", lines(f"{header},body  mass,y", "1,2,0", "2,3,1")))
        assert raw.numbers("größe").tolist() == [1, 2]
    for header in ("Größe", "GRO\u0308SSE"):
        with pytest.raises(DataError, match="no column 'größe'; it has '.*': name it the same"):
            task.load(csv(tmp_path / "a.csv", lines(f"{header},body mass,y", "1,2,0", "2,3,1")))


# --- columns of two values ------------------------------------------------------------------------
@pytest.mark.parametrize("forms", [("alive", "died"), ("Alive", "Died"), (" ALIVE ", "DIED")])
def test_a_positive_text_is_found_in_any_case_and_between_blanks(tmp_path, forms) -> None:
    task = TabularTask(columns=Y, positive=["died "])
    path = csv(tmp_path / "a.csv", lines("x,y", f"1,{forms[0]}", f"2,{forms[1]}"))
    assert task.labels(task.load(path)).tolist() == [0, 1]


def test_a_third_text_needs_a_decision(tmp_path: Path) -> None:
    rows = ["1,alive", "2,died", "3,unknown", "4,alive"]
    path = csv(tmp_path / "a.csv", lines("x,y", *rows))
    third = r"a.csv:4: column 'y': not in task.positive, and another text than in .*:2: .*"
    with pytest.raises(DataError, match=f"{third}task.negative.*task.missing_values") as caught:
        TabularTask(columns=Y, positive=["died"]).load(path)
    assert "unknown" not in str(caught.value)
    negative = TabularTask(columns=Y, positive=["died"], negative=["ALIVE", "unknown"])
    assert negative.labels(negative.load(path)).tolist() == [0, 1, 0, 0]
    missing = TabularTask(columns=Y, positive=["died"], missing_values=["", "unknown"])
    raw = missing.load(path)
    assert missing.labels(raw).tolist() == [0, 1, 0]
    assert [str(x) for x in missing.left_out(raw)] == ["1 row was left out: column 'y' is empty"]
    with pytest.raises(DataError, match="a.csv:4: .* neither in task.positive nor in task.neg"):
        TabularTask(columns=Y, positive=["died"], negative=["alive"]).load(path)


def test_one_hospitals_word_for_1_makes_no_other_hospitals_1_a_0(tmp_path: Path) -> None:
    cases = csv(tmp_path / "cases.csv", lines("x,y", "1,", "2,1", "3,1"))
    german = csv(tmp_path / "german.csv", lines("x,y", "1,Nein", "2,Ja"))
    with pytest.raises(DataError, match="german.csv:2: .* in task.positive .1, true and yes too"):
        TabularTask(columns=Y).load(german)
    with pytest.raises(DataError, match="cases.csv:3: .* has this text only.*often means 1; add"):
        TabularTask(columns=Y, positive=["Ja"]).load(cases)
    followed = TabularTask(columns=Y, positive=["Ja", "1", "true", "yes"])
    assert followed.labels(followed.load(cases)).tolist() == [1, 1]
    assert followed.labels(followed.load(german)).tolist() == [0, 1]
    alive = TabularTask(columns=Y, positive=["2"], negative=["1"])  # dead is 2
    assert alive.labels(alive.load(cases)).tolist() == [0, 0]
    both = csv(tmp_path / "both.csv", lines("x,y", "1,1", "2,2"))
    dead = TabularTask(columns=Y, positive=["2"])
    assert dead.labels(dead.load(both)).tolist() == [0, 1]


def test_a_positive_text_that_occurs_nowhere(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", lines("x,y", "1,alive", "2,alive"))
    other = csv(tmp_path / "b.csv", lines("x,y", "1,alive", "2,died"))
    task = TabularTask(columns=Y, positive=["died", "deceased"])
    survivors, both = task.load(path), task.load(other)
    assert task.agreed(agree(task, [survivors, both])) == [
        "task.positive: no hospital's training rows have 'deceased'"
    ]
    with pytest.raises(TaskError, match="task.positive: no hospital's training rows have"):
        task.agreed(agree(task, [survivors, survivors]))


def test_an_event_names_its_positive_value(tmp_path: Path) -> None:
    columns = {"time": "t", "event": "status"}
    path = csv(tmp_path / "lung.csv", lines("t,status,x", "1,2,3", "2,1,4", "5,2.0,1"))
    plain = TabularTask(kind="survival", columns=columns)
    with pytest.raises(DataError) as caught:
        plain.load(path)
    told = str(caught.value)
    assert "lung.csv:2: column 'status'" in told and "task.positive" in told
    assert "categorical" not in told  # that would give the column two meanings
    task = TabularTask(kind="survival", columns=columns, positive=["2"])
    raw = task.load(path)
    assert task.labels(raw).tolist() == [1, 0, 1]
    assert task.prepare(raw, agree(task, [raw]), raw).targets[:, 1].tolist() == [1, 0, 1]


def test_a_binary_input_names_its_values(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", lines("smoker,y", "Ja,0", "nein,1", ",1", "ja,0"))
    plain = TabularTask(columns=Y | {"binary": ["smoker"]})
    with pytest.raises(DataError, match="a.csv:2: .*task.columns.positive.smoker.*categorical"):
        plain.load(path)
    columns = Y | {"binary": ["smoker"], "positive": {"smoker": ["ja"]}}
    task = TabularTask(columns=columns)
    raw = task.load(path)
    assert task.prepare(raw, agree(task, [raw]), raw).inputs[:, 0].tolist() == [1, 0, 1, 1]
    with pytest.raises(ValidationError, match="'age' isn't in columns.binary"):
        TabularTask(columns=Y | {"positive": {"age": ["a"]}})
    for wrong in ({"negative": ["a"]}, {"positive": ["a"], "negative": ["A"]}):
        with pytest.raises(ValidationError, match="goes with positive|means 1 already"):
            TabularTask(columns=Y, **wrong)


# --- advice that works ----------------------------------------------------------------------------
def test_a_cell_that_is_no_number_is_advised_by_its_column_s_role(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", lines("x,y", "1,cheap", "2,3"))
    with pytest.raises(DataError) as target:
        TabularTask(kind="regression", columns=Y).load(path)
    assert "a.csv:2: column 'y'" in str(target.value) and "categorical" not in str(target.value)
    path = csv(tmp_path / "a.csv", lines("x,y", "red,1", "2,3"))
    with pytest.raises(DataError, match="list the column under task.columns.categorical"):
        TabularTask(kind="regression", columns=Y).load(path)


def test_a_class_outside_is_named_by_place_and_key(tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", lines("x,y", "1,a", "2,SECRET"))
    declared = TabularTask(kind="multiclass", columns=Y, classes=["a", "b"])
    with pytest.raises(DataError, match="a.csv:3: column 'y': .* none of task.classes") as caught:
        declared.load(path)
    assert "SECRET" not in str(caught.value)


# --- rare categories ------------------------------------------------------------------------------
def test_a_column_whose_categories_are_all_rare_is_told(tmp_path: Path) -> None:
    rows = [f"{n},ward {n % 30},{n % 2}" for n in range(60)]
    path = csv(tmp_path / "a.csv", lines("x,ward,y", *rows))
    task = TabularTask(columns=Y | {"categorical": ["ward"]})
    raw = task.load(path)
    (line,) = task.warnings(raw)
    assert line.startswith("column 'ward': 0 of 60 rows have a value that 5 training rows share")
    (note,) = task.agreed(agree(task, [raw, raw]))
    assert note.startswith("column 'ward' is no input: 0 of 120 training rows keep a category")
    lower = TabularTask(columns=Y | {"categorical": ["ward"]}, min_category_count=2)
    assert lower.warnings(raw) == lower.agreed(agree(lower, [raw])) == []


# --- a target of any unit -------------------------------------------------------------------------
def test_a_regression_target_is_standardised_and_figures_are_in_its_unit(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=200)
    cents = 1e6 + 3e5 * x + generator.normal(size=200)
    rows = [f"{a!r},{b!r}" for a, b in zip(x.tolist(), cents.tolist(), strict=True)]
    task = TabularTask(kind="regression", columns=Y, normalise="none")
    first = task.load(csv(tmp_path / "a.csv", lines("x,y", *rows[:70])))
    second = task.load(csv(tmp_path / "b.csv", lines("x,y", *rows[70:])))
    totals = agree(task, [first, second])
    assert totals["target/mean"][0] == pytest.approx(cents.mean())
    assert totals["target/std"][0] == pytest.approx(cents.std())
    parts = [task.prepare(raw, totals, raw) for raw in (first, second)]
    scaled = torch.cat([part.targets[:, 0] for part in parts])
    assert abs(float(scaled.mean())) < 1e-6 and float(scaled.std(correction=0)) == pytest.approx(1)
    guess = torch.full((200, 1), 0.5)  # standardised: half a deviation above the mean
    figures = task.summarise(task.metrics(guess, torch.cat([part.targets for part in parts])))
    assert figures["bias"] == pytest.approx(cents.std() / 2, rel=1e-5)
    expected = np.sqrt(np.mean((cents.mean() + cents.std() / 2 - cents) ** 2))
    assert figures["rmse"] == pytest.approx(expected, rel=1e-5)
    constant = task.load(csv(tmp_path / "c.csv", lines("x,y", "1,7", "2,7")))
    same = task.prepare(constant, agree(task, [constant]), constant).targets
    assert same.tolist() == [[0, 1], [0, 1]]


# --- texts ----------------------------------------------------------------------------------------
def test_tags_words_and_patients_are_read_in_one_form(tmp_path: Path) -> None:
    text = "# patient = 7.0\nFu\u0308ße\tB-Disease \nweh\u00a0\tO\n\n# patient =  7 \nx\tO\n"
    first, second = read_iob(csv(tmp_path / "a.tsv", text), ["Disease"])
    assert first.words == ["Füße", "weh"] and first.tags == [1, 0]
    assert first.patient == second.patient == "7"


def test_splits_and_patients_of_a_table_are_read_in_one_form(tmp_path: Path) -> None:
    rows = ["1,0,7,Train", "2,1,7.0, TEST", "3,1,8,val"]
    columns = Y | {"patient_id": "who", "split": "part"}
    task = TabularTask(columns=columns)
    raw = task.load(csv(tmp_path / "a.csv", lines("x,y,who,part", *rows)))
    assert task.patients(raw).tolist() == ["7", "7", "8"]
    assert task.given_split(raw).tolist() == ["train", "test", "validation"]


def test_a_missing_value_s_code_is_found_in_either_form(tmp_path: Path) -> None:
    task = TabularTask(columns=Y, missing_values=["", "-9"])
    raw = task.load(csv(tmp_path / "a.csv", lines("x,y", "-9.0,0", "1,1", " -9,0", "-90,1")))
    assert np.isnan(raw.numbers("x")).tolist() == [True, False, True, False]
