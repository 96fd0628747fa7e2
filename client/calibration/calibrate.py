"""``wardround client calibrate KIT --data recent``: fitted, tried on rows that it wasn't fitted on,
and kept only where it is better there.

    KIT/calibrations/RUN-DIGEST.json    of one model; a newer one takes its place
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from wardround.client.models.find import find_model
from wardround.client.models.outputs import Scored, score
from wardround.client.models.rows import rows_for
from wardround.client.models.signers import signer_of
from wardround.client.models.unseen import unseen
from wardround.client.results.receiver import RESULTS
from wardround.client.site.kit import Kit
from wardround.common.calibration.calibration import CALIBRATION, Calibration, read_calibration
from wardround.common.calibration.compared import OF_ORDER, Figure, figures, gain
from wardround.common.calibration.correction import (
    BINARY,
    ISOTONIC,
    REGRESSION,
    SURVIVAL,
    Correction,
)
from wardround.common.calibration.families import Floats, expit
from wardround.common.calibration.fitting import Rows, check_enough, fit, methods, moved, tried
from wardround.common.calibration.thresholds import check_rules, thresholds
from wardround.common.durable.private import private_folder, write_private
from wardround.common.errors import CalibrationRefused, ConfigError
from wardround.common.figures.sums import binary_sums
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.results.package import verify_folder
from wardround.common.tasks.targets import scale
from wardround.common.trust.calibrations import check_calibration, sign_calibration
from wardround.common.trust.pki import now_utc

FOLDER = "calibrations"
"""In a hospital's kit."""
AUTO = "auto"
_BINS = 1000
_FEW = 100
_ONE_OUTCOME = (
    "All rows have one outcome: only the level of the probabilities is moved, as far as the pull "
    "towards none lets it; how well the model tells patients apart can't be seen."
)


@dataclass(frozen=True)
class Calibrated:
    """What came of it.

    path : of the file; None where it is no better and wasn't kept
    before, after : figures on rows that the correction didn't see, each [value, low, high]
    gain : by how much a row's squared error falls; of a survival model None
    """

    calibration: Calibration
    path: Path | None
    before: dict[str, Figure]
    after: dict[str, Figure]
    gain: Figure | None


def calibrate(
    kit: Kit,
    data: str = "",
    model: str = "",
    *,
    method: str = AUTO,
    rules: Sequence[str] = (),
    held_out: bool = False,
    keep: bool = False,
    unsigned: bool = False,
    today: date | None = None,
) -> Calibrated:
    """Recalibrate a model by the hospital's own rows.

    Parameters
    ----------
    data : NAME of [data.NAME] in site.toml, or a path
    model : as ``find_model``
    method : 'auto', or one that ``fitting.methods`` has for these rows
    rules : of thresholds (``thresholds.py``), chosen by the corrected probabilities
    held_out : of the study's own data, only rows that the model wasn't trained on
    keep : also where it is no better on rows that it didn't see

    Raises ModelRefused, DataError, PolicyRefused, CalibrationRefused, ConfigError, OSError.
    """
    check_rules(rules)
    folder = find_model(kit, model, unsigned=unsigned, today=today)
    scored, unknown = _scored(kit, folder, data, held_out)
    rows = _rows(scored, folder)
    check_enough(rows)
    if rules and rows.kind != BINARY:
        raise ConfigError(f"a threshold is for the probability of one outcome, not a {rows.kind}")
    chosen, values = _chosen(rows, method)
    found = fit(rows, chosen)
    before, after = figures(rows), figures(rows, values)
    after |= _of_order(rows, found)
    made = replace(
        _begun(folder, found),
        hospital=kit.name,
        made=(today or now_utc().date()).isoformat(),
        rows=len(rows),
        figures={"before": before, "after": after},
        thresholds=_thresholds(rows, values, rules),
        notes=_notes(rows, unknown, scored.patients),
    )
    gained = None if rows.kind == SURVIVAL else gain(rows, values)
    better = gained is None or gained.value > 0
    made = sign_calibration(made, kit.identity)
    path = write(kit, made) if better or keep else None
    return Calibrated(made, path, before, after, gained.figure if gained else None)


def take(kit: Kit, run: str, model: str = "", *, today: date | None = None) -> Calibrated:
    """Make a calibration over hospitals, which came with a run's results, this hospital's own.

    model : as ``find_model``: the one that it must be of

    Raises ResultsRefused where no such results lie in the kit as their server signed them;
    CalibrationRefused for one of another model.
    """
    folder, source = find_model(kit, model, today=today), kit.folder / RESULTS / run
    path = source / CALIBRATION
    signer = signer_of(kit, source)
    verify_folder(source, signer).file(CALIBRATION)
    found = read_calibration(path)
    check_calibration(found, folder.digest, None, str(path))
    day = (today or now_utc().date()).isoformat()
    made = replace(found, run=folder.listed.run, hospital=kit.name, made=day)
    made = sign_calibration(made, kit.identity)
    return Calibrated(made, write(kit, made), {}, {}, None)


def path_of(kit: Kit, run: str, model: str) -> Path:
    """Where a model's calibration lies; ``model``: its digest."""
    return kit.folder / FOLDER / f"{run}-{model[:12]}.json"


def write(kit: Kit, made: Calibration) -> Path:
    """Keep it. Raises OSError, ProvisionError."""
    path = path_of(kit, made.run, made.model)
    private_folder(path.parent)
    write_private(path, made.to_bytes())
    return path


def own_calibration(kit: Kit, folder: ModelFolder) -> Calibration | None:
    """What this hospital has made for a model; None where it has none.

    Raises CalibrationRefused if it was altered, or isn't signed by this hospital.
    """
    path = path_of(kit, folder.listed.run, folder.digest)
    if not path.exists():
        return None
    found = read_calibration(path)
    check_calibration(found, folder.digest, {kit.identity.public}, str(path))
    return found


# --- parts ----------------------------------------------------------------------------------------
def _scored(kit: Kit, folder: ModelFolder, data: str, held_out: bool) -> tuple[Scored, str]:
    """Rows that the model wasn't trained on, and what isn't known of that."""
    with rows_for(kit, folder, data) as raw:
        left, unknown = unseen(kit, folder, raw, held_out)
        return score(kit, folder, left), unknown


def _of_order(rows: Rows, found: Correction) -> dict[str, Figure]:
    whole = figures(rows, moved(found, rows.values, rows.scale))
    return {name: whole[name] for name in OF_ORDER if name in whole}


def _begun(folder: ModelFolder, found: Correction) -> Calibration:
    """What is applied, and to which model."""
    return Calibration(
        model=folder.digest,
        run=folder.listed.run,
        kind=found.kind,
        method=found.method,
        intercept=found.intercept,
        slope=found.slope,
        knots=[list(knot) for knot in found.knots],
    )


def _rows(scored: Scored, folder: ModelFolder) -> Rows:
    unit = scale(folder.totals) if scored.kind == REGRESSION else (0.0, 1.0)
    return Rows.of(scored.kind, scored.predictions, scored.targets, scored.groups, unit)


def _chosen(rows: Rows, method: str) -> tuple[str, Floats]:
    """The method, and all rows' values as others correct them. A curve is taken only where a row's
    squared error is lower by more than chance: its interval against the line's is above 0."""
    allowed = methods(rows)
    if method not in (AUTO, *allowed):
        why = "rows of both outcomes, and many" if method == ISOTONIC else "another kind of model"
        raise CalibrationRefused(
            f"'{method:.20}' isn't for these rows ({why} are asked for)",
            mend=f"one of: auto, {', '.join(allowed)}",
        )
    usual = allowed[0] if method == AUTO else method
    values = tried(rows, usual)
    if method == AUTO and ISOTONIC in allowed:
        curve = tried(rows, ISOTONIC)
        over = Rows(rows.kind, values, rows.targets, rows.groups, rows.scale)
        low = gain(over, curve).figure[1]
        if low is not None and low > 0:
            return ISOTONIC, curve
    return usual, values


def _thresholds(rows: Rows, values: Floats, rules: Sequence[str]) -> list[dict[str, Any]]:
    """By corrected probabilities, each row's by what the others give. Raises CalibrationRefused."""
    if not rules:
        return []
    found = thresholds(binary_sums(expit(values), rows.targets, _BINS), rules)
    if not found:
        raise CalibrationRefused(
            "there are too few rows of an outcome to choose a threshold by",
            mend="leave out --threshold, or bring more rows",
        )
    return [asdict(one) for one in found]


def _notes(rows: Rows, unknown: str, patients: bool) -> list[str]:
    found = [unknown] if unknown else []
    units = len(np.unique(rows.groups))
    if rows.one_class:
        found.append(_ONE_OUTCOME)
    if units < _FEW:
        what = "patients" if patients else "rows"
        found.append(f"By {units} {what} a correction is uncertain: do it again with more.")
    if not patients:
        found.append("The data name no patients: each row counts as one.")
    return found
