"""``POST /fhir/RiskAssessment``: FHIR R4, of a Bundle of records or of Parameters with rows.

    Parameters: each parameter "row" has parts: "subject" (valueReference), and one per input, by
    its name, with any primitive value (valueDecimal, valueString, valueBoolean, ...); one that is
    left out is a gap.
    Bundle: Patient, Observation, Condition, ...; a row per Patient, as ``patients.py`` makes it.

The answer is a Bundle (collection) of a RiskAssessment each. It repeats nothing but the reference
of whom it is about, which is a plain one: a type and an id of FHIR's alphabet, or a UUID. ``basis``
is left out: which records counted, who asked knows. What is wrong is told by an OperationOutcome.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.serving.refused import Unanswered, unfit
from wardround.common.tasks.schema import Output, Schema

MEDIA_TYPE = "application/fhir+json"
_REFERENCE = re.compile(
    r"(?:Patient|Group)/[A-Za-z0-9.-]{1,64}"
    r"|urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
_SUBJECT, _ROW = "subject", "row"
_PRIMITIVES = (
    "valueDecimal",
    "valueInteger",
    "valueBoolean",
    "valueString",
    "valueCode",
    "valuePositiveInt",
    "valueUnsignedInt",
)
_LARGEST = 700.0
"""Logarithm of the largest relative risk that a decimal is given for."""
Outputs = Mapping[str, NDArray[Any]]


def reference(value: Any, place: str) -> str:
    """A reference that may be repeated. Raises Unanswered for any other."""
    found = value.get("reference") if isinstance(value, dict) else None
    if not isinstance(found, str) or not _REFERENCE.fullmatch(found):
        raise unfit(place, "a reference is wanted, such as Patient/ID")
    return found


def read_parameters(found: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Whom each row is about, and the rows. Raises Unanswered."""
    parameters = found.get("parameter")
    if not isinstance(parameters, list) or not parameters:
        raise unfit("Parameters", 'give a parameter "row" for each row')
    subjects, rows = [], []
    for number, one in enumerate(parameters):
        place = f"parameter[{number}]"
        parts = one.get("part") if isinstance(one, dict) else None
        if not isinstance(parts, list) or one.get("name") != _ROW:
            raise unfit(place, 'a parameter "row" with parts is wanted')
        subject, row = _row(parts, place)
        subjects.append(subject)
        rows.append(row)
    return subjects, rows


def _row(parts: Sequence[Any], place: str) -> tuple[str, dict[str, Any]]:
    subject, row = "", dict[str, Any]()
    for number, part in enumerate(parts):
        at = f"{place}.part[{number}]"
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name in row or (name == _SUBJECT and subject):
            raise unfit(at, "a name is wanted, each once")
        if name == _SUBJECT:
            subject = reference(part.get("valueReference"), at)
            continue
        given = [key for key in part if key.startswith("value")]
        if len(given) > 1 or not set(given) <= set(_PRIMITIVES):
            raise unfit(at, "a number, a text, a code or true and false are taken")
        row[name] = part[given[0]] if given else None
    if not subject:
        raise unfit(place, 'a part "subject" with a valueReference is wanted')
    return subject, row


def assessments(
    schema: Schema,
    subjects: Sequence[str],
    found: Outputs,
    method: str,
    now: datetime,
    words: Sequence[str] = (),
) -> dict[str, Any]:
    """The Bundle of the answer; a row that gets no prediction has no entry.

    method : the model, its version and its calibration, in a line
    words : of each row, what the thresholds say; '' for nothing
    """
    when = now.isoformat(timespec="seconds")
    entries = []
    for row, subject in enumerate(subjects):
        predictions = [
            _prediction(schema, one, float(found[one.name][row])) for one in schema.outputs
        ]
        if any(one is None for one in predictions):
            continue
        if words and words[row]:
            predictions = [{**one, "rationale": words[row]} for one in predictions if one]
        entries.append(
            {
                "resource": {
                    "resourceType": "RiskAssessment",
                    "status": "final",
                    "method": {"text": method},
                    "subject": {"reference": subject},
                    "occurrenceDateTime": when,
                    "prediction": predictions,
                }
            }
        )
    return {"resourceType": "Bundle", "type": "collection", "timestamp": when, "entry": entries}


def check_model(schema: Schema) -> None:
    """Raises Unanswered for a model whose predictions are no risk of anything."""
    if not schema.outputs or any(one.kind not in ("probability", "risk") for one in schema.outputs):
        raise Unanswered(422, "this model predicts no risk; ask POST /predict")


def _prediction(schema: Schema, one: Output, value: float) -> dict[str, Any] | None:
    if not np.isfinite(value):
        return None
    if one.kind == "risk":
        if abs(value) > _LARGEST:
            return None
        return {"outcome": {"text": schema.target}, "relativeRisk": math.exp(value)}
    text = f"{schema.target}: {one.of}" if schema.target else one.of
    return {"outcome": {"text": text}, "probabilityDecimal": value}


def operation_outcome(status: int, reason: str) -> dict[str, Any]:
    """What FHIR answers instead of an error's text."""
    code = {400: "structure", 404: "not-found", 413: "too-long", 503: "transient"}
    issue = {
        "severity": "error",
        "code": code.get(status, "invalid"),
        "diagnostics": reason,
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}
