"""A hospital with OMOP's tables: doctor, the plan with its SQL, the snapshot."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from tests.client.sources.omop.test_cohorts import TASK, asked_for, small
from tests.provisioning import federation
from wardround.client.process.doctor import examine
from wardround.client.process.main import HospitalProcess
from wardround.client.site.consent import asked_of_sources
from wardround.client.site.kit import Kit
from wardround.client.site.terms import Data
from wardround.common.config.load import load_config
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

SITE = '[data.cdm]\nsource = "omop"\nurl = "sqlite:///cdm.sqlite"\n'


def test_from_the_kit_to_the_snapshot(tmp_path: Path) -> None:
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + TASK + asked_for("OMOP:9201"))
    folder = provision.provision(load_config(toml), now=now_utc()).kits[0]
    (folder / "site.toml").write_text((folder / "site.toml").read_text() + SITE)
    small(folder)
    (folder / "cdm.sqlite").chmod(0o444)
    (seen,) = (one.text for one in examine(folder, None) if one.what == "data.cdm")
    assert seen.endswith("its user can't write there; person: 2 rows; concept: 14 rows"), seen
    first, *shown = asked_of_sources(Kit.open(folder), None, None)
    assert first.startswith("[data.cdm] answers it by this SQL") and len(shown) == 5
    process = HospitalProcess(Kit.open(folder), Data(none=True))
    found = pq.read_table(next((process.kit.state / "data").glob("*.parquet")))
    assert set(found.column_names) == {"index_date", "creatinine", "diabetes", "died", PATIENT}
    assert found["creatinine"].to_pylist() == [80.5, None]
    process.close()
