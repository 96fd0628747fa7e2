"""What a person at a hospital reads before they say yes: all of it, and nothing but text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from wardround.client.site.study_text import (
    Shown,
    asked_of_joint,
    asked_of_records,
    chosen_otherwise,
    differs_by,
    judged_otherwise,
    study_text,
)
from wardround.common.config.load import parse_config
from wardround.common.manifest.manifest import Manifest
from wardround.common.settings import TaskTable
from wardround.common.study.study import Study

STUDY = Study(
    network="trusts",
    name="sepsis",
    purpose="Does lactate\npredict mortality?",
    researcher="anna",
    hospitals=("north", "south"),
    ends="2027-03-02T00:00:00+00:00",
    repeat=0,
    wait_s=0,
    task_sha256="",
    settings="",
)
SETTINGS = """
[task.columns]
target = "died"
numeric = ["lactate"]
[data]
test_fraction = 0.2001
[training]
lr = 0.2
device = "cpu"
[strategy]
personal_layers = ["head*"]
"""


def test_which_rows_are_held_out_and_what_isnt_as_usual_is_shown() -> None:
    shown = study_text(STUDY, parse_config(SETTINGS))
    for line in (
        "purpose             Does lactate predict mortality?",
        "columns asked for   numeric: lactate",
        "held out            0.2001 to test, 0 to validate",
        "other settings      training.lr: 0.2; strategy.personal_layers: head*",
    ):
        assert line + "\n" in shown
    assert "other settings" not in study_text(STUDY, parse_config(""))


LINKED = """
[task]
name = "linked"
[task.identifiers]
nhs = "nhs"
born = "date"
[task.parties.the-hospital-of-the-west]
numeric = ["crp"]
categorical = { sex = ["f", "m"] }
[task.parties.registry]
[procedure]
name = "linkage"
"""


def test_by_what_persons_are_linked_and_whose_each_column_is_is_shown() -> None:
    shown = study_text(STUDY, parse_config(LINKED))
    for line in (
        "persons by          nhs (rule 'nhs'); born (rule 'date')",
        "columns of the-hospital-of-the-west\n"
        "                    numeric: crp; categorical: sex: f, m",
        "columns of registry none: who they are only",
        "task's settings     rules: 1",
        "link is used by     studies of this one's name",
    ):
        assert line + "\n" in shown, shown
    assert "held out" not in shown
    words = " ".join(shown.split())
    assert (
        "the parties learn registry, the-hospital-of-the-west: which of its own persons all of "
        "them have, too, and how many, if at least 20." in words
    )
    assert "who compares learns the server: how many persons any of them have in common" in words
    assert "rounded up to a multiple of 1000" in words
    assert asked_of_joint(parse_config(LINKED)) in shown


@given(st.text(min_size=1), st.text(), st.text())
def test_no_text_of_a_researcher_is_more_than_text(key: str, inner: str, value: str) -> None:
    """Keys of a task of one's own, too: an escape sequence would write over what stands above."""
    options = {f"k{key}": value, "table": {inner: [value]}}
    config = parse_config("").model_copy(update={"task": TaskTable(name="own.py:Own", **options)})
    names = ("study", "asked by", "purpose", "ends", "task's settings", "held out", "")
    for line in study_text(STUDY, config).splitlines():
        assert line.isprintable() and len(line) <= 100
        assert line[:20].strip() in names, line


def test_two_studies_whose_sums_differ_by_few_hospitals_are_told_of() -> None:
    """All sums of the one less those of the other are those hospitals' own."""

    def shown(hospitals: str, columns: str = SETTINGS, fewest: int = 3) -> Shown:
        config = parse_config(columns)
        secure = config.secure_aggregation.model_copy(update={"min_cohort": fewest})
        manifest = cast(Manifest, SimpleNamespace(secure_aggregation=secure))
        return Shown(manifest, STUDY.model_copy(update={"hospitals": tuple(hospitals)}), config)

    ours, survival = SETTINGS, SETTINGS.replace("died", "time").replace("lactate", "age")
    assert differs_by(shown("abcd"), shown("abc")) == ["d"]
    assert differs_by(shown("abc"), shown("abd")) == ["c", "d"]
    assert differs_by(shown("abcdef"), shown("abc")) == []  # a sum of three
    assert differs_by(shown("abcdef", fewest=4), shown("abc")) == ["d", "e", "f"]
    assert differs_by(shown("abc"), shown("abc")) == []
    assert differs_by(shown("abcd"), shown("abc", survival)) == []
    assert differs_by(shown("abcd"), shown("abc", ours.replace('"died"', '"time"'))) == ["d"]
    assert differs_by(shown("abcd", ""), shown("abc", "")) == ["d"]


def test_what_is_asked_of_clinical_records_is_shown_in_a_study_and_in_a_federation_of_one() -> None:
    text = (
        "[task.columns]\ntarget = 'died'\n[cohort.index]\nevent = 'visit'\n"
        "[cohort.variables.died]\nof = 'death'\nwindow_days = [0, 30]\n"
    )
    config = parse_config(text)
    assert config.cohort is not None
    for shown in (study_text(STUDY, config), asked_of_records(config.cohort)):
        assert "rows                each patient's first visit (any)\n" in shown
        assert "column              died: any death, days 0 to 30\n" in shown


def test_two_studies_that_choose_patients_otherwise_are_told_of() -> None:
    """A column's name hides nothing: codes are compared."""

    def shown(**changes: str) -> Shown:
        text = (
            "[task.columns]\ntarget = 'died'\nnumeric = ['NAME']\n[cohort.index]\nevent = 'visit'\n"
            "age_years = [18, OLDEST]\n[cohort.variables.died]\nof = 'death'\nROWS\n"
            "window_days = [0, 30]\n[cohort.variables.NAME]\nof = 'measurement'\nunit = '1'\n"
            "concepts = ['CODE']\nwindow_days = [0, 1]\n"
        )
        values = {"NAME": "lactate", "OLDEST": "90", "ROWS": "", "CODE": "LOINC:2524-7"} | changes
        for name, value in values.items():
            text = text.replace(name, value)
        if changes.get("CODE"):
            text = text.replace("died", "gone").replace("of = 'death'", "of = 'visit'")
        return Shown(cast(Manifest, None), STUDY, parse_config(text))

    assert not chosen_otherwise(shown(), shown()) and not chosen_otherwise(shown(), shown(NAME="x"))
    assert chosen_otherwise(shown(), shown(OLDEST="89", NAME="x"))
    assert chosen_otherwise(shown(), shown(ROWS="rows = 'without'"))
    assert not chosen_otherwise(shown(), shown(OLDEST="89", NAME="x", CODE="LOINC:1-1"))
    assert not chosen_otherwise(shown(), Shown(cast(Manifest, None), STUDY, parse_config("")))


def test_two_studies_that_cut_groups_otherwise_are_told_of() -> None:
    """Ages below 40 less ages below 41 are those of 40."""

    def shown(more: str, target: str = "died") -> Shown:
        text = f"[task.columns]\ntarget = '{target}'\n{more}"
        return Shown(cast(Manifest, None), STUDY, parse_config(text))

    def cut(at: int, threshold: float = 0.5) -> str:
        table = f"groups = ['sex', 'age']\nbands = {{ age = [{at}] }}\nthreshold = {threshold}\n"
        return f"[judgement]\n{table}categories = {{ sex = ['F', 'M'] }}\n"

    assert judged_otherwise(shown(cut(40)), shown(cut(41))) == ["age"]
    assert judged_otherwise(shown(cut(40)), shown(cut(40, 0.51))) == ["age", "sex"]
    assert judged_otherwise(shown(cut(40)), shown(cut(40))) == []
    assert judged_otherwise(shown(cut(40)), shown("")) == []
    assert judged_otherwise(shown(cut(40)), shown(cut(41), "other")) == []
