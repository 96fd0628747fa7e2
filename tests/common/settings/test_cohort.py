"""What a study may ask of clinical records: read strictly, kept in one form, shown whole."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.client.site.cohort_text import cohort_rows
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.run.shaping import digest, shaping
from wardround.common.secagg.content import descriptor, shared_settings
from wardround.common.settings.cohort import age_on, birth_date
from wardround.common.settings.concepts import SYSTEMS, Concept
from wardround.common.study.study import study_toml

COHORT = """
[task.columns]
target = "died"
patient_id = "patient_id"
numeric = ["creatinine", "age", "visits"]
categorical = ["sex", "culture"]
ignore = ["index_date"]

[cohort.index]
event = "visit"
concepts = ["encounter:IMP", "OMOP:9201"]
take = "each"
date = "end"
age_years = [18, 89]
earliest = 2020-01-01
latest = "2023-12-31"

[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0", "OMOP:3016723"]
window_days = [-2, 0]
unit = "umol/L"
units = { "mg/dL" = 88.42 }

[cohort.variables.culture]
of = "observation"
concepts = ["LOINC:600-7"]
window_days = [-7, 1]
take = "first"
[cohort.variables.culture.categories]
positive = ["SNOMED:10828004"]
negative = ["SNOMED:260385009", "LOINC:LA6577-6"]

[cohort.variables.visits]
of = "visit"
window_days = [-365, -1]
take = "count"
[cohort.variables.heart_failure]
of = "condition"
concepts = ["ICD10:I50*"]
window_days = [-36500, 0]
rows = "without"
[cohort.variables.age]
of = "age"
rows = "with"
[cohort.variables.sex]
of = "sex"
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""


def test_a_cohort_is_read_as_it_is_written() -> None:
    cohort = parse_config(COHORT).cohort
    assert cohort is not None
    assert cohort.index.earliest == "2020-01-01" and cohort.index.concepts[0] == "ENCOUNTER:IMP"
    found = {name: (one.takes, one.form) for name, one in cohort.variables.items()}
    assert found == {
        "creatinine": ("last", "number"),
        "culture": ("first", "text"),
        "visits": ("count", "count"),
        "heart_failure": ("any", "count"),
        "age": ("any", "count"),
        "sex": ("any", "text"),
        "died": ("any", "count"),
    }
    assert cohort.columns[:3] == ("patient_id", "index_date", "creatinine")


def test_it_is_in_what_a_study_and_a_run_are() -> None:
    """Any change of it is another study, another run, other settings; without one nothing changed
    for runs of before."""
    one = parse_config(COHORT)
    again = parse_config(study_toml(one))
    assert again.cohort == one.cohort and study_toml(again) == study_toml(one)
    for change in (
        'cohort.index.take="first"',
        "cohort.variables.creatinine.window_days=[-3, 0]",
        'cohort.variables.creatinine.units={"mg/dL" = 88.4}',
        'cohort.variables.sex.rows="with"',
    ):
        other = parse_config(COHORT, [change])
        assert study_toml(other) != study_toml(one), change
        assert digest(other, True) != digest(one, True), change
        assert descriptor(other) != descriptor(one), change
    assert not any(key.startswith("cohort") for key in shaping(Config(), False))
    assert "cohort" not in shared_settings(Config())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"LOINC:2160-0"', '"LOINC 2160-0"', "cohort.variables.creatinine.concepts: .*SYSTEM:CODE"),
        ('"LOINC:2160-0"', '"KDL:1"', "'KDL' is no known system of codes: LOINC, SNOMED"),
        ('"LOINC:2160-0"', '"LOINC:21*"', "codes that are parts of others: ICD10"),
        ('"LOINC:2160-0"', '"omop:3016723"', "'OMOP:3016723' stands there twice"),
        ('"OMOP:3016723"', '"OMOP:creatinine"', "a concept id of OMOP is a whole number"),
        ('"OMOP:3016723"', '"OMOP:2147483648*"', "a concept id of OMOP is a whole number"),
        ("[-2, 0]", "[0, -2]", "creatinine.window_days: begins after it ends"),
        ("[-2, 0]", "[0]", "creatinine.window_days: list should have at least 2 items"),
        ('unit = "umol/L"\n', "", "creatinine.unit: say in which unit"),
        (
            '"mg/dL" = 88.42',
            '"umol/L" = 1.0',
            "creatinine.units: 'umol/L' is the column's own unit",
        ),
        ('"mg/dL" = 88.42', '"mg/dL" = -1.0', "creatinine.units.mg/dL: .*greater than 0"),
        ('of = "age"', 'of = "age"\ntake = "last"', "age.take: has no effect with of = 'age'"),
        ('take = "count"', 'take = "mean"', "visits.take: of visit: any, count"),
        ('"LOINC:LA6577-6"', '"SNOMED:10828004"', "'SNOMED:10828004' has two meanings"),
        ('of = "sex"', 'of = "sex"\nrows = "without"', "sex.rows: of sex: 'all' or 'with'"),
        ("age_years = [18, 89]", "age_years = [89, 18]", "index.age_years: the youngest is older"),
        ('"2023-12-31"', '"2019-12-31"', "index.latest: lies before"),
        ('"2023-12-31"', '"2023"', "index.latest: '2023' is no day"),
        ('event = "visit"', 'event = "drug"', "index.date: only a visit has an end"),
        ("variables.visits]", "variables.index_date]", "index_date: a column of every cohort"),
        ("variables.visits]", "variables.AGE]", "variables.age: .*another's name in other case"),
        ('target = "died"', 'target = "dead"', "task.columns: 'dead' is no variable of .cohort."),
        ("[task.columns]", "[task]\nname = 'text'\n[task.columns]", "cohort: has no effect with"),
    ],
)
def test_what_cant_be_answered_is_refused_by_its_key(old: str, new: str, told: str) -> None:
    assert old in COHORT
    with pytest.raises(ConfigError, match=told):
        parse_config(COHORT.replace(old, new, 1))


def test_every_part_of_it_is_shown() -> None:
    """A person at a hospital reads codes, windows, units and limits, each in words."""
    cohort = parse_config(COHORT).cohort
    assert cohort is not None
    rows = list(cohort_rows(cohort))
    assert rows[0][1] == (
        "every day of a patient with a visit (ENCOUNTER:IMP, OMOP:9201), by its last day, at the "
        "age of 18 to 89, from 2020-01-01, until 2023-12-31"
    )
    texts = [text for _, text in rows[1:]]
    assert texts[0] == (
        "creatinine: last measurement (LOINC:2160-0, OMOP:3016723), days -2 to 0, in umol/L, "
        "88.42 umol/L of 1 mg/dL"
    )
    assert texts[1].endswith(
        "'positive' of SNOMED:10828004, 'negative' of SNOMED:260385009, LOINC:LA6577-6"
    )
    assert (
        texts[3]
        == "heart_failure: any condition (ICD10:I50*), days -36500 to 0, only rows without it"
    )
    assert texts[-1] == "died: any death, days 0 to 30"


def test_which_rows_stay() -> None:
    cohort = parse_config(COHORT).cohort
    assert cohort is not None
    none, age, every = (cohort.variables[name] for name in ("heart_failure", "age", "visits"))
    assert [none.keeps(cell) for cell in (0, 1, None)] == [True, False, False]
    assert [age.keeps(cell) for cell in (0, 40, None)] == [True, True, False]
    assert [every.keeps(cell) for cell in (0, 1)] == [True, True]
    some = every.model_copy(update={"rows": "with"})
    assert [some.keeps(cell) for cell in (0, 2)] == [False, True]


def test_codes_are_compared_exactly_or_by_how_they_begin() -> None:
    assert Concept.read("ICD10:E11").covers("E11") and not Concept.read("ICD10:E11").covers("E11.9")
    assert Concept.read("ICD10:E11*").covers("E11.9") and Concept.read("ICD10:E11*").covers("E11")
    urls = [url for system in SYSTEMS.values() for url in system.fhir]
    assert len(set(urls)) == len(urls), "a URL is one system's"


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(0, 120))
def test_age_is_the_number_of_birthdays(born: date, years: int) -> None:
    """By counting them, where 29 February has its birthday on 1 March in other years."""
    try:
        birthday = born.replace(year=born.year + years)
    except ValueError:
        birthday = date(born.year + years, 3, 1)
    assert age_on(birthday, born) == years
    before = age_on(date.fromordinal(birthday.toordinal() - 1), born)
    assert before == (years - 1 if years else None)


def test_what_isnt_known_of_a_birth_date_is_the_same_everywhere() -> None:
    assert birth_date(1950, None, None) == date(1950, 6, 15)
    assert birth_date(1950, 3, None) == date(1950, 3, 1) and birth_date(1950, 3, 9).day == 9
