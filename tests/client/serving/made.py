"""An exported model as a hospital serves it, and what asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.client.serving.asgi import Client
from tests.common.export.made import model_folder, settings
from wardround.client.serving.app import Served
from wardround.client.serving.serving import Asking, Reach, Trusting, opened
from wardround.common.export.exporting import export_model
from wardround.common.export.source import Source
from wardround.common.trust.identity import Identity

SERVER = Identity.from_bytes(bytes(range(32)))
HOSPITAL = Identity.from_bytes(bytes(range(1, 33)))
SIGNERS = (SERVER.public.hex(), HOSPITAL.public.hex())
SENTINEL = "Zebedee-4711"
"""What a patient might be called: nothing that is answered, logged or counted may have it."""
COHORT = """
[cohort.index]
event = "visit"
age_years = [18, 110]
[cohort.variables.age]
of = "age"
[cohort.variables.tiny]
of = "measurement"
concepts = ["LOINC:2160-0"]
unit = "umol/L"
units = { "mg/dL" = 88.42 }
window_days = [-30, 0]
[cohort.variables.constant]
of = "measurement"
concepts = ["LOINC:8867-4"]
unit = "1"
window_days = [-30, 0]
take = "max"
[cohort.variables.smoker]
of = "condition"
concepts = ["SNOMED:77176002"]
window_days = [-3650, 0]
[cohort.variables.ward]
of = "observation"
concepts = ["LOINC:42346-7"]
categories = { intensive = ["SNOMED:309904001"], surgery = ["SNOMED:225746001"] }
window_days = [-30, 0]
[cohort.variables.pregnant]
of = "condition"
concepts = ["SNOMED:77386006"]
window_days = [-300, 0]
rows = "without"
[cohort.variables.empty]
of = "sex"
[cohort.variables.seen]
of = "visit"
window_days = [-30, 0]
[cohort.variables.y]
of = "death"
window_days = [1, 30]
rows = "with"
"""


@dataclass(frozen=True)
class Made:
    """``model``: its folder, signed by the server; ``export``: signed by the hospital."""

    model: Path
    export: Path
    source: Source


def made(folder: Path, kind: str = "binary", more: str = "", **task: Any) -> Made:
    text = settings(kind, task) + more
    model = model_folder(folder / "model", text, identity=SERVER)
    source = Source.of(model)
    export_model(source, folder / "export", identity=HOSPITAL)
    return Made(folder / "model", folder / "export", source)


@contextmanager
def asked(path: Path, **more: Any) -> Iterator[tuple[Client, Served]]:
    """A client of what ``wardround serve`` would answer with, in this process; of ``Reach`` and
    ``Asking`` what is given."""
    reach = {key: more.pop(key) for key in ("token_file", "names") if key in more}
    trust = {key: more.pop(key) for key in ("signers", "unsigned", "kit") if key in more}
    asking = Asking(
        path, Reach("127.0.0.1:0", **reach), Trusting(**{"signers": SIGNERS, **trust}), **more
    )
    with opened(asking) as (app, _, served):
        client = Client(app)
        try:
            yield client, served
        finally:
            client.close()


def parameters(*rows: dict[str, Any], subject: str = "Patient/p1") -> dict[str, Any]:
    """Rows as FHIR has them."""

    def part(name: str, value: Any) -> dict[str, Any]:
        kinds = {bool: "valueBoolean", int: "valueInteger", float: "valueDecimal"}
        return {"name": name, kinds.get(type(value), "valueString"): value}

    about = {"name": "subject", "valueReference": {"reference": subject}}
    found = [{"name": "row", "part": [about, *(part(*one) for one in row.items())]} for row in rows]
    return {"resourceType": "Parameters", "parameter": found}


def bundle(*resources: dict[str, Any]) -> dict[str, Any]:
    entries = [{"resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}
