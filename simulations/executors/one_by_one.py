"""What a group is asked, done client after client: the reference."""

from __future__ import annotations

from collections.abc import Sequence

from wardround.client.privacy.round import PrivateRound
from wardround.client.privacy.sizes import announced_rows
from wardround.client.requests.local import local_update
from wardround.client.training.evaluation import evaluate_model
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import ReplyRefused, reason_of
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import to_numpy
from wardround.common.protocol.names import QUANTILE
from wardround.common.text import one_line
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.sums import (
    EvaluationSums,
    GroupSums,
    TrainingSums,
    failed_with,
)


def train_each(group: Group, node_ids: Sequence[int], sums: GroupSums) -> None:
    """Train these clients one after the other, each from x, and fold them in.

    They share one model object, loaded anew for each. Whoever fails is refused by itself, with the
    reason, and the others go on.
    """
    for node_id in node_ids:
        hospital, quantile = group.clients.hospital(node_id), None
        try:
            if group.private is None:
                arrays, loss, steps = _trained(group, node_id)
            else:
                private = group.private.round_of(node_id)
                arrays, quantile, steps = _privately(group, node_id, private)
                loss = 0.0  # it isn't told
            (weight,) = sums.weights([announced_rows(hospital)])
        except Exception as error:
            sums.refused[node_id] = failed_with(reason_of(error))
            continue
        try:
            sums.add_client(node_id, arrays, weight=float(weight), loss=loss, steps=steps)
        except ReplyRefused as error:
            sums.refused[node_id] = one_line(str(error))
            continue
        if quantile is not None and isinstance(sums, TrainingSums):
            sums.add_quantile(quantile)


def _trained(group: Group, node_id: int) -> tuple[Arrays, float, int]:
    """A client's arrays after ordinary steps, its loss and how many steps it made."""
    hospital = group.clients.hospital(node_id)
    part = group.training_examples(node_id)
    model, algorithm = group.load(), group.algorithm()
    config = hospital.config
    seed = (config.federation.seed, group.server_round, hospital.name)
    done = train_on_batches(model, part, hospital.task, config, seed, algorithm)
    entries = model.state_dict()
    arrays = {key: to_numpy(entries[key]) for key in group.arrays}
    algorithm.finish(arrays, done.steps, done.lr)
    return _combined(group, arrays, node_id), done.loss, done.steps


def _privately(
    group: Group, node_id: int, private: PrivateRound
) -> tuple[Arrays, float | None, int]:
    """A client's arrays as they leave in a private round, paid for before; its quantile coordinate,
    where the clipping norm adapts; and how many steps it tells."""
    hospital, part = group.clients.hospital(node_id), group.training_examples(node_id)
    model, algorithm = group.load(), group.algorithm()
    work = local_update(hospital, model, part, group.arrays, algorithm, private)
    if work.protect is not None:
        moved, records = private.released(group.arrays, work.protect, work.sensitivity)
        quantile = float(records[QUANTILE][QUANTILE][0]) if records else None
        return group.arrays | moved, quantile, 1
    # a buffer may depend on the rows, and no noise covers it
    arrays = group.arrays | {key: work.arrays[key] for key in algorithm.parameters}
    algorithm.finish(arrays, work.outcome.steps, work.outcome.lr)
    return _combined(group, arrays, node_id), None, work.outcome.steps


def _combined(group: Group, arrays: Arrays, node_id: int) -> Arrays:
    """The arrays, with low-rank factors as they are sent."""
    hospital = group.clients.hospital(node_id)
    factors = hospital.task.low_rank(group.model)
    if factors is None:
        return arrays
    seed = hospital.config.federation.seed
    return arrays | factors.sent(group.arrays, arrays, seed, group.server_round)


def evaluate_each(group: Group) -> EvaluationSums:
    """Metric sums of each client, one after the other."""
    found = EvaluationSums()
    for node_id in group.node_ids:
        if node_id in group.failed:
            found.refused[node_id] = group.failed[node_id]
            continue
        hospital = group.clients.hospital(node_id)
        task, training = hospital.task, hospital.config.training
        try:
            examples = group.examples(node_id)
            sums = {
                split: evaluate_model(group.model, examples[split], task, training)
                for split in ("validation", "test")
                if split in examples
            }
            for split, part in sums.items():
                found.add(split, node_id, part)
        except Exception as error:
            found.refused[node_id] = failed_with(reason_of(error))
    return found
