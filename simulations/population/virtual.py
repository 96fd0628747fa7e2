"""Virtual populations: a million clients, each made when it is sampled and dropped again.

Client k's rows depend on (run seed, k) and the data alone, so they are the same in every round, run
and process, whoever else is sampled. Nothing here grows with the number of clients: names are
computed, hospitals are the most recently used ones.

A client is what the task generates, or draws its rows from a pool (Hsu et al. 2019, 1909.06335,
section 3): its own mix of labels q ~ Dir(alpha p), p being the pool's, and rows of each label at
random, without one twice while there are enough. Clients share rows, so the pool is split once and
each client draws its training rows from the training part: no row is trained on by one client and
tested by another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.held_out import simulated_key
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import Opened, OwnShard, Parts, Shard, prepare_parts
from wardround.client.data.splitting import split_rows
from wardround.common.config.load import Config
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Examples, Task
from wardround.server.members.sampling import MOST_EVALUATED

Rows = NDArray[np.int64]
_PREFIX = "client-"


class ClientNames(Sequence[str]):
    """'client-0000001' and so on: in the order of their numbers, which are 1 to ``count``."""

    def __init__(self, count: int) -> None:
        self._count, self._width = count, len(str(count))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(self._count))]
        return f"{_PREFIX}{range(self._count)[index] + 1:0{self._width}d}"

    def index(self, value: object, start: int = 0, stop: int | None = None) -> int:
        if value in self:
            position = int(str(value).removeprefix(_PREFIX)) - 1
            if position in range(self._count)[start:stop]:
                return position
        raise ValueError(f"there is no client {value!r}")

    def __contains__(self, value: object) -> bool:
        digits = value.removeprefix(_PREFIX) if isinstance(value, str) else ""
        if not digits.isascii() or not digits.isdigit():
            return False
        number = int(digits)
        return 1 <= number <= self._count and self[number - 1] == value


class VirtualHospitals(Mapping[str, Hospital]):
    """Hospitals by name, made when they are asked for.

    Parameters
    ----------
    make : gives the hospital of a number and a name
    keep : how many stay, the most recently used ones
    """

    def __init__(self, names: ClientNames, make: Callable[[int, str], Hospital], keep: int) -> None:
        self.names, self.keep, self._make = names, keep, make
        self._recent: OrderedDict[str, Hospital] = OrderedDict()

    def __getitem__(self, name: str) -> Hospital:
        hospital = self._recent.get(name)
        if hospital is None:
            if name not in self.names:
                raise KeyError(name)
            hospital = self._make(self.names.index(name) + 1, name)
            self._recent[name] = hospital
            if len(self._recent) > self.keep:
                self._recent.popitem(last=False)
        self._recent.move_to_end(name)
        return hospital

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class GeneratedShards:
    """Shards that the task makes up; each hospital splits its own."""

    sizes: dict[str, int] | None = None

    def __init__(self, task: Task[Any], config: Config) -> None:
        self._task, self._config = task, config

    def open(self, client: int) -> Any:
        """The client's shard; None if the task makes none."""
        seed = self._config.federation.seed
        return self._task.generate(client, numpy_generator(seed, "virtual", client))

    def shard(self, client: int, name: str) -> Shard:
        """The client's shard under its name."""
        return OwnShard(name, self._task, self._config, partial(self.open, client))


class PooledShards:
    """Shards that are drawn from a pool.

    task, config : the federation's
    sizes : rows of each client by split, the same for all

    Raises ConfigError if a split of the pool would be nobody's, DataError for an empty pool.
    """

    def __init__(self, task: Task[Any], pooled: Any, config: Config) -> None:
        if task.size(pooled) == 0:
            raise DataError(f"{config.data_path() or 'the example data'}: no usable rows")
        self.task, self._pooled, self.config = task, pooled, config
        found, label = np.unique(task.labels(pooled), return_inverse=True)
        self._mix = np.bincount(label) / len(label)
        key = simulated_key(config.federation.seed, "virtual")
        parts = split_rows(task, pooled, config, key)
        self._by_label: dict[str, list[Rows]] = {
            name: [rows[label[rows] == one] for one in range(len(found))]
            for name, rows in parts.items()
        }
        self.sizes = self._sizes({name: len(rows) for name, rows in parts.items()})
        self._prepared: tuple[str, Examples] | None = None

    def _sizes(self, pool: dict[str, int]) -> dict[str, int]:
        """Rows of a client by split, in the pool's proportions: held-out ones are rounded, and the
        training part has the rest."""
        rows, total = self.config.simulation.rows_per_client, sum(pool.values())
        sizes = {name: round(rows * count / total) for name, count in pool.items()}
        sizes["train"] = rows - sizes["validation"] - sizes["test"]
        for name, count in sizes.items():
            if count < 1 and (pool[name] or name == "train"):
                raise self.config.error(
                    "simulation.rows_per_client",
                    f"of {rows} rows no client would have any of split '{name}', which is "
                    f"{pool[name] / total:.1%} of the data; raise it, or change data.test_fraction "
                    "or data.validation_fraction",
                )
        return sizes

    def shard(self, client: int, name: str) -> Shard:
        """The client's shard under its name."""
        return DrawnShard(name, self, client)

    def parts(self, client: int) -> Parts:
        """The client's unprepared rows by split."""
        rows = self.rows(client)
        return {
            name: self.task.select(self._pooled, part) for name, part in rows.items() if len(part)
        }

    def examples(self, client: int, totals: Sums, digest: str) -> dict[str, Examples] | None:
        """The client's prepared rows by split, selected from the prepared pool; None where the
        task prepares a row by others of its hospital."""
        if not self.task.rowwise:
            return None
        if self._prepared is None or self._prepared[0] != digest:
            made = self.task.prepare(self._pooled, totals, self._pooled)
            if len(made) != (rows := self.task.size(self._pooled)):
                raise TaskError(
                    f"{type(self.task).__name__}.prepare made {len(made)} examples of {rows} "
                    "rows; return one for each, in their order, or set rowwise = False on the task"
                )
            self._prepared = digest, made
        pool = self._prepared[1]
        return {name: pool.select(rows) for name, rows in self.rows(client).items() if len(rows)}

    def rows(self, client: int) -> dict[str, Rows]:
        """The client's rows of the pool by split, sorted. One mix of labels for all its splits, so
        it is tested on what it is trained on."""
        generator = numpy_generator(self.config.federation.seed, "virtual", client)
        mix = label_mix(self._mix, self.config.simulation.alpha, generator)
        return {
            name: self._draw(self._by_label[name], size, mix, generator)
            for name, size in self.sizes.items()
        }

    def _draw(
        self,
        by_label: list[Rows],
        size: int,
        mix: NDArray[np.float64],
        generator: np.random.Generator,
    ) -> Rows:
        if size == 0:
            return np.empty(0, dtype=np.int64)
        there = np.array([len(rows) > 0 for rows in by_label])
        wanted = np.where(there, mix, 0.0)
        if wanted.sum() <= 0:  # the client's labels are all in other splits
            wanted = np.where(there, self._mix, 0.0)
        counts = generator.multinomial(size, wanted / wanted.sum())
        drawn = [
            rows[generator.choice(len(rows), count, replace=count > len(rows), shuffle=False)]
            for rows, count in zip(by_label, counts.tolist(), strict=True)
            if count
        ]
        return np.sort(np.concatenate(drawn))


@dataclass(frozen=True)
class DrawnShard:
    """A client's rows of a pool, prepared with it where the task allows that.

    pool, client : whose client, and its number
    """

    name: str
    pool: PooledShards
    client: int

    @property
    def task(self) -> Task[Any]:
        return self.pool.task

    @property
    def config(self) -> Config:
        return self.pool.config

    @property
    def sizes(self) -> dict[str, int] | None:
        return self.pool.sizes

    def open(self) -> Opened:
        return Opened(self.pool.parts(self.client))

    def prepare(self, parts: Callable[[], Parts], totals: Sums, digest: str) -> dict[str, Examples]:
        drawn = self.pool.examples(self.client, totals, digest)
        return prepare_parts(self, parts(), totals) if drawn is None else drawn


def label_mix(
    mix: NDArray[np.float64], alpha: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Shares q ~ Dir(alpha p) of labels with shares p > 0; for a tiny alpha a single label."""
    drawn = generator.dirichlet(np.maximum(alpha * mix, np.finfo(np.float64).tiny))
    total = drawn.sum()
    if not np.isfinite(total) or total <= 0:  # too small a concentration for gamma draws
        drawn = np.zeros(len(mix))
        drawn[generator.choice(len(mix), p=mix)] = 1.0
        return drawn
    shares: NDArray[np.float64] = drawn / total
    return shares


def kept_hospitals(config: Config) -> int:
    """How many hospitals stay in memory: two cohorts, and whom evaluations ask."""
    asked = config.evaluation.clients or MOST_EVALUATED
    return min(config.simulation.clients, 2 * (config.federation.clients_per_round or 0) + asked)


def check_virtual(config: Config) -> None:
    """Raise ConfigError for what a virtual population can't hold."""
    if config.federation.clients_per_round is None:
        raise config.error(
            "federation.clients_per_round",
            "with simulation.partition = 'virtual' a round asks a cohort; say how many, e.g. 100",
        )
    secure = config.secure_aggregation
    if secure.enabled and (config.simulation.masks == "protocol" or secure.blind):
        raise config.error(
            "simulation.masks" if not secure.blind else "secure_aggregation.blind",
            "virtual clients hold no keys, so their masks can only be emulated; leave it out, or "
            "choose another simulation.partition",
        )
    if config.privacy.enabled:
        raise config.error(
            "privacy.unit",
            "virtual clients keep no ledgers of what they have spent; set it to 'none', or choose "
            "another simulation.partition",
        )
    if config.simulation.scenario:
        raise config.error(
            "simulation.scenario",
            "a scenario's clock knows every client, virtual ones come and go; leave it out, or "
            "choose another simulation.partition",
        )
