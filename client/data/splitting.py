"""Which rows train, validate and test, by their places (``held_out.py``) and the fractions.

Labels have no part in it: strata of one study's labels would make a held-out row of it a training
row of a study with another target. A part that therefore lacks a label is told.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.held_out import places
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.protocol.names import SPLITS
from wardround.common.tasks.base import Task

Rows = NDArray[np.int64]
_TRAIN, _VALIDATION, _TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
_MANY_COPIES = 0.1


def split_rows(task: Task[Any], raw: Any, config: Config, key: bytes) -> dict[str, Rows]:
    """Row numbers of 'train', 'validation' and 'test', each sorted; together every row once.

    A split given by the data wins. Otherwise each row, or group of rows with one key
    (``Task.row_keys``), is placed by itself with the hospital's held-out ``key``: one that comes or
    goes moves no other. So a part's size is its share of the rows up to chance, a binomial's.

    Where that leaves no row for training, one trains: the lowest of the validation rows, else the
    highest of the test rows, so that test rows of one study are still none that another with as
    large a test fraction trains on. Not where examples or patients are protected (``[privacy]``),
    since it depends on the others.
    """
    given = task.given_split(raw)
    if given is not None:
        return {part: np.flatnonzero(given == part).astype(np.int64) for part in SPLITS}
    test, validation = config.data.test_fraction, config.data.validation_fraction
    part = np.full(task.size(raw), _TRAIN, dtype=np.int64)
    if test or validation:
        place = places(key, _row_keys(task, raw))
        part[place >= 1 - validation] = _VALIDATION
        part[place < test] = _TEST
        if len(part) and not (part == _TRAIN).any() and not _protects_units(config):
            validates = part == _VALIDATION
            part[place == (place[validates].min() if validates.any() else place.max())] = _TRAIN
    return {
        name: np.flatnonzero(part == index).astype(np.int64) for index, name in enumerate(SPLITS)
    }


def split_notes(task: Task[Any], raw: Any, config: Config, split: dict[str, Rows]) -> list[str]:
    """What there is to say of a drawn split: parts that lack a label which should be there, and
    copies that stay in one part. Of a given one which settings it leaves without effect."""
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
                f"the {part} part has no row of {lacking} of the {len(found)} groups by target "
                f"(classes, events, or quarters of an amount): there are few {whole} with it, and "
                "the hospital's key holds rows out whatever their target"
            )
    if _shares(config)[_TRAIN] < 1 and task.together(raw) is None and _has_many_copies(task, raw):
        notes.append(
            "over a tenth of the rows are copies of others in all that the file says of them, and "
            "copies stay in one part: if they are different patients, name the patients' column"
        )
    return notes


def _row_keys(task: Task[Any], raw: Any) -> NDArray[np.str_]:
    keys = task.row_keys(raw)
    if len(keys) != (size := task.size(raw)):
        raise TaskError(f"{type(task).__name__}.row_keys gave {len(keys)} keys for {size} rows")
    return keys


def _has_many_copies(task: Task[Any], raw: Any) -> bool:
    keys = _row_keys(task, raw)
    return len(np.unique(keys)) < (1 - _MANY_COPIES) * len(keys)


def _protects_units(config: Config) -> bool:
    return config.privacy.unit in ("example", "patient")


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
