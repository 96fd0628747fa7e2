"""Secure aggregation without transport, beside Flower's SecAgg+.

    python -m benchmarks.secagg [--quick] [--json PATH]

One aggregation of n clients with d float32 coordinates; a tenth of the clients, at least one, drops
out before its upload; t = floor(2n / 3) + 1. Ours and Flower's alternate; medians of the repeats.

client s   one client in a round: its share of a bundle of keys that covers 16 aggregations, the
           masked upload, and its answer with shares; for Flower its four stages
server s   adding the uploads, opening the sum, and the mean in float32; not the passing on of keys
bytes      what one client sends for that
limit      the time that AES-128-CTR alone takes for the masks, at the rate measured here on one
           core in pieces of 256 KiB (over the threads, where there are two); the bytes of the bare
           vector
memory     highest traced allocation (tracemalloc, which numpy reports to) in multiples of the
           model, beside what is handed in: the client's update, the upload that is being added
masks ahead  what remains of an upload when its masks were made before, e.g. during training

Every opened mean is compared with the plain one: a wrong one ends the benchmark.
"""

from __future__ import annotations

import gc
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from benchmarks.report import Row, arguments, emit
from benchmarks.secagg_flower import check_flower, flower_round
from wardround.client.secagg.asked import Asked, Step, Terms
from wardround.client.secagg.party import SecureClient
from wardround.client.secagg.state import Policy, Values
from wardround.client.secagg.upload import PendingUpload
from wardround.common.flower.arrays import ArraySpec
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import Digests
from wardround.common.secagg.encoding import WEIGHT, VectorLayout, dequantise
from wardround.common.secagg.graph import thresholds
from wardround.common.trust.identity import Identity
from wardround.server.secagg.sum import MaskedSum, SecureSession

AGGREGATIONS = 16
"""That one bundle of keys covers here."""
CLIP = 8.0
OWN_WEIGHT, LARGEST_WEIGHT = 500, 1000
DESCRIPTOR, CONTENT = bytes(32), bytes(32)
PIECE_BYTES, PIECES = 1 << 18, 400
MEMORY_CASE = (10, 10**6)

Kind = tuple[int, int]
"""Bits of the ring, and threads."""
ONE, TWO, SHORT = (32, 1), (32, 2), (16, 1)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    check_flower(Seconds)
    cohorts = (5, 10) if options.quick else (5, 10, 20, 50)
    sizes = (10**5, 10**6) if options.quick else (10**5, 10**6, 10**7)
    rows = []
    for size in sizes:
        for clients in cohorts:
            print(f"n={clients} d={size:.0e} ...", file=sys.stderr, flush=True)
            rows += measure(clients, size)
            if (clients, size) == (10, sizes[-1]):
                rows.append(masks_ahead(clients, size))
            if (clients, size) == MEMORY_CASE:
                rows += memory(clients, size)
    emit("Secure aggregation, one round", rows, options.json)
    print(f"Flower's figure over ours: {ratios(rows)}")


def repeats(clients: int, size: int) -> int:
    """Fewer where a round takes longer, and never more than a bundle's aggregations allow."""
    work = clients * size
    return 5 if work <= 10**6 else 3 if work <= 2 * 10**7 else 2 if work < 5 * 10**8 else 1


# --- meters ---------------------------------------------------------------------------------------
class Seconds:
    """Time spent in its ``with`` blocks."""

    def __init__(self) -> None:
        self.value, self._start = 0.0, 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.value += time.perf_counter() - self._start


class PeakBytes:
    """Highest memory that its ``with`` blocks have allocated and not yet given back."""

    def __init__(self) -> None:
        self.value, self._held, self._before = 0.0, 0, 0

    def __enter__(self) -> None:
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def __exit__(self, *_: object) -> None:
        now, peak = tracemalloc.get_traced_memory()
        self.value = max(self.value, self._held + peak - self._before)
        self._held += now - self._before


Meter = Seconds | PeakBytes


def aes_rate() -> float:
    """Bytes per second of one core's AES-128-CTR, in pieces that fit its cache."""
    encryptor = Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor()
    zeros, buffer, seconds = bytes(PIECE_BYTES), bytearray(PIECE_BYTES + 16), []
    for _ in range(PIECES):
        start = time.perf_counter()
        encryptor.update_into(zeros, buffer)
        seconds.append(time.perf_counter() - start)
    return PIECE_BYTES / statistics.median(seconds)


# --- our side -------------------------------------------------------------------------------------
class Records:
    """A client's store, in memory."""

    def __init__(self) -> None:
        self._records: dict[str, Values] = {}

    def values(self, name: str) -> Values | None:
        """A record, or None."""
        return self._records.get(name)

    def set_values(self, name: str, values: Values) -> None:
        """Replace a record."""
        self._records[name] = values

    def names(self, prefix: str) -> list[str]:
        """Names of the records that start so, oldest first."""
        return [name for name in self._records if name.startswith(prefix)]

    def remove(self, name: str) -> None:
        """Forget a record."""
        del self._records[name]


@dataclass
class Round:
    """What one aggregation took: values of the meters, and bytes that client 0 sent."""

    upload: float
    unmask: float
    server: float
    sent: int


class Group:
    """n clients with keys for ``AGGREGATIONS`` aggregations, and their server.

    Client 0 is the one that is measured; all others really take part.
    """

    def __init__(self, clients: int) -> None:
        self.names = [f"hospital-{number:04d}" for number in range(clients)]
        self.survivors = self.names[: clients - dropped_of(clients)]
        self._identities = {name: Identity.generate() for name in self.names}
        self._roster = {name: identity.public for name, identity in self._identities.items()}
        self._stores = {name: Records() for name in self.names}
        session = SecureSession(DESCRIPTOR, self._roster)
        for name in self.names:
            session.add_hello(name, self.client(name).hello(session.request()))
        self.keys = session.group(self.names, AGGREGATIONS, thresholds(clients))
        self.key_seconds, self.key_bytes = self._exchange_keys()

    def client(self, name: str, threads: int = 1) -> SecureClient:
        """A hospital as it is after a restart, from its records."""
        identity, store = self._identities[name], self._stores[name]
        return SecureClient(
            name, identity, self._roster, DESCRIPTOR, Policy(threads=threads), store
        )

    def _exchange_keys(self) -> tuple[float, float]:
        """One client's seconds (the median) and bytes for the keys of one aggregation."""
        meters = {name: Seconds() for name in self.names}
        sent = 0
        for name in self.names:
            with meters[name]:
                bundle = self.client(name).bundle(self.keys.request)
            self.keys.add_bundle(name, bundle)
        for name, request in self.keys.keys_requests():
            with meters[name]:
                accepted = self.client(name).accept(request)
            self.keys.add_accepted(name, accepted)
            sent = len(bundle) + len(accepted)
        seconds = statistics.median(meter.value for meter in meters.values())
        return seconds / AGGREGATIONS, sent / AGGREGATIONS

    def task(self, size: int, bits: int) -> tuple[wire.TaskRequest, VectorLayout]:
        """The next aggregation, and its vector's layout."""
        index = self.keys.take_index()
        arrays = {"w": ArraySpec((size,), "float32")}
        task = wire.TaskRequest(self.keys.id, index, "train 1", bits, CLIP, LARGEST_WEIGHT, 0)
        return task, VectorLayout.of(arrays, {}, frozenset(arrays))

    def round(
        self, updates: Updates, kind: Kind, meter: Callable[[], Meter], threads: int = 2
    ) -> Round:
        """One aggregation; clients that aren't measured may use other ``threads``."""
        task, layout = self.task(updates.size, kind[0])
        upload, unmask, server = meter(), meter(), meter()
        with server:
            masked_sum = MaskedSum(self.keys, task, layout, CONTENT, kind[1])
        sent = self.key_bytes
        for position, name in enumerate(self.survivors):
            update = updates.of(position)
            client = self.client(name, threads if position else kind[1])
            with meter() if position else upload:
                header, vector = finish(begin(client, task, layout), update)
            sent += 0 if position else len(header) + len(vector)
            with server:
                masked_sum.add_upload(name, header, vector)
            del header, vector
        with server:
            requests = masked_sum.unmask_requests()
        for position, (name, request) in enumerate(requests.items()):
            with meter() if position else unmask:
                shares = self.client(name, kind[1]).unmask(request)
            sent += 0 if position else len(shares)
            with server:
                masked_sum.add_shares(name, shares)
        with server:
            total = masked_sum.open()
            weight = layout.exact_arrays(total.exact)[WEIGHT][0]
            mean = dequantise(total.update, total.step * LARGEST_WEIGHT / weight)
        updates.check(mean, total.step * LARGEST_WEIGHT / weight)
        return Round(upload.value, unmask.value, server.value, round(sent))


def begin(client: SecureClient, task: wire.TaskRequest, layout: VectorLayout) -> PendingUpload:
    """The first half of an upload, which needs no update yet. Each is of a run of its own."""
    terms = Terms(task.bits, lambda limits: task.clip, bool(task.fine), task.largest_weight)
    run, digests = f"{task.group.hex()} {task.index}", Digests({}, CONTENT)
    asked = Asked(Step("train", 1), run, 1, b"", terms, lambda: digests)
    return client.begin(task.to_bytes(), layout, asked)


def finish(pending: PendingUpload, update: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """The second half."""
    return pending.finish({"w": update}, {}, OWN_WEIGHT)


class Updates:
    """The clients' updates, made again whenever one is needed, and the mean that must come out."""

    def __init__(self, clients: int, size: int) -> None:
        self.size, self._count = size, clients - dropped_of(clients)
        total = np.zeros(size)
        for position in range(self._count):
            total += self.of(position)
        self._mean = total / self._count

    def of(self, position: int) -> NDArray[np.float32]:
        """A client's update: standard normal, far from the clip."""
        generator = np.random.default_rng(position)
        return generator.standard_normal(self.size, dtype=np.float32)

    def check(self, mean: NDArray[np.float32], step: float) -> None:
        """Raise RuntimeError unless ``mean`` is within a level per client of the plain mean."""
        error = float(np.abs(mean - self._mean).max())
        if not error < self._count * step:
            raise RuntimeError(f"the opened mean is off by {error / step:.1f} levels")


def dropped_of(clients: int) -> int:
    """Clients that drop out."""
    return max(1, clients // 10)


# --- cases ----------------------------------------------------------------------------------------
@dataclass
class Samples:
    """One case's samples: ours by kind, and Flower's."""

    rounds: dict[Kind, list[Round]] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    flower: list[tuple[float, float, int]] = field(default_factory=list)

    def ours(self, kind: Kind, figure: Callable[[Round], float]) -> float:
        """The median of a figure."""
        return statistics.median(figure(one) for one in self.rounds[kind])

    def theirs(self, place: int) -> float:
        """The median of Flower's client seconds, server seconds or bytes."""
        return statistics.median(one[place] for one in self.flower)


def flower_sample(
    clients: int, update: NDArray[np.float32], meter: Callable[[], Meter]
) -> tuple[float, float, int]:
    """Client, server and bytes of one round of Flower's."""
    client, server = meter(), meter()
    threshold = thresholds(clients).threshold
    sent = flower_round(update, clients, threshold, dropped_of(clients), client, server)
    return client.value, server.value, sent


def measure(clients: int, size: int) -> list[Row]:
    """The rows of one case."""
    group, updates, samples = Group(clients), Updates(clients, size), Samples()
    for _ in range(repeats(clients, size)):
        samples.rates.append(aes_rate())
        for kind in (ONE, TWO, SHORT):
            samples.rounds.setdefault(kind, []).append(group.round(updates, kind, Seconds))
            gc.collect()
        samples.flower.append(flower_sample(clients, updates.of(0), Seconds))
        gc.collect()
    return rows_of(clients, size, samples, group.key_seconds)


def rows_of(clients: int, size: int, samples: Samples, keys: float) -> list[Row]:
    """A case's samples as rows; the limits are of expanding the masks."""
    rows, rate = [], statistics.median(samples.rates)
    alive, dead = clients - dropped_of(clients), dropped_of(clients)
    aes = clients * 4 * size / rate
    server_aes = (alive + alive * dead) * 4 * size / rate

    def add(metric: str, value: float, limit: float, place: int | None = None) -> None:
        peers = {} if place is None else {"flower": samples.theirs(place)}
        rows.append(Row(case_name(clients, size), metric, value, "lower", peers, limit))

    def client_seconds(one: Round) -> float:
        return keys + one.upload + one.unmask

    add("client s", samples.ours(ONE, client_seconds), aes, 0)
    add("client s, 2 threads", samples.ours(TWO, client_seconds), aes / 2, 0)
    add("client s, 16 bit", samples.ours(SHORT, client_seconds), aes / 2, 0)
    add("server s", samples.ours(ONE, lambda one: one.server), server_aes, 1)
    add("server s, 2 threads", samples.ours(TWO, lambda one: one.server), server_aes / 2, 1)
    add("bytes per client", samples.ours(ONE, lambda one: one.sent), 4 * size, 2)
    add("bytes per client, 16 bit", samples.ours(SHORT, lambda one: one.sent), 2 * size, 2)
    add("client / AES limit", samples.ours(ONE, lambda one: one.upload) / aes, 1.0)
    return rows


def masks_ahead(clients: int, size: int) -> Row:
    """What is left to do when the thread that ``begin`` started has made the masks."""
    group, seconds = Group(clients), []
    update = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    for _ in range(3):
        pending = begin(group.client(group.names[0]), *group.task(size, 32))
        for thread in threading.enumerate():
            if thread.name.startswith("masks"):
                thread.join()
        meter = Seconds()
        with meter:
            finish(pending, update)
        seconds.append(meter.value)
    value = statistics.median(seconds)
    return Row(case_name(clients, size), "client s, masks ahead", value, "lower")


def memory(clients: int, size: int) -> list[Row]:
    """Peak memory of an upload and of the server, in models."""
    group, updates, case = Group(clients), Updates(clients, size), case_name(clients, size)
    update, model = updates.of(0), 4 * size
    tracemalloc.start()
    try:
        ours = group.round(updates, ONE, PeakBytes, threads=1)
        theirs = flower_sample(clients, update, PeakBytes)
    finally:
        tracemalloc.stop()
    figures = {"client": (ours.upload, theirs[0]), "server": (ours.server, theirs[1])}
    return [
        Row(case, f"{party} peak memory, models", own / model, "lower", {"flower": peer / model})
        for party, (own, peer) in figures.items()
    ]


def case_name(clients: int, size: int) -> str:
    """'n=10 d=1e6'."""
    return f"n={clients} d=1e{len(str(size)) - 1}"


def ratios(rows: Iterable[Row]) -> str:
    """For each metric the smallest and largest ratio over the cases."""
    found: dict[str, list[float]] = {}
    for row in rows:
        peer: Any = row.peers.get("flower")
        if peer is not None:
            found.setdefault(row.metric, []).append(peer / row.value)
    return "; ".join(f"{name} {min(v):.2f}..{max(v):.2f}" for name, v in found.items())


if __name__ == "__main__":
    main()
