"""The signed list of a model's files: one form, one signer, no file that isn't listed."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ModelRefused
from wardround.common.model_folder.listed import File, Listed, list_files
from wardround.common.model_folder.write import seal_folder
from wardround.common.trust.identity import Identity

SERVER = Identity.from_bytes(bytes(range(32)))


def a_list(*names: str, **changed: Any) -> Listed:
    files = tuple(File(name=name, sha256="0f" * 32, size=3) for name in names or ("a", "b/c"))
    values = {"run": "r-1", "created": "2026-01-31", "expires": "2027-01-31", "files": files}
    return Listed(**values | changed)


@pytest.mark.parametrize("identity", [SERVER, None])
def test_what_is_written_reads_back(identity: Identity | None) -> None:
    found = Listed.read(a_list().signed(identity), "here")
    assert found.signer == (SERVER.public.hex() if identity else "")
    assert found.model_copy(update={"signer": ""}) == a_list()


@given(st.data(), st.sampled_from([SERVER, None]))
def test_any_other_byte_is_refused_or_another_list(
    data: st.DataObject, identity: Identity | None
) -> None:
    signed = a_list().signed(identity)
    place = data.draw(st.integers(0, len(signed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != signed[place]))
    altered = signed[:place] + bytes([other]) + signed[place + 1 :]
    if identity is None:  # nobody vouches for it: it may read, but never as what it was
        try:
            assert Listed.read(altered, "here") != a_list()
        except ModelRefused:
            pass
    else:
        with pytest.raises(ModelRefused):
            Listed.read(altered, "here")


def test_a_signature_taken_off_or_of_another_is_told() -> None:
    values = json.loads(a_list().signed(SERVER))
    bare = json.dumps(
        values | {"signer": "", "signature": ""}, sort_keys=True, separators=(",", ":")
    )
    found = Listed.read(bare.encode(), "here")
    with pytest.raises(ModelRefused, match="nobody has signed"):
        found.check("here", trusted=[SERVER.public])
    theirs = Listed.read(a_list().signed(Identity.generate()), "here")
    with pytest.raises(ModelRefused, match="whom nobody trusts"):
        theirs.check("here", trusted=[SERVER.public])
    theirs.check("here")


def test_it_is_good_up_to_its_last_day() -> None:
    a_list().check("here", today=date(2027, 1, 31))
    with pytest.raises(ModelRefused, match="good until 2027-01-31"):
        a_list().check("here", today=date(2027, 2, 1))


NAMES = ["", "..", "../a", "a/../b", "/a", "a/", "a/b/c", "a\\b", "a\0", ".a", "a/.b", "a ", "a."]


@pytest.mark.parametrize("name", [*NAMES, "files.json", "Files.JSON"])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(ValueError):
        File(name=name, sha256="0f" * 32, size=3)


def test_files_are_held_against_the_list(tmp_path: Path) -> None:
    (tmp_path / "hospitals").mkdir()
    for name in ("a.bin", "b.bin", "hospitals/St%2E Mary.bin"):
        (tmp_path / name).write_bytes(name.encode())
    seal_folder(tmp_path, run="r-1", round=3, identity=SERVER)
    listed = Listed.read((tmp_path / "files.json").read_bytes(), "here")
    names = ["a.bin", "b.bin", "hospitals/St%2E Mary.bin"]
    assert [one.name for one in listed.files] == names
    assert listed.files == list_files(tmp_path, names)
    listed.check_files(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"A.bin")
    (tmp_path / "b.bin").unlink()
    with pytest.raises(ModelRefused, match="'a.bin' was altered; 'b.bin' is missing"):
        listed.check_files(tmp_path)
    (tmp_path / "b.bin").symlink_to(tmp_path / "a.bin")  # not even to an equal one
    assert "'b.bin' is missing" in listed.problems(tmp_path)


def test_a_newer_list_is_refused_with_the_mend() -> None:
    values = json.loads(a_list().signed(None)) | {"version": 2}
    with pytest.raises(ModelRefused, match="version 2, and this wardround reads up to 1"):
        Listed.read(json.dumps(values).encode(), "here")
