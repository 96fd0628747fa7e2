"""A plan that asks for more than a hospital gives is refused with the name of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.sources.test_kept import kit_with
from wardround.client.process.main import HospitalProcess
from wardround.client.site.hold_back import check_held_back, covers
from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.client.site.terms import Data
from wardround.common.config.load import parse_config
from wardround.common.errors import PolicyRefused

COHORT = """
[task.columns]
target = "died"
patient_id = "patient_id"
numeric = ["lactate"]
[cohort.index]
event = "visit"
[cohort.variables.lactate]
of = "measurement"
concepts = ["LOINC:2524-7"]
window_days = [-1, 0]
unit = "mmol/L"
[cohort.variables.diabetes]
of = "condition"
concepts = ["ICD10:E11*"]
window_days = [-9000, 0]
take = "any"
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""


def site(tmp_path: Path, text: str) -> SitePolicy:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return load_site(path)


@pytest.mark.parametrize(
    ("rules", "config", "told"),
    [
        (
            'columns = ["a*", "y"]',
            '[task.columns]\ntarget = "y"\nnumeric = ["age", "hiv"]',
            "'hiv'",
        ),
        ('columns = ["a*", "y"]', '[task.columns]\ntarget = "y"', "every column.*snapshot = true"),
        (
            'columns = ["y"]',
            '[task.columns]\ntarget="y"\npatient_id="mrn"\nnumeric=["y2"]',
            "'mrn'",
        ),
        ('codes = ["LOINC:*"]', COHORT, r"'ICD10:E11\*'"),
        ('codes = ["LOINC:*", "ICD10:E11?"]', COHORT, r"'ICD10:E11\*'"),
        # what a task reads where the study names nothing
        (
            'columns = ["label"]',
            '[task]\nname = "text"\nkind = "sequence"\nclasses = ["a"]',
            "'text'",
        ),
        ('columns = ["x"]', '[task.columns]\nnumeric = ["x"]', "'malignant'"),
        # beside a cohort too a file that lies there has more columns than it, and is all there is
        (
            'columns = ["lactate", "diabetes", "died"]',
            COHORT.replace('numeric = ["lactate"]', 'numeric = ["*"]'),
            "every column.*snapshot = true",
        ),
        (
            'columns = ["lactate", "diabetes", "died"]',
            COHORT.replace('"lactate"]', '"lactate", "index_date"]'),
            "'index_date'",
        ),
        ("max_memory_gb = 4", "[needs]\nmemory_gb = 8.0", "allows 4 GiB of memory.* needs 8"),
        ("", "[needs]\nmemory_gb = 500000.0", "this machine has .* GiB of memory"),
        ("", "[needs]\ndisk_gb = 900000.0", "this machine has .* GiB of disk"),
        ("max_hours = 2", "[needs]\nhours = 3.0", "max_hours: .* allows 2 hours"),
        ("", "[needs]\ngpu = true", "device: the study needs a GPU"),
    ],
)
def test_more_than_is_given_is_refused_by_name(
    tmp_path: Path, rules: str, config: str, told: str
) -> None:
    with pytest.raises(PolicyRefused, match=told):
        check_held_back(site(tmp_path, rules), parse_config(config), taken=False)


@pytest.mark.parametrize(
    ("rules", "config"),
    [
        ("", COHORT),
        ('codes = ["LOINC:2524-7", "ICD10:E*"]', COHORT),
        ('columns = ["AGE", "y", "größe"]', '[task.columns]\ntarget="y"\nnumeric=["gro\u0308ße"]'),
        ("max_memory_gb = 4", "[needs]\nmemory_gb = 0.5\nhours = 3.0"),
    ],
)
def test_what_is_given_may_be_asked_for(tmp_path: Path, rules: str, config: str) -> None:
    check_held_back(site(tmp_path, rules), parse_config(config), taken=False)


def test_a_star_is_covered_by_a_wider_star_alone() -> None:
    assert covers(["ICD10:*"], "ICD10:E11*") and not covers(["ICD10:E11.9"], "ICD10:E11*")
    assert not covers(["ICD10:E1[0-9]"], "ICD10:E1*") and not covers([], "LOINC:1-1")


def test_a_star_of_omop_is_of_descendants_and_covers_no_ids_that_begin_so() -> None:
    assert covers(["OMOP:1503297*"], "OMOP:1503297*") and covers(["OMOP:1503297*"], "OMOP:1503297")
    assert not covers(["OMOP:1503297*"], "OMOP:15032971")
    # a descendant's id begins in any way: hiv's may be below a concept that begins with 15
    assert not covers(["OMOP:15*"], "OMOP:1503297*") and not covers(["OMOP:15"], "OMOP:15*")
    assert covers(["OMOP:*"], "OMOP:15*") and covers(["*"], "OMOP:15")


@pytest.mark.parametrize(
    "role", ['numeric = ["mrn", "x"]', 'numeric = ["x"]\ncategorical = ["mrn"]']
)
def test_whose_a_row_is_is_no_input_whatever_a_study_names(tmp_path: Path, role: str) -> None:
    """Else a describing study had the identifiers as categories."""
    config = parse_config(f'[task.columns]\ntarget = "y"\n{role}')
    with pytest.raises(PolicyRefused, match="patient_id: the study asks for column 'mrn'"):
        check_held_back(site(tmp_path, ""), config, True, "mrn")
    named = parse_config('[task.columns]\ntarget = "y"\npatient_id = "mrn"\nnumeric = ["x"]')
    check_held_back(site(tmp_path, ""), named, True, "mrn")


def test_a_study_that_takes_every_column_gets_those_that_are_given(tmp_path: Path) -> None:
    rules = 'columns = ["y", "z*"]\n'
    kit = kit_with(tmp_path, "[data.cardio]\npath = 'rows.csv'\nsnapshot = true\n")
    (kit / "site.toml").write_text(rules + (kit / "site.toml").read_text())
    (kit / "rows.csv").write_text(
        "mrn,x,y,z1\n" + "".join(f"{i},{i},{i % 2},{i / 7:.3f}\n" for i in range(40))
    )
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    assert set(process.own.place.work.hospital.parts()["train"].columns) == {"y", "z1"}
    process.close()
