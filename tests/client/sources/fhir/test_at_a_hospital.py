"""A hospital whose data are an export: taken once, looked at by doctor, shown for approval."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.client.site.test_approval import plan
from tests.clinical import COHORT, Population
from tests.provisioning import federation
from wardround.client.process.doctor import examine
from wardround.client.process.main import HospitalProcess
from wardround.client.site.approval import Approvals
from wardround.client.site.consent import decide
from wardround.client.site.kit import Kit
from wardround.client.site.policy import load_site
from wardround.client.site.terms import Data
from wardround.client.sources.kept import SourceFailed
from wardround.common.config.load import load_config
from wardround.common.errors import ConfigError, WaitsForApproval
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

SITE = '[data.records]\nsource = "fhir"\npath = "export"\ntime_zone = "Europe/Berlin"\n'


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + COHORT)
    folder = provision.provision(load_config(toml), now=now_utc()).kits[0]
    site = folder / "site.toml"
    site.write_text(site.read_text() + SITE)
    return folder


def test_an_export_is_taken_for_a_run(kit: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = Population(120, 3)
    people.write_fhir(kit / "export")
    caplog.set_level("INFO")
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    rows = people.rows()
    assert sum(process.own.place.work.hospital.sizes().values()) == len(rows) > 40
    found = pq.read_table(next((process.kit.state / "data").glob("*.parquet")))
    assert "patient_id" not in found.column_names and "index_date" not in found.column_names
    assert found.column(PATIENT).to_pylist() == [row["patient_id"] for row in rows]
    process.close()
    assert (
        f"120 patients, {len(people.people) and ''}" in caplog.text or "120 patients" in caplog.text
    )
    (one,) = (finding for finding in examine(kit, None) if finding.what == "data.records")
    assert one.state == "ok" and "Encounter (1)" in one.text and "Patient (1)" in one.text


def test_what_is_wrong_with_an_export_is_said_at_home_only(
    kit: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = Population(60, 3)
    export = people.write_fhir(kit / "export")
    file = export / "Observation.000.ndjson"
    file.write_text(file.read_text() + '{"resourceType": "Observation", "id": "Smith')
    with pytest.raises(SourceFailed, match=r"^\[data.records\]: its rows .* own log says why$"):
        HospitalProcess(Kit.open(kit), Data(none=True))
    number = len(file.read_text().splitlines())
    assert f"Observation.000.ndjson:{number}: is broken JSON" in caplog.text
    assert "Smith" not in caplog.text


def test_a_person_reads_what_is_asked_of_records(kit: Path) -> None:
    """In a federation of one study, too, whose plan has no settings in it."""
    opened = Kit.open(kit)
    with pytest.raises(WaitsForApproval):
        Approvals(opened.state, opened.identity).request(plan())
    said: list[str] = []
    decide(kit, False, None, None, said.append, lambda _: False)
    text = " ".join(said[0].split())
    assert "rows each patient's first visit (ENCOUNTER:IMP, OMOP:9201), at the age of 18" in text
    assert "column creatinine: last measurement (LOINC:2160-0, OMOP:3016723), days -2 to 1" in text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('time_zone = "Berlin/Mitte"', "records.time_zone: no time zone of this machine"),
        ('codes = { "KREA" = "LOINC:2160-0" }', r"records.codes"),
        ('codes = { "urn:lab|KREA" = "LOINC" }', r"codes.urn:lab\|KREA: 'LOINC' is no concept"),
        ('units = { "mg" = "quux" }', "records.units.mg: 'quux' is no unit of UCUM"),
        ('absent = ["Device"]', "records.absent"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, line: str, told: str) -> None:
    site = tmp_path / "site.toml"
    site.write_text(SITE.replace('time_zone = "Europe/Berlin"', line))
    with pytest.raises(ConfigError, match=told):
        load_site(site)
