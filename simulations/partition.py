"""How a pooled shard becomes hospitals: IID, by label, by quantity. Real sites need none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wardround.common.config import Config
from wardround.common.rng import numpy_generator

Rows = NDArray[np.int64]
_TRIES = 1000


def partition_rows(labels: Rows, config: Config) -> list[Rows]:
    """Row numbers of each of ``simulation.clients`` hospitals: disjoint, sorted, all rows once.

    dirichlet : each label is spread by proportions from Dir(alpha) (Hsu et al. 2019, 1909.06335)
    quantity : sizes from Dir(alpha), labels mixed
    iid : equal sizes, labels mixed

    Redrawn until every hospital has ``simulation.min_examples`` rows. Raises ConfigError if that
    can't be reached.
    """
    table = config.simulation
    if table.clients * table.min_examples > len(labels):
        raise config.error(
            "simulation.clients",
            f"{table.clients} hospitals with at least simulation.min_examples = "
            f"{table.min_examples} rows each need more than the {len(labels)} rows there are",
        )
    generator = numpy_generator(config.federation.seed, "partition", table.partition)
    for _ in range(_TRIES):
        parts = _draw(labels, table.partition, table.clients, table.alpha, generator)
        if min(len(part) for part in parts) >= table.min_examples:
            return [np.sort(part) for part in parts]
    raise config.error(
        "simulation.alpha",
        f"no {table.partition} partition with at least {table.min_examples} rows per hospital in "
        f"{_TRIES} draws; raise simulation.alpha or lower simulation.min_examples",
    )


def _draw(
    labels: Rows, kind: str, clients: int, alpha: float, generator: np.random.Generator
) -> list[Rows]:
    if kind == "iid":
        return list(np.array_split(generator.permutation(len(labels)), clients))
    if kind == "quantity":
        rows = generator.permutation(len(labels))
        return _cut(rows, generator.dirichlet(np.full(clients, alpha)))
    parts: list[list[Rows]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        pieces = _cut(rows, generator.dirichlet(np.full(clients, alpha)))
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


def _cut(rows: Rows, proportions: NDArray[np.float64]) -> list[Rows]:
    cuts = np.rint(np.cumsum(proportions)[:-1] * len(rows)).astype(np.int64)
    return list(np.split(rows, cuts))
