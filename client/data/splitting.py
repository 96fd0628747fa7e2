"""Which rows train, validate and test: drawn once from the run seed and the hospital's name.

Each label is in every part in its proportion. Without groups that is exact; with groups (a
patient's rows, which stay together) it is done greedily, as scikit-learn's StratifiedGroupKFold
does it: the largest group first, each to the part that lacks most of its labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.protocol.names import SPLITS
from wardround.common.rng import derive_seed, numpy_generator
from wardround.common.tasks.base import Task

Rows = NDArray[np.int64]
_TRAIN = SPLITS.index("train")


def split_rows(task: Task[Any], raw: Any, config: Config, name: str) -> dict[str, Rows]:
    """Row numbers of 'train', 'validation' and 'test', each sorted; together every row once.

    A split given by the data wins. Otherwise rows are drawn stratified by label: of n rows of a
    label, round(n * fraction) go to the part. Rows of one group (``Task.together``) stay together,
    so there the proportions are as near as the groups allow. A label's last row, or last group,
    stays in training.

    Where examples or patients are protected (``[privacy]``), each row or group is drawn by itself,
    whatever else there is: one that comes or goes must move no other, or more than that one would
    change in what hospitals train on, and in their announced sizes.
    """
    given = task.given_split(raw)
    if given is not None:
        return {part: np.flatnonzero(given == part).astype(np.int64) for part in SPLITS}
    seed = config.federation.seed
    generator = numpy_generator(seed, "split", name)
    labels = np.asarray(task.labels(raw)).reshape(-1)
    groups: NDArray[Any] | None = task.together(raw)
    if config.privacy.unit in ("example", "patient"):
        if groups is None:
            draws = generator.random(len(labels))  # the first n are the same, however many follow
        else:
            names, unit = np.unique(groups, return_inverse=True)
            each = [derive_seed(seed, "split", name, str(group)) for group in names]
            draws = (np.array(each, dtype=np.float64) / 2.0**63)[unit]
        part = _of_draws(draws, _shares(config))
    elif groups is None:
        part = _of_rows(labels, _shares(config), generator)
    else:
        part = _of_groups(labels, groups, _shares(config), generator)
    return {
        name: np.flatnonzero(part == index).astype(np.int64) for index, name in enumerate(SPLITS)
    }


def split_notes(task: Task[Any], raw: Any, config: Config, split: dict[str, Rows]) -> list[str]:
    """What a drawn split couldn't do: parts that lack a label which should be there. Of a given one
    which settings it leaves without effect."""
    if task.given_split(raw) is not None:
        return _fractions_without_effect(config)
    found, label = np.unique(np.asarray(task.labels(raw)).reshape(-1), return_inverse=True)
    counts = np.bincount(label)
    whole = "rows" if task.together(raw) is None else "patients (or groups)"
    notes = []
    for part, share in zip(SPLITS, _shares(config), strict=True):
        there = np.bincount(label[split[part]], minlength=len(found)) > 0
        lacking = int((~there & (np.round(counts * share) >= 1)).sum())
        if lacking:
            notes.append(
                f"the {part} part has no row of {lacking} of the {len(found)} labels: there are "
                f"too few {whole} with it to have one in each part, and one stays in training"
            )
    return notes


def _fractions_without_effect(config: Config) -> list[str]:
    """A resolved configuration has all its keys: what tells is another value than the default."""
    fields = type(config.data).model_fields
    keys = [
        f"data.{key}"
        for key in ("test_fraction", "validation_fraction")
        if getattr(config.data, key) != fields[key].default
    ]
    if not keys:
        return []
    verb = "have" if len(keys) > 1 else "has"
    return [f"{' and '.join(keys)} {verb} no effect: the data say which rows train and test"]


def _shares(config: Config) -> tuple[float, ...]:
    """Of the rows, by part."""
    test, validation = config.data.test_fraction, config.data.validation_fraction
    shares = {"train": 1 - test - validation, "validation": validation, "test": test}
    return tuple(shares[part] for part in SPLITS)


def _of_draws(draws: NDArray[np.float64], shares: tuple[float, ...]) -> Rows:
    """The part of each row, from a number in [0, 1) of its own."""
    test, validation = (shares[SPLITS.index(name)] for name in ("test", "validation"))
    part = np.full(len(draws), _TRAIN, dtype=np.int64)
    part[draws < test + validation] = SPLITS.index("validation")
    part[draws < test] = SPLITS.index("test")
    return part


def _of_rows(
    labels: NDArray[Any], shares: tuple[float, ...], generator: np.random.Generator
) -> Rows:
    """The part of each row."""
    part = np.full(len(labels), _TRAIN, dtype=np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        left = len(members) - 1  # the last one stays in training
        start = 0
        for name in ("test", "validation"):
            index = SPLITS.index(name)
            count = min(round(len(members) * shares[index]), left)
            part[members[start : start + count]] = index
            start, left = start + count, left - count
    return part


def _of_groups(
    labels: NDArray[Any],
    groups: NDArray[Any],
    shares: tuple[float, ...],
    generator: np.random.Generator,
) -> Rows:
    """The part of each row, the same for all rows of a group."""
    found, label = np.unique(labels, return_inverse=True)
    names, unit = np.unique(groups, return_inverse=True)
    # (group, label) pairs that occur, as one number each: groups x labels would be mostly zeros
    pairs, counts = np.unique(unit * len(found) + label, return_counts=True)
    owner, column = pairs // len(found), pairs % len(found)
    share = counts / np.bincount(label)[column]
    starts = np.searchsorted(owner, np.arange(len(names) + 1))
    weight = np.bincount(owner, share**2)
    # the largest first, while there is room to even out; equal ones by chance
    order = generator.permutation(len(names))
    order = order[np.argsort(-weight[order], kind="stable")]
    part_of = _dealt(order.tolist(), starts.tolist(), column.tolist(), share.tolist(), shares)
    _keep_in_training(part_of, owner, column, counts, order)
    return part_of[unit]


def _dealt(
    order: list[int],
    starts: list[int],
    column: list[int],
    share: list[float],
    shares: tuple[float, ...],
) -> Rows:
    """The part of each group, dealt in ``order``; group i has ``share[k]`` of the rows of label
    ``column[k]``, for k from ``starts[i]`` to ``starts[i + 1]``.

    ``lack`` is parts x labels: how much of a label a part still lacks, as a share of the label's
    rows, so that rare labels count like frequent ones. Adding a group of shares g to a part changes
    the sum of squares by |g|^2 - 2 g lack: least where g lack is largest. In plain numbers, for
    most groups have one or two labels.
    """
    labels = max(column, default=-1) + 1
    lack = [[one] * labels for one in shares]
    allowed = [part for part, one in enumerate(shares) if one > 0]
    part_of = np.full(len(order), _TRAIN, dtype=np.int64)
    for one in order:
        mine = range(starts[one], starts[one + 1])
        whole = sum(share[k] for k in mine)
        best, chosen = -np.inf, _TRAIN
        for part in allowed:
            row = lack[part]
            # equal but for rounding: the first part, whatever the machine
            gain = round(sum(row[column[k]] * share[k] for k in mine) / whole, 9)
            if gain > best:
                best, chosen = gain, part
        part_of[one] = chosen
        for k in mine:
            lack[chosen][column[k]] -= share[k]
    return part_of


def _keep_in_training(part_of: Rows, owner: Rows, column: Rows, counts: Rows, order: Rows) -> None:
    """For a label of which no group trains: its smallest group does, in place."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    size = np.bincount(owner, counts)
    trained = np.bincount(
        column[part_of[owner] == _TRAIN], minlength=int(column.max(initial=-1)) + 1
    )
    for label in np.flatnonzero(trained == 0):
        having = owner[column == label]
        if len(having) and not (part_of[having] == _TRAIN).any():
            part_of[min(having.tolist(), key=lambda one: (size[one], rank[one]))] = _TRAIN
