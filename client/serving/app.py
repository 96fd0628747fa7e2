"""Who is answered what: the application of one model.

What they are answered is made at the ``Desk``, one request after the other.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp

from wardround.client.serving import binary, fhir
from wardround.client.serving.asked import Columns, Reader, read_json
from wardround.client.serving.cds import Service
from wardround.client.serving.counting import CONTENT_TYPE, Counting
from wardround.client.serving.desk import JSON, Desk, Work, refusal
from wardround.client.serving.door import Door
from wardround.client.serving.guard import Guard, Limits
from wardround.client.serving.model import Model
from wardround.client.serving.patients import Patients, resources_of
from wardround.client.serving.refused import Unanswered
from wardround.client.serving.thresholds import Limits as Thresholds

log = logging.getLogger("wardround.serve")

_PREDICT, _FHIR, _CDS = "/predict", "/fhir/RiskAssessment", "/cds-services"


@dataclass(frozen=True)
class Served:
    """A model, and what is asked of it.

    patients : makes its inputs of FHIR resources; None where nothing says how
    """

    model: Model
    counting: Counting
    limits: Limits = Limits()
    thresholds: Thresholds = Thresholds()
    patients: Patients | None = None

    @property
    def service(self) -> Service | None:
        """The service of CDS Hooks."""
        if self.patients is None:
            return None
        schema = self.model.schema
        about = f"{schema.target or 'prediction'} by a model of {self.model.listed.run}"
        id_ = f"wardround-{self.model.digest[:12]}"
        return Service(id_, about, self.model.version, self.patients, self.thresholds)


def create_app(
    served: Served, door: Door, hosts: frozenset[str], any_address: bool = False
) -> ASGIApp:
    """The application, behind its guard. ``hosts``, ``any_address``: as ``Guard`` has them."""
    app = FastAPI(title="Wardround", docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk(served.model)
    _add_reads(app, served)
    desk.route(
        app,
        _PREDICT,
        predict_work(served),
        works={binary.MEDIA_TYPE: predict_work(served, binary.MEDIA_TYPE)},
    )
    desk.route(app, _FHIR, _Assess(served).answer, fhir.MEDIA_TYPE)
    _add_hooks(app, desk, served)
    _add_chat(app, desk, served.model)
    _add_errors(app)
    return Guard(app, hosts, any_address, door, served.limits, served.counting.request)


def predict_work(served: Served, media: str = JSON) -> Work:
    """What the worker does for ``POST /predict``: bytes in, bytes out; raises Unanswered.

    media : the body's type, JSON or safetensors
    """
    return _binary(served) if media == binary.MEDIA_TYPE else _Predict(served).answer


def _binary(served: Served) -> Work:
    schema, limits = served.model.schema, served.limits
    reader = binary.BinaryReader(schema, Reader(schema, limits.rows))

    def work(body: bytes) -> bytes:
        asked = reader.asked(body)
        found = _predicted(served, asked.columns, asked.rows)
        return binary.answer(found, served.model.origin)

    return work


class _Predict:
    """``POST /predict``."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._reader = Reader(served.model.schema, served.limits.rows)

    def answer(self, body: bytes) -> bytes:
        """Of rows a list of records, of columns lists by name; null where the model gives none."""
        asked = self._reader.asked(body)
        found = _predicted(self._served, asked.columns, asked.rows)
        lists = {name: values.tolist() for name, values in found.items()}
        predictions: Any = lists
        if not asked.by_column:
            names = tuple(lists)
            values = zip(*lists.values(), strict=True)
            predictions = [dict(zip(names, one, strict=True)) for one in values]
        answer = {**self._served.model.origin, "predictions": predictions}
        return to_json(answer, inf_nan_mode="null")


class _Assess:
    """``POST /fhir/RiskAssessment``."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._reader = Reader(served.model.schema, served.limits.rows)

    def answer(self, body: bytes) -> bytes:
        """A Bundle of RiskAssessments."""
        schema = self._served.model.schema
        fhir.check_model(schema)
        subjects, rows = self._rows(read_json(body))
        found: Mapping[str, NDArray[Any]] = {}
        if rows:
            columns = self._reader.of_rows(rows, "row {}".format)
            found = _predicted(self._served, columns, len(rows))
        now = datetime.now(UTC)
        words = _words(self._served, found)
        version = self._served.model.version
        return to_json(fhir.assessments(schema, subjects, found, version, now, words))

    def _rows(self, asked: Any) -> tuple[list[str], list[dict[str, Any]]]:
        kind = asked.get("resourceType") if isinstance(asked, dict) else None
        if kind == "Parameters":
            return fhir.read_parameters(asked)
        if kind != "Bundle":
            raise Unanswered(422, "Parameters or a Bundle is wanted")
        if self._served.patients is None:
            raise Unanswered(
                422, "nothing says which records are this model's inputs; send Parameters"
            )
        found = self._served.patients.rows(resources_of(asked, "Bundle"))
        subjects = [fhir.reference({"reference": f"Patient/{x.id}"}, "Patient") for x in found]
        return subjects, [dict(one.values) for one in found]


def _predicted(served: Served, columns: Columns, rows: int) -> dict[str, NDArray[Any]]:
    scores = served.model.scores(columns)
    served.counting.rows(columns, scores, rows)
    return served.model.corrected(scores)


def _words(served: Served, found: Mapping[str, NDArray[Any]]) -> list[str]:
    """What thresholds say of each row, of a model of one probability."""
    outputs = served.model.schema.outputs
    if len(outputs) != 1 or outputs[0].kind != "probability" or not found:
        return []
    return [served.thresholds.words(one) for one in found[outputs[0].name].tolist()]


# --- routes ---------------------------------------------------------------------------------------
def _add_reads(app: FastAPI, served: Served) -> None:
    about = to_json(served.model.about())

    @app.get("/model")
    async def model() -> Response:
        return Response(about, media_type=JSON)

    @app.get("/health")
    async def health() -> Response:
        over = served.model.is_over()
        return Response(
            to_json({"status": "expired" if over else "ok"}), 503 if over else 200, media_type=JSON
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(served.counting.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_hooks(app: FastAPI, desk: Desk, served: Served) -> None:
    service = served.service
    found = to_json(service.discovery() if service is not None else {"services": []})

    @app.get(_CDS)
    async def discover() -> Response:
        return Response(found, media_type=JSON)

    if service is None:
        return
    schema, reader = served.model.schema, Reader(served.model.schema, 1)

    def call(body: bytes) -> bytes:
        row = service.row(read_json(body))
        if row is None:
            return to_json({"cards": []})
        columns = reader.of_rows([dict(row.values)], lambda _: "patient")
        outputs = _predicted(served, columns, 1)
        values = {name: float(column[0]) for name, column in outputs.items()}
        cards = service.cards(schema, row, values)
        for card in cards["cards"]:
            card["uuid"] = str(uuid.uuid4())
        return to_json(cards)

    desk.route(app, f"{_CDS}/{service.id}", call)


def _add_chat(app: FastAPI, desk: Desk, model: Model) -> None:
    """Conversations with a language model."""
    if model.language is None:
        return
    from wardround.client.serving import chat

    chats = chat.Chats(model.language, model.version)
    desk.route_events(app, chat.PATH, chats.answer, chats.events, chat.EVENTS)


def _add_errors(app: FastAPI) -> None:
    """FastAPI's own answers repeat what they were asked."""

    async def known(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 422
        headers = dict(getattr(error, "headers", None) or {})
        reason = {404: "there is no such path", 405: "not so: GET or POST"}.get(status, "not so")
        answer = refusal(status, reason, JSON)
        answer.headers.update(headers)
        return answer

    app.add_exception_handler(HTTPException, known)
    app.add_exception_handler(RequestValidationError, known)
