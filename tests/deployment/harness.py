"""A small federation of real processes on loopback, and what can be done to it.

Everything waits for a condition, read from files and logs, never for a time; a wait that takes long
fails with the logs. Every hospital dials through a CONNECT proxy of its own, which can break.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.deployment.proxy import FaultProxy
from tests.provisioning import hold_out_as_simulated

ROOT = Path(__file__).parents[2]
PATIENCE_S = float(os.environ.get("WARDROUND_TEST_PATIENCE", "90"))
Patch = tuple[str, dict[str, Any]]
TOML = """
[federation]
name = "trial"
rounds = {rounds}
min_clients = {min_clients}
round_timeout_s = 60
round_attempts = {attempts}
{pause}
[data]
path = "hospitals"
[task]
name = "tabular"
[task.columns]
target = "ill"
numeric = ["*"]
[training]
lr = 0.1
[secure_aggregation]
{masks}
[server]
address = "localhost:{port}"
listen = "127.0.0.1:{port}"
hospitals = [{names}]
wait_s = {wait_s}
heartbeat_s = {heartbeat_s}
lease_s = {lease_s}
max_message_mb = {max_message_mb}
"""


MASKS = "enabled = true\nthreshold = 0.6\nmin_cohort = {}"


class Zygote:
    """The process that forks Wardround's processes."""

    shared: Zygote | None = None

    def __init__(self) -> None:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        for name in ("https_proxy", "GRPC_VERBOSITY"):  # flwr sets the latter
            env.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.deployment.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
        )
        self._changed = threading.Condition()
        self._jobs: dict[int, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        assert self._process.stdout is not None
        assert b"ready" in self._process.stdout.readline()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @classmethod
    def get(cls) -> Zygote:
        """The one of this test process."""
        if cls.shared is None or cls.shared._process.poll() is not None:
            cls.shared = cls()
        return cls.shared

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            with self._changed:
                self._jobs.setdefault(said["id"], {}).update(said)
                self._changed.notify_all()

    def spawn(self, **job: Any) -> tuple[int, int]:
        """Job number and process number."""
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, **job}).encode() + b"\n")
        self._process.stdin.flush()
        with self._changed:
            assert self._changed.wait_for(lambda: "pid" in self._jobs.get(number, {}), 60)
            return number, int(self._jobs[number]["pid"])

    def status(self, number: int) -> int | None:
        """Exit code of a job, negative for a signal; None while it runs."""
        with self._changed:
            status = self._jobs[number].get("status")
        return None if status is None else os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Ends it and its children."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)
        self._thread.join(120)
        assert self._process.stdout is not None
        self._process.stdout.close()
        Zygote.shared = None


def until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait until ``condition()`` is true, and return it."""
    deadline = time.monotonic() + patience_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {patience_s:g} s")
        time.sleep(0.02)
    return value


class Process:
    """A running ``wardround ...``."""

    def __init__(
        self,
        argv: list[str],
        cwd: Path,
        log: Path,
        env: dict[str, str] | None = None,
        patches: list[Patch] | None = None,
    ) -> None:
        self.argv, self.log = argv, log
        self._from = log.stat().st_size if log.exists() else 0
        self._job, self.pid = Zygote.get().spawn(
            argv=argv, cwd=str(cwd), log=str(log), env=env or {}, patches=patches or []
        )

    @property
    def text(self) -> str:
        """What this start of the process has said."""
        data = self.log.read_bytes() if self.log.exists() else b""
        return data[self._from :].decode(errors="replace")

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return Zygote.get().status(self._job)

    @property
    def running(self) -> bool:
        """Whether it hasn't ended."""
        return self.code is None

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended."""
        until(lambda: not self.running, f"{self.argv} to end\n{self.tail()}", patience_s)
        assert self.code is not None
        return self.code

    def says(self, text: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until it has said ``text``."""
        try:
            until(lambda: text in self.text, f"'{text}'", patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        return "\n".join(self.text.splitlines()[-lines:])


class Federation:
    """One provisioned federation in a folder."""

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...] = ("a", "b", "c"),
        rounds: int = 4,
        secure: bool = False,
        heartbeat_s: float = 0.4,
        lease_s: float = 2.5,
        min_clients: int | None = None,
        max_message_mb: int = 64,
        wait_s: float = 30.0,
        extra: str = "",
        rows: dict[str, list[list[float]]] | None = None,
        policy: str = "",
        attempts: int = 20,
        pace: str = "",
    ) -> None:
        from wardround.common.config.load import load_config
        from wardround.server.provision.kits import provision

        self.folder, self.names, self.secure = folder, names, secure
        self.min_clients = min_clients or len(names)
        self.port = free_port()
        (folder / "hospitals").mkdir(parents=True)
        for index, name in enumerate(names):
            write_csv(folder / "hospitals" / f"{name}.csv", (rows or {}).get(name), index)
        self.config = folder / "federation.toml"
        self.config.write_text(
            TOML.format(
                rounds=rounds,
                attempts=attempts,
                pause=("retry_wait_s = 0.3\n" if attempts > 1 else "") + pace,
                masks=MASKS.format(min(3, len(names))) if secure else "enabled = false",
                min_clients=self.min_clients,
                port=self.port,
                names=", ".join(f'"{name}"' for name in names),
                heartbeat_s=heartbeat_s,
                lease_s=lease_s,
                max_message_mb=max_message_mb,
                wait_s=wait_s,
            )
            + extra
        )
        provision(load_config(self.config))
        for name in names:
            hold_out_as_simulated(self.kit(name), load_config(self.config).federation.seed, name)
        for name in names if not secure or policy else []:
            site = self.kit(name) / "site.toml"
            rule = "" if secure else "require_secure_aggregation = false\n"
            site.write_text(f"{rule}{policy}\n" + site.read_text())
        self.proxies = {name: FaultProxy() for name in names}
        self.server: Process | None = None
        self.clients: dict[str, Process] = {}
        self._processes: list[Process] = []

    def add(self, name: str) -> None:
        """One more hospital, that the file names and whose rows are there."""
        from wardround.common.config.load import load_config
        from wardround.server.provision.kits import provision

        provision(load_config(self.config))
        if not self.secure:
            site = self.kit(name) / "site.toml"
            site.write_text("require_secure_aggregation = false\n" + site.read_text())
        hold_out_as_simulated(self.kit(name), load_config(self.config).federation.seed, name)
        self.names += (name,)
        self.proxies[name] = FaultProxy()

    def kit(self, name: str) -> Path:
        """A hospital's start-up kit."""
        return self.folder / "provision" / "kits" / name

    def start_server(self, *arguments: str, patches: list[Patch] | None = None) -> Process:
        """``wardround server federation.toml``."""
        argv = ["server", "federation.toml", *arguments]
        log = self.folder / "server.log"
        self.server = Process(argv, self.folder, log, None, patches)
        self._processes.append(self.server)
        return self.server

    def start_client(
        self,
        name: str,
        patches: list[Patch] | None = None,
        kit: Path | None = None,
        direct: bool = False,
    ) -> Process:
        """``wardround client KIT --data SHARD``."""
        argv = ["client", str(kit or self.kit(name)), "--data", f"hospitals/{name}.csv"]
        env = {} if direct else self.proxies[name].env
        process = Process(argv, self.folder, self.folder / f"{name}.log", env, patches)
        self.clients[name] = process
        self._processes.append(process)
        return process

    def start(
        self,
        server: list[Patch] | None = None,
        clients: dict[str, list[Patch]] | None = None,
    ) -> None:
        """The server and all hospitals."""
        self.start_server(patches=server)
        for name in self.names:
            self.start_client(name, (clients or {}).get(name))

    def finish(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until the run is complete."""
        assert self.server is not None
        try:
            code = self.server.wait(patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tails()}") from None
        assert code == 0, self.tails()

    def stop_clients(self) -> None:
        """SIGTERM to every hospital; each must end cleanly."""
        for client in self.clients.values():
            client.signal(signal.SIGTERM)
        for client in self.clients.values():
            code, said = client.wait(), client.tail()
            # one that was started a moment ago may not have got to handle signals yet
            clean = code in (0, -signal.SIGKILL) or (code == -signal.SIGTERM and not said)
            clean = clean or (code == 10 and "is revoked" in said)  # as soon as it was started
            assert clean, said or f"exit code {code}, and not a word"

    def close(self) -> None:
        """Kill whatever is left."""
        for process in self._processes:
            process.signal(signal.SIGCONT)
            process.kill()
        for proxy in self.proxies.values():
            proxy.close()

    def tails(self) -> str:
        """The ends of all logs."""
        everyone = {"server": self.server, **self.clients}
        return "\n".join(f"--- {n}\n{p.tail()}" for n, p in everyone.items() if p is not None)

    # --- what came out -------------------------------------------------------------------------
    @property
    def run(self) -> Path:
        """The newest run directory."""
        return max((self.folder / "runs").iterdir(), key=lambda one: one.stat().st_mtime_ns)

    def rounds(self) -> list[dict[str, Any]]:
        """Committed rounds, as in metrics.jsonl."""
        folder = self.folder / "runs"
        runs = sorted(folder.iterdir()) if folder.is_dir() else []
        if not runs or not (self.run / "metrics.jsonl").exists():
            return []
        lines = (self.run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def reach_round(self, number: int) -> None:
        """Wait until a round is committed."""
        try:
            until(lambda: len(self.rounds()) >= number, f"round {number}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tails()}") from None

    def model(self) -> dict[str, np.ndarray]:
        """The final model."""
        return load_file(self.run / "model" / "model.safetensors")

    def model_digest(self) -> str:
        """SHA-256 of the final model's arrays."""
        total = hashlib.sha256()
        for name, value in sorted(self.model().items()):
            total.update(name.encode() + value.tobytes())
        return total.hexdigest()

    def audit(self, party: str = "server") -> list[dict[str, Any]]:
        """Lines of an audit log."""
        path = self.audit_path(party)
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def audit_path(self, party: str) -> Path:
        """Where an audit log is."""
        provision = self.folder / "provision"
        own = provision / "server" if party == "server" else self.kit(party) / "state"
        return own / "audit.jsonl"

    def refusals(self, party: str = "server") -> list[str]:
        """Reasons of what was refused, by an audit log."""
        events = ("refused", "policy", "manifest")
        lines = [line for line in self.audit(party) if line["event"] in events]
        return [str(why) for one in lines if (why := one.get("reason") or one.get("refused"))]


@contextmanager
def federation(folder: Path, **options: Any) -> Iterator[Federation]:
    """A federation that is cleaned up."""
    made = Federation(folder / "federation", **options)
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    """A port that nobody listens on now, nor gets for a connection that it dials."""
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", secrets.randbelow(12_000) + 20_000))
            return int(probe.getsockname()[1])


def write_csv(path: Path, rows: list[list[float]] | None, seed: int) -> None:
    """Two features and 'ill'; by default thirty random patients."""
    if rows is None:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(30, 2))
        y = (x[:, 0] - 0.5 * x[:, 1] + rng.normal(size=30) > 0).astype(int)
        rows = [[*map(float, values), int(label)] for values, label in zip(x, y, strict=True)]
    lines = ["first,second,ill", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
