"""Hand-made resources, as an export has them, and how they are read for a cohort."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.fhir.source import FhirRows
from wardround.client.sources.source import Asked
from wardround.common.config.load import parse_config

LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
VISITS = '[cohort.index]\nevent = "visit"\nconcepts = ["ENCOUNTER:IMP"]\n'


def patient(name: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": "1950", **more}


def encounter(name: str, of: str, start: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": name,
        "status": "finished",
        "class": {"system": ACT, "code": "IMP"},
        "subject": {"reference": f"Patient/{of}"},
        "period": {"start": start},
        **more,
    }


def observation(
    name: str, of: str, at: str, value: float, unit: str = "umol/L", **more: Any
) -> Any:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "2160-0"}]},
        "subject": {"reference": f"Patient/{of}"},
        "effectiveDateTime": at,
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
        **more,
    }


def resource(kind: str, name: str, of: str, code: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {
        "resourceType": kind,
        "id": name,
        "code": {"coding": [{"system": code[0], "code": code[1]}]},
        "subject": {"reference": f"Patient/{of}"},
        **more,
    }


def write(folder: Path, resources: Iterable[Any], *, packed: bool = False) -> Path:
    """A file of each type; what is a text stands there as it is, in the last type's file."""
    lines: dict[str, list[str]] = {}
    kind = "Patient"
    for one in resources:
        kind = one["resourceType"] if isinstance(one, dict) else kind
        lines.setdefault(kind, []).append(one if isinstance(one, str) else json.dumps(one))
    folder.mkdir(exist_ok=True)
    for kind, texts in lines.items():
        data = ("\n".join(texts) + "\n").encode()
        if packed:
            (folder / f"{kind}.000.ndjson.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{kind}.ndjson").write_bytes(data)
    return folder


def read(
    folder: Path, cohort: str, told: list[str] | None = None, **settings: Any
) -> tuple[pa.Table, dict[str, int]]:
    """The table, and what was left out by reason. ``index_date`` is in it."""
    config = parse_config(
        '[task.columns]\ntarget = "y"\nignore = ["index_date"]\n' + cohort
        if "variables.y]" in cohort
        else f"[task]\nname = 'own.py:Own'\nignore = ['index_date']\n{cohort}"
    )
    say = (told if told is not None else []).append
    rows = FhirRows(FhirSource(path=str(folder), **settings))
    table = pa.Table.from_batches(rows.batches(Asked(config, folder.parent, "ward", say)))
    return table, {one.reason: one.count for one in rows.left_out()}
