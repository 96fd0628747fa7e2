"""CDS Hooks 2.0: ``GET /cds-services``, and one service of hook ``patient-view``.

What the client must bring stands in ``prefetch``; nothing is ever fetched from its FHIR server, and
``fhirAuthorization`` isn't looked at. A key that is missing, or a page of several, is answered by
412, as the standard has it; null is «nothing found». A patient that the model isn't for gets no
card. A card repeats nothing of the request: the probability, the inputs that weren't known by their
names in the model, the model and its version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wardround.client.serving.patients import PatientRow, Patients, resources_of
from wardround.client.serving.refused import Unanswered, unfit
from wardround.client.serving.thresholds import Limits
from wardround.client.sources.fhir.resources import Resource
from wardround.common.tasks.schema import Output, Schema

HOOK = "patient-view"
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_MOST_SUMMARY, _MOST_NAMED, _MOST_SHOWN = 139, 12, 3
_LABEL = "Wardround"


@dataclass(frozen=True)
class Service:
    """The one service.

    id : in its path
    about : what it predicts, in a few words
    version : the model, its version and its calibration, in a line
    """

    id: str
    about: str
    version: str
    patients: Patients
    limits: Limits

    def discovery(self) -> dict[str, Any]:
        """What ``GET /cds-services`` says."""
        service = {
            "hook": HOOK,
            "id": self.id,
            "title": self.about[:80],
            "description": f"{self.about}; {self.version}",
            "prefetch": self.patients.prefetch(),
        }
        return {"services": [service]}

    def row(self, call: Any) -> PatientRow | None:
        """The inputs of the patient that a call is about; None for one that the model isn't for.

        Raises Unanswered.
        """
        if not isinstance(call, dict):
            raise Unanswered(400, "a call of CDS Hooks is wanted")
        if call.get("hook") != HOOK:
            raise Unanswered(400, f"hook: this service is for {HOOK}")
        if not isinstance(call.get("hookInstance"), str):
            raise Unanswered(400, "hookInstance: a UUID is wanted")
        context, prefetch = call.get("context"), call.get("prefetch")
        if not isinstance(context, dict) or not _is_id(context.get("patientId")):
            raise Unanswered(400, "context.patientId: an id is wanted")
        if not isinstance(prefetch, dict):
            raise Unanswered(412, "prefetch: bring what GET /cds-services says")
        patient = prefetch.get("patient")
        if not isinstance(patient, dict) or patient.get("resourceType") != "Patient":
            raise Unanswered(412, "prefetch.patient: the Patient is wanted")
        if patient.get("id") != context["patientId"]:
            raise unfit("prefetch.patient", "it is another than context.patientId")
        encounter = str(context.get("encounterId", ""))
        rows = self.patients.rows([patient, *self._brought(prefetch)], encounter)
        return rows[0] if rows else None

    def _brought(self, prefetch: Mapping[str, Any]) -> list[Resource]:
        found: list[Resource] = []
        for key in self.patients.prefetch():
            if key == "patient":
                continue
            brought = prefetch.get(key)
            if key == "encounter":  # there may be none
                if isinstance(brought, dict) and brought.get("resourceType") == "Encounter":
                    found.append(brought)
            elif brought is not None:
                try:
                    found += resources_of(brought, f"prefetch.{key}")
                except Unanswered as error:
                    raise Unanswered(412, error.reason) from None
            elif key not in prefetch:
                raise Unanswered(412, f"prefetch.{key}: bring what GET /cds-services says")
        return found

    def cards(self, schema: Schema, row: PatientRow, found: Mapping[str, float]) -> dict[str, Any]:
        """The answer, by the outputs of one row."""
        if not all(map(math.isfinite, found.values())):
            text = "no prediction: a value is missing, or isn't one that the model takes"
            return {"cards": [self._card(text, "info", row)]}
        said = "; ".join(self._named(schema, found))
        first = schema.outputs[0]
        one = len(schema.outputs) == 1 and first.kind == "probability"
        indicator = self.limits.indicator(found[first.name]) if one else "info"
        words = self.limits.words(found[first.name]) if one else ""
        return {"cards": [self._card(f"{said}{f' ({words})' if words else ''}", indicator, row)]}

    def _named(self, schema: Schema, found: Mapping[str, float]) -> list[str]:
        """Predictions with what they are of, the most probable first."""
        target = schema.target or "prediction"
        pairs = sorted(((found[one.name], one) for one in schema.outputs), key=lambda x: -x[0])
        return [f"{target}{_of(one)}: {_shown(value, one)}" for value, one in pairs[:_MOST_SHOWN]]

    def _card(self, text: str, indicator: str, row: PatientRow) -> dict[str, Any]:
        unknown = row.unknown
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        gaps = f"\n\nNot known: {', '.join(unknown[:_MOST_NAMED])}{more}." if unknown else ""
        summary = text if len(text) <= _MOST_SUMMARY else f"{text[: _MOST_SUMMARY - 3]}..."
        return {
            "summary": summary,
            "detail": f"{text}\n\n{self.version}{gaps}",
            "indicator": indicator,
            "source": {"label": f"{_LABEL}: {self.version}"},
        }


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _of(one: Output) -> str:
    return f" = {one.of}" if one.of else ""


def _shown(value: float, one: Output) -> str:
    if one.kind == "probability":
        return f"{100 * value:.3g} %"
    return f"{value:.4g}{f' {one.unit}' if one.unit else ''}"
