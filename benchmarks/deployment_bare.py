"""The floor: a model to every client and an update back, over gRPC and nothing else.

One process that serves and one for each client, mutual TLS, chunks of 1 MiB. The server adds each
chunk into its accumulator as it comes; nothing is checked, kept or committed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.deployment_processes import MemoryWatch, Processes, free_port
from benchmarks.deployment_tls import PeerFiles, make_certificates

CHUNK_BYTES = 1 << 20
METHOD = "/bare/round"


def bare_rounds(
    folder: Path, clients: int, parameters: int, rounds: int
) -> tuple[list[float], float]:
    """Seconds of each round but the first, and the server's peak memory above its base in MB."""
    make_certificates(folder)
    me = [sys.executable, "-m", "benchmarks.deployment_bare"]
    root = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    numbers = [str(free_port()), str(clients), str(parameters), str(rounds + 1)]
    with Processes(folder, root) as processes:
        server = processes.start("server", [*me, "server", *numbers])
        processes.wait_for("server", lambda: "ready" in processes.log("server"), 60)
        watch = MemoryWatch(lambda: [server.pid])
        watch.begin()
        started = [
            processes.start(f"client-{number}", [*me, "client", *numbers])
            for number in range(clients)
        ]
        processes.wait_for("server", lambda: _over(server, processes), 600)
        memory_mb = watch.above_base_mb()
        for process in started:
            process.wait()
        return json.loads(processes.log("server").splitlines()[-1])[1:], memory_mb


def _over(server: subprocess.Popen[bytes], processes: Processes) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"the bare server failed:\n{processes.log('server')[-2000:]}")
    return processes.log("server").endswith("]\n")


class _Server:
    """Rounds of all clients together: everyone gets the model, everyone's update is added."""

    def __init__(self, clients: int, parameters: int, rounds: int) -> None:
        self._barrier = threading.Barrier(clients, action=self._turn)
        self._rounds, self._bytes, self._stamps = rounds, 4 * parameters, list[float]()
        self._parameters, self._lock = parameters, threading.Lock()
        self._model: bytes = b""
        self._total: Any = None
        self.over = threading.Event()

    def _turn(self) -> None:
        """Between two rounds: the sum becomes the next model."""
        self._stamps.append(time.perf_counter())
        if self._total is None:
            self._total = np.zeros(self._parameters, np.float32)
        self._model = self._total.tobytes()
        if len(self._stamps) > self._rounds:
            steps = zip(self._stamps, self._stamps[1:], strict=False)
            print(json.dumps([b - a for a, b in steps]), flush=True)
            self.over.set()

    def serve(self, chunks: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One client's stream."""
        next(chunks)  # it is here
        for _ in range(self._rounds):
            self._barrier.wait()
            yield from pieces(self._model)
            offset = 0
            while offset < self._parameters:
                part = np.frombuffer(next(chunks), np.float32)
                with self._lock:
                    self._total[offset : offset + len(part)] += part
                offset += len(part)
        self._barrier.wait()


def pieces(data: bytes) -> Iterator[bytes]:
    """The chunks of one message."""
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _serve(port: int, clients: int, parameters: int, rounds: int) -> None:
    import grpc

    from benchmarks.deployment_tls import server_credentials

    server = _Server(clients, parameters, rounds)
    handler = grpc.stream_stream_rpc_method_handler(server.serve)
    service, _, method = METHOD.removeprefix("/").partition("/")
    from concurrent.futures import ThreadPoolExecutor

    host = grpc.server(ThreadPoolExecutor(clients + 1))
    host.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    files = PeerFiles.of(Path.cwd(), "server")
    host.add_secure_port(f"127.0.0.1:{port}", server_credentials(files))
    host.start()
    print("ready", flush=True)
    server.over.wait()
    host.stop(5).wait()


def _take_part(port: int, parameters: int, rounds: int) -> None:
    import queue

    import grpc

    from benchmarks.deployment_tls import channel_credentials

    files = PeerFiles.of(Path.cwd(), "client")
    channel = grpc.secure_channel(f"localhost:{port}", channel_credentials(files))
    update = np.random.default_rng().random(parameters, dtype=np.float32).tobytes()
    model = np.zeros(parameters, np.float32)
    turns: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def outgoing() -> Iterator[bytes]:
        yield b"here"
        while turns.get():
            yield from pieces(update)

    chunks = channel.stream_stream(METHOD)(outgoing())
    for _ in range(rounds):
        offset = 0
        while offset < parameters:
            part = np.frombuffer(next(chunks), np.float32)
            model[offset : offset + len(part)] = part
            offset += len(part)
        turns.put(True)
    for _ in chunks:
        pass
    turns.put(False)


def main() -> None:
    """One of the processes: server or client, port, clients, parameters, rounds."""
    port, clients, parameters, rounds = (int(text) for text in sys.argv[2:6])
    if sys.argv[1] == "server":
        _serve(port, clients, parameters, rounds)
    else:
        _take_part(port, parameters, rounds)


if __name__ == "__main__":
    main()
