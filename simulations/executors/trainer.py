"""Trains chunks of clients of one model in the form that suits it.

Shapes: C clients of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.client.training.batches import steps_of
from wardround.common.config.load import Config
from wardround.common.rng import client_keys, derive_seed
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Task
from wardround.common.text import one_line
from wardround.simulations.clients import Clients
from wardround.simulations.executors.engines.base import (
    CohortResult,
    CohortWork,
    Engine,
    Need,
    Unsuited,
    plain_sgd,
)
from wardround.simulations.executors.engines.batches import cohort_batches
from wardround.simulations.executors.engines.dense import Dense
from wardround.simulations.executors.engines.vmapped import Vmapped
from wardround.simulations.executors.example_pool import Client, ExamplePool, Placed

CHUNK_BYTES = 8 << 20
"""What the clients of a chunk take together on a CPU: about a core's share of a cache."""
_GPU_SHARE = 4
"""On a GPU: a part in so many of its memory."""
_MOST_CLIENTS = 4096
MOST_JOBS = 256
"""Clients of a chunk whose masks and requests are begun at once: each may hold as much as a
model."""


class Extent(Protocol):
    """How much a client trains on: all that decides how clients are grouped.

    size : examples; width : numbers in an input
    """

    @property
    def node_id(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def width(self) -> int: ...


Sized = TypeVar("Sized", bound=Extent)
Form = Callable[[nn.Module, Task[Any]], Engine]


@dataclass(frozen=True)
class Terms:
    """What a strategy adds, and where the clients start: as in ``CohortWork``, where these fields
    are explained, but with clients in the order in which they are given."""

    start: dict[str, Tensor]
    fixed: dict[str, Tensor]
    own: frozenset[str] = frozenset()
    proximal: float = 0.0
    shift: dict[str, Tensor] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Trained:
    """What became of a chunk.

    order : the result's clients as positions in the chunk, C
    steps : how many each of them has made, in the result's order, C
    """

    result: CohortResult
    order: list[int]
    steps: NDArray[np.int64]


def one_at_a_time(training: TrainingTable) -> str | None:
    """The setting by which clients can't be trained at once, whatever the model; None if none."""
    if training.processes > 1:
        return f"training.processes = {training.processes}, and a simulated client has one process"
    if training.precision != "float32":
        return f"training.precision = '{training.precision}'"
    if training.micro_batch_size is not None:
        return f"training.micro_batch_size = {training.micro_batch_size}"
    if training.checkpoint_activations:
        return "training.checkpoint_activations = true"
    if training.distillation:
        return f"training.distillation = {training.distillation:g}"
    return None


class CohortTrainer:
    """Local training of many clients that share a model, a task and a configuration.

    keep : of how many clients examples may be kept; None: of all
    """

    def __init__(
        self, model: nn.Module, task: Task[Any], config: Config, keep: int | None = None
    ) -> None:
        self.model, self._task, self._config = model, task, config
        self._pool = ExamplePool(config.training.device, most_clients=keep)
        vmapped = partial(Vmapped, compiled=config.training.compile)
        self._forms: list[Form] = [Dense, vmapped]
        self._engine: Engine | None = None
        self.notes: list[str] = []
        taught = "[teacher]" if config.teacher is not None else None
        if reason := one_at_a_time(config.training) or taught:
            self._forms = []
            self.note(f"clients train one at a time: {reason}")
        self._next_form()

    def _next_form(self) -> None:
        """Take the first form that suits the model; None is left if there is none."""
        self._engine = None
        while self._forms and self._engine is None:
            form = self._forms.pop(0)
            try:
                self._engine = form(self.model, self._task)
            except Unsuited as error:
                reason = str(error)
                if not self._forms:
                    self.note(f"clients train one at a time: {reason}")

    def use(self, engine: Engine) -> None:
        """Train in this form."""
        self._engine = engine

    def note(self, text: str) -> None:
        """Something that a user should know; said once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def form(self) -> str:
        """The name of the form in use, or 'sequential'."""
        return self._engine.name if self._engine else "sequential"

    def chunks(self, clients: Sequence[Sized], corrected: bool) -> Iterator[list[Sized]]:
        """The clients, those with most steps first, in chunks to be trained at once: clients of
        like size stand together, so few slots and steps of a chunk are empty.

        corrected : whether the strategy adds something to their gradients
        """
        sizes = np.array([client.size for client in clients])
        order = np.lexsort((-sizes, -self.steps(sizes)))
        start = 0
        while start < len(order):
            count = self.chunk_size(clients[order[start]], corrected)
            yield [clients[index] for index in order[start : start + count]]
            start += count

    def chunks_in_order(self, clients: Iterable[Sized]) -> Iterator[list[Sized]]:
        """The clients in their own order, in the chunks that single messages come in
        (``singles.py``): none is larger than its largest client allows."""
        chunk: list[Sized] = []
        limit = MOST_JOBS
        for client in clients:
            if len(chunk) >= limit:
                yield chunk
                chunk, limit = [], MOST_JOBS
            chunk.append(client)
            limit = min(limit, self.chunk_size(client, corrected=True))
        if chunk:
            yield chunk

    def steps(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many steps clients with so many examples make."""
        different, which = np.unique(sizes, return_inverse=True)
        steps = [steps_of(int(size), self._config.training) for size in different]
        return np.array(steps, dtype=np.int64)[which]

    def chunk_size(self, client: Extent, corrected: bool) -> int:
        """How many clients like this one are trained at once."""
        if self._engine is None:
            return _MOST_CLIENTS
        device = torch.device(self._config.training.device)
        room = CHUNK_BYTES
        if device.type == "cuda":
            room = torch.cuda.get_device_properties(device).total_memory // _GPU_SHARE
        shapes = {n: p.shape for n, p in self.model.named_parameters() if p.requires_grad}
        batch = min(client.size, self._config.training.batch_size)
        plain = plain_sgd(self._config.training) and not corrected
        need = Need(shapes, plain, client.size, client.width, batch)
        return max(1, min(_MOST_CLIENTS, room // max(1, self._engine.client_bytes(need))))

    def train(self, clients: Sequence[Client], server_round: int, terms: Terms) -> Trained | None:
        """Train a chunk; None if no form suits or the result isn't sound, so that each must be
        trained by itself."""
        while self._engine is not None:
            try:
                work = self._work(clients, server_round, terms)
                result = self._engine.train(work)
            except Unsuited as error:
                self.note(f"not in the form '{self._engine.name}': {error}")
                self._next_form()
                continue
            except Exception as error:  # the reference will say whose fault it is
                self.note(f"a chunk was trained one client at a time: {one_line(str(error), 120)}")
                return None
            if self._engine.note:
                self.note(self._engine.note)
            if not (torch.isfinite(result.losses).all() and result.is_sound()):
                return None
            return Trained(result, work.batches.clients.tolist(), work.batches.steps)
        return None

    @property
    def device(self) -> str:
        """Where clients are trained."""
        return self._config.training.device

    def placed(self, clients: Sequence[Client]) -> Placed:
        """Where the examples of these clients are; new ones are copied in."""
        return self._pool.place(clients)

    def _work(self, clients: Sequence[Client], server_round: int, terms: Terms) -> CohortWork:
        seed, training = self._config.federation.seed, self._config.training
        names = [client.hospital.name for client in clients]
        placed = self.placed(clients)
        keys = client_keys(seed, "batches", server_round, names)
        batches = cohort_batches(placed.sizes, placed.offsets, keys, training)
        order = batches.clients.tolist()
        ordered = torch.from_numpy(batches.clients)
        own = {n: v[ordered.to(v.device)] for n, v in terms.start.items() if n in terms.own}
        shift = {n: v[ordered.to(v.device)] for n, v in terms.shift.items()}
        return CohortWork(
            batches,
            training,
            self._config.lr_of(server_round),
            placed.inputs,
            placed.targets,
            start={**terms.start, **own},
            seeds=lambda: [derive_seed(seed, "training", server_round, names[i]) for i in order],
            fixed=terms.fixed,
            own=terms.own,
            proximal=terms.proximal,
            shift=shift,
            shared=terms.shared,
        )


class Trainers:
    """The trainer of the model that is trained now: one federation has one at a time."""

    def __init__(self) -> None:
        self._trainer: CohortTrainer | None = None

    def of(self, model: nn.Module, clients: Clients, node_id: int) -> CohortTrainer:
        """The model's trainer, made when it is first needed, for a client's task and settings."""
        if self._trainer is None or self._trainer.model is not model:
            hospital = clients.hospital(node_id)
            self._trainer = CohortTrainer(model, hospital.task, hospital.config, clients.keep)
        return self._trainer

    @property
    def form(self) -> str:
        """The name of the form in use, or 'sequential'."""
        return self._trainer.form if self._trainer else "sequential"

    def notes(self) -> list[str]:
        """What a user should know, one line each."""
        return list(self._trainer.notes) if self._trainer else []
