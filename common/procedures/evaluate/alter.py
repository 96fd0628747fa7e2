"""Inputs of a hospital's rows, altered: an input's values dealt to other rows, or disturbed.

| kind        | of     | what is done                                              | strength |
|-------------|--------|-----------------------------------------------------------|----------|
| importance  | table  | one column's values permuted among the hospital's rows    |          |
| noise       | table  | normal, on numbers, in deviations of the preparation      | > 0      |
| missing     | table  | each cell of each input a gap with this chance            | share    |
| absent      | table  | one input a gap in every row                              |          |
| noise       | images | normal, on pixels, in deviations of the image's own       | > 0      |
| contrast    | images | each pixel's distance to the mean less this share of it   | share    |
| brightness  | images | added to all pixels, in deviations of the image's own     | > 0      |
| blur        | images | a Gaussian of this deviation, in pixels, along each axis  | > 0      |
| unknown     | texts  | each token but those around the text, with this chance    | share    |

All is done on prepared inputs: a row's are of that row alone, so a column's cells permuted are its
prepared values permuted, and all indicators of a category together. A gap is what the preparation
makes of one.

Shapes: N rows, D prepared inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.settings import EvaluateOptions
from wardround.common.tasks import features
from wardround.common.tasks.base import Task
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.columns import numeric_names
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.imaging.task import ImagingTask
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import PAIRS
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.tabular_rows import input_names
from wardround.common.tasks.text.task import TextTask

MOST_VARIANTS = 1000
IMPORTANCE, ABSENT = "importance", "absent"
OF_TABLES, OF_TEXTS = ("noise", "missing", ABSENT), ("unknown",)
OF_IMAGES = ("noise", "contrast", "brightness", "blur")
_DRAWN = (IMPORTANCE, "noise", "missing", "unknown")


@dataclass(frozen=True)
class Variant:
    """One way to alter inputs.

    column : of which input; '' for all
    strength : 0 where there is none
    repeats : how often it is drawn
    """

    kind: str
    column: str = ""
    strength: float = 0.0
    repeats: int = 1

    @property
    def key(self) -> str:
        """The name of its sums."""
        what = quote(self.column, safe="") or format(self.strength, ".17g")
        return f"altered/{self.kind}/{what}"


def check_alterations(config: Config, task: Task[Any]) -> None:
    """Raise ConfigError, by key, for alterations that the task's inputs can't have."""
    options = config.procedure.settings
    assert isinstance(options, EvaluateOptions)
    known: tuple[str, ...] = ()
    if isinstance(task, TabularTask):
        known = OF_TABLES
    elif isinstance(task, ImagingTask):
        known = OF_IMAGES
    elif isinstance(task, TextTask) and task.options.kind != PAIRS:
        known = OF_TEXTS
    if options.importance and known != OF_TABLES:
        raise config.error("procedure.importance", "is of a table's columns, and there is none")
    for name in options.robustness:
        if name not in known:
            has = ", ".join(known) or "none"
            raise config.error(
                "procedure.robustness", f"'{name}' isn't for this task; it has {has}"
            )
    if not isinstance(task, TabularTask):
        return
    if "noise" in options.robustness and task.options.normalise == "none":
        raise config.error(
            "procedure.robustness",
            "'noise' is in deviations of the preparation, and with task.normalise = 'none' it has "
            "none",
        )
    if {"missing", ABSENT} & set(options.robustness) and task.options.missing != "median":
        raise config.error(
            "procedure.robustness",
            f"'missing' and 'absent' make gaps, and task.missing = '{task.options.missing}' takes "
            "no rows with one",
        )


def variants(config: Config, task: Task[Any], totals: Sums) -> list[Variant]:
    """All that the settings ask for, in a fixed order. Raises ConfigError for a column that is no
    input of the model, or too many."""
    options = config.procedure.settings
    assert isinstance(options, EvaluateOptions)
    columns = list(groups(task.options, totals)) if isinstance(task, TabularTask) else []
    chosen = options.importance if isinstance(options.importance, list) else columns
    for name in chosen:
        if name not in columns:
            raise config.error("procedure.importance", f"'{name}' is no input of the model")
    found = [Variant(IMPORTANCE, column=name) for name in chosen if options.importance]
    for kind in options.robustness:
        if kind == ABSENT:
            found += [Variant(kind, column=name) for name in columns]
        else:
            found += [Variant(kind, strength=one) for one in options.strengths_of(kind)]
    found = [replace(one, repeats=options.repeats if one.kind in _DRAWN else 1) for one in found]
    if (count := sum(one.repeats for one in found)) > MOST_VARIANTS:
        raise config.error(
            "procedure.importance",
            f"with these inputs and repeats rows are scored {count} times, more than "
            f"{MOST_VARIANTS}",
            "name fewer columns, or set fewer procedure.repeats",
        )
    return found


def groups(options: TabularOptions, totals: Sums) -> dict[str, list[int]]:
    """Which of the D prepared inputs each column makes, in their order; a category without
    indicators makes none."""
    names = input_names(totals, options)
    categorical = sorted(options.columns.categorical)
    first = 1 if options.encoding == "dummy" else 0
    found, at = {}, 0
    for place, name in enumerate(names):
        width = 1
        if place >= len(names) - len(categorical):
            width = max(0, len(vocabulary(totals, name, options)) - first)
        found[name] = list(range(at, at + width))
        at += width
    return found


class TableChange:
    """Alters prepared rows of a table.

    Parameters
    ----------
    part : some of the hospital's rows, at least one
    train : those that the preparation is of, where it is local
    """

    def __init__(self, task: TabularTask, totals: Sums, part: Table, train: Table) -> None:
        self._groups = groups(task.options, totals)
        self._numeric = len(numeric_names(totals))
        self._gap = torch.zeros(0)
        if task.options.missing == "median":
            self._gap = _gaps(task.options, totals, part, train)

    def __call__(self, variant: Variant, inputs: Tensor, draw: np.random.Generator) -> Tensor:
        """A copy of all N x D inputs, altered."""
        found, rows = inputs.clone(), len(inputs)
        if variant.kind == "noise":
            noise = draw.normal(scale=variant.strength, size=(rows, self._numeric))
            found[:, : self._numeric] += torch.from_numpy(noise.astype(np.float32))
            return found
        for name, places in self._groups.items():
            if variant.column not in ("", name):
                continue
            if variant.kind == IMPORTANCE:
                order = torch.from_numpy(draw.permutation(rows))
                found[:, places] = inputs[:, places][order]
            else:
                share = 1.0 if variant.kind == ABSENT else variant.strength
                here = torch.from_numpy(draw.random(rows) < share)
                found[:, places] = torch.where(here[:, None], self._gap[places], found[:, places])
        return found


def _gaps(options: TabularOptions, totals: Sums, part: Table, train: Table) -> Tensor:
    """D prepared inputs of a row with nothing but gaps."""
    row, names = part.select(np.zeros(1, dtype=np.int64)), set(input_names(totals, options))
    data = row.data
    for place, field in enumerate(data.schema):
        if field.name in names:
            data = data.set_column(place, field.name, pa.nulls(1, field.type))
    blank = replace(row, data=data, _coded={})
    found = features.features(blank, totals, train, options)[0]
    return torch.from_numpy(found.astype(np.float32))


def persons(task: Task[Any], parts: list[Any]) -> NDArray[np.int64]:
    """Whose each row of some parts is, by numbers; each row its own where nobody says."""
    known = [task.people(part) for part in parts]
    if any(one is None for one in known):
        return np.arange(sum(map(task.size, parts)), dtype=np.int64)
    people = np.concatenate([one for one in known if one is not None])
    return np.unique(people, return_inverse=True)[1].astype(np.int64)
