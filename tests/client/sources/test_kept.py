"""What a study computes on: taken once for a run, kept while it goes on, taken anew for another."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.provisioning import federation
from wardround.client.process.main import HospitalProcess
from wardround.client.process.pipe import read_error, told_error
from wardround.client.site.kit import Kit
from wardround.client.site.terms import Data
from wardround.client.sources import kept
from wardround.client.sources.kept import SourceFailed
from wardround.common.config.load import load_config
from wardround.common.errors import ConfigError, DataError, PolicyRefused
from wardround.common.procedures.describe.columns import Rows, category_columns
from wardround.common.tasks.categories import frequent
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision

CARDIO = "[data.cardio]\npath = 'rows.csv'\npatient_id = 'mrn'\n"


def kit_with(tmp_path: Path, site: str, task: str = "") -> Path:
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    toml.write_text(toml.read_text() + task + '[task.columns]\ntarget = "y"\nnumeric = ["*"]\n')
    kit = provision.provision(load_config(toml), now=now_utc()).kits[0]
    path = kit / "site.toml"
    path.write_text(path.read_text() + site)
    write(kit / "rows.csv", 60)
    return kit


def write(path: Path, rows: int) -> None:
    lines = [f"{1000 + i // 2},{i * 0.1},{i % 2}" for i in range(rows)]
    path.write_text("mrn,x,y\n" + "\n".join(lines) + "\n")


def test_what_fails_in_a_source_is_one_sentence_whoever_computes_and_whatever_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a library too: its text may quote a cell, and its kind is an answer."""

    def broken(*_: object) -> None:
        raise ArithmeticError("cell 'Smith'")

    monkeypatch.setattr(kept, "take_rows", broken)
    with pytest.raises(SourceFailed, match="own log says why$") as error:
        HospitalProcess(Kit.open(kit_with(tmp_path, CARDIO)), Data(none=True))
    assert "ArithmeticError at test_kept.py:" in caplog.text and "Smith" not in caplog.text
    told = read_error(told_error(error.value))
    assert isinstance(told, DataError) and str(told) == str(error.value)


def rows(process: HospitalProcess) -> int:
    return sum(process.own.place.work.hospital.sizes().values())


def test_a_run_keeps_its_rows_and_another_takes_anew(tmp_path: Path) -> None:
    kit = kit_with(tmp_path, CARDIO)
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    process.own.place.begin("run-1")
    write(kit / "rows.csv", 40)
    process.own.place.begin("run-1")
    assert rows(process) == 60
    process.close()
    process = HospitalProcess(Kit.open(kit), Data(name="cardio"))
    assert rows(process) == 60  # run-1 may go on
    process.own.place.begin("run-2")
    assert rows(process) == 40
    process.close()
    taken = [one for one in (kit / "state" / "data").iterdir() if one.suffix == ".parquet"]
    assert len(taken) == 1 and stat.S_IMODE(taken[0].stat().st_mode) == 0o600
    told = [json.loads(x) for x in (kit / "state" / "audit.jsonl").read_text().splitlines()]
    assert [(x["run"], x["rows"]) for x in told if x["event"] == "data"] == [
        ("run-1", 60),
        ("run-2", 40),
    ]


@pytest.mark.parametrize("positive", ["", 'positive = ["1", "mrn"]\n'])
def test_whose_a_row_is_is_no_input_and_holds_rows_out(tmp_path: Path, positive: str) -> None:
    """Also where a study has its name among other texts, and takes every column."""
    kit = kit_with(tmp_path, CARDIO, f"[task]\n{positive}")
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    hospital = process.own.place.work.hospital
    found = pq.read_table(next((process.kit.state / "data").glob("*.parquet")))
    assert found.column_names == ["x", "y", PATIENT]
    keys = {
        name: set(hospital.task.row_keys(part).tolist()) for name, part in hospital.parts().items()
    }
    assert sum(map(len, keys.values())) == 30  # a patient's two rows lie on one side
    assert set(hospital.parts()["train"].columns) == {"x", "y"}
    process.close()


def test_what_a_source_says_stays_at_home(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kit = kit_with(tmp_path, CARDIO)
    (kit / "rows.csv").write_text("mrn,x,y\n1,2,0\n,3,1\n")
    with pytest.raises(SourceFailed, match=r"\[data.cardio\]: its rows .* own log says why$"):
        HospitalProcess(Kit.open(kit), Data(none=True))
    assert "[data.cardio], row 2: column 'mrn' is empty" in caplog.text


def test_a_client_is_told_which_data_there_are(tmp_path: Path) -> None:
    kit = kit_with(tmp_path, CARDIO + "[data.icu]\npath = 'icu.csv'\n")
    with pytest.raises(PolicyRefused, match="of cardio, icu: add --data NAME"):
        HospitalProcess(Kit.open(kit), Data(none=True))
    with pytest.raises(PolicyRefused, match=r"there is no table \[data.other\]"):
        HospitalProcess(Kit.open(kit), Data(name="other"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[data.a]\nsource = 'ftp'\n", r"data\.a\.source: there is no such kind .*file"),
        ("[data.a]\npath = 'x'\ncolumn = 'y'\n", r"data\.a\.column: unknown key"),
        ("[data.a]\npath = 3\n", r"line|:\d+: data\.a\.path"),
    ],
)
def test_a_wrong_table_is_named_by_its_key(tmp_path: Path, table: str, told: str) -> None:
    kit = kit_with(tmp_path, table)
    with pytest.raises(ConfigError, match=told):
        HospitalProcess(Kit.open(kit), Data(none=True))


@pytest.mark.parametrize("asked", ["", 'patient_id = "stay"\n'])
def test_a_study_cant_call_a_patients_rows_many_patients(tmp_path: Path, asked: str) -> None:
    """Of one with eight rows a rare word would be told, and each row be protected by itself."""
    federation(tmp_path, hospitals=("north", "south", "east"))
    toml = tmp_path / "federation.toml"
    task = f'[task.columns]\ntarget = "y"\nnumeric = ["x"]\ncategorical = ["ward"]\n{asked}'
    noise = '[procedure]\nname = "describe"\n'
    toml.write_text(toml.read_text() + task + noise)
    kit = provision.provision(load_config(toml), now=now_utc()).kits[0]
    site = 'procedures = ["train", "describe"]\n'
    (kit / "site.toml").write_text(site + CARDIO)
    lines = [f"{i // 8},{i},{i * 0.1},{i % 2},{'of one' if i < 8 else 'usual'}" for i in range(80)]
    (kit / "rows.csv").write_text("mrn,stay,x,y,ward\n" + "\n".join(lines) + "\n")
    process = HospitalProcess(Kit.open(kit), Data(none=True))
    hospital = process.own.place.work.hospital
    parts = list(hospital.parts().values())
    words = Rows(parts, hospital.task).words(category_columns(hospital.task))
    assert [key.rpartition("/")[2] for key in words if "ward" in key] == ["usual"]
    named = [k for part in parts for k in frequent(part, "ward", hospital.task.options)]
    assert not any("one" in key for key in named)
    assert Rows(parts, hospital.task).persons == (10 if asked else None)
    table = hospital.config.privacy.model_copy(update={"unit": "patient"})
    hospital.config = hospital.config.model_copy(update={"privacy": table})
    assert sum(hospital.unit_counts().values()) == 10
    process.close()
