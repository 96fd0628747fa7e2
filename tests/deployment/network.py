"""A small network of real processes on loopback, its researchers, and what can be done to it.

As in ``harness.py`` everything waits for a condition. Hospitals are unlike: other numbers of rows,
other means. What came of it is read from what is on the disks at both ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.deployment.harness import Patch, Process, free_port, until
from tests.deployment.network_words import (
    HOSPITALS,
    NETWORK,
    SITE,
    STUDY,
    write_persons,
    write_rows,
)
from wardround.client.site.approval import Approvals
from wardround.client.site.kit import Kit, ResearcherKit
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.durable.private import write_private
from wardround.common.errors import WardroundError
from wardround.common.study import frames as f
from wardround.common.study.states import OVER
from wardround.common.study.study import SignedStudy, Study
from wardround.common.transport import tls
from wardround.common.trust.pki import now_utc
from wardround.server.provision import kits as provision
from wardround.server.studies.rows import StudyRow
from wardround.server.studies.store import StudyStore


class NotServed(Exception):
    """What the server answered a researcher instead; ``code``: gRPC's word."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code().name
        super().__init__(f"{self.code}: {error.details()}")


class StandingNetwork:
    """One provisioned network in a folder. Two servers may run in it.

    Each hospital holds out the same rows in every such network: the same study, the same model.

    lease_s : of the network's lease and of a running study's
    database : as ``network.database``
    site : lines for every hospital's rules
    """

    def __init__(
        self,
        folder: Path,
        lease_s: float = 1.0,
        database: str = "",
        site: str = "",
        at_once: int = 2,
    ) -> None:
        self.folder, self.lease_s = folder, lease_s
        self.port = free_port()
        folder.mkdir(parents=True)
        self.file = folder / "network.toml"
        text = NETWORK.format(port=self.port, lease_s=lease_s, database=database, at_once=at_once)
        self.file.write_text(text)
        self.config = load_config(self.file)
        provision.provision(self.config)
        write_persons(folder)
        for number, name in enumerate(HOSPITALS):
            write_rows(folder / f"{name}.csv", number, 24 + 10 * number)
            rules = self.kit(name) / "site.toml"
            rules.write_text(SITE.format(rules.read_text(), site, name=name))
            key = Kit.open(self.kit(name)).state / "held_out.key"
            write_private(key, hashlib.sha256(name.encode()).digest())
        self.names = HOSPITALS
        self.servers: dict[str, Process] = {}
        self.clients: dict[str, Process] = {}
        self.sent: dict[str, Study] = {}
        self._channels: dict[str, grpc.Channel] = {}
        self._processes: list[Process] = []

    # --- processes ----------------------------------------------------------------------------
    def kit(self, name: str) -> Path:
        """Any member's kit."""
        return self.folder / "provision" / "kits" / name

    def start_server(self, which: str = "first", patches: list[Patch] | None = None) -> Process:
        """``wardround server network.toml``; a second one beside it is a standby."""
        log = self.folder / f"server-{which}.log"
        made = Process(["server", "network.toml"], self.folder, log, None, patches)
        self.servers[which] = made
        self._processes.append(made)
        return made

    def start_client(self, name: str, patches: list[Patch] | None = None) -> Process:
        """``wardround client run KIT --data NAME.csv``."""
        argv = ["client", "run", str(self.kit(name)), "--data", f"{name}.csv"]
        made = Process(argv, self.folder, self.folder / f"{name}.log", None, patches)
        self.clients[name] = made
        self._processes.append(made)
        return made

    def start(self) -> None:
        """A server, and all hospitals."""
        self.start_server()
        for name in HOSPITALS:
            self.start_client(name)

    def stop(self) -> None:
        """SIGTERM to every process; each must end cleanly."""
        every = {**self.clients, **{f"server-{k}": v for k, v in self.servers.items()}}
        for process in every.values():
            process.signal(signal.SIGTERM)
        for name, process in every.items():
            code = process.wait(30)
            early = code == -signal.SIGTERM and not process.text  # it had hardly been started
            assert code in (0, 130, -signal.SIGKILL) or early, f"{name}: {code}\n{process.tail()}"

    def close(self) -> None:
        """Kill whatever is left."""
        for channel in self._channels.values():
            channel.close()
        for process in self._processes:
            process.signal(signal.SIGCONT)
            process.kill()

    def children(self, name: str) -> list[int]:
        """Process numbers of those that compute for a hospital: who holds a study's lock."""
        folder = self.kit(name) / "state" / "studies"
        found = []
        for path in folder.glob("*/computing.lock"):
            holder = lock_holder(path)
            if holder:
                found.append(holder)
        return found

    def tails(self) -> str:
        """The ends of all logs."""
        every = {**self.servers, **self.clients}
        return "\n".join(f"--- {name}\n{one.tail()}" for name, one in every.items())

    def edit(self, old: str, new: str) -> None:
        """Change the network's file."""
        text = self.file.read_text()
        assert old in text, old
        self.file.write_text(text.replace(old, new))
        self.config = load_config(self.file)

    def move(self, port: int) -> None:
        """Provision it for another port of this machine; researchers dial that from now on."""
        self.edit(f":{self.port}", f":{port}")
        self.port = port
        provision.provision(self.config)
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    # --- researchers ----------------------------------------------------------------------------
    def study(
        self,
        name: str,
        researcher: str = "anna",
        hospitals: tuple[str, ...] = HOSPITALS,
        target: str = "ill",
        secure: bool = False,
        rounds: int = 3,
        lr: float = 0.1,
        fewest: int = 0,
        ends: str = "",
        more: str = "",
    ) -> Study:
        """What a researcher asks."""
        text = STUDY.format(
            name=name,
            hospitals=list(hospitals),
            target=target,
            secure=str(secure).lower(),
            rounds=rounds,
            lr=lr,
            fewest=fewest or len(hospitals),
            ends=f'ends = "{ends}"' if ends else "",
            more=more,
        )
        return self.study_of(text, researcher)

    def study_of(self, text: str, researcher: str = "anna") -> Study:
        """What a researcher asks by this file."""
        members = provision.load_server_folder(self.config).description
        return Study.of(parse_config(text), members, researcher, now=now_utc())

    def call(self, call: f.Call, answer: type[f.F], who: str = "anna") -> f.F:
        """A researcher's call. Raises NotServed."""
        if who not in self._channels:
            kit = ResearcherKit.open(self.kit(who))
            files = tls.Files(kit.ca_pem, kit.certificate_pem, kit.key_pem)
            options = [("grpc.max_reconnect_backoff_ms", 200)]
            address, credentials = f"localhost:{self.port}", tls.channel_credentials(files)
            self._channels[who] = grpc.secure_channel(address, credentials, options)
        method = self._channels[who].unary_unary(f.SERVICE + type(call).__name__)
        try:
            return answer.read(method(call.to_bytes(), timeout=10))
        except grpc.RpcError as error:
            raise NotServed(error) from None

    def submitted(self, study: Study, of: str = "") -> bool:
        """Hand a study in; whether there was an answer. Raises NotServed if it was refused.

        of : what it repeats
        """
        signed = study.signed(ResearcherKit.open(self.kit(study.researcher)).identity)
        body, signature = study.body().decode(), signed.signature.hex()
        call = f.Submit(study=body, signature=signature)
        if of:
            call = f.Rerun(study=body, signature=signature, of=of)
        self.sent[study.id] = study
        try:
            self.call(call, f.Submitted, study.researcher)
        except NotServed as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"):
                raise
            return False
        return True

    def submit(self, study: Study, of: str = "", patience_s: float = 30.0) -> str:
        """Hand a study in, again where there is no answer; its id."""
        what = f"study {study.name} to be taken\n{self.tails()}"
        until(lambda: self.submitted(study, of), what, patience_s)
        return study.id

    def rerun(self, id: str, repeat: int = 1) -> str:
        """Its researcher asks the very same once more."""
        return self.submit(self.sent[id].model_copy(update={"repeat": repeat}), of=id)

    def abort(self, id: str, reason: str = "changed my mind") -> None:
        """Its researcher ends a study. Raises NotServed."""
        self.call(f.Abort(study=id, reason=reason), f.Changed, self.sent[id].researcher)

    # --- a person at a hospital -----------------------------------------------------------------
    def approvals(self, name: str, id: str) -> Approvals | None:
        """What a person there decides on; None for a study that wasn't shown there."""
        folder = self.kit(name) / "state" / "studies" / id
        if not (folder / "study.signed").exists():
            return None
        return Approvals(folder, Kit.open(self.kit(name)).identity)

    def decide(self, name: str, id: str, approve: bool) -> bool:
        """Approve or reject what a study asks, or withdraw; False if there is nothing to decide."""
        if (approvals := self.approvals(name, id)) is None:
            return False
        found = approvals.pending() or approvals.in_force()
        for manifest in found:
            with contextlib.suppress(WardroundError):  # decided on in between
                if approve:
                    approvals.approve(manifest.digest())
                else:
                    approvals.reject(manifest.digest(), "not with our patients")
        return bool(found)

    def consent(self, name: str, id: str) -> None:
        """Approve what waits, and what was rejected."""
        if (approvals := self.approvals(name, id)) is not None:
            rejected = [one.manifest for one in approvals.decisions("rejected")]
            for manifest in [*approvals.pending(), *rejected]:
                with contextlib.suppress(WardroundError):
                    approvals.approve(manifest.digest())

    # --- what is on the disks -------------------------------------------------------------------
    @contextmanager
    def store(self) -> Iterator[StudyStore]:
        """The servers' database."""
        network = self.config.network
        assert network is not None
        default = self.folder / "provision" / "server" / "studies.sqlite"
        with StudyStore.open(network.database or default) as store:
            yield store

    def row(self, id: str) -> StudyRow:
        """Where a study stands."""
        with self.store() as store:
            return store.get(id)

    def reach(self, id: str, *states: str, patience_s: float = 60.0) -> StudyRow:
        """Wait until a study is in one of these states; in another last one it fails."""

        def there(store: StudyStore) -> StudyRow | None:
            row = store.get(id)
            assert row.state in states or row.state not in OVER, f"{row}\n{self.tails()}"
            return row if row.state in states else None

        try:
            with self.store() as store:  # opened once: it costs twenty times a question
                until(
                    lambda: there(store), f"study {self.sent[id].name} to be {states}", patience_s
                )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.row(id)}\n{self.tails()}") from None
        return self.row(id)

    def is_delivered(self, *ids: str, store: StudyStore | None = None) -> bool:
        """Whether studies are over, and no hospital is owed anything of them."""
        if store is None:
            with self.store() as opened:
                return self.is_delivered(*ids, store=opened)
        over = all(store.get(id).state in OVER for id in ids)
        return over and not any(store.deliveries(id=id) for id in ids)

    def delivered(self, *ids: str, patience_s: float = 60.0) -> None:
        """Wait until that is so."""
        try:
            with self.store() as store:
                done = partial(self.is_delivered, *ids, store=store)
                until(done, "the ends at every hospital", patience_s)
        except AssertionError as error:
            rows = [self.row(id) for id in ids]
            raise AssertionError(f"{error}\n{rows}\n{self.tails()}") from None

    def config_of(self, id: str) -> Config:
        """A study's settings, as all compute with them."""
        return self.sent[id].config(provision.load_server_folder(self.config).description)

    def run(self, id: str) -> Path:
        """A study's run directory."""
        return self.folder / "runs" / self.sent[id].run

    def rounds(self, id: str) -> list[dict[str, Any]]:
        """Its committed rounds."""
        path = self.run(id) / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def reach_round(self, id: str, number: int) -> None:
        """Wait until a round of a study is committed."""
        try:
            until(lambda: len(self.rounds(id)) >= number, f"round {number}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tails()}") from None

    def model(self, id: str) -> bytes:
        """The final model's file, at the server."""
        return (self.run(id) / "model" / "model.safetensors").read_bytes()

    def audit_path(self, party: str) -> Path:
        """Where an audit log is."""
        made = self.folder / "provision"
        return (made / "server" if party == "server" else self.kit(party) / "state") / "audit.jsonl"

    def audit(self, party: str) -> list[dict[str, Any]]:
        """Lines of an audit log."""
        path = self.audit_path(party)
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def signed(self, id: str) -> SignedStudy:
        """A study as the server keeps it, its signatures checked."""
        with self.store() as store:
            body = store.body(id)
        return SignedStudy.read(body, provision.load_server_folder(self.config).description)


@contextmanager
def standing(folder: Path, **options: Any) -> Iterator[StandingNetwork]:
    """A network that is cleaned up."""
    made = StandingNetwork(folder / "network", **options)
    try:
        yield made
    finally:
        made.close()


def lock_holder(path: Path) -> int:
    """The process that has a lock on a file; 0 if none."""
    with contextlib.suppress(FileNotFoundError):
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and int(words[5].rpartition(":")[2]) == inode:
                return int(words[4])
    return 0


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
