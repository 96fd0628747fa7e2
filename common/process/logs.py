"""Logs of the server and the hospitals: lines for people, or one JSON object a line.

Invariants: no control character gets out, so that a text from outside can't forge a line or drive a
terminal; an exception shows its type and place, not its text, which might quote a cell (unless the
level is DEBUG); no record of another library below WARNING. What is logged is for watching; what
must not be lost or altered is in the audit log (``common/audit/log.py``).
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.text import Text

from wardround.common.audit.lines import timestamp
from wardround.common.errors import WardroundError
from wardround.common.text import one_line

ROOT = "wardround"
"""Logger of this project; a module's is 'wardround.' and its part."""

_QUIET = ("flwr", "uvicorn", "uvicorn.error", "uvicorn.access", "grpc", "asyncio", "torch")
_MOST_MESSAGE, _MOST_VALUE, _MOST_ITEMS = 4000, 500, 100
_FIELDS = "wardround_fields"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_TAKEN = frozenset({"time", "level", "logger", "message", "error", "place"})

_Caught = tuple[type[BaseException], BaseException, TracebackType | None]


def setup_logging(
    kind: Literal["text", "json"] = "text",
    level: str | int = "INFO",
    stream: TextIO | None = None,
) -> logging.Handler:
    """Send all logs to ``stream`` (standard error) in one form; again replaces what was set up.

    kind  : 'text' for people, coloured on a terminal only; 'json' for machines
    level : of this project's records; other libraries' are shown from WARNING on
    """
    import flwr.app  # noqa: F401  it sets its own handler when it is first imported

    stream = stream or sys.stderr
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if not isinstance(number, int):
        raise ValueError(f"'{level}' is not a level of logging")
    handler = _Terminal(stream) if kind == "text" and _is_terminal(stream) else _Lines(stream)
    handler.setFormatter(_Json(number) if kind == "json" else _Plain(number))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Lines)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(number)
    for name in _QUIET:
        _quieten(logging.getLogger(name))
    logging.captureWarnings(True)
    return handler


def log_event(
    logger: logging.Logger, event: str, *, level: int = logging.INFO, **fields: Any
) -> None:
    """Log ``event`` with fields that the JSON form keeps apart: plain values, nothing of a
    patient."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", event, extra={_FIELDS: fields}, stacklevel=2)


def _quieten(logger: logging.Logger) -> None:
    """Through our handler only, and from WARNING on: Flower and uvicorn bring their own."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


class _Lines(logging.StreamHandler[TextIO]):
    """Writes whole lines; marks what ``setup_logging`` may replace."""

    def format(self, record: logging.LogRecord) -> str:
        """One line that the stream can take, whatever made it: the last guard."""
        line = "".join(c if c.isprintable() else " " for c in super().format(record))
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk or a closed pipe must not stop a round, nor print a record's content."""


class _Terminal(_Lines):
    """The same with colours."""

    _STYLES = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red", "DEBUG": "dim"}

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = Console(file=stream, highlight=False, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            style = self._STYLES.get(record.levelname, "")
            self._console.print(Text(self.format(record), style=style))
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    def __init__(self, level: int) -> None:
        super().__init__()
        self._texts = level <= logging.DEBUG

    def message(self, record: logging.LogRecord) -> str:
        try:
            text = record.msg % self._arguments(record.args) if record.args else str(record.msg)
        except Exception:  # a wrong number of arguments: the programmer's mistake, still a line
            text = str(record.msg)
        return one_line(text, _MOST_MESSAGE) if text else ""

    def _arguments(self, arguments: Any) -> Any:
        """An exception in a message goes by its type too, unless it is one of ours."""
        if self._texts or not isinstance(arguments, tuple):
            return arguments
        return tuple(
            type(one).__name__
            if isinstance(one, BaseException) and not isinstance(one, WardroundError)
            else one
            for one in arguments
        )

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Those of ``log_event``, and what an exception may show."""
        given = getattr(record, _FIELDS, {})
        fields = {_safe_key(key): _plain(value) for key, value in given.items()}
        if record.exc_info and record.exc_info[0] is not None:
            fields |= self._exception(record.exc_info)
        return fields

    def _exception(self, caught: _Caught) -> dict[str, str]:
        kind, error, trace = caught
        shown = {"error": kind.__name__, "place": _place(trace)}
        if self._texts:
            shown["error_text"] = one_line(str(error), _MOST_MESSAGE) if str(error) else ""
        return shown


class _Plain(_Formatter):
    """'2026-01-02T03:04:05.678Z INFO    connected (peer=north)'."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = ", ".join(
            f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for key, value in self.fields(record).items()
        )
        line = f"{timestamp(record.created)} {record.levelname:<7} {self.message(record)}"
        return f"{line} ({fields})" if fields else line


class _Json(_Formatter):
    """One object with time, level, logger and message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        values = {
            "time": timestamp(record.created),
            "level": record.levelname,
            "logger": one_line(record.name, 200),
            "message": self.message(record),
        }
        return json.dumps(values | self.fields(record), ensure_ascii=False, allow_nan=False)


def _place(trace: TracebackType | None) -> str:
    """File and line where the exception was raised, without folders, which may name people."""
    place = ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        place = f"{file.parent.name}/{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return one_line(place) if place else ""


def _safe_key(key: object) -> str:
    """A field's name that can't replace the record's own."""
    name = str(key)
    name = name if _KEY.fullmatch(name) else one_line(re.sub(r"[^A-Za-z0-9_.-]", "_", name), 64)
    return f"{name}_" if name in _TAKEN else name


def _plain(value: Any, depth: int = 0) -> Any:
    """Plain JSON: texts as one line, anything else by its type's name, as its text may hold a
    cell."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return one_line(value, _MOST_VALUE) if value else ""
    if isinstance(value, Path):
        return _plain(str(value))
    if isinstance(value, list | tuple) and depth < 3:
        return [_plain(item, depth + 1) for item in value[:_MOST_ITEMS]]
    if isinstance(value, dict) and depth < 3:
        items = list(value.items())[:_MOST_ITEMS]
        return {_safe_key(key): _plain(item, depth + 1) for key, item in items}
    return type(value).__name__
