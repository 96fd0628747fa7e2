"""How a pooled shard becomes clients: by chance, label, size, patient, a column's value or order.

Every row goes to exactly one client, and every client has ``simulation.min_examples`` rows, or the
partition is refused. Noise on a client's inputs, the other feature skew of NIID-Bench (Li et al.
2022, arXiv 2102.02079), is ``simulations/population/feature_noise.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import DataError, TaskError
from wardround.common.names import names_of
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Task

Rows = NDArray[np.int64]
_TRIES = 1000


def partition(task: Task[Any], pooled: Any, config: Config) -> dict[str, Rows]:
    """Row numbers of each client, by name: disjoint, sorted, together every row once.

    iid : equal sizes, labels mixed
    dirichlet : each label is spread by proportions from Dir(alpha) (Hsu et al. 2019, 1909.06335)
    quantity : sizes from Dir(alpha), labels mixed
    column : a client for each value of ``simulation.column``, named like it
    patient : whole patients, equally many for each client
    feature_shift : by the order of ``simulation.column`` (``shifted_rows``); without one like iid,
        for what tells clients apart is the noise on their inputs

    Raises ConfigError, DataError or TaskError if it can't be done.
    """
    table = config.simulation
    if table.partition == "column":
        return _by_value(_column(task, pooled, config), config)
    if table.partition == "patient":
        parts = patient_rows(_patients(task, pooled, config), config)
    elif table.partition == "feature_shift" and table.column:
        parts = shifted_rows(_numbers(task, pooled, config), config)
    else:
        parts = partition_rows(_labels(task, pooled), config)
    width = len(str(len(parts)))
    return {f"hospital-{index:0{width}d}": part for index, part in enumerate(parts, 1)}


# --- by chance, label and size --------------------------------------------------------------------
def partition_rows(labels: Rows, config: Config) -> list[Rows]:
    """Row numbers of each of ``simulation.clients``, for the kinds that need labels only.

    Redrawn until every client has ``simulation.min_examples`` rows. Raises ConfigError if that
    can't be reached.
    """
    table = config.simulation
    _check_size(len(labels), config)
    return _drawn(config, lambda g: _draw(labels, table.partition, table.clients, table.alpha, g))


def _draw(
    labels: Rows, kind: str, clients: int, alpha: float, generator: np.random.Generator
) -> list[Rows]:
    if kind in ("iid", "feature_shift"):
        return list(np.array_split(generator.permutation(len(labels)), clients))
    if kind == "quantity":
        rows = generator.permutation(len(labels))
        return _cut(rows, generator.dirichlet(np.full(clients, alpha)))
    # a draw of proportions for each label, over clients: not for each client, over labels, which
    # would ask for more rows of a label than there are
    parts: list[list[Rows]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        pieces = _cut(rows, generator.dirichlet(np.full(clients, alpha)))
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return [np.concatenate(part) for part in parts]


# --- by patient -----------------------------------------------------------------------------------
def patient_rows(patients: NDArray[np.str_], config: Config) -> list[Rows]:
    """Rows of each client, a patient's all at one: clients' numbers of patients differ by at most
    one. Raises ConfigError."""
    clients = config.simulation.clients
    _check_size(len(patients), config)
    _, patient = np.unique(patients, return_inverse=True)
    count = int(patient.max()) + 1
    if count < clients:
        raise config.error(
            "simulation.clients",
            f"{clients} hospitals with a patient each need more than the {count} patients there "
            "are",
        )

    def deal(generator: np.random.Generator) -> list[Rows]:
        client_of = np.empty(count, dtype=np.int64)
        for client, part in enumerate(np.array_split(generator.permutation(count), clients)):
            client_of[part] = client
        return _grouped(client_of[patient], clients)

    return _drawn(config, deal)


# --- by a column ----------------------------------------------------------------------------------
def shifted_rows(values: NDArray[np.float64], config: Config) -> list[Rows]:
    """Rows of each client where clients differ in a feature: FedArtML's histogram Dirichlet
    (Jimenez Gutierrez et al. 2024), on quantiles.

    Rows in the order of their values (equal ones by chance) are cut into as many equal blocks as
    there are clients. Each block is spread by proportions from Dir(alpha), the largest of which is
    its own client's, so that nobody is left without rows. alpha to infinity mixes all blocks; alpha
    to 0 leaves client i the i-th block. Raises ConfigError.
    """
    clients, alpha = config.simulation.clients, config.simulation.alpha
    _check_size(len(values), config)

    def deal(generator: np.random.Generator) -> list[Rows]:
        shuffled = generator.permutation(len(values))
        ordered = shuffled[np.argsort(values[shuffled], kind="stable")]
        parts: list[list[Rows]] = [[] for _ in range(clients)]
        for own, block in enumerate(np.array_split(ordered, clients)):
            shares = generator.dirichlet(np.full(clients, alpha))
            largest = int(np.argmax(shares))
            shares[own], shares[largest] = shares[largest], shares[own]
            for part, piece in zip(parts, _cut(generator.permutation(block), shares), strict=True):
                part.append(piece)
        return [np.concatenate(part) for part in parts]

    return _drawn(config, deal)


def _by_value(values: NDArray[np.str_], config: Config) -> dict[str, Rows]:
    table = config.simulation
    found, client_of = np.unique(values, return_inverse=True)
    if len(found) < config.federation.min_clients:
        raise config.error(
            "simulation.column",
            f"column '{table.column}' has {len(found)} values, each a hospital, and "
            f"federation.min_clients is {config.federation.min_clients}; name another column",
        )
    sizes = np.bincount(client_of)
    if small := int((sizes < table.min_examples).sum()):
        raise config.error(
            "simulation.column",
            f"{small} of the {len(found)} values of column '{table.column}' have fewer than "
            f"simulation.min_examples = {table.min_examples} rows (the rarest has {sizes.min()}); "
            "merge or drop them, or lower simulation.min_examples",
        )
    parts = _grouped(client_of, len(found))
    return dict(zip(names_of(map(str, found)), parts, strict=True))


# --- what the task says of rows -------------------------------------------------------------------
def _labels(task: Task[Any], pooled: Any) -> Rows:
    return _checked(task, "labels", task.labels(pooled), task.size(pooled))


def _patients(task: Task[Any], pooled: Any, config: Config) -> NDArray[np.str_]:
    patients = task.patients(pooled)
    if patients is None:
        raise config.error(
            "simulation.partition",
            "'patient' needs to know whose each row is; name the patients' column (tabular, text: "
            "task.columns.patient_id; imaging: task.files.patient_id)",
        )
    return _checked(task, "patients", patients, task.size(pooled))


def _column(task: Task[Any], pooled: Any, config: Config) -> NDArray[np.str_]:
    values = task.column(pooled, config.simulation.column)
    if values is None:
        raise config.error(
            "simulation.column",
            f"{type(task).__name__} has no columns; define column() on it, or choose another "
            "simulation.partition",
        )
    return _checked(task, "column", values, task.size(pooled))


def _numbers(task: Task[Any], pooled: Any, config: Config) -> NDArray[np.float64]:
    try:
        values = _column(task, pooled, config).astype(np.float64)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise config.error(
            "simulation.column",
            f"column '{config.simulation.column}' has values that are no numbers, so rows can't be "
            "sorted by it; name a numeric column",
        )
    return values


def _checked(task: Task[Any], method: str, values: NDArray[Any], size: int) -> NDArray[Any]:
    if len(values) != size:
        raise TaskError(f"{type(task).__name__}.{method} gave {len(values)} values for {size} rows")
    return values


# --- dealing --------------------------------------------------------------------------------------
def _check_size(rows: int, config: Config) -> None:
    table = config.simulation
    if rows == 0:
        raise DataError("there are no rows to partition; check data.path")
    if table.clients * table.min_examples > rows:
        raise config.error(
            "simulation.clients",
            f"{table.clients} hospitals with at least simulation.min_examples = "
            f"{table.min_examples} rows each need more than the {rows} rows there are",
        )


def _drawn(config: Config, deal: Callable[[np.random.Generator], list[Rows]]) -> list[Rows]:
    """The first deal that gives every client enough rows, each client's sorted. Redrawing, not
    moving rows over: what is left is the partition's own distribution, given that it is enough."""
    table = config.simulation
    generator = numpy_generator(config.federation.seed, "partition", table.partition)
    for _ in range(_TRIES):
        parts = deal(generator)
        if min(len(part) for part in parts) >= table.min_examples:
            return [np.sort(part) for part in parts]
    by_alpha = table.partition not in ("patient", "iid")
    mend = "raise simulation.alpha or lower" if by_alpha else "lower simulation.clients or"
    raise config.error(
        "simulation.alpha" if by_alpha else "simulation.min_examples",
        f"no {table.partition} partition with at least {table.min_examples} rows per hospital in "
        f"{_TRIES} draws; {mend} simulation.min_examples",
    )


def _cut(rows: Rows, proportions: NDArray[np.float64]) -> list[Rows]:
    """Pieces of about these proportions, together all rows: sums are rounded, not the pieces."""
    cuts = np.rint(np.cumsum(proportions)[:-1] * len(rows)).astype(np.int64)
    return list(np.split(rows, cuts))


def _grouped(client_of: NDArray[np.int64], clients: int) -> list[Rows]:
    """Sorted rows of each client."""
    order = np.argsort(client_of, kind="stable")
    sizes = np.bincount(client_of, minlength=clients)
    return list(np.split(order, np.cumsum(sizes)[:-1]))
