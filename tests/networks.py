"""What tests of a network's studies share: its members' kits, and its interface on a real port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc

from tests.deployment.harness import free_port
from wardround.client.site.kit import MemberKit, open_kit
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.errors import ResultsRefused
from wardround.common.study.frames import Frame
from wardround.common.study.states import State
from wardround.common.study.study import Study, Submission
from wardround.common.transport import tls
from wardround.common.trust.identity import Identity
from wardround.server.provision import kits as provision
from wardround.server.reception.present_description import PresentDescription
from wardround.server.studies.callers import Limits
from wardround.server.studies.desk import Progress
from wardround.server.studies.rights import Caller
from wardround.server.studies.rows import Decision, Event, NewStudy, StudyRow
from wardround.server.studies.service import StudiesService
from wardround.server.studies.store import StudyStore
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.hall import Hall
from wardround.server.transport.service import Door, Terms, open_port

MEMBERS = {
    "hospital": ("east", "north", "south"),
    "researcher": ("anna", "bert"),
    "coordinator": ("office",),
}
STUDY = """
[study]
name = "{name}"
purpose = "Does it work?"
hospitals = ["north", "south"]
[federation]
rounds = 3
min_clients = 2
[task.columns]
target = "malignant"
numeric = ["*"]
"""


@dataclass
class Desk:
    """Studies in a database of their own, and results in folders; nothing runs."""

    store: StudyStore
    server: Identity
    rounds: dict[str, Progress] = field(default_factory=dict)
    packages: dict[str, dict[str, Path]] = field(default_factory=dict)

    def submit(self, caller: Caller, submission: Submission, rerun_of: str = "") -> bool:
        study = submission.study
        signed = submission.accepted(self.server, datetime.now(UTC))
        row = NewStudy(
            study.id,
            study.name,
            study.researcher,
            study.hospitals,
            signed.to_bytes(),
            study.end.timestamp(),
        )
        return self.store.submit(row, str(caller))

    def list(self, caller: Caller, states: Collection[State], newest: int) -> Sequence[StudyRow]:
        return self.store.list(states, newest=newest)  # all of them: the interface must look

    def find(self, caller: Caller, text: str) -> Sequence[StudyRow]:
        return self.store.find(text)

    def signed(self, id: str) -> bytes:
        return self.store.body(id)

    def decisions(self, id: str) -> Sequence[Decision]:
        return self.store.decisions(id)

    def events(self, id: str, after: int) -> Sequence[Event]:
        return self.store.events(id, after)

    def progress(self, id: str) -> Progress:
        return self.rounds.get(id, Progress(0, 0))

    def abort(self, caller: Caller, id: str, reason: str) -> None:
        row = self.store.get(id)
        self.store.change(
            id, "aborted", expect=row.state, fence=row.fence, who=str(caller), reason=reason
        )

    def results(self, id: str) -> Mapping[str, Path]:
        if id not in self.packages:
            raise ResultsRefused("its results aren't made yet")
        return self.packages[id]

    def bring(self, id: str, to: State, reason: str = "") -> None:
        """Bring a study to a state by the steps that there are."""
        way: list[State] = ["waiting", "queued", "running"]
        for step in way[: way.index(to) + 1] if to in way else way:
            row = self.store.get(id)
            if step == "running":
                self.store.claim("test", 100.0, 100)
            else:
                self.store.change(id, step, expect=row.state, fence=row.fence, who="server")
        if to not in way:
            row = self.store.get(id)
            self.store.change(
                id, to, expect="running", fence=row.fence, who="server", reason=reason
            )


class Network:
    """A provisioned network whose interface listens on this machine."""

    def __init__(self, folder: Path, limits: Limits | None = None, most_open: int = 1000) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        lists = "\n".join(f"{role}s = {list(names)}" for role, names in MEMBERS.items())
        self.file = folder / "network.toml"
        self.address = f"localhost:{free_port()}"
        self.file.write_text(
            "[federation]\nname = 'trust'\n[network]\n"
            f"[server]\naddress = '{self.address}'\n{lists}\n"
        )
        self.kits = folder / "provision" / "kits"
        self.config: Config = load_config(self.file)
        provision.provision(self.config)
        kept = provision.load_server_folder(self.config)
        self.description = PresentDescription(kept)
        self.desk = Desk(StudyStore.open(folder / "studies.sqlite"), kept.identity)
        self._limits, self._most_open = limits or Limits(burst=10_000), most_open
        self._files = tls.Files(kept.ca_pem, kept.certificate_pem, kept.key_pem)
        self._spool = folder
        self._channels: dict[Path, grpc.Channel] = {}
        self.start()

    def start(self) -> None:
        """Listen."""
        self._service = StudiesService(
            self.desk,
            self.description,
            most_open=self._most_open,
            limits=self._limits,
            poll_s=0.05,
        )
        events = ServerEvents()
        door = Door(
            Hall(3.0, 1 << 20, self._spool, events),
            Terms(instance="5" * 32, heartbeat_s=0.3, most_bytes=1 << 20),
            description=self.description,
            events=events,
            on_open=lambda name: None,
        )
        credentials = tls.server_credentials(self._files)
        self._server, _, _ = open_port(door, self.address, credentials, 4, [self._service])

    def stop(self) -> None:
        """As a server that stops; it can be started again."""
        self._service.close()
        self._server.stop(0).wait()

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self.stop()
        self.desk.store.close()

    def kit(self, name: str) -> MemberKit:
        return open_kit(self.kits / name)

    def channel(self, folder: Path) -> grpc.Channel:
        """A connection with the certificate in a kit's folder, whatever is in it."""
        if folder not in self._channels:
            (certificate,) = [path for path in folder.glob("*.pem") if path.name != "ca.pem"]
            key = certificate.with_suffix(".key")
            files = tls.Files(
                (self.kits / "north" / "ca.pem").read_bytes(),
                certificate.read_bytes(),
                key.read_bytes(),
            )
            options = [("grpc.use_local_subchannel_pool", 1)]
            credentials = tls.channel_credentials(files)
            self._channels[folder] = grpc.secure_channel(self.address, credentials, options)
        return self._channels[folder]

    def call(self, who: str, method: str, body: Frame | bytes) -> bytes:
        """The answer to a call of one that isn't a stream. Raises grpc.RpcError."""
        data = body if isinstance(body, bytes) else body.to_bytes()
        ask = self.channel(self.kits / who).unary_unary(f"/wardround.Studies/{method}")
        return bytes(ask(data, timeout=20))

    def stream(self, who: str, method: str, body: Frame | bytes) -> grpc.Call:
        """The messages that answer a call, as they come."""
        data = body if isinstance(body, bytes) else body.to_bytes()
        ask = self.channel(self.kits / who).unary_stream(f"/wardround.Studies/{method}")
        return ask(data, timeout=20)

    def submission(
        self, who: str = "anna", name: str = "sepsis", repeat: int = 0, days: int = 30
    ) -> Submission:
        """A study of a researcher's, signed."""
        now = datetime.now(UTC).replace(microsecond=0)
        end = (now + timedelta(days=days)).isoformat()
        text = STUDY.format(name=name).replace("[federation]", f"ends = '{end}'\n[federation]")
        study = Study.of(parse_config(text), self.description.now, who, now=now, repeat=repeat)
        return study.signed(self.kit(who).identity)

    def submitted(self, who: str = "anna", name: str = "sepsis") -> str:
        """The id of a study that is there, as if this researcher had submitted it."""
        submission = self.submission(who, name)
        self.desk.submit(Caller("researcher", who), submission)
        return submission.study.id
