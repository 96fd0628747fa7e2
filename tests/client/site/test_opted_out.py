"""Who has opted out is in no round that is still to come, and who was in one can be told."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.client.process.lives import Lives
from wardround.client.process.workplace import Workplace
from wardround.client.site.held import check_held, held, write_held
from wardround.client.site.held_out import held_out_key
from wardround.client.site.opted_out import OptedOut, change_list, opt_out_path, patients_key
from wardround.client.site.policy import load_site
from wardround.common.errors import DataError, ProvisionError
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.trust.pki import now_utc

TOML = """
[federation]
name = "trusts"
rounds = 3
[server]
hospitals = ["north", "south", "east"]
[task.columns]
target = "ill"
numeric = ["x"]
patient_id = "patient"
"""
KEY = bytes(range(32))


def write_data(folder: Path, patient: str = "patient") -> None:
    (folder / "data").mkdir()
    for seed, (name, rows) in enumerate({"north": 40, "south": 33, "east": 60}.items()):
        x = np.random.default_rng(seed).normal(seed, 1, rows)
        lines = [
            f"{value:.3f},P-{seed}{i // 2:03d},{int(value > seed)}" for i, value in enumerate(x)
        ]
        (folder / "data" / f"{name}.csv").write_text(f"x,{patient},ill\n" + "\n".join(lines) + "\n")


def lives(tmp_path: Path) -> Lives:
    (tmp_path / "federation.toml").write_text(TOML)
    write_data(tmp_path)
    return Lives(tmp_path / "federation.toml", 'approval = "always"\n')


def test_a_patient_who_opts_out_is_in_no_later_round_and_the_page_says_in_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = lives(tmp_path)
    process = made.processes["north"]
    kit = process.kit
    training = process.own.place.work.hospital.patients(["train"])
    assert training is not None
    leaver, stayer = training[0], training[1]
    key = patients_key(held_out_key(load_site(kit.site_path), kit.folder))
    path = opt_out_path(load_site(kit.site_path), kit.folder)
    noted, sizes = Workplace.note_trained, []

    def note(self: Workplace, server_round: int) -> None:
        noted(self, server_round)
        if self is process.own.place.work:
            sizes.append(len(self.hospital.patients(["train"]) or []))
            if server_round == 2:
                change_list(path, key, [leaver.lower().replace("-", " ")])

    monkeypatch.setattr(Workplace, "note_trained", note)
    caplog.set_level("INFO")
    made.run()
    assert sizes == [len(training), len(training), len(training) - 1]
    assert "2 of 40 rows are left out: 1 patients have opted out" in caplog.text
    assert leaver not in caplog.text and leaver not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = held(kit, leaver, now_utc())
    assert [one.rounds for one in found.runs] == [[[1, 2]]] and found.runs[0].epsilon is None
    assert [one.rounds for one in held(kit, stayer, now_utc()).runs] == [[[1, 2], [3, 3]]]
    assert not held(kit, "P-9999", now_utc()).runs
    written = write_held(kit, found, tmp_path / "page")
    assert check_held(kit, written[0]) == found and leaver in written[1].read_text()
    signed = json.loads(written[0].read_text())
    written[0].write_text(json.dumps(signed | {"body": signed["body"].replace("1,2", "1,1")}))
    with pytest.raises(ProvisionError, match="isn't signed by this hospital"):
        check_held(kit, written[0])
    change_list(path, key, [leaver], undo=True)
    assert path.read_text() == ""
    made.close()


class People:
    """A task whose rows are their own patients, if they are named."""

    def people(self, raw: Any) -> Any:
        return raw

    def names_all(self, raw: Any) -> bool:
        return True

    def select(self, raw: Any, rows: Any) -> Any:
        return raw[rows]


def test_identifiers_are_compared_in_the_loose_form_also_of_images(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("# by letter of May\n007\nMüller-3\n")
    path.chmod(0o600)
    rows = np.array(["7.0", "8", "muller3", "MÜLLER 3", "9"])
    left = OptedOut(path, KEY).without(People(), rows)  # type: ignore[arg-type]
    assert left.tolist() == ["8", "muller3", "9"]
    change_list(path, KEY, ["9"])
    assert (
        path.read_text().startswith("# by letter of May\n007\n") and "\n9\n" not in path.read_text()
    )


def test_images_of_who_opted_out_go_however_the_archive_writes_the_number(tmp_path: Path) -> None:
    """Of an image there is a digest of its PatientID alone."""
    path = tmp_path / "list"
    change_list(path, KEY, ["12", "ab-7"])
    written = ["0000012", "12", "012.0", "AB7", "ab-7", "AB-7", "13", "ab-8"]
    rows = np.array([identifier_digest(one) for one in written])
    left = OptedOut(path, KEY).without(People(), rows)  # type: ignore[arg-type]
    assert left.tolist() == rows[-2:].tolist()
    change_list(path, KEY, ["0012"], undo=True)  # the same patient, written otherwise
    change_list(path, KEY, ["AB 7"], undo=True)
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ("7\n", 0o644, "chmod 600"),
        ("keyed:00000000:" + "00" * 16 + "\n", 0o600, ":1: was written under another held-out key"),
        ("keyed:zz\n", 0o600, ":1: is no line of wardround client opt-out"),
    ],
)
def test_a_list_that_cant_be_read_stops_everything(
    tmp_path: Path, text: str, mode: int, told: str
) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(DataError, match=told):
        OptedOut(path, KEY)


def test_a_list_that_is_gone_is_no_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    with pytest.raises(DataError, match="no such file"):
        OptedOut(path, KEY, needed=True)
    change_list(path, KEY, ["7"])
    listed = OptedOut(path, KEY)
    assert not listed.has_changed()
    path.unlink()
    with pytest.raises(DataError, match="nobody knows who has opted out"):
        listed.has_changed()
    with pytest.raises(DataError, match="nobody knows who has opted out"):
        OptedOut(path, KEY)  # after a restart


def test_rows_of_nobody_known_are_refused_once_somebody_has_opted_out(tmp_path: Path) -> None:
    path = tmp_path / "list"
    change_list(path, KEY, ["7"])
    task = People()
    task.people = lambda raw: None  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"patient_id in \[data.NAME\]"):
        OptedOut(path, KEY).without(task, np.array(["8"]))  # type: ignore[arg-type]
