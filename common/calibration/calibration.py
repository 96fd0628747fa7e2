"""A calibration: what corrects one model's predictions, whose it is, and how it did.

A file beside the model, never in it. It names the model by the digest of its ``files.json``, so it
can't be used with another, and is signed by the hospital that made it
(``common/trust/calibrations.py``).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.calibration.correction import ISOTONIC, KINDS, Correction, Predictions
from wardround.common.calibration.families import FAMILIES
from wardround.common.durable.versioned import Format
from wardround.common.errors import CalibrationRefused
from wardround.common.text import one_line, to_json

CALIBRATION = "calibration.json"
FORMAT = Format("calibration of a model", "make it again: wardround client calibrate KIT")
_HEX64, _HEX128 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{128}")
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Calibration:
    """What is applied, and what is known of it.

    model : digest of the model's list of files, hexadecimal
    run : the model's
    kind : of the task: binary, multiclass, regression, survival
    method : of ``families.FAMILIES``, or 'isotonic'
    intercept, slope : a + b x: of the logit, the logarithms of probabilities, the value in the
        target's own unit, or the log hazard
    knots : of 'isotonic', instead
    hospital, made : who made it, and on which day; '' for several hospitals together
    rows : it was fitted on
    figures : before and after, on rows that weren't used for it (``compared.py``)
    thresholds : as ``thresholds.json`` has them, for the corrected probability
    notes : sentences
    signer, signature : Ed25519, hexadecimal; both '' where nobody signed
    """

    model: str
    run: str
    kind: str
    method: str
    intercept: float = 0.0
    slope: float = 1.0
    knots: list[list[float]] = field(default_factory=list)
    hospital: str = ""
    made: str = ""
    rows: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    thresholds: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signer: str = ""
    signature: str = ""

    @property
    def correction(self) -> Correction:
        """What is applied."""
        return Correction(self.kind, self.method, self.intercept, self.slope, self.knots)

    def apply(self, predictions: Predictions) -> dict[str, NDArray[Any]]:
        """The predictions, corrected; dtypes and other columns stay.

        Raises CalibrationRefused if they are of another kind of model.
        """
        return self.correction.apply(predictions)

    # --- as a file ------------------------------------------------------------------------------
    def body(self) -> bytes:
        """What is signed: all but the signature, in one byte sequence."""
        values = asdict(self)
        del values["signature"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def to_bytes(self) -> bytes:
        """The content of ``calibration.json``."""
        return (to_json(FORMAT.seal(asdict(self)), indent=1) + "\n").encode()


def read_calibration(path: Path) -> Calibration:
    """What a file says; who signed it is for ``check``. Raises CalibrationRefused."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        why = f"can't be read ({error.strerror})"
        raise CalibrationRefused(why, who=str(path), mend=FORMAT.mend) from None
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError
        stored = json.loads(data)
    except (ValueError, RecursionError):
        raise CalibrationRefused("is no calibration", who=str(path), mend=FORMAT.mend) from None
    found = FORMAT.make(Calibration, stored, CalibrationRefused, str(path))
    if problem := _problem(found):
        raise CalibrationRefused(problem, who=str(path), mend=FORMAT.mend)
    return found


def _problem(found: Calibration) -> str:
    """What can't be right in a file."""
    numbers = [found.intercept, found.slope, *(x for knot in found.knots for x in knot)]
    try:
        finite = all(math.isfinite(x) for x in numbers)
        knots = np.array(found.knots, dtype=np.float64).reshape(len(found.knots), 2)
        texts = [found.model, found.run, found.hospital, found.made, *found.notes]
        whole = all(one in ("", one_line(one, 2000)) for one in texts)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return "is no calibration"
    if not finite or not whole or found.kind not in KINDS:
        return "is no calibration"
    if not _HEX64.fullmatch(found.model):
        return "names no model"
    if found.signer and not (_HEX64.fullmatch(found.signer) and _HEX128.fullmatch(found.signature)):
        return "has no signature that could be one"
    if found.method == ISOTONIC:
        rising = len(knots) > 0 and bool((np.diff(knots, axis=0) >= 0).all())
        chances = knots[:, 1] if len(knots) else np.zeros(1)
        if found.kind != "binary" or not rising or not ((chances > 0) & (chances < 1)).all():
            return "has a curve that none could be"
    elif found.method not in FAMILIES or found.slope <= 0:
        return "has a slope or a method that none could have"
    return ""
