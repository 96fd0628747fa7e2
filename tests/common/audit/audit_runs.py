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


def run(folder: Path, rounds: int = 3) -> tuple[Path, Path]:
    """Two parties' logs of a short run: paths of north's and the server's."""
    with (
        AuditLog.open(folder / "north" / "audit.jsonl", "north", NORTH) as north,
        AuditLog.open(folder / "server" / "audit.jsonl", "server", SERVER) as server,
    ):
        for number in range(rounds):
            message(north, "sent", "server", f"up-{number}")
            message(server, "received", "north", f"up-{number}")
            message(server, "sent", "north", f"down-{number}")
            message(north, "received", "server", f"down-{number}")
            exchange(north, server, NORTH, SERVER.public)
            exchange(server, north, SERVER, NORTH.public)
    return north.path, server.path


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
    done = lines[: start - 1]
    for raw in lines[start - 1 :]:
        line, before = decode_line(raw), decode_line(done[-1])
        assert line and before
        fields = {k: v for k, v in line.values.items() if k not in ("seq", "time", "prev", "hash")}
        event = fields.pop("event")
        new, _ = encode_line(line.seq, 1e9, event, fields | {"bytes": 1}, before.hash)
        done.append(new)
    return done
