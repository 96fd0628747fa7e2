"""What a federation is held against: each hospital alone, and all rows in one place.

Both train with the federation's own settings and as many passes over the data; only a simulation
can know the pooled model, which is what the federation tries to reach without pooling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flwr.app import RecordDict
from torch import nn

from wardround.client.evaluation import evaluate_model
from wardround.client.hospital import Hospital
from wardround.client.received import PERSONAL
from wardround.client.state import ClientState
from wardround.client.training import train_on_batches
from wardround.common.arrays import digest_arrays
from wardround.common.config import Config
from wardround.common.entries import entries_of
from wardround.common.metrics import add_sums
from wardround.common.models import build_model, load_arrays, model_arrays
from wardround.common.tasks.base import Examples, Sums, Task
from wardround.server.federation import FederationOutcome
from wardround.server.sampling import evaluated
from wardround.simulations.population import Population

Figures = dict[str, dict[str, float]]


def local_figures(
    population: Population, names: Sequence[str], split: str = "test", rounds: int | None = None
) -> Figures:
    """Test figures of each named hospital's own model, and 'overall' from their added sums.

    rounds : as many as the federation made; by default all of them
    """
    by_hospital: dict[str, Sums] = {}
    for name in names:
        hospital = population.hospital(name)
        totals = own_totals(hospital)
        examples = hospital.examples(totals, "own:" + digest_arrays(totals))
        if split not in examples:
            continue
        model = _train(population, examples["train"], totals, name, 1, rounds)
        by_hospital[name] = evaluate_model(
            model, examples[split], population.task, population.config.training
        )
    return summarise_all(population.task, by_hospital)


def pooled_figures(
    population: Population,
    names: Sequence[str],
    totals: Sums,
    split: str = "test",
    shown: Sequence[str] | None = None,
    rounds: int | None = None,
) -> Figures:
    """Test figures of each hospital in ``shown`` (default: all), of one model trained on the named
    hospitals' rows together.

    Each hospital's rows are prepared as in the federation (``totals``), so the two models see the
    same inputs.
    """
    prepared = {
        name: population.hospital(name).examples(totals, digest_arrays(totals)) for name in names
    }
    pooled = population.task.join([examples["train"] for examples in prepared.values()])
    model = _train(population, pooled, totals, "pooled", len(prepared), rounds)
    return summarise_all(
        population.task,
        {
            name: evaluate_model(
                model, examples[split], population.task, population.config.training
            )
            for name, examples in prepared.items()
            if split in examples and (shown is None or name in shown)
        },
    )


def federated_figures(
    population: Population,
    outcome: FederationOutcome,
    states: dict[str, RecordDict],
    split: str = "test",
) -> Figures:
    """Test figures of the federated model at each hospital, as that hospital itself sees them.

    With secure aggregation the server doesn't know them; whoever simulates all hospitals may. Of
    personal layers the hospital's latest are taken.
    """
    digest = digest_arrays(outcome.totals)
    model = build_model(population.task, outcome.totals, population.config.federation.seed)
    training = population.config.training
    model.to(training.device)
    by_hospital = {}
    for member in evaluated(outcome.members, population.config):
        examples = population.hospital(member.name).examples(outcome.totals, digest)
        if split in examples:
            state = ClientState(states.get(member.name, RecordDict()))
            load_arrays(model, outcome.model | (state.latest(PERSONAL) or {}))
            by_hospital[member.name] = evaluate_model(
                model, examples[split], population.task, training
            )
    return summarise_all(population.task, by_hospital)


def own_totals(hospital: Hospital) -> Sums:
    """The preparation as if this hospital were alone."""
    totals: Sums = {}
    for phase in range(hospital.task.phases):
        totals = totals | hospital.statistics(phase, totals)
    return hospital.task.condense(totals)


def summarise_all(task: Task[Any], by_hospital: dict[str, Sums]) -> Figures:
    """Figures per hospital, and 'overall' from the added sums."""
    figures = {name: task.summarise(sums) for name, sums in by_hospital.items()}
    if by_hospital:
        figures["overall"] = task.summarise(add_sums(by_hospital.values()))
    return figures


def _train(
    population: Population,
    examples: Examples,
    totals: Sums,
    name: str,
    hospitals: int,
    rounds: int | None,
) -> nn.Module:
    """As many passes over these examples as the federation makes over its hospitals' rows."""
    config: Config = population.config
    if (steps := config.training.local_steps) is not None:
        longer = config.training.model_copy(update={"local_steps": steps * hospitals})
        config = config.model_copy(update={"training": longer})
    model = build_model(population.task, totals, config.federation.seed)
    if population.initial is not None:
        own, personal = model_arrays(model), entries_of(config, model).personal
        load_arrays(model, population.initial.over(own, personal).arrays)
    model.to(config.training.device)
    for server_round in range(1, (rounds or config.federation.rounds) + 1):
        seed = (config.federation.seed, server_round, f"baseline:{name}")
        train_on_batches(model, examples, population.task, config, seed)
    return model
