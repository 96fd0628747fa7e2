"""Short runs of two parties with their audit logs, and what who has the disk can do to one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from wardround.common.audit.lines import decode_line, encode_line
from wardround.common.audit.log import AuditLog, SignedHead
from wardround.common.trust.identity import Identity

NORTH, SERVER, OTHER = (Identity.from_bytes(bytes([n]) * 32) for n in (1, 2, 3))
PUBLICS = {"north": NORTH.public, "server": SERVER.public}


def exchange(log: AuditLog, peer: AuditLog, identity: Identity, public: bytes) -> SignedHead:
    head = log.signed_head()
    log.add_countersignature(head, peer.party, public, peer.countersign(head, identity.public))
    return head


def message(log: AuditLog, event: str, peer: str, request: str, digest: str = "ab" * 32) -> None:
    """A line as both ends write it: the server names the hospital."""
    fields = {"hospital": peer} if log.party == "server" else {"protection": "masked"}
    log.append(event, kind="train", round=1, bytes=1000, digest=digest, request=request, **fields)


def run(folder: Path, rounds: int = 3, key: Identity = SERVER) -> tuple[Path, Path]:
    """Two parties' logs of a short run: paths of north's and the server's, which signs with
    ``key``."""
    with (
        AuditLog.open(folder / "north" / "audit.jsonl", "north", NORTH) as north,
        AuditLog.open(folder / "server" / "audit.jsonl", "server", key) as server,
    ):
        for number in range(rounds):
            message(north, "sent", "server", f"up-{number}")
            message(server, "received", "north", f"up-{number}")
            message(server, "sent", "north", f"down-{number}")
            message(north, "received", "server", f"down-{number}")
            exchange(north, server, NORTH, key.public)
            exchange(server, north, key, NORTH.public)
    return north.path, server.path


Files = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""The lines of a log, those of its heads."""


@functools.lru_cache
def run_files(key: Identity = SERVER) -> tuple[Files, Files]:
    """What ``run`` leaves: north's files, the server's."""
    with tempfile.TemporaryDirectory() as folder:
        north, server = (_files(path) for path in run(Path(folder), key=key))
        return north, server


def _files(path: Path) -> Files:
    log, heads = path, path.with_suffix(".heads")
    return tuple(log.read_bytes().splitlines(True)), tuple(heads.read_bytes().splitlines(True))


@functools.lru_cache
def written(seed: int, count: int) -> tuple[tuple[bytes, ...], bytes, int]:
    """Lines of a log, its heads, and the number of its last countersigned line."""
    with tempfile.TemporaryDirectory() as folder:
        peer = AuditLog.open(Path(folder) / "peer" / "audit.jsonl", "server", SERVER)
        with AuditLog.open(Path(folder) / "audit.jsonl", "north", NORTH) as log:
            for number in range(count):
                log.append("error", reason=f"{seed} {number} " + "é" * (number % 3))
            last = exchange(log, peer, NORTH, SERVER.public).seq
        peer.close()
        lines = log.path.read_bytes().splitlines(keepends=True)
        return tuple(lines), log.path.with_suffix(".heads").read_bytes(), last


def remade(lines: list[bytes], start: int) -> list[bytes]:
    """Line ``start`` edited, and all hashes from it on made anew: what a disk's owner can do."""
    return _chained(lines, start - 1, {"bytes": 1})


def renumbered(lines: list[bytes], start: int) -> list[bytes]:
    """What is left of a log, some lines after the first ``start`` taken out, as a whole chain."""
    return _chained(lines, start, {})


def _chained(lines: list[bytes], start: int, more: dict[str, int]) -> list[bytes]:
    done = lines[:start]
    for raw in lines[start:]:
        line, before = decode_line(raw), decode_line(done[-1])
        assert line and before
        fields = {k: v for k, v in line.values.items() if k not in ("seq", "time", "prev", "hash")}
        event = fields.pop("event", "?")
        new, _ = encode_line(before.seq + 1, 1e9, event, fields | more, before.hash)
        done.append(new)
    return done
