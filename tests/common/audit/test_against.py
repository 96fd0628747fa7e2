"""Two parties' audit logs held against each other, and a new log after damage."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from tests.common.audit.audit_runs import (
    NORTH,
    OTHER,
    PUBLICS,
    SERVER,
    exchange,
    message,
    remade,
    run,
)
from wardround.common.audit.against import compare_logs
from wardround.common.audit.lines import Countersigned, decode_line
from wardround.common.audit.log import AuditLog, SignedHead
from wardround.common.audit.restart import restart_log
from wardround.common.audit.verify import check_log, verify_log
from wardround.common.errors import AuditError


# --- two parties ---------------------------------------------------------------------------------
def compared(one: Path, other: Path) -> tuple[str, str]:
    first, second = (check_log(path, alone=True) for path in (one, other))
    problems, notes = compare_logs(first, second, PUBLICS)
    own = [*first.problems, *second.problems]
    return "\n".join(str(one) for one in [*own, *problems]), "\n".join(notes)


def cut(path: Path, keep: int) -> None:
    """Truncate a log and make its heads fit, as who has the disk can."""
    lines = path.read_bytes().splitlines(keepends=True)[:keep]
    path.write_bytes(b"".join(lines))
    heads = path.with_suffix(".heads")
    records = heads.read_bytes().splitlines(keepends=True)
    fits = [r for r in records if Countersigned.from_bytes(r[:-1]).head.seq < keep]
    heads.write_bytes(b"".join(fits[: sum(b'"head":' in line for line in lines)]))


def test_two_logs_of_one_run_agree(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    for pair in ((north, server), (server, north)):
        assert compared(*pair) == ("", "")
    assert "give two parties' logs" in compared(north, north)[0]


@pytest.mark.parametrize("which", [0, 1])
def test_a_cut_that_fits_its_own_heads_is_found_by_the_other_log(tmp_path: Path, which) -> None:
    logs = run(tmp_path)
    cut(logs[which], 6)
    assert verify_log(logs[which]) == []
    peer, number = ("server", "north")[which], (7, 8)[which]
    problems, notes = compared(*logs)
    assert f"line 7: truncated: '{peer}' countersigned number {number}, and the file" in problems
    assert f"{logs[which]}: removed: it lacks the countersigning that line" in problems
    place = f"{logs[1 - which]}: line {(10, 7)[which]}"
    received = f"{place}: {'' if which else 'unmatched: '}received 'train' of round 1, 1000 bytes"
    assert received in (notes if which else problems)  # a server's crash may cost such a line


def test_a_log_made_anew_is_found_by_the_other_log(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    lines = north.read_bytes().splitlines(keepends=True)
    plain = [raw for raw in remade(lines, 2) if b'"head":' not in raw]
    north.with_suffix(".heads").write_bytes(b"")
    north.write_bytes(b"".join(plain[:1] + remade(plain[:3], 2)[1:]))
    assert re.search("line 4: unproved: it tells of messages and of no count", *verify_log(north))
    assert (
        "line 1: rewritten: 'server' countersigned another number 3" in compared(north, server)[0]
    )


def test_what_one_side_has_and_the_other_lacks(tmp_path: Path) -> None:
    with (
        AuditLog.open(tmp_path / "a" / "audit.jsonl", "north", NORTH) as north,
        AuditLog.open(tmp_path / "b" / "audit.jsonl", "server", SERVER) as server,
    ):
        exchange(north, server, NORTH, SERVER.public)
        exchange(server, north, SERVER, NORTH.public)
        message(north, "sent", "server", "lost")
        message(north, "sent", "server", "changed", "cd" * 32)
        message(server, "received", "north", "changed", "ef" * 32)
        message(server, "received", "north", "secret")
        message(server, "received", "south", "of another")
        message(server, "sent", "south", "of another")
        north.append("refused", request="policy", reason="max_rounds is 10")
        for request in ("policy", "changed", "unknown"):
            server.append("received", hospital="north", kind="x", request=request, error="no")
    problems, notes = compared(north.path, server.path)
    assert "line 4: unmatched: received 'train' of round 1" in problems
    assert "digest efefefefefef from 'north', whose log has other content for it" in problems
    assert (
        "line 5: unmatched: received" in problems and "whose log doesn't have it sent" in problems
    )
    assert problems.count("\n") == 1
    assert "line 4: sent 'train'" in notes and "line 5: sent" in notes and "lost on the" in notes
    assert "line 10: received an error in answer to 'x'" in notes and notes.count("\n") == 2


def test_a_forged_head_in_the_other_log_accuses_the_other(tmp_path: Path) -> None:
    north, server = run(tmp_path)
    with AuditLog.open(server, "server", SERVER) as log:
        head = SignedHead("north", 999, "ab" * 32, OTHER.sign(b"?"))
        log.append("peer head", public=NORTH.public.hex(), head=head.row())
        log.append("peer head", public="no key", head={"party": "north"})
    problems, _ = compared(north, server)
    assert "edited: the head in it is not signed by 'north'" in problems
    assert "edited: it tells of no readable head" in problems and "truncated" not in problems


# --- restart -------------------------------------------------------------------------------------
def test_a_damaged_log_is_kept_and_the_new_one_goes_on(tmp_path: Path) -> None:
    path, server = run(tmp_path)
    damaged = path.read_bytes().replace(b'"up-1"', b'"up-9"')
    path.write_bytes(damaged)
    with pytest.raises(AuditError, match="line 6 doesn't chain"):
        AuditLog.open(path, "north", NORTH)
    kept = restart_log(path)
    assert kept is not None and kept.name == "audit.damaged-1.jsonl"
    assert kept.read_bytes() == damaged and stat.S_IMODE(path.stat().st_mode) == 0o600
    began = decode_line(path.read_bytes())
    assert began and began.seq == 14 and began.prev == began.values["previous"]["hash"]
    with (
        AuditLog.open(path, "north", NORTH) as north,
        AuditLog.open(server, "server", SERVER) as other,
    ):
        assert exchange(north, other, NORTH, SERVER.public).seq == 14
    report = check_log(path)
    assert report.problems == [] and "begins with number 14 after audit.dam" in report.notes[0]
    problems, _ = compared(path, server)  # the edited line is still what the server can show
    assert re.fullmatch(f"{server}: line 6: unmatched: received .* doesn't have it sent", problems)
    kept.write_bytes(damaged[:-1] + b" ")
    assert "line 1: edited: audit.damaged-1.jsonl, which this log" in verify_log(path)[0]
    kept.unlink()
    assert "line 1: removed: audit.damaged-1.jsonl, which this log" in verify_log(path)[0]
    assert "removed: 'server' countersigned number 3, from before" in compared(path, server)[0]


def test_a_truncated_or_lost_log_goes_on_after_its_heads(tmp_path: Path) -> None:
    path, server = run(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    restart_log(path)
    path.unlink()
    with pytest.raises(AuditError, match="ends with line 0, but line 11 was countersigned"):
        AuditLog.open(path, "north", NORTH)
    assert restart_log(path, "north") is None
    with (
        AuditLog.open(path, "north", NORTH) as north,
        AuditLog.open(server, "server", SERVER) as other,
    ):
        assert exchange(north, other, NORTH, SERVER.public).seq == 13  # after 'identity'
        with pytest.raises(AuditError, match="is writing to it"):
            restart_log(path)


def test_restart_refuses_an_intact_log_unless_a_peer_remembers_more(tmp_path: Path) -> None:
    path, _ = run(tmp_path)
    before = path.read_bytes()
    with pytest.raises(AuditError, match="is intact"):
        restart_log(path)
    with pytest.raises(AuditError, match="no such log"):
        restart_log(tmp_path / "nothing.jsonl")
    assert path.read_bytes() == before
    restart_log(path, after=99)
    with AuditLog.open(path, "north", NORTH) as log:
        assert log.head.seq == 100
    assert verify_log(path) == []


def test_restart_mends_heads_that_nobody_signed_and_asks_whose_log_it_was(tmp_path: Path) -> None:
    path, _ = run(tmp_path)
    heads = path.with_suffix(".heads")
    heads.write_bytes(b"rubbish\n" + heads.read_bytes() + b"torn")
    with pytest.raises(AuditError, match="audit.heads: line 1 is not a countersigned head"):
        AuditLog.open(path, "north", NORTH)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(AuditError, match="--party NAME"):
        restart_log(path)
    restart_log(path, "north")
    AuditLog.open(path, "north", NORTH).close()
    assert verify_log(path) == []
    assert (path.parent / "audit.damaged-1.heads").read_bytes().startswith(b"rubbish")


@pytest.mark.parametrize("call", ["link", "replace"])
def test_a_crash_in_a_restart_leaves_the_old_log_or_the_new(tmp_path, monkeypatch, call) -> None:
    path, _ = run(tmp_path)
    damaged = path.read_bytes().replace(b"up-1", b"up-2")
    path.write_bytes(damaged)

    def crash(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, call, crash)
        restart_log(path)
    assert path.read_bytes() == damaged
    restart_log(path)
    AuditLog.open(path, "north", NORTH).close()
    assert verify_log(path) == []
