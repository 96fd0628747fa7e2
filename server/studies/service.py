"""The interface to a network's studies: gRPC on the port that hospitals dial.

Each call has three steps: who calls (``callers.py``), whether this role may and sees the study
(``rights.py``), and then the desk does it (``desk.py``). An error is one line that names the key.
A study that the caller may not see gets the answer of one that there is none of.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from wardround.common.errors import (
    DatabaseAway,
    Deposed,
    ProvisionError,
    StudyRefused,
    StudyUnknown,
    TransportError,
    WardroundError,
)
from wardround.common.study import frames
from wardround.common.study.frames import SERVICE
from wardround.common.study.states import OVER, STATES, State
from wardround.common.study.study import Submission
from wardround.common.text import one_line
from wardround.common.trust.lifetime import check_in_force
from wardround.common.trust.pki import CertificateInfo
from wardround.server.studies.callers import Callers, Limits, PresentDescription, TooMany
from wardround.server.studies.desk import StudyDesk
from wardround.server.studies.rights import Action, Caller, may, refusal, sees, shown_decisions
from wardround.server.studies.rows import StudyRow
from wardround.server.studies.views import Views

log = logging.getLogger("wardround.server")

_OPEN: tuple[State, ...] = tuple(state for state in STATES if state not in OVER)
_FEWEST_DIGITS = 4
"""Of an id, to find a study by."""
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (StudyUnknown, grpc.StatusCode.NOT_FOUND),
    (DatabaseAway, grpc.StatusCode.UNAVAILABLE),
    (Deposed, grpc.StatusCode.UNAVAILABLE),
    (TransportError, grpc.StatusCode.INVALID_ARGUMENT),
    (PermissionError, grpc.StatusCode.PERMISSION_DENIED),
    (TooMany, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (WardroundError, grpc.StatusCode.FAILED_PRECONDITION),
)


class _NotAMember(Exception):
    """Whoever calls is no member (any more)."""


class StudiesService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers calls about studies; a handler of the server's port.

    Parameters
    ----------
    most_open : studies of one researcher that aren't over yet
    poll_s : how often a stream looks for news, and whether its caller is still a member
    life_s : a sign of life on a stream without news
    """

    def __init__(
        self,
        desk: StudyDesk,
        description: PresentDescription,
        *,
        most_open: int,
        limits: Limits | None = None,
        poll_s: float = 1.0,
        life_s: float = 10.0,
    ) -> None:
        self._desk, self._description = desk, description
        self._callers = Callers(description, limits or Limits())
        self._views, self._most_open = Views(desk), most_open
        self._poll_s, self._life_s = poll_s, life_s
        self._submitting, self._over = threading.Lock(), threading.Event()
        self._unary: dict[str, tuple[type[frames.Call], Callable[[Caller, Any], frames.Frame]]] = {
            "Submit": (frames.Submit, self._submit),
            "List": (frames.List, self._list),
            "Show": (frames.Show, self._show),
            "Abort": (frames.Abort, self._abort),
            "Rerun": (frames.Rerun, self._rerun),
            "Describe": (frames.Describe, self._describe),
        }
        self._streams: dict[str, tuple[type[frames.Call], Callable[..., Iterator[bytes]]]] = {
            "Watch": (frames.Watch, self._watch),
            "Fetch": (frames.Fetch, self._fetch),
        }

    def close(self) -> None:
        """End all streams: the server stops."""
        self._over.set()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """gRPC asks who handles a method."""
        prefix, _, name = details.method.rpartition("/")
        if f"{prefix}/" != SERVICE:
            return None
        if name in self._unary:
            kind, answer = self._unary[name]
            return grpc.unary_unary_rpc_method_handler(self._answering(kind, answer))
        if name in self._streams:
            kind, stream = self._streams[name]
            return grpc.unary_stream_rpc_method_handler(self._streaming(kind, stream))
        return None

    # --- who calls, and what goes wrong ---------------------------------------------------------
    def _answering(
        self, kind: type[frames.Call], answer: Callable[[Caller, Any], frames.Frame]
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def handle(data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                caller = self._caller(context)
                with self._callers.call(caller):
                    return answer(caller, kind.read(data)).to_bytes()
            except Exception as error:
                return _fail(context, error)

        return handle

    def _streaming(
        self, kind: type[frames.Call], stream: Callable[..., Iterator[bytes]]
    ) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        def handle(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            try:
                caller = self._caller(context)
                info, gone = self._callers.certificate(context), threading.Event()
                if not context.add_callback(gone.set):
                    return
                until = time.monotonic() + self._callers.limits.stream_s
                with self._callers.call(caller):
                    for piece in stream(caller, kind.read(data), info, gone):
                        yield piece
                        self._check_still(info)
                        if time.monotonic() > until:
                            return
                        if self._over.is_set():
                            raise DatabaseAway("the server stops", mend="ask again")
            except Exception as error:
                _fail(context, error)

        return handle

    def _caller(self, context: grpc.ServicerContext) -> Caller:
        try:
            return self._callers.check(self._callers.certificate(context))
        except ProvisionError as error:
            raise _NotAMember(str(error)) from None

    def _check_still(self, info: CertificateInfo) -> None:
        try:
            self._callers.check(info)
        except ProvisionError as error:
            raise _NotAMember(str(error)) from None

    # --- which study ----------------------------------------------------------------------------
    def _one(self, caller: Caller, action: Action, text: str) -> StudyRow:
        """The study that the caller sees by this name, or whose id begins so.

        A name is of the one that isn't over, or else of the newest. Raises StudyUnknown,
        PermissionError.
        """
        found = [row for row in self._desk.find(caller, text) if sees(caller, row)]
        by_id = [row for row in found if row.id.startswith(text) and len(text) >= _FEWEST_DIGITS]
        named = [row for row in found if row.name == text]
        if not by_id and not named:
            raise StudyUnknown(f"'{text}': no such study")
        if not may(caller, action):
            raise PermissionError(refusal(caller, action))
        going = [row for row in named if row.state not in OVER]
        fitting = by_id or going or named[-1:]
        if len(fitting) > 1:
            ids = ", ".join(row.id[:12] for row in fitting[:5])
            raise StudyRefused(f"'{text}' is several studies: {ids}", mend="name it by its id")
        return fitting[0]

    # --- calls ----------------------------------------------------------------------------------
    def _submit(self, caller: Caller, call: frames.Submit) -> frames.Frame:
        if not may(caller, "submit"):
            raise PermissionError(refusal(caller, "submit"))
        return self._take(caller, self._read(caller, call))

    def _rerun(self, caller: Caller, call: frames.Rerun) -> frames.Frame:
        row = self._one(caller, "rerun", call.of)
        submission = self._read(caller, call)
        new = submission.study
        old = type(new).from_body(self._views.study_body(row.id))
        if old.model_copy(update={"repeat": new.repeat, "ends": new.ends}) != new:
            raise StudyRefused(
                f"not a repeat of '{row.name}': only repeat and ends may be others",
                mend="submit it as a study of its own",
            )
        if new.repeat <= old.repeat:
            raise StudyRefused(f"repeat: {new.repeat} isn't above {old.repeat}")
        if row.state not in OVER:
            raise StudyRefused(f"'{row.name}' is {row.state}; abort it first, or wait for its end")
        return self._take(caller, submission, row.id)

    def _read(self, caller: Caller, call: frames.Submit) -> Submission:
        data = bytes.fromhex(call.signature) + call.study.encode()
        submission = Submission.read(data, self._description.now)
        if submission.study.researcher != caller.name:
            raise StudyRefused(
                f"researcher: says '{submission.study.researcher}', and '{caller.name}' calls"
            )
        return submission

    def _take(self, caller: Caller, submission: Submission, rerun_of: str = "") -> frames.Frame:
        study = submission.study
        with self._submitting:  # two at once would both find room for the last one
            new = not self._find_exactly(caller, study.id)
            if new:
                now = datetime.now(UTC)
                check_in_force(self._description.now, now)
                study.check(self._description.now, now)
                self._check_room(caller)
                new = self._desk.submit(caller, submission, rerun_of)
        (row,) = self._find_exactly(caller, study.id)
        return frames.Submitted(line=self._views.line(caller, row), new=new)

    def _find_exactly(self, caller: Caller, id: str) -> list[StudyRow]:
        return [row for row in self._desk.find(caller, id) if row.id == id and sees(caller, row)]

    def _check_room(self, caller: Caller) -> None:
        rows = self._desk.list(caller, _OPEN, self._most_open + 1)
        if sum(sees(caller, row) for row in rows) >= self._most_open:
            raise TooMany(
                f"{self._most_open} studies of yours aren't over yet (network.most_open); abort "
                "one, or wait"
            )

    def _list(self, caller: Caller, call: frames.List) -> frames.Frame:
        rows = [row for row in self._desk.list(caller, call.states, call.most + 1)]
        seen = [row for row in reversed(rows) if sees(caller, row)]
        lines = tuple(self._views.line(caller, row, listed=True) for row in seen[: call.most])
        return frames.Listed(studies=lines, more=len(seen) > call.most)

    def _show(self, caller: Caller, call: frames.Show) -> frames.Frame:
        row = self._one(caller, "show", call.study)
        said = shown_decisions(caller, self._desk.decisions(row.id))
        return frames.Shown(
            line=self._views.line(caller, row),
            signed=self._desk.signed(row.id).decode(),
            decisions=tuple(map(self._views.decision, said)),
        )

    def _abort(self, caller: Caller, call: frames.Abort) -> frames.Frame:
        row = self._one(caller, "abort", call.study)
        if row.state != "aborted":  # again is no mistake
            if row.state in OVER:
                raise StudyRefused(f"'{row.name}' is {row.state} already")
            self._desk.abort(caller, row.id, one_line(call.reason, frames.MOST_REASON))
        (row,) = self._find_exactly(caller, row.id)
        return frames.Changed(line=self._views.line(caller, row))

    def _describe(self, caller: Caller, call: frames.Describe) -> frames.Frame:
        newer = self._description.now.order > (call.version, call.issued)
        return frames.Described(description=self._description.text() if newer else "")

    # --- streams --------------------------------------------------------------------------------
    def _watch(
        self, caller: Caller, call: frames.Watch, info: CertificateInfo, gone: threading.Event
    ) -> Iterator[bytes]:
        id = self._one(caller, "watch", call.study).id
        after, count, last, said = 0, 0, None, 0.0
        while True:
            self._check_still(info)
            (row,) = self._find_exactly(caller, id)
            events = self._desk.events(id, after)
            line = self._views.line(caller, row)
            shown = self._views.events(caller, events, count)
            count += len(shown)
            new = tuple(one for one in shown if one.number > call.after)
            if new or line != last or time.monotonic() - said > self._life_s:
                yield frames.Watched(line=line, events=new).to_bytes()
                last, said = line, time.monotonic()
            after = events[-1].number if events else after
            if not events:
                if row.state in OVER:
                    return
                if gone.wait(self._poll_s):
                    return
                if self._over.is_set():
                    raise DatabaseAway("the server stops", mend="ask again")

    def _fetch(self, caller: Caller, call: frames.Fetch, *_: object) -> Iterator[bytes]:
        row = self._one(caller, "fetch", call.study)
        if row.state != "complete":
            raise StudyRefused(
                f"'{row.name}' is {row.state}, and has no results"
                + ("" if row.state in OVER else " yet")
            )
        files = self._desk.results(row.id)
        if call.name not in files:
            raise StudyRefused(f"name: '{one_line(call.name, 80)}' is no file of the results")
        return _pieces(files[call.name], call)


def _pieces(path: Path, call: frames.Fetch) -> Iterator[bytes]:
    """The head of a file, and what comes after the offset."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if call.offset > size:
                raise StudyRefused(f"offset: {call.offset} of a file of {size} bytes")
            yield frames.FileHead(name=call.name, size=size, offset=call.offset).to_bytes()
            file.seek(call.offset)
            while piece := file.read(frames.PIECE_BYTES):
                yield piece
    except OSError as error:
        raise StudyRefused(
            f"'{call.name}' can't be read at the server ({error.strerror})"
        ) from None


def _fail(context: grpc.ServicerContext, error: Exception) -> bytes:
    """End a call with a code for programs and a line for people."""
    if isinstance(error, _NotAMember):
        code = grpc.StatusCode.UNAUTHENTICATED
    else:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        if type(error) is not Exception:  # gRPC's own, where the caller has gone
            log.exception("a call about studies failed")
        context.set_code(grpc.StatusCode.INTERNAL)
        context.set_details("the server failed; its log says how")
        return b""
    context.set_code(code)
    context.set_details(one_line(str(error), 1000))
    return b""
