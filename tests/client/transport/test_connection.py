"""A hospital's connection and the server's door, with gRPC and TLS between them, in one process."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from tests.deployment.harness import free_port, until
from tests.deployment.proxy import FaultProxy
from wardround.client.site.kit import Kit
from wardround.client.transport.connection import Connection
from wardround.common.config.load import load_config
from wardround.common.flower.content import encode_content
from wardround.common.protocol import names as m
from wardround.common.transport import frames as f
from wardround.common.transport import tls
from wardround.common.transport.mailbox import Incoming
from wardround.server.provision.kits import load_server_folder, provision
from wardround.server.reception.present_description import PresentDescription
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall
from wardround.server.transport.service import Door, Terms, open_port


@dataclass
class Server(ServerEvents):
    """The server's end."""

    folder: Path
    lease_s: float = 3.0
    refusals: list[tuple[str, str, str]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    entered: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = load_config(self.folder / "federation.toml")
        kept = load_server_folder(config)
        self.description = PresentDescription(kept)
        spool = self.folder / "spool"
        spool.mkdir()
        self.grid = HospitalGrid("run", Hall(self.lease_s, 64 << 20, spool, self))
        self.door = Door(
            self.grid.hall,
            Terms(instance="5" * 32, heartbeat_s=0.3, most_bytes=64 << 20),
            description=self.description,
            events=self,
            on_open=self.admit,
        )
        files = tls.Files(kept.ca_pem, kept.certificate_pem, kept.key_pem)
        self.server, _, self.port = open_port(
            self.door, config.server.listen, tls.server_credentials(files), 4
        )

        self.over = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """As the coordinator's."""
        while not self.over.wait(0.2):
            self.door.check_all(False)
            self.grid.hall.give_up_silent()

    def admit(self, name: str) -> None:
        self.grid.link(name).admitted = True

    def connected(self, name: str, address: str, version: str) -> None:
        self.entered.append(name)

    def refused(self, who: str, code: str, reason: str) -> None:
        self.refusals.append((who, code, reason))

    def disconnected(self, name: str, reason: str) -> None:
        self.ends.append(reason)


@dataclass
class Client:
    """The hospital's end: answers every request with ``answer_bytes`` of noise."""

    kit: Kit
    answer_bytes: int = 10
    signed_bytes: int = 1 << 40
    said: list[str] = field(default_factory=list)
    served: int = 0
    dialled: int = 0

    def __post_init__(self) -> None:
        self.noise = os.urandom(self.answer_bytes)
        self.connection = Connection(lambda: self.kit, self)
        self.thread = threading.Thread(target=self.connection.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.connection.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def dialling(self) -> None:
        self.dialled += 1

    def status(self, text: str, ok: bool) -> None:
        self.said.append(text)

    def connected(self, server: str) -> None: ...

    def most_bytes(self) -> int:
        return self.signed_bytes

    def described(self, data: bytes) -> None:
        self.kit = self.kit.update_description(data)

    def wanted(self, start: f.Start) -> str | None:
        return None

    def request(self, message: Incoming) -> None:
        message.file.close()
        self.served += 1
        body = encode_content(RecordDict({"c": ConfigRecord({"k": self.noise})}))
        digest = body.digest()
        name = hashlib.sha256((message.start.id + digest).encode()).hexdigest()
        reply = f.Start(
            number=0,
            id=name,
            kind="reply",
            type=message.start.type,
            reply_to=message.start.id,
            size_bytes=body.size_bytes,
            digest=digest,
        )
        self.connection.mailbox.put(reply, body)

    def delivered(self, start: f.Start) -> None: ...

    def undelivered(self, start: f.Start, reason: str) -> None:
        self.said.append(reason)

    def dropped(self, request_id: str) -> None: ...

    def heads(self, heads: f.Heads) -> None: ...


@dataclass
class Pair:
    """Both ends, and a proxy between."""

    folder: Path
    proxy: FaultProxy
    server: Server
    clients: list[Client] = field(default_factory=list)

    def client(self, answer_bytes: int = 10, signed_bytes: int = 1 << 40) -> Client:
        kit = Kit.open(self.folder / "provision" / "kits" / "a")
        self.clients.append(Client(kit, answer_bytes, signed_bytes))
        return self.clients[-1]

    def ask(self, timeout_s: float = 60.0, size_bytes: int = 0) -> Message:
        link = self.server.grid.link("a")
        content = RecordDict({"c": ConfigRecord({"k": bytes(size_bytes)})})
        message = Message(content, link.node_id, m.TRAIN)
        (reply,) = self.server.grid.send_and_receive([message], timeout=timeout_s)
        return reply


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    behind, proxy = free_port(), FaultProxy(upstream=0)
    proxy.upstream = behind
    (tmp_path / "federation.toml").write_text(
        f'[federation]\nname = "trial"\n[server]\naddress = "localhost:{proxy.port}"\n'
        f'listen = "127.0.0.1:{behind}"\nhospitals = ["a", "b"]\n'
    )
    provision(load_config(tmp_path / "federation.toml"))
    made = Pair(tmp_path, proxy, Server(tmp_path))
    yield made
    proxy.close()
    for client in made.clients:
        client.stop()
    made.server.over.set()
    made.server.server.stop(0).wait()
    mailboxes = [client.connection.mailbox for client in made.clients]
    for mailbox in [*mailboxes, *(link.line.mailbox for link in made.server.grid.links.values())]:
        mailbox.forget_partial()


def test_a_request_and_its_answer(pair: Pair) -> None:
    client = pair.client(3_000_000)
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    reply = pair.ask()
    assert reply.content["c"]["k"] == client.noise
    assert any("connected to" in line for line in client.said)


def test_the_signed_limit_holds_whatever_the_server_says(pair: Pair) -> None:
    client = pair.client(signed_bytes=1 << 20)
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    reply = pair.ask(size_bytes=2 << 20)
    assert "server.max_message_mb = 1 allows less" in (reply.error.reason or "")
    assert not pair.ask(size_bytes=1000).has_error() and client.served == 1


def test_who_comes_with_an_older_date_gets_what_was_signed_anew(pair: Pair) -> None:
    """And who has the later one, as the server was put back, gets nothing, and is let in."""
    old = (pair.folder / "provision" / "server" / "federation.signed").read_bytes()
    kit = Kit.open(pair.folder / "provision" / "kits" / "a")
    soon = datetime.now(UTC) + timedelta(seconds=5)
    shorter = load_config(pair.folder / "federation.toml", ["server.description_days=9"])
    renewed = provision(shorter, now=soon).description
    assert renewed.order > kit.description.order and renewed.digest() == kit.description.digest()
    (kit.folder / "federation.signed").write_bytes(old)
    assert pair.server.description.look_again() and not pair.server.description.look_again()
    client = pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    until(lambda: client.kit.description == renewed, "the description")
    client.stop()
    pair.clients.remove(client)
    (pair.folder / "provision" / "server" / "federation.signed").write_bytes(old)
    assert pair.server.description.look_again()
    again = pair.client()
    until(lambda: len(pair.server.entered) == 2 and again.connection.mailbox.is_open, "it again")
    assert pair.ask().content["c"]["k"] == again.noise and again.kit.description == renewed


def test_a_slow_link_carries_a_large_answer(pair: Pair) -> None:
    """Far slower than a megabyte in a lease; both ends hear enough of each other."""
    client = pair.client(600_000)
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    pair.proxy.rate = 60_000
    assert pair.ask().content["c"]["k"] == client.noise
    assert pair.server.ends == [] and len(pair.server.entered) == 1


def test_a_large_answer_goes_on_where_it_was_cut(pair: Pair) -> None:
    client = pair.client(32_000_000)
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    pair.proxy.up = 0
    pair.proxy.cut_after = 24_000_000
    assert pair.ask().content["c"]["k"] == client.noise
    assert len(pair.server.entered) == 2 and client.served == 1
    # at most eight chunks are on their way; from the beginning it would be 56 MB
    assert pair.proxy.up < 46_000_000, "more than what was lost went over again"


def test_a_black_hole_is_noticed_by_both(pair: Pair) -> None:
    client = pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    pair.proxy.black_hole = True
    began = time.monotonic()
    until(lambda: any("nothing came" in line for line in client.said), "the hospital to notice")

    until(lambda: pair.server.ends, "the server to notice")
    assert time.monotonic() - began < 3 * pair.server.lease_s
    assert "server.lease_s" in pair.server.ends[0]
    pair.proxy.heal()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital to come back")
    assert pair.ask().has_content()


def test_a_twin_is_refused_and_told(pair: Pair) -> None:
    pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    twin = pair.client()
    until(lambda: any("another process" in line for line in twin.said), "the twin to be told")
    assert [code for _, code, _ in pair.server.refusals] == ["twin"]
    assert pair.ask().has_content()


def test_the_same_refusal_is_written_down_once(pair: Pair) -> None:
    pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    twin = pair.client()
    until(lambda: any("another process" in line for line in twin.said), "the twin to be told")
    before = pair.proxy.connections
    until(lambda: pair.proxy.connections > before + 1, "it to try again")
    assert len(pair.server.refusals) == 1


def test_goodbye_is_said(pair: Pair) -> None:
    client = pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    pair.server.door.goodbye("the run is over")
    until(lambda: any("the run is over" in line for line in client.said), "the goodbye")


def test_a_client_that_stops_says_goodbye(pair: Pair) -> None:
    client = pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital")
    client.connection.stop("kill switch")
    until(lambda: pair.server.ends == ["it said goodbye: kill switch"], "the goodbye")
    assert pair.server.grid.link("a").left == "kill switch" and client.dialled == 1


def test_who_says_nothing_has_few_connections(pair: Pair) -> None:
    """Streams of a certificate's owner that never says hello don't keep others out."""
    kit = Kit.open(pair.folder / "provision" / "kits" / "b")
    files = tls.Files(kit.ca_pem, kit.certificate_pem, kit.key_pem)
    channels, calls, over = [], [], threading.Event()

    def silence() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    for _ in range(8):
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.secure_channel(
            f"localhost:{pair.proxy.port}", tls.channel_credentials(files), options
        )
        channels.append(channel)
        calls.append(channel.stream_stream(f.METHOD)(silence()))
    until(lambda: any(code == "busy" for _, code, _ in pair.server.refusals), "a refusal")
    pair.client()
    until(lambda: pair.server.grid.admitted() == ["a"], "the hospital beside them")
    over.set()
    for call, channel in zip(calls, channels, strict=True):
        call.cancel()
        channel.close()


def test_without_a_certificate_nothing_is_said(pair: Pair) -> None:
    kit = Kit.open(pair.folder / "provision" / "kits" / "a")
    credentials = grpc.ssl_channel_credentials(kit.ca_pem)
    with grpc.secure_channel(f"localhost:{pair.proxy.port}", credentials) as channel:
        with pytest.raises(grpc.RpcError):
            list(channel.stream_stream(f.METHOD)(iter([f.Ping().to_bytes()]), timeout=20))
    assert pair.server.entered == []


def test_a_nameless_or_closed_address_is_told_in_a_sentence(pair: Pair) -> None:
    pair.proxy.upstream = free_port()
    client = pair.client()
    until(lambda: client.said, "a sentence")
    assert "TLS" in client.said[0] or "refused" in client.said[0] or "broke" in client.said[0]
    assert "\n" not in client.said[0] and len(client.said[0]) < 300
