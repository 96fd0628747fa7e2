"""A hospital's local training by several processes, each on its share of every batch: on the GPUs
of one machine, or on the CPU.

The result is one process's, up to rounding. The processes (``replica.py``) start in the
first round and stay; one that fails ends the round with the reason, and the next round starts them
again. They end with this process, however it ends. They meet over a file in a private folder and
the loopback interface.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from wardround.client.algorithms import LocalAlgorithm
from wardround.client.training.pieces import obstacle
from wardround.client.training.replica import Order, Setup, work
from wardround.client.training.shared_tensors import SharedTensors
from wardround.client.training.steps import Seed, TrainingOutcome
from wardround.common.config.load import Config
from wardround.common.errors import TaskError, WardroundError
from wardround.common.figures.sums import Sums
from wardround.common.model.named import model_entries
from wardround.common.settings import (
    DataTable,
    EvaluationTable,
    FederationTable,
    PrivacyTable,
    SecureAggregationTable,
    ServerTable,
    SimulationTable,
    StrategyTable,
)
from wardround.common.tasks.base import Examples, Task

_GRACE_S = 1.0
"""How long to wait for the end of a process that others have noticed."""


class TrainingProcesses:
    """Trains one hospital's model in ``training.processes`` processes, which begin when needed.

    config : the hospital's; its ``[task]`` makes the very task that the hospital has
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._team: _Team | None = None

    def train(
        self,
        model: nn.Module,
        task: Task[Any],
        examples: Examples,
        totals: Sums,
        algorithm: LocalAlgorithm,
        seed: Seed,
    ) -> TrainingOutcome:
        """Train ``model`` in place, as ``train_on_batches`` does. On failure it isn't changed.

        totals : what the model was made of

        Raises TaskError for a model that can't be trained in shares, or what a process says;
        WardroundError if one ended.
        """
        _check(model, task)
        shift = algorithm.shift()
        if self._team is not None and not self._team.fits(examples, bool(shift)):
            self.close()
        try:
            if self._team is None:
                self._team = _Team(self._config, examples, totals, model_entries(model), shift)
            run_seed, server_round, name = seed
            order = Order(
                seed=run_seed,
                server_round=server_round,
                name=name,
                parameters=[*algorithm.parameters],
                proximal=algorithm.proximal,
                shifted=bool(shift),
            )
            return self._team.train(model, order, shift)
        except BaseException:
            self.close()  # who failed, or was left in the middle of a step, isn't asked again
            raise

    def close(self) -> None:
        """End the processes; the next training starts them again."""
        if self._team is not None:
            self._team.end()
            self._team = None


def _check(model: nn.Module, task: Task[Any]) -> None:
    """Raise TaskError for a model whose batch can't be trained in shares."""
    why = obstacle(model.train(), task)
    for path, module in model.named_modules():
        if not why and isinstance(module, _NormBase) and module.track_running_stats:
            why = f"layer '{path}' ({type(module).__name__}) keeps statistics of what it has seen"
    if why:
        raise TaskError(f"training.processes: {why}; or set it to 1")


def _processes_config(config: Config) -> str:
    """What a process is told of the configuration: how to make the task and train, no more."""
    federation = FederationTable(seed=config.federation.seed, rounds=config.federation.rounds)
    tables = {
        "federation": federation,
        "data": DataTable(),
        "strategy": StrategyTable(),
        "secure_aggregation": SecureAggregationTable(),
        "privacy": PrivacyTable(),
        "evaluation": EvaluationTable(),
        "simulation": SimulationTable(),
        "server": ServerTable(),
    }
    return config.model_copy(update=tables).to_toml()


class _Team:
    """Running processes, and the memory that they share with this one."""

    def __init__(
        self,
        config: Config,
        examples: Examples,
        totals: Sums,
        entries: dict[str, Tensor],
        shift: dict[str, Tensor],
    ) -> None:
        self._examples, count = examples, config.training.processes
        try:
            for part in (examples.inputs, examples.targets):
                if isinstance(part, Tensor):  # not a second copy; what is stored each one opens
                    part.share_memory_()  # type: ignore[no-untyped-call]
            self._entries = SharedTensors(entries)
            self._shift = SharedTensors(shift) if shift else None
        except (RuntimeError, OSError):
            raise WardroundError(
                "training.processes: the examples and the model don't fit into this machine's "
                "shared memory; enlarge it (in a container: --shm-size), or set it to 1"
            ) from None
        self._folder = tempfile.mkdtemp(prefix="wardround-")
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        resources = (self._processes, self._connections, self._folder)
        self._finish = weakref.finalize(self, _end, *resources)  # at exit, too
        try:
            self._start(_processes_config(config), count, totals)
            self._answers()
        except BaseException:
            self.end()
            raise

    def _start(self, config: str, count: int, totals: Sums) -> None:
        threads = max(1, torch.get_num_threads() // count)
        # theirs only: torch warns of the search for unused parameters where there are none
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        context = torch.multiprocessing.get_context("spawn")
        for rank in range(count):
            setup = Setup(
                rank=rank,
                processes=count,
                folder=self._folder,
                config=config,
                totals=totals,
                threads=threads,
                examples=self._examples,
                entries=self._entries,
                shift=self._shift,
            )
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(
                target=work, args=(setup, theirs), name=f"training-{rank}", daemon=True
            )
            process.start()
            self._processes.append(process)
            theirs.close()

    def fits(self, examples: Examples, shifted: bool) -> bool:
        """Whether these examples, and what the strategy adds, are what it was begun with."""
        return examples is self._examples and (not shifted or self._shift is not None)

    def train(self, model: nn.Module, order: Order, shift: dict[str, Tensor]) -> TrainingOutcome:
        """One round, from the model's entries and back into them."""
        self._entries.write(model_entries(model))
        if self._shift is not None and shift:
            self._shift.write(shift)
        for rank, connection in enumerate(self._connections):
            try:
                connection.send_bytes(json.dumps(asdict(order)).encode())
            except OSError:
                raise self._ended(rank) from None
        found = self._answers()
        entries = model_entries(model)
        with torch.no_grad():
            for name, value in self._entries.views().items():
                entries[name].copy_(value)
        loss = sum(answer["loss"] for answer in found)
        return TrainingOutcome(int(found[0]["steps"]), float(found[0]["lr"]), loss)

    def _answers(self) -> list[dict[str, Any]]:
        """What each process answers, in order. Raises WardroundError for one that can't."""
        found: dict[int, dict[str, Any]] = {}
        ranks = {connection: rank for rank, connection in enumerate(self._connections)}
        ends = {process.sentinel: rank for rank, process in enumerate(self._processes)}
        while len(found) < len(ranks):
            for ready in wait([*(c for c in ranks if ranks[c] not in found), *ends]):
                if isinstance(ready, int):
                    raise self._ended(ends[ready])
                assert isinstance(ready, Connection)
                rank = ranks[ready]
                try:
                    answer = json.loads(ready.recv_bytes())
                except (EOFError, OSError):
                    raise self._ended(rank) from None
                if "error" in answer:
                    raise self._failed(rank, answer)
                found[rank] = answer
        return [found[rank] for rank in range(len(found))]

    def _failed(self, rank: int, answer: dict[str, Any]) -> WardroundError:
        ended = [] if answer["told"] else wait([p.sentinel for p in self._processes], _GRACE_S)
        for number, process in enumerate(self._processes):
            if process.sentinel in ended:  # then the others only missed it
                return self._ended(number)
        text = str(answer["error"])
        return TaskError(text if answer["told"] else f"training process {rank}: {text}")

    def _ended(self, rank: int) -> WardroundError:
        process = self._processes[rank]
        process.join(_GRACE_S)
        code = process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with code {code}"
        return WardroundError(
            f"training process {rank} of {len(self._processes)} ended {how}; the next round starts "
            "them again"
        )

    def end(self) -> None:
        """End them, whatever they are at."""
        self._finish()


def _end(processes: list[BaseProcess], connections: list[Connection], folder: str) -> None:
    for connection in connections:
        connection.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
    shutil.rmtree(folder, ignore_errors=True)
