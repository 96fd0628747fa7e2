"""A model folder is made: what describes the model beside its weights, then the signed list.

Whatever else belongs to the model (thresholds, judgement, card) is written between the two; the
list names all that lies there, and a folder without one is no model folder yet.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

from wardround.common.config.load import Config
from wardround.common.durable.files import write_atomically
from wardround.common.durable.tensors import read_tensors
from wardround.common.durable.versioned import Format
from wardround.common.figures.sums import Sums
from wardround.common.model.saved import MODEL, PERSONAL
from wardround.common.model_folder.listed import Listed, digest_of, file_digest, list_files
from wardround.common.model_folder.schema_file import CONFIG, SCHEMA, SCHEMA_FORMAT
from wardround.common.results.package import FILES
from wardround.common.tasks.base import Task
from wardround.common.tasks.coefficients import FILE, coefficients_csv
from wardround.common.tasks.schema import Schema
from wardround.common.text import to_json
from wardround.common.trust.description import shared_toml
from wardround.common.trust.identity import Identity
from wardround.common.trust.pki import now_utc

ENCODER = "encoder.json"
ENCODER_FORMAT = Format("encoder files", "have the model's folder made again")
VALID_DAYS = 730


def model_schema(config: Config, task: Task[Any], totals: Sums) -> Schema:
    """The task's schema; a unit that it doesn't name is the one that the cohort asks for."""
    schema = task.schema(totals)
    if config.cohort is None:
        return schema
    variables = config.cohort.variables
    inputs = tuple(
        one.model_copy(update={"unit": variables[one.name].unit or ""})
        if one.name in variables and not one.unit
        else one
        for one in schema.inputs
    )
    return schema.model_copy(update={"inputs": inputs})


def describe_model(folder: Path, config: Config, task: Task[Any], totals: Sums) -> None:
    """Write what a model's weights can't say: settings, schema, digests of an encoder's files.

    totals : the preparation's. Raises OSError.
    """
    write_atomically(folder / CONFIG, shared_toml(config).encode())
    schema = model_schema(config, task, totals).model_dump(mode="json")
    write_atomically(folder / SCHEMA, to_json(SCHEMA_FORMAT.seal(schema), indent=1).encode())
    _describe_weights(folder, task, totals)
    if files := task.own_files():
        values = {"files": {name: file_digest(path) for name, path in sorted(files.items())}}
        text = to_json(ENCODER_FORMAT.seal(values), indent=1)
        write_atomically(folder / ENCODER, text.encode())


def _describe_weights(folder: Path, task: Task[Any], totals: Sums) -> None:
    """A table of a linear model's coefficients; none of weights that are each hospital's own."""
    arrays, state = read_tensors(folder / MODEL)
    found = [] if PERSONAL in state else task.coefficients(arrays, totals)
    if found:
        write_atomically(folder / FILE, coefficients_csv(found).encode())


def seal_folder(
    folder: Path,
    *,
    run: str,
    round: int,
    identity: Identity | None,
    network: str = "",
    study: str = "",
    source: str = "",
    valid_days: int = VALID_DAYS,
) -> str:
    """Write ``files.json`` over all that lies in the folder, and return its digest.

    identity : who signs; None: nobody

    Raises OSError, and ValueError for a file whose name no list may have.
    """
    today = now_utc().date()
    listed = Listed(
        files=list_files(folder, _names(folder)),
        run=run,
        network=network,
        study=study,
        round=round,
        created=today.isoformat(),
        expires=_after(today, valid_days).isoformat(),
        source=source,
    )
    data = listed.signed(identity)
    Listed.read(data, str(folder))  # what no one could read is not made
    write_atomically(folder / FILES, data)
    return digest_of(data)


def _after(day: date, days: int) -> date:
    return day + timedelta(days=min(days, (date.max - day).days))


def _names(folder: Path) -> list[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = [one for one in found if not any(part.startswith(".") for part in one.parts)]
    return [one.as_posix() for one in shown if one.as_posix() != FILES]
