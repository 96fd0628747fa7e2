"""What a model's later rows are held against: counts of this hospital's own rows of the study.

Inputs of all rows; scores, outcomes by score and figures of held-out rows only, as scores of rows
that trained a model are too good. Counts alone are kept, here, and never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.results.figures import OWN
from wardround.client.results.joining import model_folder
from wardround.client.training.evaluation import model_outputs
from wardround.common.drift.counts import Column, Columns, Counts, none_of
from wardround.common.drift.field import fields_of
from wardround.common.drift.outcomes import figures_of
from wardround.common.drift.reference import REFERENCE, Reference
from wardround.common.drift.rows import columns_of
from wardround.common.drift.scoring import scored
from wardround.common.durable.files import write_atomically
from wardround.common.figures.sums import Sums
from wardround.common.model_folder.folder import read_schema
from wardround.common.model_folder.listed import digest_of
from wardround.common.protocol.names import HELD_OUT
from wardround.common.results.package import FILES


def write_reference(hospital: Hospital, folder: Path, model: nn.Module, totals: Sums) -> None:
    """Write ``own/reference.json`` of a results folder; nothing where its model has no schema, as
    one of an older server.

    model : as it was trained; its outputs are in their own unit afterwards

    Raises OSError, WardroundError.
    """
    listed = model_folder(hospital, folder) / FILES
    if not listed.is_file():
        return
    digest = digest_of(listed.read_bytes())
    text = own_reference(hospital, folder, model, totals, digest).to_text()
    write_atomically(folder / OWN / REFERENCE, text.encode(), private=True)


def own_reference(
    hospital: Hospital, folder: Path, model: nn.Module, totals: Sums, digest: str
) -> Reference:
    """The same, not written."""
    task, schema, parts = (
        hospital.task,
        read_schema(model_folder(hospital, folder)),
        hospital.parts(),
    )
    fields, training = fields_of(schema), hospital.config.training
    module, train = task.predictor(model, totals), parts.get("train")

    def say(part: Any) -> Mapping[str, NDArray[Any]]:
        examples = task.prepare(part, totals, part if train is None else train)
        said: Mapping[str, NDArray[Any]] = task.predictions(
            model_outputs(module, examples, training), totals
        )
        return said

    counts, held = none_of(fields), list[Columns]()
    for split, raw in parts.items():
        if task.size(raw) == 0:
            continue
        if split in HELD_OUT:
            found = scored(task, schema, raw, say)
            held.append(found.columns)
            counts += found.counts(fields, schema)
        else:
            counts += Counts.of(fields, columns_of(task, raw, schema))
    figures = figures_of(_together(held), schema) if held else []
    return Reference(counts, digest, hospital.name, tuple(figures))


def _together(parts: list[Columns]) -> dict[str, Column]:
    """Columns of several parts as one's; those that all of them have."""
    keys = set.intersection(*(set(one) for one in parts))
    return {key: Column(np.concatenate([one[key].values for one in parts])) for key in keys}
