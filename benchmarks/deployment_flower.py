"""Flower's own deployment: SuperLink and SuperNodes with TLS and node authentication, FedAvg.

This file is also the app that they run: copied beside a pyproject.toml it is the module ``peer``.
Clients add the same random matrices to their layers as ours do.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

if TYPE_CHECKING:
    from benchmarks.deployment_processes import Processes

LAYERS, COLUMNS, LR = 8, 1000, 0.01
SETTLE_S = 1.0
"""The server app holds still before the first round, so that its base memory can be read."""
_SERVER_SIDE = ("flower-superlink", "flower-superexec", "flwr-serverapp")
_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "peer"
version = "1.0.0"
description = "random updates"
license = "Apache-2.0"
dependencies = ["flwr>=1.41"]
[tool.flwr.app]
publisher = "benchmark"
[tool.flwr.app.components]
serverapp = "peer:server"
clientapp = "peer:client"
[tool.flwr.app.config]
rounds = 1
parameters = 1000000
clients = 3
"""

client = ClientApp()
server = ServerApp()


# --- the app --------------------------------------------------------------------------------------
@client.train()
def train(message: Message, context: Context) -> Message:
    """Change every number at random."""
    arrays = {}
    for name, array in message.content.array_records["arrays"].items():
        layer = torch.from_numpy(array.numpy())
        layer.add_(torch.outer(torch.randn(len(layer)), torch.rand(COLUMNS) + 0.5), alpha=-LR)
        arrays[name] = Array(layer.numpy())
    metrics = MetricRecord({"num-examples": 10})
    content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics})
    return Message(content, reply_to=message)


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """FedAvg over all clients; a line with the time when it begins and after each round."""
    settings = context.run_config
    clients, parameters = int(settings["clients"]), int(settings["parameters"])
    while len(list(grid.get_node_ids())) < clients:
        time.sleep(0.1)
    _note("ready")
    time.sleep(SETTLE_S)

    def stamp(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        _note(str(server_round))
        return MetricRecord({"round": server_round})

    shape = (parameters // LAYERS // COLUMNS, COLUMNS)
    layers = {f"layers.{i}": Array(np.zeros(shape, np.float32)) for i in range(LAYERS)}
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(layers),
        num_rounds=int(settings["rounds"]),
        evaluate_fn=stamp,
        timeout=600,
    )


def _note(text: str) -> None:
    with open(os.environ["PEER_STAMPS"], "a") as file:
        file.write(f"{text} {time.time()}\n")


# --- the benchmark --------------------------------------------------------------------------------
def flower_rounds(
    folder: Path, clients: int, parameters: int, rounds: int
) -> tuple[list[float], float] | None:
    """Seconds of each round but the first, and the peak memory of SuperLink and ServerApp above
    what they have before it in MB. None if Flower's command line isn't there or the run fails."""
    from benchmarks.deployment_processes import MemoryWatch, Processes

    commands = Path(sys.executable).parent
    if not (commands / "flower-superlink").exists():
        return None
    stamps = folder / "stamps"
    environment = {
        "PEER_STAMPS": str(stamps),
        "FLWR_HOME": str(folder / "home"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{commands}:{os.environ['PATH']}",
    }
    with Processes(folder, environment) as processes:

        def reached(text: str) -> bool:
            return stamps.exists() and f"{text} " in stamps.read_text()

        def server_side() -> list[int]:
            everyone = processes.everyone().items()
            return [pid for pid, text in everyone if any(one in text for one in _SERVER_SIDE)]

        try:
            _start(processes, commands, clients, parameters, rounds + 1)
            processes.wait_for("superlink", lambda: reached("ready"), 180)
            time.sleep(SETTLE_S / 2)
            pids = server_side()
            watch = MemoryWatch(lambda: pids)
            watch.begin()
            processes.wait_for("superlink", lambda: reached(str(rounds + 1)), 600)
        except RuntimeError as error:
            print(f"flower: {error}", file=sys.stderr)
            return None
        memory_mb = watch.above_base_mb("VmRSS")
    times = [float(line.split()[1]) for line in stamps.read_text().splitlines()[2:]]
    return [b - a for a, b in zip(times, times[1:], strict=False)], memory_mb


def _start(
    processes: Processes, commands: Path, clients: int, parameters: int, rounds: int
) -> None:
    from benchmarks.deployment_processes import free_port
    from benchmarks.deployment_tls import PeerFiles, make_certificates, write_node_key

    folder = processes.folder
    make_certificates(folder)
    tls, port = PeerFiles.of(folder, "server"), free_port()
    (folder / "home").mkdir()
    (folder / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        f'root-certificates = "{tls.ca}"\n'
    )
    app = folder / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(_PROJECT)
    shutil.copy(__file__, app / "peer.py")

    def run(name: str, *command: str) -> int:
        return processes.start(name, [str(commands / command[0]), *command[1:]]).wait(120)

    common = ["--isolation", "subprocess", "--host", "127.0.0.1"]
    pems = ["--ssl-ca-certfile", tls.ca, "--ssl-certfile", tls.certificate]
    pems += ["--ssl-keyfile", tls.key]
    link = ["--port", str(port), "--enable-supernode-auth", *map(str, pems)]
    processes.start("superlink", [str(commands / "flower-superlink"), *common, *link])
    processes.wait_for("superlink", lambda: _listens(port), 60)
    for number in range(clients):
        public = write_node_key(folder / f"node-{number}")
        for _ in range(5):  # the port is open before the command line is served
            if run("register", "flwr", "supernode", "register", str(public), "here") == 0:
                break
            time.sleep(1)
        node = ["--superlink", f"127.0.0.1:{port}", "--port", str(free_port())]
        node += ["--root-certificates", str(tls.ca)]
        node += ["--auth-supernode-private-key", str(folder / f"node-{number}")]
        command = [str(commands / "flower-supernode"), *common, *node]
        home = {"FLWR_HOME": str(folder / f"home-{number}")}
        processes.start(f"node-{number}", command, home)
    settings = f"rounds={rounds} parameters={parameters} clients={clients}"
    if run("run", "flwr", "run", str(app), "here", "--run-config", settings):
        raise RuntimeError(f"flwr run failed:\n{processes.log('run')}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
