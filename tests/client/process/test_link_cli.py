"""``wardround link``: what a hospital keeps of linkages, shown and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.provisioning import federation
from wardround.client.links.kept import FOLDER, Record
from wardround.client.links.store import LinkStore
from wardround.client.site.stop import LOCK
from wardround.common.durable.lock import take_lock
from wardround.common.errors import ProvisionError
from wardround.common.process.main import app
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision


def link(*words: str) -> str:
    done = CliRunner().invoke(app, ["link", *words])
    if done.exception is not None:
        raise done.exception
    return done.stdout


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return provision.provision(federation(tmp_path), now=now_utc()).kits[0]


def test_a_link_is_listed_shown_and_forgotten_while_the_client_runs_or_not(kit: Path) -> None:
    assert link("list", str(kit)) == "no link is kept here, and no linkage was helped\n"
    about = Record("same", parties=["north", "south"], used_by=["stroke-*"], asked_by="ida")
    for number, name in enumerate(("same", "other")):
        made = Record(**{**vars(about), "name": name, "identifiers": {"nhs_number": "nhs"}})
        store = LinkStore(kit / "state" / FOLDER, lambda made=made: made)  # type: ignore[misc]
        rows = {"rows": np.arange(2, dtype=np.int64), "order": np.zeros(32, np.uint8)}
        store.helps(bytes([number]) * 32, 1, {"south": 1000})
        store.keep(bytes(32), rows, [b"a", b"b"])
    listed = link("list", str(kit))
    assert "same  2 persons  with north, south" in listed
    assert "helped south: 2 linkages, 2000 identifiers" in listed
    shown = link("show", str(kit), "same")
    assert "nhs_number (nhs)" in shown and "studies named stroke-*" in shown
    with pytest.raises(ProvisionError, match="no link 'none' here; there are: other, same"):
        link("show", str(kit), "none")
    audit = kit / "state" / "audit.jsonl"
    with take_lock(kit / "state" / LOCK):  # a client runs: the log is its own
        assert link("forget", str(kit), "other") == "forgotten: link 'other' of 2 persons\n"
    assert not audit.exists()
    link("forget", str(kit), "same")
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    forgotten = [one for one in events if one["event"] == "link"]
    assert [(one["link"], one["what"]) for one in forgotten] == [
        ("other", "forgotten"),
        ("same", "forgotten"),
    ]
    with pytest.raises(ProvisionError, match="there are: none"):
        link("forget", str(kit), "same")
