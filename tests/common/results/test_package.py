"""The signed list of a run's files: one form, one signer, no name outside its folder."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ResultsRefused
from wardround.common.results.package import MOST_FILES, Listed, Package
from wardround.common.trust.identity import Identity

SERVER = Identity.from_bytes(bytes(range(32)))
STUDY = "ab" * 32


def a_package(*names: str, **changed: Any) -> Package:
    files = tuple(Listed(name=name, sha256="0f" * 32, size=3) for name in names or ("a", "b/c"))
    values = {"network": "net", "study": STUDY, "run": "s-1", "round": 2, "files": files}
    return Package(**values | changed)


def test_what_is_signed_reads_back() -> None:
    package = a_package()
    assert Package.read(package.signed(SERVER), SERVER.public) == package
    assert package.size_bytes == 6 and package.file("b/c").size == 3
    with pytest.raises(ResultsRefused, match="'c' is not in the signed list"):
        package.file("c")


@given(st.data())
def test_any_other_byte_is_refused(data: st.DataObject) -> None:
    signed = a_package().signed(SERVER)
    place = data.draw(st.integers(0, len(signed) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != signed[place]))
    with pytest.raises(ResultsRefused):
        Package.read(signed[:place] + bytes([other]) + signed[place + 1 :], SERVER.public)


def test_another_servers_list_and_one_of_another_form_are_refused() -> None:
    signed = a_package().signed(SERVER)
    with pytest.raises(ResultsRefused, match="isn't signed by the server"):
        Package.read(signed, Identity.generate().public)
    for other in (
        b"",
        b"[]",
        b"{",
        signed + b"\n",
        json.dumps(json.loads(signed), indent=1).encode(),
        signed[:-1] + b',"more":1}',
        b'{"format":1,' + signed[1:],
    ):
        with pytest.raises(ResultsRefused):
            Package.read(other, SERVER.public)


NAMES = [
    *("", ".", "..", "../a", "a/..", "a/../b", "/a", "a/", "//a", "a/b/c", "a\\b", "a\0", "a b"),
    *(".hidden", "a/.part", "é", "a" * 65, "files.json", "Files.JSON", "own/figures.json", "own"),
    *("left.json", "model/hospitals", "hospitals/a", "ended.json"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_outside_the_folder_or_of_the_receivers_own_is_no_name(name: str) -> None:
    with pytest.raises(ValueError):
        Listed(name=name, sha256="0f" * 32, size=3)


def test_two_files_in_one_place_too_many_or_unordered_are_no_package() -> None:
    for names in (("a", "a"), ("A", "a"), ("a", "a/b"), ("b", "a")):
        with pytest.raises(ValueError):
            a_package(*names)
    with pytest.raises(ValueError):
        a_package(*sorted(f"f{number}" for number in range(MOST_FILES + 1)))
    for changed in ({"run": "../x"}, {"run": "a/b"}, {"study": "ab"}, {"network": ""}):
        with pytest.raises(ValueError):
            a_package("a", **changed)
