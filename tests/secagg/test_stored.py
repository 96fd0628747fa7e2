"""What a hospital stored of secure aggregation, read by another version of wardround."""

from __future__ import annotations

from typing import Any

import pytest

from tests.secagg.driver import Federation
from wardround.client.secagg.state import Memory, Session
from wardround.client.state import ClientState
from wardround.common.durable.records import DurableState
from wardround.common.errors import ProtocolRefused

SESSION = Session(b"s" * 32, b"x" * 32, b"hello", 3)


@pytest.fixture
def store(tmp_path) -> ClientState:
    store = ClientState(DurableState(tmp_path).records)
    Memory(store).begin(SESSION)
    return store


def restore(store: ClientState, name: str, change: dict[str, Any]) -> None:
    values = store.values(name) or {}
    assert values.pop("format") and values.pop("version") == 1
    store.set_values(name, values | change)


def test_a_session_of_before_there_were_versions_goes_on(store: ClientState) -> None:
    restore(store, "secagg-session", {})
    assert Memory(store).present() == SESSION
    Memory(store).save_session(SESSION)
    assert (store.values("secagg-session") or {})["version"] == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"epoch": 1}, "holds 'epoch', which isn't known here"),
        ({"version": 2}, "has version 2, and this wardround reads up to 1"),
        ({"version": 2, "epoch": 1}, "has version 2, and this wardround reads up to 1"),
    ],
)
def test_a_newer_session_is_refused_with_the_mend_that_helps(store, tmp_path, change, what) -> None:
    restore(store, "secagg-session", change)
    with pytest.raises(ProtocolRefused) as caught:
        Memory(store).present()
    text = str(caught.value)
    assert text.startswith(f"the stored secagg session {what}; install the version of wardround")
    assert "move KIT/state/store away and restart" in text and "s" * 32 not in text
    Memory(ClientState(DurableState(tmp_path / "anew").records)).begin(SESSION)


def test_a_hospital_that_went_back_says_so_at_hello_and_takes_part_once_mended() -> None:
    federation = Federation(5)
    federation.ready()
    store = federation.hospitals["h01"].store
    federation.refusals.clear()
    store.records["secagg-session"]["epoch"] = 1
    federation.begin()
    ((kind, name, reason),) = federation.refusals
    assert (kind, name) == ("HelloRequest", "h01") and "'epoch'" in reason and "move KIT" in reason
    store.records.clear()
    assert set(federation.ready().names) == set(federation.names)


def test_a_newer_group_is_refused_too() -> None:
    federation = Federation(5)
    group = federation.ready()
    hospital = federation.hospitals["h01"]
    (name,) = hospital.store.names("secagg-group-")
    hospital.store.records[name]["version"] = 4
    with pytest.raises(ProtocolRefused, match="the stored secagg group has version 4"):
        hospital.group(group.id)
