"""Linkage without transport, beside a library and beside the curve's operations alone.

    python -m benchmarks.linkage [--quick] [--json PATH]

Each party is a process of its own with n rows, half of which all parties have; they work at the
same time, each on one core where there are enough, and the coordinator compares.

processor s   of all parties and the coordinator together. Limit: hashes to the curve, points read
              and multiplied alone, as many as the protocol has, at the rate measured just before
              and after in as many processes at once
wall s        from the first step to the last: all parties on this machine's cores
MB sent       letters of all, before they are sealed
peak MB       of the largest party, rows and interpreter with it. Limit: before it has its rows

openmined-psi (two parties, of whom one learns the result) and rbcl's ristretto255 are measured in
the same run where the folder WARDROUND_PSI_LIBRARIES has them (`pip install --target FOLDER
openmined-psi rbcl`): the former wants another protobuf than Flower's.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

from benchmarks.report import Row, arguments, emit
from wardround.common.joint.party import COORDINATOR, Me
from wardround.common.linkage.procedure import Linkage
from wardround.common.settings import LinkageOptions

QUICK = ((10**4, 2), (10**4, 3))
CASES = ((10**4, 2), (10**4, 3), (10**4, 5), (10**5, 2), (10**5, 3), (10**6, 2))
LIBRARIES = os.environ.get("WARDROUND_PSI_LIBRARIES", "")
SESSION = b"benchmark".ljust(32)
PROBES = 3000

CURVE = """
import hashlib, json, os, sys, time
from cryptography.hazmat.primitives.asymmetric import ec
n, curve, dh = int(sys.argv[1]), ec.SECP256R1(), ec.ECDH()
read = ec.EllipticCurvePublicKey.from_encoded_point
key = ec.derive_private_key(int.from_bytes(os.urandom(31), "big") + 1, curve)
def point(number):
    for c in range(256):
        try:
            return read(curve, b"\\2" + hashlib.sha256(b"%d %d" % (c, number)).digest())
        except ValueError:
            pass
t0 = time.process_time(); points = [point(number) for number in range(n)]
t1 = time.process_time(); tokens = [key.exchange(dh, one) for one in points]
t2 = time.process_time(); again = [read(curve, b"\\2" + one) for one in tokens]
t3 = time.process_time(); print(json.dumps([(t1 - t0) / n, (t2 - t1) / n, (t3 - t2) / n]))
"""
RISTRETTO = """
import hashlib, json, os, sys, time, rbcl
n, scalar = int(sys.argv[1]), rbcl.crypto_core_ristretto255_scalar_random()
digests = [hashlib.sha512(b"%d" % number).digest() for number in range(n)]
hashed, times = rbcl.crypto_core_ristretto255_from_hash, rbcl.crypto_scalarmult_ristretto255
t0 = time.process_time(); points = [hashed(one) for one in digests]
t1 = time.process_time(); tokens = [times(scalar, one) for one in points]
t2 = time.process_time(); print(json.dumps([(t1 - t0) / n, (t2 - t1) / n, 0.0]))
"""
OPENMINED = """
import json, pathlib, sys, time
import private_set_intersection.python as psi
n = int(sys.argv[1])
ours = ["patient %d" % number for number in range(n)]
theirs = ["patient %d" % number for number in range(n // 2, n + n // 2)]
t = time.process_time()
client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
setup = server.CreateSetupMessage(1e-9, n, theirs, psi.DataStructure.RAW)
request = client.CreateRequest(ours)
answer = server.ProcessRequest(request)
found = client.GetIntersection(setup, answer)
t = time.process_time() - t
assert len(found) == n - n // 2
sent = setup.ByteSize() + request.ByteSize() + answer.ByteSize()
status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps([t, sent / 1e6, int(status.split("VmHWM:")[1].split()[0]) / 1024]))
"""


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows: list[Row] = []
    for number, parties in QUICK if options.quick else CASES:
        print(f"{parties} x {number:.0e} ...", file=sys.stderr, flush=True)
        rows += measure(number, parties)
        emit("Linkage, so far", rows, options.json)  # the next takes ten times as long


def measure(number: int, parties: int) -> list[Row]:
    """Figures of one case."""
    before = curve(CURVE)
    processor, wall, sent, peak, bare = linked(number, parties)
    limit = operations([(a + b) / 2 for a, b in zip(before, curve(CURVE), strict=True)], parties)
    peers: dict[str, dict[str, float | None]] = {"processor s": {}, "MB sent": {}, "peak MB": {}}
    if LIBRARIES:
        ristretto = operations(curve(RISTRETTO), parties)
        peers["processor s"]["rbcl alone"] = number * ristretto
        if parties == 2:
            for metric, value in zip(peers, alone(OPENMINED, number), strict=True):
                peers[metric]["openmined-psi"] = value
    case = f"{parties} x {number:,}"
    return [
        Row(case, "processor s", processor, "lower", peers["processor s"], number * limit),
        Row(case, "wall s", wall, "lower"),
        Row(case, "MB sent", sent, "lower", peers["MB sent"]),
        Row(case, "peak MB", peak, "lower", peers["peak MB"], bare),
    ]


def operations(costs: list[float], parties: int) -> float:
    """Seconds for one row of each party: hash, points multiplied and read, for all lists."""
    hashed, multiplied, read = costs
    hops = _procedure(tuple(map(str, range(parties)))).plan.hops
    return parties * (hashed + (hops + 1) * multiplied + hops * read)


def curve(code: str) -> list[float]:
    """Seconds of each operation, in a process on each core at once: their means."""
    cores = min(2, os.cpu_count() or 1)
    found = [json.loads(one) for one in _outputs(code, PROBES, cores)]
    return [sum(costs) / cores for costs in zip(*found, strict=True)]


def alone(code: str, number: int) -> list[float]:
    """What a library's own run prints."""
    found: list[float] = json.loads(_outputs(code, number, 1)[0])
    return found


def _outputs(code: str, number: int, count: int) -> list[str]:
    env = {**os.environ, "PYTHONPATH": LIBRARIES} if LIBRARIES else None
    command = [sys.executable, "-c", code, str(number)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(count)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit("a peer failed: is WARDROUND_PSI_LIBRARIES a folder that has both?")
    return outputs


def linked(number: int, parties: int) -> tuple[float, float, float, float, float]:
    """Processor seconds, wall seconds, MB sent, peak MB and MB before the rows, of one linkage.
    A result that isn't the intersection ends the benchmark."""
    names = tuple(f"party{place}" for place in range(parties))
    procedure = _procedure(names)
    context, pipes = multiprocessing.get_context("spawn"), {}
    for place, name in enumerate(names):
        pipes[name], theirs = context.Pipe()
        context.Process(target=party, args=(theirs, names, place, number), daemon=True).start()
        theirs.close()
    for pipe in pipes.values():
        pipe.recv_bytes()  # it has its rows
    coordinator = procedure.coordinator(_me(COORDINATOR, names, None))
    sent, start, own = 0, time.perf_counter(), time.process_time()
    post: dict[str, dict[str, bytes]] = {name: {} for name in (*names, COORDINATOR)}
    for step in range(procedure.most_steps):
        for name, pipe in pipes.items():
            _send(pipe, post[name])
        turns = {COORDINATOR: dict(coordinator.step(step, post[COORDINATOR]).letters)}
        turns |= {name: _received(pipe) for name, pipe in pipes.items()}
        post = {name: {} for name in post}
        for name, letters in turns.items():
            for to, text in letters.items():
                post[to][name] = text
                sent += len(text)
    wall, own = time.perf_counter() - start, time.process_time() - own
    last = [json.loads(pipe.recv_bytes()) for pipe in pipes.values()]
    if any(one["linked"] != number // 2 for one in last) or len({one["order"] for one in last}) > 1:
        sys.exit("the parties haven't linked whom they have in common")
    largest = max(last, key=lambda one: float(one["peak"]))
    seconds = own + sum(one["seconds"] for one in last)
    return seconds, wall, sent / 1e6, largest["peak"], largest["bare"]


def party(pipe: Connection, names: tuple[str, ...], place: int, number: int) -> None:
    """A party's process. The first half of its rows is everybody's."""
    bare, half = _peak(), number // 2
    own = (f"{place} patient {row}" for row in range(half, number))
    keys = [*(f"patient {row}".encode() for row in range(half)), *(one.encode() for one in own)]
    me = _me(names[place], names, keys)
    pipe.send_bytes(b"ready")
    start = time.process_time()
    procedure = _procedure(names)
    linking = procedure.party(me)
    for step in range(procedure.most_steps):
        turn = linking.step(step, _received(pipe))
        _send(pipe, turn.letters)
    rows, order = turn.kept["rows"], turn.kept["order"].tobytes().hex()
    right = sorted(rows.tolist()) == list(range(half))
    last = {"linked": len(rows) if right else -1, "order": order, "peak": _peak(), "bare": bare}
    pipe.send_bytes(json.dumps({**last, "seconds": time.process_time() - start}).encode())


def _me(name: str, names: tuple[str, ...], keys: list[bytes] | None) -> Me:
    rows, secret = SimpleNamespace(keys=keys), name.encode().ljust(32)
    return Me(name=name, parties=names, secret=secret, session=SESSION, rows=rows)


def _procedure(names: tuple[str, ...]) -> Linkage:
    return Linkage(names, LinkageOptions())


def _send(pipe: Connection, letters: Mapping[str, bytes]) -> None:
    pipe.send_bytes(json.dumps([*letters]).encode())
    for text in letters.values():
        pipe.send_bytes(text)


def _received(pipe: Connection) -> dict[str, bytes]:
    names = json.loads(pipe.recv_bytes())
    return {name: pipe.recv_bytes() for name in names}


def _peak() -> float:
    status = Path("/proc/self/status").read_text()  # getrusage counts who started it, too
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
