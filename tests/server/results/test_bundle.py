"""An audit bundle holds what the server signed, and any other byte of it is told."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.federate import Federate, examples
from tests.provisioning import NOW, handed_over
from wardround.common.audit.log import AuditLog
from wardround.common.bundle.bundle import verify_bundle
from wardround.common.config.load import Config
from wardround.common.errors import AuditError
from wardround.common.model_folder.write import seal_folder
from wardround.common.trust.credentials import read_credentials
from wardround.common.trust.identity import Identity
from wardround.server.results.bundle import make_bundle

HOSPITALS = ("north", "south", "east")


@pytest.fixture(scope="module", autouse=True)
def nothing_reaches_the_disk() -> Iterator[None]:
    """No power is cut here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def bundle(federate: Federate, settings: Callable[[str], Config], tmp_path: Path) -> Path:
    """Of a run in plain of unlike hospitals, one of which spends of its ledger."""
    site = handed_over(tmp_path / "site")
    server = site.config.folder / "provision" / "server"
    folder = read_credentials(server, "server", NOW)
    rows = {"north": 12, "south": 9, "east": 31}
    shards = {
        n: examples([1 + i / 100 for i in range(rows[n])], [1.0] * rows[n]) for n in HOSPITALS
    }
    run = federate(settings("[federation]\nrounds = 1\n"), shards).directory
    run.keep_plan(b'{"stage":2}')
    run.replace_round(run.rounds()[-1] | {"privacy": {"north": {"epsilon": 1.5}}})
    digest = seal_folder(run.model, run=run.path.name, round=1, identity=folder.identity)
    hospital = Identity.generate()
    with AuditLog.open(server / "audit.jsonl", "server", folder.identity) as log:
        log.append("manifest", hospital="north", accepted=True)
        log.append("manifest", hospital="south", accepted=False, reason="its policy")
        log.append("manifest", hospital="north", accepted=True, run="another-run")
        log.append("model", run=run.path.name, round=1, digest=digest)
        with AuditLog.open(tmp_path / "north.jsonl", "north", hospital) as theirs:
            log.countersign(theirs.signed_head(), hospital.public)
    return make_bundle(run, server, tmp_path / "audit.zip", NOW)


def test_it_tells_plan_model_claims_and_heads(bundle: Path) -> None:
    found = verify_bundle(bundle)
    assert found.problems == []
    notes = "\n".join(found.notes)
    assert "the plan was accepted by north" in notes and "refused, once at least, by south" in notes
    assert "log of 'north': up to line" in notes
    assert "by a key that federation.signed hasn't" in notes  # the kit's own key wasn't used here
    assert "no line of the server's audit log here names the model" not in notes
    with zipfile.ZipFile(bundle) as archive:
        assert b'"epsilon": 1.5' in archive.read("claims.jsonl")
        assert b"another-run" not in archive.read("approvals.jsonl")
        assert archive.read(
            "model/card.md" if "model/card.md" in archive.namelist() else "plan.json"
        )


def rewritten(bundle: Path, name: str, data: bytes | None, target: Path) -> Path:
    """The archive with another content of one file, or without it."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(target, "w") as new:
        for one in old.namelist():
            if one != name:
                new.writestr(one, old.read(one))
        if data is not None:
            new.writestr(name, data)
    return target


def test_what_was_altered_added_or_taken_out_is_named(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for number, (name, data) in enumerate(contents.items()):
        target = tmp_path / f"{number}.zip"
        other = data[:-2] + b"X" + data[-1:]
        try:
            assert verify_bundle(rewritten(bundle, name, other, target)).problems, name
        except AuditError:
            pass
        try:
            assert verify_bundle(rewritten(bundle, name, None, target)).problems, name
        except AuditError:
            pass
    added = verify_bundle(rewritten(bundle, "more.txt", b"x", tmp_path / "more.zip"))
    assert added.problems == ["more.txt: nobody listed it"]


def test_another_authority_or_no_archive_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = handed_over(tmp_path / "other").config.folder / "provision" / "server" / "ca.pem"
    (line,) = verify_bundle(bundle, other.read_bytes()).problems
    assert line.startswith("federation.signed: not signed by the authority")
    text = tmp_path / "text.zip"
    text.write_bytes(b"no archive")
    with pytest.raises(AuditError, match="no audit bundle"):
        verify_bundle(text)


def test_a_torn_stream_or_a_name_with_commands_to_a_terminal(bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        begin = archive.getinfo("federation.signed").header_offset + 30 + len("federation.signed")
    data[begin : begin + 8] = b"\xff" * 8  # no deflate stream begins so
    torn = tmp_path / "torn.zip"
    torn.write_bytes(data)
    with pytest.raises(AuditError, match="no audit bundle that can be read"):
        verify_bundle(torn)
    named = rewritten(bundle, "\x1b[2Jx\nthe bundle holds", b"x", tmp_path / "named.zip")
    assert verify_bundle(named).problems == ["[2Jx the bundle holds: nobody listed it"]
