"""The audit log as it is written: format, durability, crashes, one writer, heads of both sides."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.audit.lines import NO_HASH, encode_line
from wardround.common.audit.log import AuditLog, SignedHead
from wardround.common.audit.verify import verify_log
from wardround.common.errors import AuditError
from wardround.common.process.signals import interrupt_once
from wardround.common.trust.identity import Identity

VECTORS = Path(__file__).parent.parent.parent / "vectors"
NORTH, SERVER, OTHER = (Identity.from_bytes(bytes([n]) * 32) for n in (1, 2, 3))


def clock() -> float:
    return 1_767_323_045.678


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def two_logs(folder: Path) -> Iterator[tuple[AuditLog, AuditLog]]:
    with (
        AuditLog.open(folder / "north" / "audit.jsonl", "north", NORTH, clock) as north,
        AuditLog.open(folder / "server" / "audit.jsonl", "server", SERVER, clock) as server,
    ):
        yield north, server


def exchange(log: AuditLog, identity: Identity, peer: AuditLog, peer_public: bytes) -> SignedHead:
    """What both sides do every round, in one direction."""
    head = log.signed_head()
    signature = peer.countersign(SignedHead.from_bytes(head.to_bytes()), identity.public)
    log.add_countersignature(head, peer.party, peer_public, signature)
    return head


def test_a_log_of_a_newer_format_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    fields = {"format": 2, "party": "north", "public": NORTH.public.hex(), "previous": None}
    before, _ = encode_line(1, clock(), "began", fields, NO_HASH)
    path.write_bytes(before)
    with pytest.raises(AuditError, match="has format 2, .* writes 1; install the version"):
        AuditLog.open(path, "north", NORTH, clock)
    assert path.read_bytes() == before


# --- format --------------------------------------------------------------------------------------
def test_the_format_is_the_frozen_one(tmp_path: Path) -> None:
    """If this fails, logs of earlier versions can't be verified any more: raise FORMAT."""
    with two_logs(tmp_path) as (north, server):
        north.append("connected", address="localhost:8443")
        north.append(
            "sent", kind="train", round=3, bytes=4_000_000, digest="ab" * 32,
            request="r-1", protection="masked+noised", epsilon=0.5,
        )  # fmt: skip
        north.append("policy", reason="Zürich\nsays: no\x1b[31m", allowed=[None, {}])
        exchange(north, NORTH, server, SERVER.public)
        exchange(server, SERVER, north, NORTH.public)
    for name in ("audit.jsonl", "audit.heads"):
        assert (tmp_path / "north" / name).read_bytes() == (VECTORS / name).read_bytes()
    assert verify_log(VECTORS / "audit.jsonl", None, {"north": NORTH.public}) == []


def test_anyone_can_check_a_line_with_sha256() -> None:
    prev = "0" * 64
    for line in (VECTORS / "audit.jsonl").read_bytes().splitlines():
        body, hashed = line[: line.rindex(b',"hash"')] + b"}", json.loads(line)["hash"]
        assert hashlib.sha256(body).hexdigest() == hashed and json.loads(line)["prev"] == prev
        prev = hashed


def test_texts_are_made_one_line_and_times_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog.open(path, "north", None, clock) as log:
        log.append("error", reason="a\nb\r\u2028c\x00\ud800d", empty="", deep={"x": ["e\tf"]})
    line = events(path)[1]
    assert (line["reason"], line["empty"], line["deep"]) == ("a b c d", "", {"x": ["e f"]})
    assert line["time"] == "2026-01-02T03:04:05.678Z" and len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), b"bytes", ("tuple",), {1: "key"}, {"a\nb": 1}, {"": 1},
        "x" * 2001, 2**63, object(), [{"a": {1, 2}}], {"k" * 201: 1}, ["x" * 2000] * 400,
    ],
)  # fmt: skip
def test_what_is_not_plain_json_is_a_programming_error(tmp_path: Path, value: Any) -> None:
    with AuditLog.open(tmp_path / "audit.jsonl", "north", None) as log:
        head = log.head
        with pytest.raises(ValueError, match="audit event 'error'"):
            log.append_many([("started", {}), ("error", {"reason": value})])
        assert log.head == head
    assert len(events(tmp_path / "audit.jsonl")) == 1


@pytest.mark.parametrize("key", ["seq", "time", "prev", "hash"])
def test_a_field_can_not_replace_the_log_s_own(tmp_path: Path, key: str) -> None:
    with AuditLog.open(tmp_path / "audit.jsonl", "north", None) as log:
        with pytest.raises(ValueError, match=f"'{key}' is the log's own"):
            log.append("error", **{key: 1})


# --- durability ----------------------------------------------------------------------------------
def test_it_is_private_and_synced_before_append_returns(tmp_path, monkeypatch) -> None:
    path, synced = tmp_path / "state" / "audit.jsonl", []
    fsync = os.fsync
    with AuditLog.open(path, "north", NORTH) as log:
        monkeypatch.setattr(os, "fsync", lambda d: (synced.append(path.stat().st_size), fsync(d)))
        log.append("started", version="1")
        assert synced == [path.stat().st_size]
        log.append_many([("connected", {"peer": "server"}), ("disconnected", {"peer": "server"})])
        assert synced[1:] == [path.stat().st_size]
    for name in ("audit.jsonl", "audit.heads", "audit.lock"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    path, seen = tmp_path / "audit.jsonl", []
    with AuditLog.open(path, "north", NORTH) as log:
        head = log.append("started")
    with AuditLog.open(path, "north", NORTH, listener=seen.append) as log:
        assert log.head == head
        assert log.append("stopped").seq == 3
    assert verify_log(path) == [] and seen == events(path)[2:]
    with pytest.raises(AuditError, match="is closed"):
        log.append("late")
    with AuditLog.open(path, "north", OTHER):
        assert events(path)[-1]["event"] == "identity"
    with pytest.raises(AuditError, match="is the log of 'north', not of 'south'"):
        AuditLog.open(path, "south", NORTH)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_crash_at_any_byte_of_a_write_loses_only_what_had_not_returned(
    tmp_path, batch, monkeypatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds, and no crash of a disk
    path = tmp_path / "audit.jsonl"
    with AuditLog.open(path, "north", NORTH, clock) as log:
        log.append("started")
        durable = path.read_bytes()
        log.append_many([("error", {"reason": f"Zürich {n}"}) for n in range(batch)])
    whole = path.read_bytes()
    for end in range(len(durable), len(whole), 1 if batch == 1 else 5):
        path.write_bytes(whole[:end])
        kept = whole[: whole[:end].rindex(b"\n") + 1]
        with AuditLog.open(path, "north", NORTH, clock) as log:
            log.append("stopped")
        assert path.read_bytes().startswith(kept) and verify_log(path) == []
        added = [(e["event"], e.get("bytes")) for e in events(path)[kept.count(b"\n") :]]
        torn = [("torn line removed", end - len(kept))] if end > len(kept) else []
        assert added == [*torn, ("stopped", None)]


def test_a_crash_at_any_byte_of_the_first_line_begins_anew(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path = tmp_path / "audit.jsonl"
    AuditLog.open(path, "north", NORTH, clock).close()
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        AuditLog.open(path, "north", NORTH, clock).close()
        assert path.read_bytes().startswith(whole) and verify_log(path) == []


def test_a_torn_head_is_cut_off_too(tmp_path: Path) -> None:
    with two_logs(tmp_path) as (north, server):
        exchange(north, NORTH, server, SERVER.public)
        path = north.path
    with open(path.with_suffix(".heads"), "ab") as file:
        file.write(b'{"head":')
    AuditLog.open(path, "north", NORTH).close()
    last = events(path)[-1]
    assert (last["event"], last["file"], last["bytes"]) == ("torn line removed", "audit.heads", 8)
    assert verify_log(path) == []


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "audit.jsonl"
    write, room = os.write, [40]

    def full(descriptor: int, data: Any) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        count = write(descriptor, bytes(data)[: room[0]])
        room[0] -= count
        return count

    with AuditLog.open(path, "north", NORTH) as log:
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(AuditError, match="audit.jsonl: can't be written .No space left"):
                log.append("started")
        assert path.read_bytes() == before
        assert log.append("started").seq == 2
    assert verify_log(path) == []


def test_after_a_failed_fsync_nothing_more_is_promised(tmp_path: Path, monkeypatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with AuditLog.open(tmp_path / "audit.jsonl", "north", NORTH) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(AuditError, match="start again once the disk works"):
                log.append("started")
        with pytest.raises(AuditError, match="start again once the disk works"):
            log.append("started")


# --- one writer ----------------------------------------------------------------------------------
def test_threads_share_one_chain(tmp_path: Path) -> None:
    heads = []
    with AuditLog.open(tmp_path / "audit.jsonl", "north", NORTH) as log:
        work = [
            threading.Thread(target=lambda: heads.extend(log.append("error") for _ in range(20)))
            for _ in range(5)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert sorted(head.seq for head in heads) == list(range(2, 102))
    assert verify_log(tmp_path / "audit.jsonl") == []


def test_a_second_process_is_told_who_writes_until_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = (
        "import sys, pathlib; from wardround.common.audit.log import AuditLog\n"
        "log = AuditLog.open(pathlib.Path(sys.argv[1]), 'north', None)\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        with pytest.raises(AuditError, match=f"process {holder.pid} is writing to it"):
            AuditLog.open(path, "north", None)
        assert len(events(path)) == 1
        holder.kill()
    with AuditLog.open(path, "north", None) as log:
        with pytest.raises(AuditError, match=f"process {os.getpid()} is writing to it"):
            AuditLog.open(path, "north", None)
        assert log.append("started").seq == 2


def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="can't be opened"):
        AuditLog.open(tmp_path / "file" / "audit.jsonl", "north", None)
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "file")
    with pytest.raises(AuditError, match="can't be opened"):
        AuditLog.open(tmp_path / "audit.jsonl", "north", None)


# --- heads ---------------------------------------------------------------------------------------
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
HEADS = st.builds(
    SignedHead,
    NAMES,
    st.integers(1, 10**18 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.binary(min_size=64, max_size=64),
)


@settings(deadline=None)
@given(HEADS)
def test_a_head_is_read_back_and_nothing_else_is(head: SignedHead) -> None:
    data = head.to_bytes()
    assert SignedHead.from_bytes(data) == head
    for wrong in (data + b"\n", b" " + data, data[:-1], data.replace(b":", b": ", 1), data.upper()):
        with pytest.raises(AuditError, match="not readable"):
            SignedHead.from_bytes(wrong)


@settings(deadline=None)
@given(st.data())
def test_any_changed_byte_of_a_head_is_noticed(data: st.DataObject) -> None:
    signature = NORTH.sign(SignedHead.signed("north", 7, "ab" * 32))
    encoded = bytearray(SignedHead("north", 7, "ab" * 32, signature).to_bytes())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        head = SignedHead.from_bytes(bytes(encoded))
    except AuditError:
        return
    assert not head.is_by(NORTH.public)


VALUES = st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["north", "ab" * 32, 7])


@settings(deadline=None)
@given(
    st.binary(max_size=1100)
    | st.fixed_dictionaries(dict.fromkeys(("party", "seq", "hash", "signature"), VALUES))
)
def test_no_bytes_break_the_reader_of_heads(value: Any) -> None:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(AuditError, match="not readable"):
        SignedHead.from_bytes(data)


def test_deep_and_long_bytes_are_refused() -> None:
    for data in (b"[" * 1000, b" " * 2000, b"[" * 10**6):
        with pytest.raises(AuditError, match="not readable"):
            SignedHead.from_bytes(data)


def test_both_sides_keep_what_both_signed(tmp_path: Path) -> None:
    with two_logs(tmp_path) as (north, server):
        north.append("started")
        head = exchange(north, NORTH, server, SERVER.public)
        again = server.countersign(head, NORTH.public)
        north.add_countersignature(head, "server", SERVER.public, again)
        assert (north.head.seq, server.head.seq) == (3, 2)  # said twice, it counts once
        exchange(server, SERVER, north, NORTH.public)
    with two_logs(tmp_path) as (north, server):
        assert server.countersign(head, NORTH.public) == again
        assert server.head.seq == 3
    assert verify_log(north.path) == [] and verify_log(server.path) == []


def test_a_head_or_countersignature_by_another_key_is_refused(tmp_path: Path) -> None:
    with two_logs(tmp_path) as (north, server):
        head = north.signed_head()
        forged = SignedHead("north", 1, head.hash, OTHER.sign(head.signed("north", 1, head.hash)))
        for wrong, key in ((head, OTHER.public), (forged, NORTH.public), (head, b"short")):
            with pytest.raises(AuditError, match="'north' is not signed by its own key"):
                server.countersign(wrong, key)
        good = server.countersign(head, NORTH.public)
        for peer, key, signature in (
            ("server", OTHER.public, good),
            ("server", SERVER.public, OTHER.sign(head.countersigned("server"))),
            ("server", SERVER.public, head.signature),
            ("another", SERVER.public, good),
        ):
            with pytest.raises(AuditError, match="is not by its own key"):
                north.add_countersignature(head, peer, key, signature)
        for other in (forged, server.signed_head()):
            with pytest.raises(AuditError, match="not of this audit log"):
                north.add_countersignature(other, "server", SERVER.public, good)
        assert north.head.seq == 1 and server.head.seq == 2


def test_a_peer_can_not_go_back_or_show_two_logs(tmp_path: Path) -> None:
    with two_logs(tmp_path) as (north, server):
        early = north.signed_head()
        north.append("started")
        late = north.signed_head()
        server.countersign(late, NORTH.public)
        fork = SignedHead("north", 2, "cd" * 32, NORTH.sign(early.signed("north", 2, "cd" * 32)))
        for head in (early, fork):
            with pytest.raises(AuditError, match="'north' went back from line 2 to .*--after 2"):
                server.countersign(head, NORTH.public)


def test_without_an_identity_nothing_is_signed(tmp_path: Path) -> None:
    with AuditLog.open(tmp_path / "audit.jsonl", "north", None) as log:
        with pytest.raises(AuditError, match="without an identity key"):
            log.signed_head()


def test_temporary_folders_are_not_left(tmp_path: Path) -> None:
    """A log and its two companions, nothing else."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        AuditLog.open(Path(folder) / "audit.jsonl", "north", NORTH).close()
        assert sorted(os.listdir(folder)) == ["audit.heads", "audit.jsonl", "audit.lock"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_in_the_middle_of_a_line_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A server that was told to stop while it wrote one went on to write its last ones, in the
    same place of the chain: its log was broken, and it couldn't start again."""
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    path, fsync = tmp_path / "audit.jsonl", os.fsync

    def interrupted(descriptor: int) -> None:
        fsync(descriptor)
        signal.raise_signal(number)

    try:
        interrupt_once()
        with AuditLog.open(path, "server", Identity.generate()) as log:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(os, "fsync", interrupted)
                log.append_many([("started", {}), ("stopped", {})])
            log.append("disconnected")
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert verify_log(path, path.with_name("audit.heads")) == []
