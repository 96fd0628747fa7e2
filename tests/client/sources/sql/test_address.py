"""Where a database is named, and that no password is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.client.sources.sql.address import Address, read_address, wrong_form
from wardround.common.errors import DataError

SECRET = "Tr0ub4dor"


def read(url: str, base: Path = Path()) -> Address:
    return read_address(url, base, "[data.x]")


def test_forms_of_a_setting() -> None:
    for good in (
        "env:EHR_URL",
        "file:ehr.url",
        "postgresql://reader@db.example.org/ehr?sslmode=verify-full",
        "sqlite:///ehr.sqlite",
    ):
        assert not wrong_form(good), good
    for bad in (
        "ehr.sqlite",
        "env:",
        "env:A B",
        "file:",
        f"postgresql://reader:{SECRET}@db/ehr",
        f"postgresql://db/ehr?password={SECRET}",
        f"mysql+pymysql://a:{SECRET}@@db/ehr",
        f"postgresql://a:{SECRET}[/ehr",
    ):
        assert wrong_form(bad), bad
        assert SECRET not in wrong_form(bad)


def test_a_url_is_in_the_environment_or_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql+psycopg://reader:{SECRET}@127.0.0.1:5433/ehr"
    monkeypatch.setenv("EHR_URL", url)
    found = read("env:EHR_URL")
    assert found.kind == "postgresql" and found.url == url.replace("+psycopg", "")
    assert found.name == "[data.x] ('ehr' at 127.0.0.1:5433)"
    assert SECRET not in repr(found)
    monkeypatch.delenv("EHR_URL")
    with pytest.raises(DataError, match="environment variable EHR_URL isn't set"):
        read("env:EHR_URL")
    file = tmp_path / "ehr.url"
    file.write_text(url + "\n")
    file.chmod(0o600)
    assert read("file:ehr.url", tmp_path) == found
    file.chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        read("file:ehr.url", tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read("file:gone", tmp_path)


def test_another_machine_needs_a_word_on_tls() -> None:
    assert read("postgresql://r@db.example.org/ehr?sslmode=require").kind == "postgresql"
    assert read("postgresql:///ehr?host=/run/postgresql").kind == "postgresql"
    for url in ("postgresql://r@db.example.org/ehr", "postgresql:///ehr?host=db.example.org"):
        with pytest.raises(DataError, match="db.example.org.*sslmode=verify-full"):
            read(url)


def test_what_a_url_of_the_environment_may_get_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (
        f"postgresql://reader:{SECRET}@{SECRET}@db/ehr",
        f"postgresql://reader:{SECRET}/x@db/ehr",
        f"reader:{SECRET}@db",
        f"postgresql://reader:{SECRET}@[db/ehr",
    ):
        monkeypatch.setenv("EHR_URL", url)
        with pytest.raises(DataError) as caught:
            read("env:EHR_URL")
        assert SECRET not in str(caught.value)


def test_files_are_named_from_the_folder_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a b.db").touch()
    found = read("sqlite:///a%20b.db", tmp_path)
    assert (found.kind, found.file) == ("sqlite", tmp_path / "a b.db")
    assert read(f"duckdb:///{tmp_path}/a b.db").file == tmp_path / "a b.db"
    for url in ("sqlite:///gone.db", "sqlite://", "sqlite:///:memory:", "sqlite:///a.db?mode=rwc"):
        with pytest.raises(DataError, match="no such file|names no file"):
            read(url, tmp_path)
