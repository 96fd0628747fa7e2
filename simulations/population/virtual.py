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
from functools import partial
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.splitting import split_rows
from wardround.common.config.load import Config
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Examples, Task
from wardround.server.members.sampling import MOST_EVALUATED
from wardround.simulations.population.feature_noise import NoisyHospital

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

    def hospital(self, client: int, name: str, noise_variance: float) -> Hospital:
        """The client, with noise of this variance on its inputs."""
        kind: Callable[..., Hospital] = Hospital
        if noise_variance:
            kind = partial(NoisyHospital, noise_variance=noise_variance)
        shard = partial(self.open, client)
        return kind(name, self._task, self._config, shard, place=Place(simulated=True))


class PooledShards:
    """Shards that are drawn from a pool.

    sizes : rows of each client by split, the same for all

    Raises ConfigError if a split of the pool would be nobody's, DataError for an empty pool.
    """

    def __init__(self, task: Task[Any], pooled: Any, config: Config) -> None:
        if task.size(pooled) == 0:
            raise DataError(f"{config.data_path() or 'the example data'}: no usable rows")
        self._task, self._pooled, self._config = task, pooled, config
        found, label = np.unique(task.labels(pooled), return_inverse=True)
        self._mix = np.bincount(label) / len(label)
        parts = split_rows(task, pooled, config, "virtual")
        self._by_label: dict[str, list[Rows]] = {
            name: [rows[label[rows] == one] for one in range(len(found))]
            for name, rows in parts.items()
        }
        self.sizes = self._sizes({name: len(rows) for name, rows in parts.items()})
        self._prepared: tuple[str, Examples] | None = None

    def _sizes(self, pool: dict[str, int]) -> dict[str, int]:
        """Rows of a client by split, in the pool's proportions: held-out ones are rounded, and the
        training part has the rest."""
        rows, total = self._config.simulation.rows_per_client, sum(pool.values())
        sizes = {name: round(rows * count / total) for name, count in pool.items()}
        sizes["train"] = rows - sizes["validation"] - sizes["test"]
        for name, count in sizes.items():
            if count < 1 and (pool[name] or name == "train"):
                raise self._config.error(
                    "simulation.rows_per_client",
                    f"of {rows} rows no client would have any of split '{name}', which is "
                    f"{pool[name] / total:.1%} of the data; raise it, or change data.test_fraction "
                    "or data.validation_fraction",
                )
        return sizes

    def hospital(self, client: int, name: str, noise_variance: float) -> Hospital:
        """The client, with noise of this variance on its inputs."""
        kind: Callable[..., Hospital] = DrawingHospital
        if noise_variance:
            kind = partial(NoisyDrawingHospital, noise_variance=noise_variance)
        kind = partial(kind, shards=self, client=client, place=Place(simulated=True))
        return kind(name, self._task, self._config, partial(self.parts, client))

    def parts(self, client: int) -> dict[str, Any]:
        """The client's unprepared rows by split."""
        rows = self.rows(client)
        return {
            name: self._task.select(self._pooled, part) for name, part in rows.items() if len(part)
        }

    def examples(self, client: int, totals: Sums, digest: str) -> dict[str, Examples] | None:
        """The client's prepared rows by split, selected from the prepared pool; None where the
        task prepares a row by others of its hospital."""
        if not self._task.rowwise:
            return None
        if self._prepared is None or self._prepared[0] != digest:
            made = self._task.prepare(self._pooled, totals, self._pooled)
            if len(made) != (rows := self._task.size(self._pooled)):
                raise TaskError(
                    f"{type(self._task).__name__}.prepare made {len(made)} examples of {rows} "
                    "rows; return one for each, in their order, or set rowwise = False on the task"
                )
            self._prepared = digest, made
        pool = self._prepared[1]
        return {name: pool.select(rows) for name, rows in self.rows(client).items() if len(rows)}

    def rows(self, client: int) -> dict[str, Rows]:
        """The client's rows of the pool by split, sorted. One mix of labels for all its splits, so
        it is tested on what it is trained on."""
        generator = numpy_generator(self._config.federation.seed, "virtual", client)
        mix = label_mix(self._mix, self._config.simulation.alpha, generator)
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


class DrawingHospital(Hospital):
    """A client whose rows are a pool's, and prepared with it where the task allows that.

    Parameters
    ----------
    shards, client : whose client, and its number; the others as of ``Hospital``, but that
        ``open_shard`` gives the shard by split
    """

    def __init__(self, *args: Any, shards: PooledShards, client: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shards, self._client = shards, client

    def parts(self) -> dict[str, Any]:
        if self._parts is None:
            self._parts = self._open_shard()
        return self._parts

    def sizes(self) -> dict[str, int]:
        return dict(self._shards.sizes)

    def examples(self, totals: Sums, digest: str) -> dict[str, Examples]:
        if self._prepared is None or self._prepared[0] != digest:
            drawn = self._shards.examples(self._client, totals, digest)
            if drawn is None:
                return super().examples(totals, digest)
            self._prepared = digest, drawn
        return self._prepared[1]


class NoisyDrawingHospital(NoisyHospital, DrawingHospital):
    """The same with noise on its inputs."""


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
    if config.secure_aggregation.enabled:
        raise config.error(
            "secure_aggregation.enabled",
            "virtual clients hold no keys, so their updates can't be masked; set it to false, or "
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
