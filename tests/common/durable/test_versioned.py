"""State that was stored: older is brought up, newer and unknown are refused with the mend."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError


@dataclass
class Now:
    """Version 3."""

    name: str
    sizes: list[int]
    note: str = ""


def in_a_list(values: dict[str, Any]) -> dict[str, Any]:
    return {"name": values["name"], "size": [values["size"]]}


def sizes_named(values: dict[str, Any]) -> dict[str, Any]:
    return {"name": values["name"], "sizes": values["size"]}


FORMAT = Format("thing", "make it anew", (in_a_list, sizes_named))


def make(stored: Any) -> Now:
    return FORMAT.make(Now, stored, ProvisionError, "a/file")


@pytest.mark.parametrize(
    "stored",
    [
        {"name": "x", "size": 7},
        {"format": "thing", "version": 1, "name": "x", "size": 7},
        {"format": "thing", "version": 2, "name": "x", "size": [7]},
        {"version": 3, "name": "x", "sizes": [7]},
    ],
)
def test_older_versions_are_brought_up_step_by_step(stored: dict[str, Any]) -> None:
    before = dict(stored)
    assert make(stored) == Now("x", [7]) and stored == before


@given(st.builds(Now, st.text(), st.lists(st.integers()), st.text()))
def test_what_is_sealed_reads_back_through_json(now: Now) -> None:
    sealed = FORMAT.seal(vars(now))
    assert list(sealed)[:2] == ["format", "version"] and sealed["version"] == 3
    assert make(json.loads(json.dumps(sealed))) == now


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        ({"version": 4, "name": "x"}, "has version 4, and this wardround reads up to 3"),
        ({"version": 3, "name": "x", "sizes": [], "more": 1}, "holds 'more', which isn't known"),
        ({"version": 3, "name": "x"}, "lacks 'sizes'"),
        ({"version": 1, "name": "x"}, "is damaged"),
        ({"version": True, "name": "x", "size": 1}, "is damaged"),
        ({"version": 0, "name": "x", "size": 1}, "is damaged"),
        ({"format": "other", "version": 1, "name": "x", "size": 1}, "is another thing"),
        ([1], "is damaged"),
        (None, "is damaged"),
    ],
)
def test_what_cant_be_read_is_refused_with_the_mend(stored: Any, what: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        make(stored)
    text = str(caught.value)
    assert text.startswith(f"a/file: the stored thing {what}"), text
    assert text.endswith("; install the version of wardround that wrote it, or make it anew")
