"""The journal: whole or not at all, of these settings or not at all, and never more than a sum."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.secagg.driver import (
    CONTENT,
    DESCRIPTOR,
    LAYOUT,
    Federation,
    is_plain_sum,
    some_numbers,
    summing,
)
from wardround.client.secagg.state import Policy
from wardround.common.errors import CheckpointError, ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import session_id
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.ring import RingVector
from wardround.server.secagg import journal as journals
from wardround.server.secagg.journal import Entry, Journal, Traffic
from wardround.server.secagg.pending import Pending
from wardround.server.secagg.sum import KeyGroup, MaskedSum

PURPOSE = "train 1"


class Round:
    """A federation of five whose fourth hospital did not upload, and the server's journal of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.federation = Federation(5, Policy(min_cohort=2))
        self.group = self.federation.ready(lambda n: Thresholds(n, n - 1, 3, 3), 2)
        self.numbers = some_numbers(self.group.names)
        self.masked = summing(self.group)
        for name in self.group.names:
            if name != "h03":
                self.federation.upload(self.masked, name, self.numbers[name])
        self.asked = self.masked.unmask_requests()
        self.entry = Entry(
            purpose=PURPOSE,
            attempt=2,
            cohort=list(self.group.names),
            nonce=self.federation.session.nonce,
            roster=self.federation.roster,
            group=self.group.request,
            keys=[self.group.bundles[name].keys.to_bytes() for name in self.group.names],
            task=self.masked.task.to_bytes(),
            layout=LAYOUT.digest(),
            sums=b"",
            content=CONTENT,
            requests=self.asked,
            claims={"h00": bytes(range(256))},
            spent=["h04"],
            traffic=Traffic(up=5, down=7, refused=[{"hospital": "h03", "reason": "ü"}]),
            blind_key=b"",
        )
        self.journal = Journal(folder)
        self.journal.write(self.entry, self.masked.vector)
        self.path = folder / "train-1.journal"
        self.whole = self.path.read_bytes()

    def session_of(self, entry: Entry) -> bytes:
        return session_id(DESCRIPTOR, entry.roster, entry.nonce)

    def reborn(self) -> Journal:
        """The journal as the next server finds it."""
        journal = Journal(self.folder)
        journal.open(self.session_of)
        return journal

    def restored(self, entry: Entry, **other: Any) -> MaskedSum:
        values = {"layout": LAYOUT, "content": CONTENT} | other
        return self.reborn().restore(entry, threads=1, **values)

    def answer(self, masked: MaskedSum, requests: Any) -> None:
        for name, request in requests.items():
            masked.add_shares(name, self.federation[name].unmask(request))


@pytest.fixture
def kept(tmp_path: Path) -> Round:
    return Round(tmp_path / "journal")


def test_a_sum_is_opened_by_the_next_server_and_by_the_one_after_it(kept: Round) -> None:
    journal = kept.reborn()
    entry = journal.find(PURPOSE)
    assert entry == kept.entry and journal.find("train 2") is None
    masked = kept.restored(entry)
    kept.answer(masked, entry.requests)
    names = [name for name in kept.group.names if name != "h03"]
    assert is_plain_sum(masked, masked.open(), kept.numbers, names)
    assert masked.answers.keys() == set(names)
    assert journal.answers(entry) is None
    journal.write_answers(PURPOSE, masked.answers, Traffic(up=9))

    later = kept.reborn()
    answers = later.answers(entry)
    assert answers is not None and answers.traffic == Traffic(up=9)
    again = kept.restored(entry)
    for name, shares in answers.shares.items():
        again.add_shares(name, shares)
    total = again.open()
    assert is_plain_sum(again, total, kept.numbers, names)
    assert total.largest_weight == kept.masked.task.largest_weight


def with_head(whole: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A journal whose head is another, and the checksum right."""
    start = whole.index(b"\n") + 1
    size, vector_size = struct.unpack_from(">QQ", whole, start)
    start += 16
    head = json.loads(whole[start : start + size])
    change(head)
    data = json.dumps(head).encode()
    body = whole[: start - 16] + struct.pack(">QQ", len(data), vector_size) + data
    body += whole[start + size : -32]
    return body + hashlib.sha256(body).digest()


def test_a_journal_of_before_there_were_versions_is_read(kept: Round) -> None:
    def older(head: dict[str, Any]) -> None:
        assert head.pop("format") == "journal of a sum" and head.pop("version") == 2
        assert head.pop("blind_key") == ""

    kept.path.write_bytes(with_head(kept.whole, older))
    assert kept.reborn().find(PURPOSE) == kept.entry


def test_a_newer_journal_stops_the_server_and_stays(kept: Round) -> None:
    """Its hospitals have uploaded: the version that wrote it can still open the sum."""
    newer = with_head(kept.whole, lambda head: head.update(version=3, another="field"))
    kept.path.write_bytes(newer)
    with pytest.raises(CheckpointError) as caught:
        kept.reborn()
    text = str(caught.value)
    assert "train-1.journal: the stored journal of a sum has version 3, and this wardround" in text
    assert "install the version of wardround that wrote it, or remove the file" in text
    assert kept.path.read_bytes() == newer


def test_nothing_but_the_vector_of_a_restored_sum_can_be_used(kept: Round) -> None:
    """No key is left for another aggregation, no upload is added, no other set is asked."""
    masked = kept.restored(kept.entry)
    with pytest.raises(RoundFailed, match="used up"):
        masked.group.take_index()
    upload = kept.federation.received("Upload", "h00")[0], kept.federation.received("Vector", "h00")
    with pytest.raises(ProtocolRefused, match="survivor set was fixed"):
        masked.add_upload("h00", upload[0], upload[1][0])
    with pytest.raises(ProtocolRefused, match="survivor set is fixed"):
        masked.unmask_requests()
    bundle = kept.federation.received("Bundle", "h00")[0]
    with pytest.raises(ProtocolRefused, match="twice or too late"):
        masked.group.add_bundle("h00", bundle)


def test_what_is_of_other_settings_roster_model_or_layout_is_not_used(kept: Round) -> None:
    for content, layout in ((bytes(32), LAYOUT), (CONTENT, replace(LAYOUT, weighted=frozenset()))):
        with pytest.raises(CheckpointError, match="another model or other settings"):
            kept.restored(kept.entry, content=content, layout=layout)
    strangers = Federation(5).roster
    with pytest.raises(ProtocolRefused, match="not signed by the hospital of the roster"):
        kept.restored(kept.entry.model_copy(update={"roster": strangers}))
    with pytest.raises(ProtocolRefused, match="not signed by the hospital of the roster"):
        kept.restored(kept.entry.model_copy(update={"roster": {}}))
    other = Journal(kept.folder)
    other.open(lambda entry: session_id(bytes(32), entry.roster, entry.nonce))
    assert other.find(PURPOSE) is None and list(kept.folder.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"keys": []},
        {"requests": {}},
        {"task": wire.Upload(bytes(32), 0, "h00").to_bytes()},
        {"task": wire.TaskRequest(bytes(32), 0, PURPOSE, 32, 4.0, 100, 0).to_bytes()},
    ],
)
def test_an_entry_whose_parts_do_not_fit_is_refused(kept: Round, change: dict[str, Any]) -> None:
    with pytest.raises((ProtocolRefused, CheckpointError)):
        kept.restored(kept.entry.model_copy(update=change))


def test_requests_to_unmask_must_be_of_one_survivor_set_that_may_be_opened(kept: Round) -> None:
    def requests(**parts: Any) -> dict[str, bytes]:
        return {
            name: replace(wire.UnmaskRequest.from_bytes(data), **parts).to_bytes()
            for name, data in kept.asked.items()
        }

    wrong = [
        kept.asked | {"h00": requests(survivors=(0, 1, 2))["h00"]},
        requests(survivors=(0, 1, 2)),
        requests(survivors=(0, 1)),
        requests(survivors=()),
        requests(survivors=(0, 1, 2, 7)),
        requests(index=1),
        requests(group=bytes(32)),
        {name: data for name, data in kept.asked.items() if name != "h04"},
        {("h03" if name == "h04" else name): data for name, data in kept.asked.items()},
    ]
    for asked in wrong:
        with pytest.raises(ProtocolRefused, match="survivor|one aggregation"):
            kept.restored(kept.entry.model_copy(update={"requests": asked}))


def test_keys_of_a_restored_group_are_checked(kept: Round) -> None:
    keys, roster = kept.entry.keys, kept.federation.roster
    good = KeyGroup.restore(kept.group.request, roster, keys, kept.asked)
    assert (good.transcript, good.accepted) == (kept.group.transcript, set(kept.asked))
    for wrong in (keys[::-1], keys[:-1], [*keys, keys[0]], [keys[1], *keys[1:]]):
        with pytest.raises(ProtocolRefused):
            KeyGroup.restore(kept.group.request, roster, wrong, kept.asked)
    with pytest.raises(ProtocolRefused, match="trailing"):
        KeyGroup.restore(kept.group.request + b"x", roster, keys, kept.asked)


# --- the files ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Round]:
    yield Round(tmp_path_factory.mktemp("shared") / "journal")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_file_that_is_torn_or_altered_anywhere_is_dropped(shared: Round, data: Any) -> None:
    whole = shared.whole
    at = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "longer"]))
    torn = {
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :],
        "longer": whole + whole[at:],
    }[kind]
    shared.path.write_bytes(torn)
    try:
        assert shared.reborn().find(PURPOSE) is None
        assert list(shared.folder.iterdir()) == [], "dropped for good"
    finally:
        shared.path.write_bytes(whole)
    assert shared.reborn().find(PURPOSE) == shared.entry


def test_answers_that_are_torn_or_of_another_sum_count_as_none(kept: Round) -> None:
    kept.journal.write_answers(PURPOSE, {"h00": b"shares"}, Traffic())
    path = kept.folder / "train-1.answers"
    data = path.read_bytes()
    assert kept.reborn().answers(kept.entry) is not None
    for wrong in (b"", data[:-1], data.replace(b"h00", b"h01"), b"[]", b"\xff", b"null"):
        path.write_bytes(wrong)
        assert kept.reborn().answers(kept.entry) is None
    path.write_bytes(data)
    kept.journal.drop(PURPOSE)
    kept.masked.vector.update[0] += 1
    kept.journal.write(kept.entry, kept.masked.vector)
    path.write_bytes(data)
    assert kept.reborn().answers(kept.entry) is None, "they opened the sum before this one"


def test_only_the_servers_user_may_read_it(kept: Round) -> None:
    kept.journal.write_answers(PURPOSE, {"h00": b"shares"}, Traffic())
    assert kept.folder.stat().st_mode & 0o077 == 0
    assert kept.path.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in kept.folder.iterdir()) == [
        "train-1.answers",
        "train-1.journal",
    ]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_without_room_on_the_disk_it_goes_on_and_leaves_nothing(
    kept: Round, monkeypatch: pytest.MonkeyPatch, caplog: Any, name: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept.journal.clear()
    with monkeypatch.context() as patched:
        patched.setattr(os, name, full)
        kept.journal.write(kept.entry, kept.masked.vector)
        assert kept.journal.find(PURPOSE) is None and list(kept.folder.iterdir()) == []
    assert "No space left" in caplog.text and "free some space" in caplog.text
    kept.journal.write(kept.entry, kept.masked.vector)
    with monkeypatch.context() as patched:
        patched.setattr(os, name, full)
        kept.journal.write_answers(PURPOSE, {}, Traffic())
    assert kept.reborn().answers(kept.entry) is None


def test_what_would_need_hospitals_that_forget_is_dropped_what_is_open_stays(kept: Round) -> None:
    other = kept.entry.model_copy(update={"purpose": "evaluate 1 0"})
    kept.journal.write(other, kept.masked.vector)
    kept.journal.write_answers(PURPOSE, {}, Traffic())
    kept.journal.drop_unopened()
    assert kept.journal.find(PURPOSE) and kept.journal.find("evaluate 1 0") is None
    assert kept.reborn().find("evaluate 1 0") is None


def test_who_gave_shares_is_known_until_the_round_is_committed(kept: Round) -> None:
    journal, masked, pending = kept.journal, kept.masked, kept.journal.pending
    pending.hold(PURPOSE, Pending(masked, kept.entry.requests, kept.entry.cohort))
    assert journal.begun(PURPOSE) == kept.entry.cohort and not pending.gave(PURPOSE)
    masked.answers["b"] = b"its shares"
    assert pending.gave(PURPOSE) == {"b"}
    pending.spoil(PURPOSE)
    assert pending.is_spoiled(PURPOSE) and pending.find(PURPOSE) is None
    pending.note_out(PURPOSE, {"c"})
    assert pending.out(PURPOSE) == {"b", "c"}
    journal.clear()
    assert not pending.out(PURPOSE) and not pending.is_spoiled(PURPOSE)
    assert not journal.begun(PURPOSE) and kept.reborn().find(PURPOSE) is None
    journal.close()
    assert not kept.folder.exists()


def test_strangers_in_the_folder_are_removed_and_no_folder_is_none(kept: Round) -> None:
    (kept.folder / ".train-2.journal.tmp").write_bytes(b"half")
    (kept.folder / "train-2.answers").write_bytes(b"{}")
    (kept.folder / "copy.journal").write_bytes(kept.path.read_bytes())
    assert kept.reborn().find(PURPOSE)
    assert [path.name for path in kept.folder.iterdir()] == ["train-1.journal"]
    for nothing in (Journal(None), Journal(kept.folder.parent / "absent")):
        nothing.open(kept.session_of)
        assert nothing.find(PURPOSE) is None
        nothing.clear(), nothing.drop(PURPOSE), nothing.drop_unopened(), nothing.close()
    Journal(None).write(kept.entry, kept.masked.vector)
    assert not Journal(None).active and kept.journal.active


def test_a_large_vector_is_written_and_read_piece_by_piece(kept: Round) -> None:
    size = 10_000_000
    vector, back = RingVector(32, size, 5), RingVector(32, size, 5)
    vector.update[:] = np.arange(size)
    tracemalloc.start()
    kept.journal.write(kept.entry, vector)
    journals._read_head(kept.path)
    journals._read_vector(kept.path, back)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert back.data() == vector.data()
    assert peak < 3 * journals._CHUNK_BYTES < vector.update.nbytes
