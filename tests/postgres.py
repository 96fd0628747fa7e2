"""A PostgreSQL of the tests' own: a real server on loopback, with a password, for one session.

PostgreSQL's programs refuse root, so root runs them as the user of Debian's package. Each test gets
a database of its own; one that stops the server starts it again.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BRING = "apt-get install -y --no-install-recommends postgresql"
_NAME = "ward"
_START_S = 60


def programs() -> Path | None:
    """The folder with initdb and pg_ctl, the newest version's; None if there is none."""
    found = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda path: float(path.parent.name),
    )
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    return found[-1] if found else None


class PostgreSQL:
    """One server, its data in a temporary folder. Start it with ``running``.

    durable : commits reach the disk, as in use; tests that only kill processes do without
    """

    def __init__(self, folder: Path, bin: Path, durable: bool = False) -> None:
        self.folder, self.password = folder, secrets.token_hex(8)
        self._bin, self._durable, self._made = bin, durable, 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    def init(self) -> None:
        """Make its data."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, _user(), None)
        word = self.folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)  # the folder is private
        self._call("initdb", "-D", "data", "-U", _NAME, "-A", "scram-sha-256", "-E", "UTF8",
                   "--locale=C", "--no-sync", f"--pwfile={word}")  # fmt: skip

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        settings = {"unix_socket_directories": str(self.folder), "listen_addresses": "127.0.0.1"}
        settings |= {"port": str(self.port), "shared_buffers": "16MB", "max_connections": "40"}
        settings |= {} if self._durable else {"fsync": "off", "full_page_writes": "off"}
        words = " ".join(f"-c {key}={value}" for key, value in settings.items())
        self._call(
            "pg_ctl", "start", "-w", "-t", str(_START_S), "-D", "data", "-l", "log", "-o", words
        )

    def stop(self) -> None:
        """Stop it as a crash would: connections break, nothing is said."""
        self._call("pg_ctl", "stop", "-m", "immediate", "-w", "-D", "data")

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        self._ask(f"CREATE DATABASE studies{self._made}")
        return self.url(f"studies{self._made}")

    def drop(self, url: str) -> None:
        """Take a database away, whoever is connected."""
        self._ask(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _ask(self, line: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres", ""), autocommit=True) as connection:
            connection.execute(line.encode())

    def url(self, database: str, driver: str = "+psycopg") -> str:
        """Of a database that is there."""
        return f"postgresql{driver}://{_NAME}:{self.password}@127.0.0.1:{self.port}/{database}"

    def _call(self, program: str, *words: str) -> None:
        user = pwd.getpwnam(_user()) if os.geteuid() == 0 else None
        done = subprocess.run(
            [str(self._bin / program), *words],
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=2 * _START_S,
            check=False,
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
        )
        if done.returncode:
            log = self.folder / "log"
            text = log.read_text("utf-8", "replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"{program}: {done.stderr.decode('utf-8', 'replace')[-2000:]}{text}")


def _user() -> str:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


@contextmanager
def running(durable: bool = False) -> Iterator[PostgreSQL]:
    """A server for as long as the block lasts. Raises FileNotFoundError if none is installed."""
    bin = programs()
    if bin is None:
        raise FileNotFoundError(f"PostgreSQL isn't installed: {BRING}")
    with tempfile.TemporaryDirectory(prefix="ward-pg-") as name:
        server = PostgreSQL(Path(name), bin, durable)
        server.init()
        server.start()
        try:
            yield server
        finally:
            server.stop()
