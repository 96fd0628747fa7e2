"""A hospital whose rows are in a database: taken once, told by doctor, its query in the terms."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.client.sources.sql.reading import CANARY
from tests.client.sources.test_kept import kit_with
from wardround.client.process.doctor import examine
from wardround.client.process.main import HospitalProcess
from wardround.client.site.kit import Kit
from wardround.client.site.policy import load_site
from wardround.client.site.terms import Data, Terms
from wardround.client.sources.kept import SourceFailed
from wardround.common.errors import ConfigError
from wardround.common.tasks.data.snapshot import PATIENT

SITE = """
[data.ehr]
source = "sql"
url = "sqlite:///ehr.sqlite"
query = "cohort.sql"
patient_id = "mrn"
"""


def kit_of(tmp_path: Path) -> Path:
    kit = kit_with(tmp_path, SITE)
    (kit / "cohort.sql").write_text("SELECT mrn, x, y FROM stays ORDER BY mrn;\n")
    with sqlite3.connect(kit / "ehr.sqlite") as connection:
        connection.execute("CREATE TABLE stays (mrn INTEGER, x REAL, y INTEGER, name TEXT)")
        connection.executemany(
            "INSERT INTO stays VALUES (?, ?, ?, ?)",
            ((n // 2, n * 0.1, n % 2, CANARY) for n in range(60)),
        )
    return kit


def test_rows_are_taken_and_an_edited_query_makes_other_terms(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kit = kit_of(tmp_path)
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    found = pq.read_table(next((process.kit.state / "data").glob("*.parquet")))
    assert found.column_names == ["x", "y", PATIENT] and found.num_rows == 60
    assert sum(process.own.place.work.hospital.sizes().values()) == 60
    process.close()
    terms = Terms.read(Kit.open(kit), data=Data(none=True))
    assert terms.edited() == ""
    (kit / "cohort.sql").write_text("SELECT mrn, name AS x, y FROM stays\n")
    assert terms.edited() == "cohort.sql"
    (kit / "cohort.sql").write_text("SELECT mrn, gone AS x, y FROM stays\n")
    with pytest.raises(SourceFailed, match="own log says why$"):
        HospitalProcess(Kit.open(kit), Data(none=True))
    assert "cohort.sql: SQLITE_ERROR" in caplog.text and CANARY not in caplog.text


def test_doctor_looks_at_a_database(tmp_path: Path) -> None:
    kit = kit_of(tmp_path)
    (kit / "ehr.sqlite").chmod(0o644)

    def found() -> tuple[str, str]:
        (one,) = (finding for finding in examine(kit, None) if finding.what == "data.ehr")
        return one.state, one.text

    state, text = found()
    assert state == "error" and "this user may write the file" in text and "chmod a-w" in text
    (kit / "ehr.sqlite").chmod(0o444)
    state, text = found()
    assert state == "ok" and text.startswith("[data.ehr] (ehr.sqlite): SQLite 3")
    assert text.endswith("its user can't write there; cohort.sql: 60 rows")


def test_a_password_isnt_for_site_toml(tmp_path: Path) -> None:
    kit = kit_of(tmp_path)
    site = kit / "site.toml"
    secret = "postgresql://reader:Tr0ub4dor@127.0.0.1/ehr"
    site.write_text(site.read_text().replace("sqlite:///ehr.sqlite", secret))
    with pytest.raises(ConfigError, match="data.ehr.url: .*has a password.*env:NAME") as caught:
        load_site(site)
    assert "Tr0ub4dor" not in str(caught.value)
