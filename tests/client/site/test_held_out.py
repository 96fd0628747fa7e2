"""A kit's held-out key: made once, of its own or shared, and no change of it goes unsaid."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.provisioning import federation
from wardround.client.data.held_out import key_digest
from wardround.client.data.splitting import split_rows
from wardround.client.process.main import HospitalProcess
from wardround.client.site.held_out import EVENT, held_out_key, held_out_path
from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.common.audit.lines import told
from wardround.common.errors import ProvisionError
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision


def site(folder: Path, text: str = "") -> SitePolicy:
    folder.mkdir(exist_ok=True)
    (folder / "site.toml").write_text(text)
    return load_site(folder / "site.toml")


def test_it_is_made_once_and_private(tmp_path: Path) -> None:
    rules = site(tmp_path / "kit")
    key = held_out_key(rules, tmp_path / "kit")
    path = tmp_path / "kit" / "state" / "held_out.key"
    assert path.read_bytes() == key == held_out_key(rules, tmp_path / "kit") and len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["held_out.key"]
    assert key != held_out_key(site(tmp_path / "other"), tmp_path / "other")


def test_kits_that_name_one_file_have_one_key(tmp_path: Path) -> None:
    named = 'held_out_key = "../own/rows.key"\n'
    keys = {held_out_key(site(tmp_path / name, named), tmp_path / name) for name in "ab"}
    assert len(keys) == 1 and (tmp_path / "own" / "rows.key").exists()
    assert not (tmp_path / "a" / "state").exists()


@pytest.mark.parametrize(
    ("data", "mode", "says"),
    [(b"x" * 31, 0o600, "this is no held-out key"), (b"x" * 32, 0o644, "others on this machine")],
)
def test_what_is_no_key_of_ours_is_never_used_nor_replaced(
    tmp_path: Path, data: bytes, mode: int, says: str
) -> None:
    rules = site(tmp_path / "kit")
    path = held_out_path(rules, tmp_path / "kit")
    path.parent.mkdir()
    path.write_bytes(data)
    path.chmod(mode)
    with pytest.raises(ProvisionError, match=says):
        held_out_key(rules, tmp_path / "kit")
    assert path.read_bytes() == data


def test_a_process_holds_out_by_its_key_and_says_when_it_is_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = federation(tmp_path, hospitals=("north", "south", "east"))
    kit = provision.provision(config, now=now_utc()).kits[0]
    path, log = kit / "state" / "held_out.key", kit / "state" / "audit.jsonl"

    def start() -> bytes:
        process = HospitalProcess(Kit.open(kit), None)
        key, hospital = path.read_bytes(), process.own.place.work.hospital
        rows = split_rows(hospital.task, hospital.task.load(None), hospital.config, key)
        assert hospital.sizes() == {name: len(found) for name, found in rows.items()}
        assert hospital.held_out == key_digest(key)
        process.close()
        return key

    key = start()
    assert start() == key
    assert [line["digest"] for line in told(log, EVENT)] == [key_digest(key)]
    assert "held-out key" not in caplog.text
    path.unlink()
    other = start()
    lines = [(line["digest"], line["before"]) for line in told(log, EVENT)]
    assert lines == [(key_digest(key), None), (key_digest(other), key_digest(key))]
    assert "is another held-out key than this kit had" in caplog.text
    assert key.hex() not in log.read_text() and other.hex() not in log.read_text()
