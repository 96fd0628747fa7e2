"""Which model, which rows, held against what; and where the answer is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wardround.client.models.find import find_model
from wardround.client.models.rows import rows_for
from wardround.client.monitor.scraped import counts_from
from wardround.client.results.figures import OWN
from wardround.client.site.kit import Kit
from wardround.common.drift.field import fields_of
from wardround.common.drift.reference import REFERENCE, Reference
from wardround.common.drift.scoring import Scored
from wardround.common.errors import DataError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.monitor.files import read_reference
from wardround.common.monitor.rows import read_rows
from wardround.common.monitor.shares import Rule, watch_shares
from wardround.common.monitor.watch import Watched, score, watch, watch_counts
from wardround.common.monitor.windows import Every, windows_of
from wardround.common.predict.predictor import Predictor

_BY_THEMSELVES = (
    "the model standardises rows by the hospital's own: those of now are, by themselves, so its "
    "scores hide a shift that its inputs show"
)


@dataclass(frozen=True)
class Asked:
    """What a person asks for.

    model, shadow : as ``find_model`` takes them; no shadow: ''
    data : as ``rows_for`` takes it
    reference : a file, or rows; None: the hospital's own, else the one in the model's folder
    window, by, every : as ``windows_of`` takes them
    rule : on shares; None: there is none
    """

    model: str = ""
    data: str = ""
    reference: Path | None = None
    window: int = 0
    by: str = ""
    every: Every = "month"
    shadow: str = ""
    unsigned: bool = False
    rule: Rule | None = None


def watch_at_home(kit: Kit, asked: Asked) -> Watched:
    """Rows of now against the reference.

    Raises ModelRefused, DataError, PolicyRefused; OSError.
    """
    folder = find_model(kit, asked.model, unsigned=asked.unsigned)
    other = find_model(kit, asked.shadow, unsigned=asked.unsigned) if asked.shadow else None
    notes = [_BY_THEMSELVES] if folder.task.own_statistics() else []
    read = partial(read_rows, named=bool(asked.by or asked.rule))
    with rows_for(kit, folder, asked.data, read=read) as raw:
        predictor = _predictor(kit, folder, raw)
        reference = reference_for(predictor, asked.reference)
        windows, told = windows_of(raw, folder.task.size(raw), asked.window, asked.by, asked.every)
        found, second = score(predictor, raw), None
        task, schema = folder.task, folder.schema
        shares = watch_shares(task, schema, raw, found.columns, windows, asked.rule)
    if other is not None:
        second = _second(kit, other, asked.data, read)
    watched = watch(folder, found, reference, windows, second, [*notes, *told])
    return watched.with_shares(asked.rule, shares)


def watch_served(kit: Kit, asked: Asked, source: str, since: str = "", token: str = "") -> Watched:
    """The counts that a server of the model shows, or showed, against the reference.

    Parameters
    ----------
    source : the address of its metrics, or a file with them
    since : an earlier one: what came between is looked at
    token : shown to the server

    Raises as ``watch_at_home``.
    """
    folder = find_model(kit, asked.model, unsigned=asked.unsigned)
    fields = fields_of(folder.schema)
    counts = counts_from(source, fields, token)
    if since:
        counts = counts - counts_from(since, fields, token)
    if asked.reference is not None and asked.reference.suffix == ".json":
        reference = Reference.read(asked.reference, fields, folder.digest)
    else:
        reference = kept_reference(folder)
    return watch_counts(folder, counts, reference)


def reference_for(predictor: Predictor, path: Path | None) -> Reference:
    """Named by a person; else the hospital's own; else the model's. Raises DataError."""
    return read_reference(predictor, path) if path is not None else kept_reference(predictor.folder)


def kept_reference(folder: ModelFolder) -> Reference:
    """The hospital's own, kept with the results; else the one in the model's folder. Raises
    DataError where there is neither."""
    fields = fields_of(folder.schema)
    own = folder.path.parent / OWN / REFERENCE
    if own.is_file():
        return Reference.read(own, fields, folder.digest)
    if (listed := folder.file(REFERENCE)) is not None:
        return Reference.read(listed, fields)
    raise DataError(
        "there are no counts of this hospital's own rows for it, nor of all hospitals'",
        who=str(folder.path),
        mend="name rows of before, or a reference.json: --reference",
    )


def place_for(kit: Kit, folder: Path) -> Path:
    """Where the page is written: with the results, if the model is of some, else in the state.

    folder : the model's
    """
    own = folder.parent / OWN
    return own if own.is_dir() else kit.state / "monitor"


def _predictor(kit: Kit, folder: ModelFolder, raw: Any) -> Predictor:
    own_rows = raw if folder.task.own_statistics() else None
    return Predictor(folder, kit.name if folder.personal else None, own_rows=own_rows)


def _second(
    kit: Kit, other: ModelFolder, data: str, read: Callable[[Any, Path], Any]
) -> tuple[ModelFolder, Scored]:
    with rows_for(kit, other, data, read=read) as raw:
        return other, score(_predictor(kit, other, raw), raw)
