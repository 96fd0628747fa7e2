"""What a group is asked, done client after client: the reference."""

from __future__ import annotations

from collections.abc import Sequence

from wardround.client.training.evaluation import evaluate_model
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import ReplyRefused, reason_of
from wardround.common.model.named import to_numpy
from wardround.common.text import one_line
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.sums import EvaluationSums, TrainingSums, failed_with


def train_each(group: Group, node_ids: Sequence[int], sums: TrainingSums) -> None:
    """Train these clients one after the other, each from x, and fold them in.

    They share one model object, loaded anew for each. Whoever fails is refused by itself, with the
    reason, and the others go on.
    """
    entries = group.model.state_dict()
    task = group.clients.hospital(node_ids[0]).task if node_ids else None
    factors = task.low_rank(group.model) if task is not None else None
    for node_id in node_ids:
        hospital = group.clients.hospital(node_id)
        try:
            part = group.training_examples(node_id)
            model, algorithm = group.load(), group.algorithm()
            config = hospital.config
            seed = (config.federation.seed, group.server_round, hospital.name)
            done = train_on_batches(model, part, hospital.task, config, seed, algorithm)
            arrays = {key: to_numpy(entries[key]) for key in group.arrays}
            algorithm.finish(arrays, done.steps, done.lr)
            if factors is not None:
                arrays |= factors.sent(group.arrays, arrays, seed[0], group.server_round)
            (weight,) = group.weights([hospital.sizes()["train"]])
        except Exception as error:
            sums.refused[node_id] = failed_with(reason_of(error))
            continue
        try:
            sums.add_client(node_id, arrays, weight=float(weight), loss=done.loss, steps=done.steps)
        except ReplyRefused as error:
            sums.refused[node_id] = one_line(str(error))


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
