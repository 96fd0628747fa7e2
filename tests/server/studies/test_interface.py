"""The interface to studies, over a real port with real certificates: who may do what with which
study, and what is said to all others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode as Code

from tests.networks import Network
from wardround.common.errors import Deposed
from wardround.common.study import frames as f
from wardround.common.study.study import SignedStudy
from wardround.common.transport.frames import (
    METHOD,
    WIRE_VERSION,
    Hello,
    Refused,
    Welcome,
    read_frame,
)
from wardround.common.trust import pki
from wardround.common.trust.credentials import identity_text
from wardround.common.trust.identity import Identity
from wardround.common.versions import own_version
from wardround.server.provision import kits as provision
from wardround.server.studies.callers import Limits
from wardround.server.studies.desk import Progress
from wardround.server.studies.rights import FAILED

METHODS = ("Submit", "List", "Show", "Watch", "Abort", "Rerun", "Fetch")
NONE = "f" * 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("network"))
    yield network
    network.close()


def body(network: Network, method: str, id: str, own: bool = True) -> f.Call:
    """A call that is right but for who makes it. ``own``: Anna's is submitted, or Bert's."""
    who = "anna" if own else "bert"
    if method == "Submit":
        one = network.submission(who, "new")
        return f.Submit(study=one.study.body().decode(), signature=one.signature.hex())
    if method == "Rerun":
        one = network.submission(who, repeat=1)
        text, signature = one.study.body().decode(), one.signature.hex()
        return f.Rerun(study=text, signature=signature, of=id)
    return {
        "List": f.List(),
        "Show": f.Show(study=id),
        "Watch": f.Watch(study=id),
        "Abort": f.Abort(study=id, reason="a test"),
        "Fetch": f.Fetch(study=id, name="files.json"),
    }[method]


def ask(network: Network, who: str, method: str, call: f.Call) -> tuple[str, str]:
    """Code and text of the answer; of a stream, of its end or its first message."""
    try:
        if method in ("Watch", "Fetch"):
            stream = network.stream(who, method, call)
            next(stream)
            stream.cancel()
        else:
            network.call(who, method, call)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


# who, whose study it is, in each case what comes of the methods in their order
MATRIX = {
    # Anna asked; North and South are wanted, East isn't; Bert is another researcher
    "anna": "OK OK OK OK OK OK OK",
    "office": "PERMISSION_DENIED OK OK OK OK PERMISSION_DENIED PERMISSION_DENIED",
    "north": "PERMISSION_DENIED OK OK OK PERMISSION_DENIED PERMISSION_DENIED PERMISSION_DENIED",
    "bert": "OK OK NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND",
    "east": "PERMISSION_DENIED OK NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND NOT_FOUND",
    "stranger": "UNAVAILABLE " * 7,  # another network's authority: no connection comes about
    "gone": "UNAUTHENTICATED " * 7,  # revoked
    "renamed": "UNAUTHENTICATED " * 7,  # the authority's certificate, in no roster
    "old": "UNAUTHENTICATED " * 7,  # expired: the server's TLS or the server turns it away
    "server": "UNAVAILABLE " * 7,  # a server's certificate is for no client
}
ROWS = [(who, method) for who in MATRIX for method in METHODS]


@pytest.fixture(scope="module")
def others(network: Network, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kits of those that are no members."""
    config, ca = network.config, network.kits.parent / "authority"
    provision.add(config, "gone", role="researcher")
    provision.revoke(config, "gone")
    authority = pki.Authority.open(ca, "trust")
    twin = pki.Authority.create(tmp_path_factory.mktemp("twin") / "a", "trust")
    past = pki.now_utc() - timedelta(days=400)
    for name, issuer, when in (
        ("stranger", twin, None),
        ("renamed", authority, None),
        ("old", authority, past),
    ):
        folder, key = network.kits / name, pki.generate_key()
        folder.mkdir()
        called = {"stranger": "anna", "old": "anna"}.get(name, name)
        identity = network.kit("anna").identity if called == "anna" else Identity.generate()
        pem = issuer.issue_member("researcher", called, key.public_key(), identity.public, when)
        (folder / "researcher.pem").write_bytes(pem)
        (folder / "researcher.key").write_bytes(pki.key_to_pem(key))
        (folder / "identity.key").write_bytes(identity_text(identity))
    shutil.copytree(network.kits.parent / "server", network.kits / "server")
    assert network.description.look_again()


@pytest.mark.parametrize(("who", "method"), ROWS, ids=["-".join(row) for row in ROWS])
def test_each_role_may_what_the_table_says(
    network: Network, others: None, who: str, method: str
) -> None:
    name = f"{who}-{method}".lower()
    id = network.submitted("anna", name)
    if method in ("Rerun", "Fetch"):
        network.desk.bring(id, "complete")
    file = network.kits / "north" / "ca.pem"
    network.desk.packages[id] = {"files.json": file}
    call = body(network, method, id, own=who != "bert")
    if isinstance(call, f.Rerun):
        one = network.submission("anna", name, repeat=1)
        call = f.Rerun(study=one.study.body().decode(), signature=one.signature.hex(), of=id)
    code, text = ask(network, who, method, call)
    expected = MATRIX[who].split()[METHODS.index(method)]
    if expected == "UNAUTHENTICATED" and who == "old":
        assert code in ("UNAUTHENTICATED", "UNAVAILABLE")
        return
    assert code == expected, text
    if code != "OK":
        assert network.desk.store.get(id).state in ("submitted", "complete")
    if expected == "NOT_FOUND":
        missing = call.model_copy(
            update={"of": NONE} if isinstance(call, f.Rerun) else {"study": NONE}
        )
        never = ask(network, who, method, missing)
        assert never == (code, text.replace(id, NONE)), "it would learn that the study exists"


@pytest.mark.parametrize(
    ("who", "code"),
    [("north", "welcome"), ("anna", "enrolment"), ("office", "enrolment"), ("gone", "enrolment")],
)
def test_the_hospitals_stream_is_for_hospitals(
    network: Network, others: None, who: str, code: str
) -> None:
    hello = Hello(
        wire=WIRE_VERSION, version=own_version(), instance="a" * 32, description=0, issued=""
    )
    talk = network.channel(network.kits / who).stream_stream(METHOD)
    stream = talk(iter([hello.to_bytes()]), timeout=20)
    first = read_frame(next(stream))
    stream.cancel()
    assert (first.code if isinstance(first, Refused) else "welcome") == code
    assert isinstance(first, Refused | Welcome)


def test_who_is_listed_what(network: Network) -> None:
    ids = {who: network.submitted(who, f"of-{who}") for who in ("anna", "bert")}

    def seen(who: str) -> set[str]:
        listed = f.Listed.read(network.call(who, "List", f.List(most=1000)))
        return {line.id for line in listed.studies} & set(ids.values())

    assert seen("anna") == {ids["anna"]} and seen("bert") == {ids["bert"]}
    assert seen("office") == seen("north") == set(ids.values())
    assert seen("east") == set()


# --- submitting -----------------------------------------------------------------------------------
def submit(network: Network, who: str, **changes: str) -> f.Submitted:
    one = network.submission(who, "mine")
    values = {"study": one.study.body().decode(), "signature": one.signature.hex()} | changes
    return f.Submitted.read(network.call(who, "Submit", f.Submit(**values)))


def refused(network: Network, who: str, method: str, call: f.Frame | bytes) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        network.call(who, method, call)
    return caught.value.code().name, caught.value.details()


def test_a_submission_counts_once(network: Network) -> None:
    one = network.submission("anna", "once")
    call = f.Submit(study=one.study.body().decode(), signature=one.signature.hex())
    first = f.Submitted.read(network.call("anna", "Submit", call))
    again = f.Submitted.read(network.call("anna", "Submit", call))
    assert first.new and not again.new and first.line == again.line
    assert first.line.waiting_for == ("north", "south") == first.line.hospitals
    shown = f.Shown.read(network.call("anna", "Show", f.Show(study=first.line.id[:12])))
    signed = SignedStudy.read(shown.signed.encode(), network.description.now)
    assert signed.study == one.study and [d.word for d in shown.decisions] == ["waiting"] * 2


def test_what_is_submitted_is_held_against_keys_and_roster(network: Network) -> None:
    one = network.submission("anna", "false")
    text, signature = one.study.body().decode(), one.signature.hex()
    name = (Code.FAILED_PRECONDITION.name,)
    stolen = f.Submit(study=text, signature=signature)
    assert refused(network, "bert", "Submit", stolen) == (
        *name,
        "researcher: says 'anna', and 'bert' calls",
    )
    altered = f.Submit(study=text.replace("Does it", "Will it"), signature=signature)
    assert "isn't signed by 'anna'" in refused(network, "anna", "Submit", altered)[1]
    study = one.study.model_copy(update={"hospitals": ("north", "west")})
    foreign = study.signed(network.kit("anna").identity)
    call = f.Submit(study=study.body().decode(), signature=foreign.signature.hex())
    assert (
        "study.hospitals: 'west' is no hospital of this network"
        in refused(network, "anna", "Submit", call)[1]
    )
    ended = one.study.model_copy(update={"ends": "2026-01-01T00:00:00+00:00"})
    call = f.Submit(
        study=ended.body().decode(),
        signature=ended.signed(network.kit("anna").identity).signature.hex(),
    )
    assert "study.ends: it ended" in refused(network, "anna", "Submit", call)[1]


def test_a_repeat_is_the_same_study_counted_up(network: Network) -> None:
    id = network.submitted("anna", "again")
    one = network.submission("anna", "again", repeat=1)

    def rerun(study: object = one.study) -> f.Rerun:
        signature = study.signed(network.kit("anna").identity).signature.hex()  # type: ignore[attr-defined]
        return f.Rerun(study=study.body().decode(), signature=signature, of=id)  # type: ignore[attr-defined]

    assert "is submitted; abort it first" in refused(network, "anna", "Rerun", rerun())[1]
    network.desk.bring(id, "complete")
    other = one.study.model_copy(update={"wait_s": 1.0})
    assert (
        "only repeat and ends may be others" in refused(network, "anna", "Rerun", rerun(other))[1]
    )
    same = one.study.model_copy(update={"repeat": 0})
    assert "repeat: 0 isn't above 0" in refused(network, "anna", "Rerun", rerun(same))[1]
    done = f.Submitted.read(network.call("anna", "Rerun", rerun()))
    assert done.new and done.line.id == one.study.id != id
    assert not f.Submitted.read(network.call("anna", "Rerun", rerun())).new


def test_a_name_is_of_the_study_that_goes_on(network: Network) -> None:
    id = network.submitted("anna", "named")
    network.desk.bring(id, "complete")
    assert f.Shown.read(network.call("anna", "Show", f.Show(study="named"))).line.id == id
    one = network.submission("anna", "named", repeat=1)
    network.call(
        "anna",
        "Rerun",
        f.Rerun(study=one.study.body().decode(), signature=one.signature.hex(), of=id),
    )
    shown = f.Shown.read(network.call("anna", "Show", f.Show(study="named")))
    assert shown.line.id == one.study.id
    network.submitted("bert", "named")
    assert "is several studies" in refused(network, "office", "Show", f.Show(study="named"))[1]
    assert f.Shown.read(network.call("anna", "Show", f.Show(study="named"))).line == shown.line


def test_an_abort_says_what_it_found(network: Network) -> None:
    id = network.submitted("anna", "ended")
    call = f.Abort(study=id, reason="no longer\nwanted")
    for _ in range(2):  # again is no mistake
        line = f.Changed.read(network.call("office", "Abort", call)).line
        assert (line.state, line.reason) == ("aborted", "no longer wanted")
    done = network.submitted("anna", "done")
    network.desk.bring(done, "complete")
    told = refused(network, "anna", "Abort", f.Abort(study=done, reason="x"))
    assert told == ("FAILED_PRECONDITION", "'done' is complete already")


# --- streams --------------------------------------------------------------------------------------
def test_watching_shows_what_a_role_may_see_and_ends(network: Network) -> None:
    id, store = network.submitted("anna", "watched"), network.desk.store
    network.submitted("bert", "between")  # events of another study leave no gap in the numbers
    network.desk.bring(id, "waiting")
    streams = {who: network.stream(who, "Watch", f.Watch(study=id)) for who in ("anna", "north")}
    began = {who: f.Watched.read(next(stream)) for who, stream in streams.items()}
    assert began["anna"].line.waiting_for == ("north", "south")
    assert began["north"].line.waiting_for == ("north",)
    store.decide(id, "south", "rejected", "not now")
    store.decide(id, "north", "accepted")
    row = store.get(id)
    store.change(id, "queued", expect="waiting", fence=row.fence, who="server")
    store.claim("test", 100.0, 100)
    network.desk.rounds[id] = Progress(2, 3)
    row = store.get(id)
    store.change(id, "failed", expect="running", fence=row.fence, who="server", reason="no rows")
    seen = {}
    for who, stream in streams.items():
        parts = [began[who], *map(f.Watched.read, stream)]
        seen[who] = [event for part in parts for event in part.events]
        # why may be another hospital's affair
        why = "no rows" if who == "anna" else FAILED
        assert (parts[-1].line.state, parts[-1].line.reason) == ("failed", why)
        assert seen[who][-1].reason == why
        assert (parts[-1].line.round, parts[-1].line.rounds) == (2, 3)
        assert [event.number for event in seen[who]] == list(range(1, len(seen[who]) + 1))
    said = [(event.who, event.new, event.reason) for event in seen["anna"]]
    assert ("south", "rejected", "not now") in said
    assert {event.who for event in seen["north"] if event.kind == "decision"} == {"north"}
    rest = list(network.stream("anna", "Watch", f.Watch(study=id, after=len(said) - 1)))
    (last,) = [event for part in rest for event in f.Watched.read(part).events]
    assert last == seen["anna"][-1]


def test_a_stream_ends_when_its_caller_is_revoked(tmp_path: Path) -> None:
    network = Network(tmp_path)
    try:
        id = network.submitted("bert", "mine")
        stream = network.stream("bert", "Watch", f.Watch(study=id))
        assert f.Watched.read(next(stream)).line.id == id
        provision.revoke(network.config, "bert")
        assert network.description.look_again()
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() == Code.UNAUTHENTICATED and "roster" in caught.value.details()
        assert refused(network, "bert", "List", f.List())[0] == "UNAUTHENTICATED"
    finally:
        network.close()


def test_a_file_is_fetched_from_any_byte_on(network: Network, tmp_path: Path) -> None:
    id = network.submitted("anna", "fetched")
    assert "is submitted, and has no results yet" in fetched(network, id, "files.json", 0)
    network.desk.bring(id, "complete")
    data = bytes(range(256)) * 9000  # two pieces, and a bit
    (tmp_path / "model").write_bytes(data)
    (tmp_path / "empty").write_bytes(b"")
    network.desk.packages[id] = {
        "model/m": tmp_path / "model",
        "empty": tmp_path / "empty",
        "lost": tmp_path / "lost",
    }
    for offset in (0, 5, len(data)):
        head, *pieces = network.stream(
            "anna", "Fetch", f.Fetch(study=id, name="model/m", offset=offset)
        )
        assert f.FileHead.read(head) == f.FileHead(name="model/m", size=len(data), offset=offset)
        assert b"".join(pieces) == data[offset:]
    (head,) = network.stream("anna", "Fetch", f.Fetch(study=id, name="empty"))
    assert f.FileHead.read(head).size == 0
    for name, offset, message in (
        ("../network.toml", 0, "is no file of the results"),
        ("empty", 1, "offset: 1 of a file of 0 bytes"),
        ("lost", 0, "'lost' can't be read at the server"),
    ):
        said = fetched(network, id, name, offset)
        assert message in said and str(tmp_path) not in said


def fetched(network: Network, id: str, name: str, offset: int) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        list(network.stream("anna", "Fetch", f.Fetch(study=id, name=name, offset=offset)))
    return str(caught.value.details())


# --- limits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "data", "message"),
    [
        ("List", b"", "List: 'as a whole'"),
        ("List", b'{"states":[],"most":1,"role":"coordinator"}', "List: 'role'"),
        ("List", b'{"states":["done"],"most":1}', "List: 'states.0'"),
        ("Show", b'{"study":"../x"}', "Show: 'study'"),
        ("Show", b'{"study":"' + b"x" * 70_000 + b'"}', "has 70012 bytes"),
        ("Abort", b'{"study":"abc","reason":""}', "Abort: 'reason'"),
        ("Submit", b'{"study":"{}","signature":"00"}', "Submit: 'signature'"),
    ],
)
def test_what_isnt_exactly_a_call_is_refused(
    network: Network, method: str, data: bytes, message: str
) -> None:
    code, text = refused(network, "anna", method, data)
    assert code == "INVALID_ARGUMENT" and message in text


def test_a_member_has_so_many_calls_studies_and_streams(tmp_path: Path) -> None:
    limits = Limits(burst=120, per_s=1e-6, own=2)
    network = Network(tmp_path, limits, most_open=2)
    try:
        ids = [network.submitted("anna", f"s{number}") for number in range(2)]
        full = body(network, "Submit", NONE)
        code, text = refused(network, "anna", "Submit", full)
        assert code == "RESOURCE_EXHAUSTED" and "2 studies of yours aren't over" in text
        network.call("anna", "Abort", f.Abort(study=ids[0], reason="room"))
        network.call("anna", "Submit", full)
        streams = [network.stream("anna", "Watch", f.Watch(study=ids[1])) for _ in range(2)]
        for stream in streams:
            next(stream)
        assert "2 calls of yours are under way" in refused(network, "anna", "List", f.List())[1]
        streams[0].cancel()  # and its place is free again, before a sign of life is due
        for _ in range(100):
            if ask(network, "anna", "List", f.List())[0] == "OK":
                break
            time.sleep(0.05)
        else:
            raise AssertionError("a place is held by a stream that nobody reads")
        streams[1].cancel()
        said = [ask(network, "anna", "List", f.List()) for _ in range(120)]
        assert said[-1][0] == "RESOURCE_EXHAUSTED" and "calls a second" in said[-1][1]
        assert ask(network, "bert", "List", f.List())[0] == "OK"
    finally:
        network.close()


def test_a_caller_gets_the_newest_description(network: Network) -> None:
    now = network.description.now
    older = f.Describe(version=now.version - 1, issued=now.issued)
    text = f.Described.read(network.call("bert", "Describe", older)).description
    assert text == network.description.text()
    same = f.Describe(version=now.version, issued=now.issued)
    assert f.Described.read(network.call("bert", "Describe", same)).description == ""


def test_who_asks_a_server_that_another_has_followed_asks_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen in a campaign: a leader was frozen while a study was handed in, and its researcher was
    told what the server must do."""

    def followed(*_: object, **__: object) -> None:
        raise Deposed("another server leads by now", mend="ask again, and it answers")

    id = network.submitted("anna", "followed")
    monkeypatch.setattr(network.desk, "abort", followed)
    code, said = ask(network, "anna", "Abort", f.Abort(study=id, reason="a test"))
    assert (code, said) == (
        "UNAVAILABLE",
        "another server leads by now; ask again, and it answers",
    )
