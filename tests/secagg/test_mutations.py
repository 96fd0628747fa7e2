"""A changed, cut, longer or repeated message is refused, or changes nothing but its own hospital's
part; no message makes a wrong sum, and none makes another error than the two that are meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.secagg.driver import (
    CONTENT,
    DESCRIPTOR,
    LAYOUT,
    Federation,
    finish,
    forged_unmask,
    is_plain_sum,
    some_numbers,
    start,
    summing,
)
from wardround.client.secagg.state import Policy
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.server.secagg.sum import MaskedSum, SecureSession

TO_CLIENT = ["HelloRequest", "GroupRequest", "KeysRequest", "TaskRequest", "UnmaskRequest"]
TO_SERVER = ["Hello", "Bundle", "Accepted", "Upload", "Vector", "Shares"]
KINDS = [*TO_CLIENT, *TO_SERVER]
SIGNED_OR_NAMED = ["HelloRequest", "Hello", "Bundle", "KeysRequest", "Accepted", "Upload"]
"""Every byte of these is checked by the first who reads it."""


def three_of(n: int) -> Thresholds:
    return Thresholds(n, n - 1, 3, 3)  # a lie leaves two in the sum


# --- in a whole run -------------------------------------------------------------------------------
Change = tuple[str, int, int, bytes]


def changed(data: bytes, change: Change) -> bytes:
    """``data`` after one change, at a place in 4096ths of its length."""
    what, place, bit, more = change
    at = place * len(data) // 4096
    if what == "cut":
        return data[:at]
    if what == "extended":
        return data + more
    if what == "flipped":
        return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
    if what == "overwritten":
        return data[:at] + more[: len(data) - at] + data[at + len(more) :]
    if what == "inserted":
        return data[:at] + more + data[at:]
    assert what == "removed"
    return data[:at] + data[at + len(more) :]


changes = st.tuples(
    st.sampled_from(
        ["cut", "extended", "flipped", "flipped", "overwritten", "inserted", "removed"]
    ),
    st.integers(0, 4095),
    st.integers(0, 7),
    st.binary(min_size=1, max_size=12),
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 4), changes)
def test_one_changed_message_costs_at_most_its_own_hospitals_part(kind, victim, change) -> None:
    name, done = f"h{victim:02d}", []

    def tamper(arriving: str, hospital: str, data: bytes) -> bytes:
        if done or (arriving, hospital) != (kind, name):
            return data
        done.append(changed(data, change))
        assume(done[0] != data)
        if kind == "Vector":
            assume(len(done[0]) != len(data))  # other numbers are poisoning, not protocol
        return done[0]

    federation = Federation(5, Policy(min_cohort=2), tamper)
    federation.begin()
    group = federation.form(three_of, count=2)
    numbers = some_numbers(group.names)
    try:
        masked, total = federation.aggregate(group, numbers)
    except RoundFailed as error:
        # a hospital that was shown another task uploaded under other masks
        assert kind == "TaskRequest" and "the masks don't cancel" in str(error)
        event("RoundFailed")
    else:
        assert is_plain_sum(masked, total, numbers, total.survivors)
        assert set(total.survivors) >= set(federation.names) - {name}
        refused = [(k, n) for k, n, _ in federation.refusals]
        if (name in total.survivors) and kind in ("UnmaskRequest", "Shares"):
            event("the other hospitals' shares were enough")
        else:
            # GroupRequest: the hospital made keys for another group, which the server refuses
            expected = {"Vector": ["Upload"], "GroupRequest": ["GroupRequest", "Bundle"]}
            expected["TaskRequest"] = ["TaskRequest", "Upload"]
            assert name not in total.survivors
            assert refused[0][1] == name and refused[0][0] in expected.get(kind, [kind])
            event("refused")
    assert len(done) == 1
    masked, total = federation.aggregate(group, numbers)
    assert is_plain_sum(masked, total, numbers, total.survivors)
    assert set(total.survivors) >= set(federation.names) - {name}


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flip_in_any_byte_of_a_task_is_refused_or_leaves_noise(bit) -> None:
    """Tag and group: refused. Index, purpose, ring, clip, largest weight: refused by one of both
    sides, or the masks don't cancel; never a sum with that hospital in it."""
    federation = Federation(3)
    size = len(summing(federation.ready()).task.to_bytes())
    ends = set()
    for at in range(size):

        def tamper(kind: str, name: str, data: bytes) -> bytes:
            if (kind, name) != ("TaskRequest", "h01"):
                return data
            return changed(data, ("flipped", -(-at * 4096 // size), bit, b""))

        federation = Federation(3, Policy(min_cohort=2), tamper)
        group = federation.ready(lambda n: Thresholds(n, n - 1, 2, 2), 2)
        numbers = some_numbers(group.names)
        try:
            masked, total = federation.aggregate(group, numbers)
        except RoundFailed as error:
            assert "the masks don't cancel" in str(error)
            ends.add("noise")
        else:
            assert is_plain_sum(masked, total, numbers, ["h00", "h02"])
            ends.add(federation.refusals[0][0])
    # bit 0 of the index is the group's other aggregation
    assert ends == {"TaskRequest", "noise"} | ({"Upload"} if bit == 0 else set())


# --- at each receiver -----------------------------------------------------------------------------
class Stages:
    """A federation that stops before each message: the message and its receiver."""

    def __init__(self) -> None:
        self.messages: dict[str, tuple[bytes, Callable[[bytes], object]]] = {}
        federation = self.federation = Federation(4)
        session = federation.session = SecureSession(DESCRIPTOR, federation.roster)
        self._client("HelloRequest", session.request(), lambda c, d: c.hello(d))
        hello = federation["h00"].hello(session.request())
        self._server("Hello", hello, lambda d: session.add_hello("h00", d))
        for name in federation.names:
            session.add_hello(name, federation[name].hello(session.request()))
        group = session.group(federation.names, 2, thresholds(4))
        self._client("GroupRequest", group.request, lambda c, d: c.bundle(d))
        for name in federation.names[1:]:
            federation.bundle(group, name)
        bundle = federation["h00"].bundle(group.request)
        # its own group object: a bundle is kept only once
        waiting = type(group)(group.parameters, federation.roster)
        self._server("Bundle", bundle, lambda d: waiting.add_bundle("h00", d))
        group.add_bundle("h00", bundle)
        requests = dict(group.keys_requests())
        self._client("KeysRequest", requests["h00"], lambda c, d: c.accept(d))
        for name in federation.names[1:]:
            federation.accept(group, name, requests[name])
        accepted = federation["h00"].accept(requests["h00"])
        self._server("Accepted", accepted, lambda d: group.add_accepted("h00", d))
        group.add_accepted("h00", accepted)
        masked, numbers = summing(group), some_numbers(group.names)

        def upload(client, data: bytes):
            return finish(start(client, data, LAYOUT), numbers["h00"])

        self._client("TaskRequest", masked.task.to_bytes(), upload)
        header, vector = upload(federation["h00"], masked.task.to_bytes())
        early = MaskedSum(group, masked.task, LAYOUT, CONTENT)
        self._server("Upload", header, lambda d: early.add_upload("h00", d, vector))
        self._server("Vector", vector, lambda d: early.add_upload("h00", header, d))
        masked.add_upload("h00", header, vector)
        for name in federation.names[1:]:
            federation.upload(masked, name, numbers[name])
        request = masked.unmask_requests()["h00"]
        self._client("UnmaskRequest", request, lambda c, d: c.unmask(d))
        shares = federation["h00"].unmask(request)
        self._server("Shares", shares, lambda d: masked.add_shares("h00", d))
        self.group, self.masked, self.numbers = group, masked, numbers

    def _client(self, kind: str, data: bytes, receive) -> None:
        before = self.federation.hospitals["h00"].fork()
        self.messages[kind] = data, lambda d: receive(before.fork().client, d)

    def _server(self, kind: str, data: bytes, receive) -> None:
        self.messages[kind] = data, receive


@pytest.fixture(scope="module")
def stages() -> Stages:
    return Stages()


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_cut_anywhere_or_longer_is_refused(stages, kind) -> None:
    data, receive = stages.messages[kind]
    step = max(1, len(data) // 200)
    for wrong in [data[:end] for end in range(0, len(data), step)] + [
        data + b"\0",
        data + data,
        b"\0" + data,
    ]:
        with pytest.raises(ProtocolRefused):
            receive(wrong)


@pytest.mark.parametrize("kind", SIGNED_OR_NAMED)
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_flip_in_any_byte_of_a_checked_message_is_refused(stages, kind, bit) -> None:
    data, receive = stages.messages[kind]
    for at in range(len(data)):
        with pytest.raises(ProtocolRefused):
            receive(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])


@pytest.mark.parametrize("kind", KINDS)
def test_each_message_is_taken_as_it_is(stages, kind) -> None:
    """Or all of the above would prove nothing; in a federation of its own, for it changes it."""
    data, receive = Stages().messages[kind]
    receive(data)


@pytest.mark.parametrize("kind", KINDS)
def test_another_message_in_its_place_is_refused(stages, kind) -> None:
    for other, (data, _) in stages.messages.items():
        if other != kind:
            with pytest.raises(ProtocolRefused):
                stages.messages[kind][1](data)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(KINDS), st.binary(max_size=400))
def test_any_bytes_are_refused_with_nothing_but_a_sentence(stages, kind, data) -> None:
    good, receive = stages.messages[kind]
    for wrong in (data, good[:1] + data, good[:33] + data):
        if len(wrong) != len(good):
            with pytest.raises(ProtocolRefused):
                receive(wrong)


u16 = st.sampled_from([0, 1, 2, 3, 4, 5, 63, 64, 65, 2**15, 2**16 - 1])
u32 = st.sampled_from([0, 1, 2, 3, 64, 2**31 - 64, 2**31 - 1, 2**31, 2**32 - 1])
FIELDS = {
    "GroupRequest": {
        "first": u32,
        "count": u16,
        "degree": u16,
        "threshold": u16,
        "survivors": u16,
        "window": u16,
        "members": st.integers(0, 4),
    },
    "TaskRequest": {
        "index": u32,
        "purpose": st.text(max_size=20),
        "bits": st.sampled_from([0, 1, 15, 16, 17, 32, 64, 255]),
        "clip": st.floats(),
        "largest_weight": st.sampled_from([0, 1, 2, 100, 2**32, 2**64 - 1]),
    },
    "UnmaskRequest": {
        "index": u32,
        "survivors": st.lists(st.integers(0, 5) | u16, max_size=6).map(tuple),
        "ciphertexts": st.lists(st.sampled_from([bytes(80), b"\xff" * 80]), max_size=5).map(tuple),
    },
    "Upload": {"index": u32, "name": st.text(max_size=5)},
    "Shares": {
        "index": u32,
        "name": st.text(max_size=5),
        "shares": st.lists(st.sampled_from([bytes(32), b"\xff" * 32]), max_size=6).map(tuple),
    },
}


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_well_formed_messages_with_any_fields_are_answered_or_refused(stages, data) -> None:
    kind = data.draw(st.sampled_from(sorted(FIELDS)))
    good, receive = stages.messages[kind]
    fields = FIELDS[kind]
    chosen = data.draw(st.sets(st.sampled_from(sorted(fields)), min_size=1, max_size=3))
    values = {key: data.draw(fields[key]) for key in sorted(chosen)}
    message = getattr(wire, kind).from_bytes(good)
    if "members" in values:
        values["members"] = message.members[: values["members"]]
    wrong = replace(message, **values)
    if wrong == message:
        return
    if kind in TO_SERVER:
        try:
            receive(wrong.to_bytes())
        except ProtocolRefused:
            return
        # shares of the right number and size are only found to be false when they are put together
        assert kind == "Shares" and replace(wrong, shares=message.shares) == message
        return
    try:
        receive(wrong.to_bytes())
    except ProtocolRefused as error:
        assert str(error).isprintable() and len(str(error)) < 300
        event("refused")
    else:
        event("answered")
        assert kind != "UnmaskRequest" or "index" not in values or values["index"] == 0


# --- out of turn ----------------------------------------------------------------------------------
def test_every_message_to_a_hospital_is_refused_before_its_turn_and_after_it() -> None:
    federation = Federation(4)
    federation.session = session = SecureSession(DESCRIPTOR, federation.roster)
    client = federation["h00"]
    other = Federation(4)
    group = other.ready(count=2)
    keys = other.received("KeysRequest", "h00")[0]
    task = summing(group).task.to_bytes()
    unmask = forged_unmask(group, 0, "h00", range(4)).to_bytes()
    for _ in range(2):  # before hello, and after it: all these are of another federation
        for step in (
            lambda: client.bundle(group.request),
            lambda: client.accept(keys),
            lambda: start(client, task, LAYOUT),
            lambda: client.unmask(unmask),
        ):
            with pytest.raises(ProtocolRefused, match="no part in that session|know that group"):
                step()
        client.hello(session.request())

    federation.begin()
    group = federation.session.group(federation.names, 2, thresholds(4))
    for name in group.names:
        federation.bundle(group, name)
    masked, numbers = summing(group), some_numbers(group.names)
    task = masked.task.to_bytes()
    unmask = forged_unmask(group, 0, "h00", range(4)).to_bytes()
    with pytest.raises(ProtocolRefused, match="0 was already prepared"):
        client.bundle(group.request)
    with pytest.raises(ProtocolRefused, match="were not accepted yet"):
        start(client, task, LAYOUT)
    with pytest.raises(ProtocolRefused, match="last sent nothing"):
        client.unmask(unmask)

    requests = dict(group.keys_requests())
    for name in group.names:
        federation.accept(group, name, requests[name])
    masked = MaskedSum(group, masked.task, LAYOUT, CONTENT)  # now that there is a transcript
    accepted = client.accept(requests["h00"])
    assert accepted == federation.received("Accepted", "h00")[0], "the same answer again"
    with pytest.raises(ProtocolRefused, match="0 was already prepared"):
        client.bundle(group.request)
    with pytest.raises(ProtocolRefused, match="last sent nothing"):
        client.unmask(unmask)

    for name in group.names:
        federation.upload(masked, name, numbers[name])
    with pytest.raises(ProtocolRefused, match="already sent number 0"):
        start(client, task, LAYOUT)
    first = client.unmask(unmask)
    with pytest.raises(ProtocolRefused, match="already sent number 0"):
        start(client, task, LAYOUT)
    assert client.accept(requests["h00"]) == accepted and client.unmask(unmask) == first
    federation.unmask(masked)
    assert is_plain_sum(masked, masked.open(), numbers, group.names)
    federation.aggregate(group, numbers)
    with pytest.raises(ProtocolRefused, match="aggregation 0 can't be opened"):
        client.unmask(unmask)
    assert federation.refusals == []


def test_every_message_to_the_server_is_refused_before_its_turn_and_after_it() -> None:
    federation = Federation(4)
    federation.begin()
    group = federation.session.group(federation.names, 2, thresholds(4))
    early = wire.Accepted(group.id, "h00", group.transcript or bytes(32)).to_bytes()
    with pytest.raises(ProtocolRefused, match="shown other keys"):
        group.add_accepted("h00", early)
    for name in group.names:
        federation.bundle(group, name)
    (bundle,) = federation.received("Bundle", "h00")
    with pytest.raises(ProtocolRefused, match="came twice or too late"):
        group.add_bundle("h00", bundle)
    requests = dict(group.keys_requests())
    for name in group.names:
        with pytest.raises(ProtocolRefused, match="came twice or too late"):
            group.add_bundle(name, federation.received("Bundle", name)[0])
    masked, numbers = summing(group), some_numbers(group.names)
    zeros = bytes(masked._vector.update.nbytes + masked._vector.exact.nbytes)
    header = wire.Upload(group.id, 0, "h00").to_bytes()
    with pytest.raises(ProtocolRefused, match="it is not in the group of this aggregation"):
        masked.add_upload("h00", header, zeros)
    for name in group.names:
        federation.accept(group, name, requests[name])

    shares = wire.Shares(group.id, 0, "h00", (bytes(32),) * 4).to_bytes()
    for step in (lambda: masked.add_shares("h00", shares), masked.open):
        with pytest.raises(ProtocolRefused, match="out of turn|nothing to open"):
            step()
    for name in group.names[:3]:
        federation.upload(masked, name, numbers[name])
    upload = federation.received("Upload", "h00")[0], federation.received("Vector", "h00")[0]
    with pytest.raises(ProtocolRefused, match="it uploaded twice"):
        masked.add_upload("h00", *upload)
    asked = masked.unmask_requests()
    for step in (lambda: masked.add_upload("h00", *upload), masked.unmask_requests):
        with pytest.raises(ProtocolRefused, match="survivor set (was|is) fixed"):
            step()
    for name, request in asked.items():
        answer = federation[name].unmask(request)
        for _ in range(2):  # the same again changes nothing
            masked.add_shares(name, answer)
    assert is_plain_sum(masked, masked.open(), numbers, group.names[:3])
    for step in (
        lambda: masked.add_upload("h03", *upload),
        masked.unmask_requests,
        lambda: masked.add_shares("h00", shares),
        masked.open,
    ):
        with pytest.raises(ProtocolRefused, match="survivor set|out of turn|nothing to open"):
            step()
    assert federation.refusals == []
