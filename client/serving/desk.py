"""Does the work of requests, one after the other, in a thread of its own.

So the event loop stays free, and memory is bounded by what ``Guard`` lets in. Whatever goes wrong
is answered in our own words, and logged by kind and place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any
from weakref import WeakSet

from fastapi import FastAPI
from fastapi.responses import Response, StreamingResponse
from pydantic_core import to_json
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from wardround.client.serving import fhir
from wardround.client.serving.model import Model
from wardround.client.serving.refused import Unanswered
from wardround.common.errors import DataError, reason_of

log = logging.getLogger("wardround.serve")

JSON = "application/json"
Work = Callable[[bytes], Any]
Events = Callable[[bytes, Event], "Generator[bytes, None, None] | None"]
"""Pieces of an answer until the event is set; None where it is to come whole."""
MOST_STREAMS = 8
"""Answers that are written piece by piece at the same time: a language model keeps hundreds of
megabytes for each, as long as its reader takes."""
_FAILED = "the request failed here; the log says where"


class Desk:
    """See above, for one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._open: WeakSet[Generator[bytes, None, None]] = (
            WeakSet()
        )  # until nobody holds them any more

    def route(
        self,
        app: FastAPI,
        path: str,
        work: Work,
        media: str = JSON,
        works: Mapping[str, Work] | None = None,
    ) -> None:
        """Answer ``POST path`` by ``work`` of the body.

        media : how errors and answers are written; ``works``: others, by the body's own type
        """

        async def answer(request: Request) -> Response:
            kind = _kind_of(request)
            if works and kind in works:
                return await self._answer(request, works[kind], kind)
            return await self._answer(request, work, media)

        app.add_api_route(path, answer, methods=["POST"], response_model=None)

    def route_events(self, app: FastAPI, path: str, work: Work, events: Events, media: str) -> None:
        """The same, where an answer may come in pieces.

        work : makes the whole answer, where ``events`` gives None
        media : of pieces
        """

        async def answer(request: Request) -> Response:
            stop = Event()

            def begin(body: bytes) -> Any:
                pieces = events(body, stop)
                if pieces is None:
                    return work(body)
                if len(self._open) >= MOST_STREAMS:
                    raise Unanswered(503, "too many answers are being written; try again")
                self._open.add(pieces)
                # what is wrong with a request shows with the first piece, before anything is sent
                return next(pieces), pieces

            made = await self._made(request, begin, JSON)
            if isinstance(made, Response):
                return made
            if isinstance(made, bytes):
                return Response(made, media_type=JSON)
            first, rest = made

            def over() -> None:
                stop.set()
                self._open.discard(rest)
                self._worker.submit(rest.close)  # there nothing else is asked of it meanwhile

            return _Stream(self._pieces(first, rest), media, over)

        app.add_api_route(path, answer, methods=["POST"], response_model=None)

    async def _pieces(
        self, first: bytes, rest: Generator[bytes, None, None]
    ) -> AsyncIterator[bytes]:
        """One piece at a time, so that requests that wait aren't kept by one who reads slowly."""
        loop = asyncio.get_running_loop()
        try:
            piece: bytes | None = first
            while piece is not None:
                yield piece
                piece = await loop.run_in_executor(self._worker, next, rest, None)
        except Exception as error:
            log.error("an answer broke off: %s", reason_of(error))

    async def _answer(self, request: Request, work: Work, media: str = JSON) -> Response:
        made = await self._made(request, work, media)
        return made if isinstance(made, Response) else Response(made, media_type=media)

    async def _made(self, request: Request, work: Work, media: str) -> Any:
        """What the worker makes of the body; a refusal as the response that tells it."""
        try:
            if self._model.is_over():
                raise Unanswered(503, f"the model was good until {self._model.expires}")
            if _kind_of(request) not in (JSON, media):
                raise Unanswered(415, f"send it as {media}")
            body = await request.body()
            return await asyncio.get_running_loop().run_in_executor(self._worker, work, body)
        except Unanswered as error:
            return refusal(error.status, error.reason, media)
        except DataError as error:  # quotes no value
            return refusal(422, error.what, media)
        except Exception as error:
            log.error("a request failed: %s", reason_of(error))
            return refusal(500, _FAILED, media)


class _Stream(StreamingResponse):
    """A response in pieces. ``over``: called at its end, also where the reader has left."""

    def __init__(self, pieces: AsyncIterator[bytes], media: str, over: Callable[[], None]) -> None:
        super().__init__(pieces, media_type=media)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


def refusal(status: int, reason: str, media: str) -> Response:
    """An answer that says why there is none."""
    if media == fhir.MEDIA_TYPE:
        return Response(to_json(fhir.operation_outcome(status, reason)), status, media_type=media)
    return Response(to_json({"error": reason}), status, media_type=JSON)


def _kind_of(request: Request) -> str:
    """What a request says that its body is."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
