"""One of the processes that train a hospital's model together: the whole loop, on a share of each
batch.

Every process has the model, the optimiser and the strategy's terms, and takes the same steps:
``DistributedDataParallel`` makes the gradients of all of them those of the whole batch. What comes
and goes are numbers and names, as JSON, and tensors in shared memory; the task is made here, from
the configuration.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wardround.client.algorithms.base import adjust, copies
from wardround.client.training.activation_checkpointing import recomputing
from wardround.client.training.batches import Drawn
from wardround.client.training.compiling import Compiled
from wardround.client.training.distillation import Teacher
from wardround.client.training.gradient_shares import ShareGradients
from wardround.client.training.objective import Objective
from wardround.client.training.precision import make_scaler
from wardround.client.training.resting import resting
from wardround.client.training.shared_tensors import SharedTensors
from wardround.client.training.steps import train_model
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.figures.sums import Sums
from wardround.common.model.named import build_model, model_entries
from wardround.common.model.torch_state import is_out_of_memory
from wardround.common.rng import client_keys, derive_seed
from wardround.common.tasks.base import Examples


@dataclass(frozen=True)
class Setup:
    """What a process begins with.

    rank : its number, of ``processes``
    folder : where they find one another; private, and removed with them
    config : as TOML; totals : what the task's model is made of
    threads : that it may use
    examples : what is trained on; entries : the model's, to and fro
    shift : what the strategy adds to gradients, if it ever does
    """

    rank: int
    processes: int
    folder: str
    config: str
    totals: Sums
    threads: int
    examples: Examples
    entries: SharedTensors
    shift: SharedTensors | None


@dataclass(frozen=True)
class Order:
    """One round: ``seed`` is the run's; ``parameters``, those that the strategy's terms are for."""

    seed: int
    server_round: int
    name: str
    parameters: list[str]
    proximal: float
    shifted: bool


@dataclass
class Terms:
    """A strategy's terms, as ``LocalAlgorithm`` has them."""

    parameters: dict[str, Tensor]
    start: dict[str, Tensor]
    proximal: float
    shift: dict[str, Tensor]

    def adjust_gradients(self) -> None:
        """Change ``.grad`` of the parameters in place, after backward and before the step."""
        adjust(self.parameters, self.start, self.proximal, self.shift)


def work(setup: Setup, connection: Connection) -> None:
    """The process: answer orders until the other end of the connection is gone."""
    threading.Thread(target=_end_with_parent, args=(setup.folder,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's, who ends us
    torch.set_num_threads(setup.threads)
    if setup.rank:  # one voice is enough
        logging.getLogger("wardround").setLevel(logging.ERROR)
    try:
        replica = Replica(setup)
        connection.send_bytes(b"{}")
        while True:
            order = Order(**json.loads(connection.recv_bytes()))
            connection.send_bytes(json.dumps(replica.train(order)).encode())
    except (EOFError, BrokenPipeError):
        pass
    except Exception as error:
        logging.getLogger("wardround.client").debug("training failed", exc_info=error)
        _tell(connection, error)
    os._exit(0)


def _tell(connection: Connection, error: Exception) -> None:
    """Say why, and wait to be ended: the others would report our end rather than the reason."""
    try:
        told = isinstance(error, WardroundError)
        connection.send_bytes(json.dumps({"error": _reason(error), "told": told}).encode())
        connection.recv_bytes()
    except (EOFError, OSError):
        pass


def _reason(error: Exception) -> str:
    """Not the text of an error of others: it might quote a cell."""
    if isinstance(error, WardroundError):
        return str(error)
    if isinstance(error, RuntimeError) and is_out_of_memory(error):
        return "out of memory; set training.micro_batch_size, or lower it"
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{where}"


def _end_with_parent(folder: str) -> None:
    """In a thread: whatever we are at, end when the parent does, and leave nothing behind."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _meet(setup: Setup, cuda: bool) -> None:
    """Find the other processes; what goes between them stays on the loopback interface."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ[key] = names[0] if names else "lo"
    path = str(Path(setup.folder) / "meeting")
    store = dist.FileStore(path, setup.processes)  # type: ignore[attr-defined]
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=setup.rank, world_size=setup.processes
    )


class _CompiledModel(nn.Module):
    """A model whose forward pass is compiled, or not where that fails."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self._forward = model, Compiled(model)

    def forward(self, inputs: Tensor) -> Any:
        return self._forward(inputs)


class Replica:
    """This process's copy of the model, in step with the others'."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        config = parse_config(setup.config)
        cuda = torch.device(config.training.device).type == "cuda"
        if cuda:
            torch.cuda.set_device(setup.rank)
            own = config.training.model_copy(update={"device": f"cuda:{setup.rank}"})
            config = config.model_copy(update={"training": own})
        self._config, self._cuda = config, cuda
        _meet(setup, cuda)
        self._task = make_task(config)
        built = build_model(self._task, setup.totals, config.federation.seed)
        self._model = built.to(config.training.device).train()
        # every process loads the same values: nothing is to be sent round for that. A parameter
        # that a step doesn't touch has no gradient to wait for, which DDP must look for
        self._parallel = DistributedDataParallel(
            _CompiledModel(self._model) if config.training.compile else self._model,
            device_ids=[setup.rank] if cuda else None,
            init_sync=False,
            find_unused_parameters=True,
        )
        self._parallel.broadcast_buffers = False

    def train(self, order: Order) -> dict[str, float]:
        """Train the entries as they are in shared memory; the first process puts them back.

        ``loss`` is this process's part of the mean loss.
        """
        setup, config, training = self._setup, self._config, self._config.training
        entries = model_entries(self._model)
        with torch.no_grad():
            for name, value in setup.entries.views().items():
                entries[name].copy_(value)
        keys = client_keys(order.seed, "batches", order.server_round, [order.name])
        # of its own: each process draws dropout for its own examples
        seed = (order.seed, order.server_round, f"{order.name}/{setup.rank}")
        if self._cuda:
            torch.cuda.manual_seed(derive_seed(order.seed, "training", *seed[1:]))
        teacher = Teacher(self._model, training) if training.distillation else None
        objective = Objective(self._parallel, self._task, training, teacher, taught=config.teacher)
        scaler = make_scaler(training)
        gradients = ShareGradients(
            self._parallel,
            Drawn(setup.examples, training, keys),
            objective,
            rank=setup.rank,
            processes=setup.processes,
            scaler=scaler,
        )
        recomputed = recomputing(self._model) if training.checkpoint_activations else nullcontext()
        with recomputed, resting(self._model, self._task, order.server_round):
            done = train_model(self._model, gradients, config, seed, self._terms(order), scaler)
        if setup.rank == 0:
            setup.entries.write(model_entries(self._model))
        return {"steps": done.steps, "lr": done.lr, "loss": done.loss}

    def _terms(self, order: Order) -> Terms:
        device, shift = self._config.training.device, {}
        if order.shifted and self._setup.shift is not None:
            shift = {k: v.to(device) for k, v in self._setup.shift.views().items()}
        named = dict(self._model.named_parameters())
        parameters: dict[str, Tensor] = {name: named[name] for name in order.parameters}
        start = copies(parameters) if order.proximal else {}
        return Terms(parameters, start, order.proximal, shift)
