"""A model that is served: checked, loaded once, and what each of its answers says of it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from wardround.client.serving.asked import Columns
from wardround.client.serving.copied import copy_model
from wardround.client.serving.graph import runner_of
from wardround.common.calibration.calibration import Calibration, read_calibration
from wardround.common.calibration.thresholds import read_thresholds
from wardround.common.drift.counts import Counts
from wardround.common.drift.field import fields_of
from wardround.common.errors import ModelRefused, WardroundError
from wardround.common.export.folder import ExportFolder, is_export
from wardround.common.model_folder.listed import Listed
from wardround.common.settings.cohort import CohortTable
from wardround.common.tasks.schema import LANGUAGE, Schema
from wardround.common.trust.calibrations import check_calibration
from wardround.common.trust.pki import now_utc

if TYPE_CHECKING:
    from wardround.common.model_folder.folder import ModelFolder
    from wardround.common.predict.language import Language

_CONFIG, _CARD, _OWN = "config.toml", "card.md", "own"
_SHORT = 12
_WORDS = ("tags", "text")
"""Kinds of outputs that are no numbers."""


@dataclass(frozen=True)
class Trust:
    """Whose signature counts.

    keys : public keys
    unsigned : what nobody has signed will do, too
    of_model : further keys, by the digest of the one model that they are trusted with
    """

    keys: Collection[bytes] = ()
    unsigned: bool = False
    of_model: Callable[[str], Collection[bytes]] | None = None

    def of(self, listed: Listed, digest: str = "") -> Collection[bytes] | None:
        """What ``Listed.check`` is to ask. ``digest``: of a model; '' for an export's own list."""
        if self.unsigned and not listed.signer:
            return None
        return {*self.keys, *self.of_model(digest)} if self.of_model and digest else self.keys


@dataclass(frozen=True)
class Model:
    """What is served.

    digest : of the model (SHA-256 of its ``files.json``)
    export : of the export that came as one; '' where it was made here
    listed : the model's list of files
    expires : the last day on which it may be used
    cohort : of the model's study; None where it had none
    calibration_digest : SHA-256 of its file; '' without one
    signed : whether model, export and calibration all are
    reference : what recent rows are held against; None: nothing
    run : the graph: outputs by name, of columns
    language : what talks, of a language model
    """

    schema: Schema
    digest: str
    export: str
    listed: Listed
    expires: str
    card: str
    options: Mapping[str, Any]
    cohort: CohortTable | None
    thresholds: tuple[dict[str, Any], ...]
    calibration: Calibration | None
    calibration_digest: str
    signed: bool
    reference: Counts | None
    run: Callable[[Columns], Mapping[str, NDArray[Any]]]
    language: Language | None = None

    def scores(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """Outputs of the schema as the model gives them, N float64 each (of tags N lists, of what
        it writes N texts), NaN where it gives none. Raises DataError."""
        found = self.run(columns)
        return {
            one.name: found[one.name] if one.kind in _WORDS else found[one.name].astype(np.float64)
            for one in self.schema.outputs
        }

    def corrected(self, scores: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The same with the calibration applied, if there is one."""
        return self.calibration.apply(scores) if self.calibration is not None else dict(scores)

    def is_over(self, today: date | None = None) -> bool:
        """Whether its last day has passed."""
        return (today or now_utc().date()) > date.fromisoformat(self.expires)

    def ends(self) -> datetime:
        """The first moment at which ``is_over``."""
        last = date.fromisoformat(self.expires)
        return datetime.combine(last + timedelta(days=1), time(), tzinfo=UTC)

    @property
    def origin(self) -> dict[str, Any]:
        """What gave an answer: in each of them."""
        return {"model": self.digest, "calibration": self.calibration_digest or None}

    @property
    def version(self) -> str:
        """The same in a line for people."""
        corrected = f", calibration {self.calibration_digest[:_SHORT]}"
        return (
            f"model {self.listed.run}, round {self.listed.round}, {self.digest[:_SHORT]}"
            f"{corrected if self.calibration_digest else ', not calibrated here'}"
        )

    def about(self) -> dict[str, Any]:
        """What ``GET /model`` says."""
        own = self.calibration
        return {
            **self.origin,
            "export": self.export or None,
            "run": self.listed.run,
            "network": self.listed.network,
            "round": self.listed.round,
            "created": self.listed.created,
            "expires": self.expires,
            "signed": self.signed,
            "calibrated": own and {"hospital": own.hospital, "made": own.made, "rows": own.rows},
            "thresholds": list(self.thresholds),
            "schema": self.schema.model_dump(mode="json"),
            "card": self.card,
        }


def open_model(
    path: Path,
    into: Path,
    trust: Trust,
    *,
    hospital: str | None = None,
    calibration: Path | None = None,
    calibration_keys: Collection[bytes] = (),
    reference: Path | None = None,
    results: Path | None = None,
    threads: int = 1,
    encoder: str = "",
    today: date | None = None,
) -> Model:
    """The model of an export, a model folder, a run or a study's results.

    Parameters
    ----------
    into : an empty folder of this process alone
    hospital : whose, where layers are personal; of a model folder
    calibration : a hospital's, made for this model, and signed by one of ``calibration_keys``
    reference : counts that recent rows are held against, instead of what is known otherwise: a
        hospital's own, of ``results``; else those in the model's folder
    results : a hospital's, of its studies
    encoder : a text model's encoder, or a language model's base, where it isn't the installed one
    today : defaults to this machine's clock, UTC

    Raises ModelRefused, DataError, CalibrationRefused; ConfigError, TaskError where it can't be
    exported.
    """
    day = today or now_utc().date()
    try:
        found = _checked(path, into, trust, hospital, day, encoder)
        if not isinstance(found, _Checked):
            return _talking(found, path, threads, calibration or reference)
        corrects, digest = None, ""
        if calibration is not None:
            corrects, digest = _calibration(
                calibration, into, found, calibration_keys, trust.unsigned
            )
        counts = reference or _own_reference(results, found.export.info.model)
        return _loaded(found, corrects, digest, counts, threads)
    except WardroundError as error:
        # the copy's place means nothing to anybody
        if str(into) in error.who:
            error.who = str(path)
        raise


@dataclass(frozen=True)
class _Checked:
    export: ExportFolder
    came: bool
    """As an export: not made here."""


def _checked(
    path: Path, into: Path, trust: Trust, hospital: str | None, day: date, encoder: str
) -> _Checked | ModelFolder:
    """The model as a graph; of a language model, which has none, its folder."""
    given = into / "given"
    given.mkdir(mode=0o700)
    copy_model(path, given)
    if is_export(given):
        export = ExportFolder.open(given)
        export.listed.check(str(path), trust.of(export.listed), day)
        export.source.check(str(path), trust.of(export.source, export.info.model), day)
        if hospital is not None and export.info.hospital != hospital:
            raise ModelRefused(
                f"it is no export of '{hospital}'", who=str(path), mend="leave --hospital out"
            )
        return _Checked(export, True)
    from wardround.common.export.exporting import export_model
    from wardround.common.export.source import Source
    from wardround.common.model_folder.folder import ModelFolder

    folder = ModelFolder.open(given, encoder=encoder)
    folder.listed.check(str(path), trust.of(folder.listed, folder.digest), day)
    if folder.schema.kind == LANGUAGE:
        return folder
    export = export_model(Source.of(folder, hospital), into / "export")
    return _Checked(export, False)


def _calibration(
    path: Path, into: Path, found: _Checked, keys: Collection[bytes], unsigned: bool
) -> tuple[Calibration, str]:
    """What corrects it, and its digest: of the bytes that are read here, once."""
    copy = into / "calibration.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelRefused(
            f"can't be read ({error.strerror})",
            who=str(path),
            mend="name the file of --calibration",
        ) from None
    copy.write_bytes(data)
    try:
        own = read_calibration(copy)
    except WardroundError as error:
        error.who = str(path)
        raise
    trusted = None if unsigned and not own.signer else keys
    check_calibration(own, found.export.info.model, trusted, str(path))
    own.apply({one.name: np.array([0.5]) for one in found.export.schema.outputs})  # of this kind
    return own, hashlib.sha256(data).hexdigest()


def _loaded(
    found: _Checked,
    calibration: Calibration | None,
    digest: str,
    reference: Path | None,
    threads: int,
) -> Model:
    export = found.export
    card = export.path / _CARD
    own = calibration.thresholds if calibration is not None else read_thresholds(export.path)
    return Model(
        schema=export.schema,
        digest=export.info.model,
        export=export.digest if found.came else "",
        listed=export.source,
        expires=min(export.source.expires, export.listed.expires),
        card=card.read_text("utf-8") if card.is_file() else "",
        options=export.options,
        cohort=_cohort(export),
        thresholds=tuple(own),
        calibration=calibration,
        calibration_digest=digest,
        signed=_all_signed(found, calibration),
        reference=_reference(export, reference),
        run=runner_of(export, threads),
    )


def _talking(folder: ModelFolder, path: Path, threads: int, more: Path | None) -> Model:
    if more is not None:
        raise ModelRefused(
            "a language model has no calibration and no reference",
            who=str(path),
            mend="leave --calibration and --reference out",
        )
    from wardround.client.serving.language import Talking

    talking = Talking(folder, str(path), threads)
    card = folder.file(_CARD)
    return Model(
        schema=folder.schema,
        digest=folder.digest,
        export="",
        listed=folder.listed,
        expires=folder.listed.expires,
        card=card.read_text("utf-8") if card is not None else "",
        options=folder.config.task.options,
        cohort=None,
        thresholds=(),
        calibration=None,
        calibration_digest="",
        signed=bool(folder.listed.signer),
        reference=None,
        run=talking.run,
        language=talking.language,
    )


def _reference(export: ExportFolder, own: Path | None) -> Counts | None:
    from wardround.common.drift.reference import REFERENCE, Reference

    path = own or export.path / REFERENCE
    if own is None and not path.is_file():
        return None
    return Reference.read(path, fields_of(export.schema), export.info.model).counts


def _own_reference(results: Path | None, model: str) -> Path | None:
    """The hospital's own counts of its rows of this model's study, where it has them."""
    from wardround.common.drift.reference import REFERENCE

    for listed in sorted(results.glob("*/model/files.json")) if results is not None else ():
        own = listed.parent.parent / _OWN / REFERENCE
        if own.is_file() and hashlib.sha256(listed.read_bytes()).hexdigest() == model:
            return own
    return None


def _all_signed(found: _Checked, calibration: Calibration | None) -> bool:
    signers = [found.export.source.signer]
    signers += [found.export.listed.signer] if found.came else []
    signers += [calibration.signer] if calibration is not None else []
    return all(signers)


def _cohort(export: ExportFolder) -> CohortTable | None:
    try:
        tables = tomllib.loads((export.path / _CONFIG).read_text("utf-8"))
        return CohortTable.model_validate(tables["cohort"]) if "cohort" in tables else None
    except (OSError, ValueError, ValidationError):
        raise ModelRefused(f"{_CONFIG} can't be read", who=str(export.path)) from None
