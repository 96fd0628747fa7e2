"""For test_kill_unmask_points.py: SIGKILL a server at its n-th durable write, start it again, tell
what its hospitals were asked.

    python -m tests.integration.kill_unmask_points FOLDER STRIDE STRIDE

The first stride is of plain sums, the second of sums that the server doesn't see (``blind``). One
line of JSON per case. Every case is a fork of this process. Server and hospitals die together,
but a hospital's memory is on disk before its answer exists, as a real one's is; so is the log of
what it was asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Context, RecordDict

from tests.integration.kill_points import in_child, kill_before
from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.secagg.blind import blind_arrays
from wardround.client.state import ClientState
from wardround.common.config.load import Config, parse_config
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import digest_arrays
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol import names as m
from wardround.common.run.directory import RunDirectory
from wardround.common.secagg import messages as wire
from wardround.common.tasks.base import Examples, Task
from wardround.server.app import run_federation
from wardround.server.rounds.parts import FederationParts
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid
from wardround.simulations.population.identities import shared_identities

NAMES = list("abcd")
TOML = (
    "[federation]\nrounds = 2\nmin_clients = 3\n[data]\ntest_fraction = 0.25\n[training]\n"
    "lr = 0.1\nbatch_size = 1000\n[secure_aggregation]\nenabled = true\nthreshold = 0.5\n"
)


class Line(Task[Examples]):
    """y = w x, after inputs were divided by the federation's mean."""

    primary_metric, higher_is_better, phases = "loss", False, 1

    def load(self, path: Path | None) -> Examples:
        raise NotImplementedError

    def statistics(self, train: Examples, phase: int, totals: Sums) -> Sums:
        return {"sum": train.tensor().double().sum(0).numpy(), "rows": np.ones(1) * len(train)}

    def prepare(self, raw: Examples, totals: Sums, train: Examples) -> Examples:
        return Examples(raw.tensor() / float(totals["sum"][0] / totals["rows"][0]), raw.targets)

    def model(self, totals: Sums) -> torch.nn.Module:
        linear = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(linear.weight, 0.0)
        return torch.nn.Sequential(linear)

    def loss(self, outputs: Any, targets: Any) -> Any:
        return (outputs[:, 0] - targets) ** 2

    def metrics(self, outputs: Any, targets: Any) -> Sums:
        losses = self.loss(outputs, targets).double()
        return {"loss": losses.sum().reshape(1).numpy(), "rows": np.ones(1) * len(losses)}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0] / sums["rows"][0])}


class OnDisk:
    """The hospitals' app, with a log of what they were asked and a memory that is on disk."""

    def __init__(self, folder: Path, app: Any) -> None:
        self.folder, self.app = folder, app

    def __call__(self, message: Any, context: Context) -> Any:
        name, kind = context.node_config["hospital"], message.metadata.message_type
        if kind in (m.TRAIN, m.UNMASK):
            line: dict[str, Any] = {"kind": kind, "name": name}
            if kind == m.TRAIN:
                line["round"] = message.content[m.CONFIG][m.ROUND]
            else:
                data = message.content[m.SECAGG][m.MESSAGE]
                request = wire.UnmaskRequest.from_bytes(data)
                line["sum"] = f"{request.group.hex()} {request.index}"
                line["survivors"] = request.survivors
            with open(self.folder / "asked.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
        reply = self.app(message, context)
        body = encode_content(context.state)
        path = self.folder / f"{name}.memory"
        path.with_suffix(".new").write_bytes(body.read(0, body.size_bytes))
        path.with_suffix(".new").rename(path)
        return reply

    def remembered(self) -> dict[str, RecordDict]:
        found = ((path.stem, path.read_bytes()) for path in self.folder.glob("*.memory"))
        return {name: decode_content(io.BytesIO(data), len(data)) for name, data in found}


def serve(folder: Path, config: Config) -> None:
    """Start, or go on."""
    torch.set_num_threads(1)
    identities, task = shared_identities(NAMES, folder.parent / "identities"), Line()
    roster = {name: identity.public for name, identity in identities.items()}
    x = torch.linspace(0.5, 1.5, 20).view(-1, 1)

    def shard(slope: int) -> Examples:
        return Examples(x, x[:, 0] * slope)

    hospitals = {
        name: Hospital(
            OwnShard(name, task, config, partial(shard, index)),
            keys=Keys(identities[name], roster),
            place=Place(simulated=True),
        )
        for index, name in enumerate(NAMES)
    }
    app = create_client_app(lambda context: hospitals[str(context.node_config["hospital"])])
    on_disk = OnDisk(folder, app)
    grid = InProcessGrid(Clients(NAMES, app=on_disk))  # type: ignore[arg-type]
    grid.clients.set_states(on_disk.remembered())
    runs = [path.parent for path in folder.glob("runs/*/config.toml")]
    run = (
        RunDirectory.open(runs[0])
        if runs
        else RunDirectory.create(folder / "runs", "kill", config.to_toml())
    )
    parts = FederationParts(config=config, task=task, run_directory=run, roster=roster)
    run_federation(parts, grid)


def told(folder: Path, killed: bool, kept: list[str]) -> dict[str, Any]:
    """What a case came to."""
    (run,) = (path.parent for path in folder.glob("runs/*/config.toml"))
    lines = [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]
    trained = Counter(line["round"] for line in lines if line["kind"] == m.TRAIN)
    asked = {(x["sum"], tuple(x["survivors"])) for x in lines if x["kind"] == m.UNMASK}
    return {
        "killed": killed,
        "kept": kept,
        "trained": [trained[1], trained[2]],
        "sums": len({name for name, _ in asked}),
        "sets": len(asked),
        "left": sorted(path.name for path in run.glob("journal/*")),
        "sha256": model_digest(folder, run),
    }


def model_digest(folder: Path, run: Path) -> str:
    """Of the run's model; of a blind one's as every hospital has it."""
    file = run / "model" / "model.safetensors"
    if file.exists():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    states = OnDisk(folder, None).remembered().values()
    models = [blind_arrays(ClientState(state), 2) or {} for state in states]
    (digest,) = {digest_arrays(model) for model in models}
    return digest


def main() -> None:
    kill_and_go_on(Path(sys.argv[1]) / "seen", int(sys.argv[2]), "")
    kill_and_go_on(Path(sys.argv[1]) / "blind", int(sys.argv[3]), "blind = true\n")


def kill_and_go_on(root: Path, stride: int, more: str) -> None:
    """An undisturbed run, then one that is killed before each ``stride``-th write."""
    config = parse_config(TOML + more)

    def case(number: int) -> bool:
        folder = root / f"case-{number}"
        folder.mkdir(parents=True)

        def first() -> None:
            kill_before(number)
            serve(folder, config)

        killed = os.WIFSIGNALED(in_child(first))
        kept = sorted(path.name for path in folder.glob("runs/*/journal/[a-z]*"))
        if in_child(lambda: serve(folder, config)) if killed else False:
            raise SystemExit(f"case {number}: could not go on")
        said = {"blind": bool(more)} | told(folder, killed, kept)
        print(json.dumps(said), flush=True)
        return killed

    case(0)
    number = 1
    while case(number):
        number += stride


if __name__ == "__main__":
    main()
