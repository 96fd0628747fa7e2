"""Counts out of what a server of the model shows at /metrics, or of a file with that.

A server's text is a stranger's: its size is bounded, and nothing of it is taken but counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from wardround.common.drift.counts import Counts
from wardround.common.drift.field import Field
from wardround.common.drift.metrics import counts_of_metrics
from wardround.common.errors import DataError

_MOST_BYTES, _TIMEOUT_S = 16 * 2**20, 20


def counts_from(source: str, fields: Sequence[Field], token: str = "") -> Counts:
    """Counts of an address (http, https) or a file.

    token : shown as a bearer's; '' for none

    Raises DataError where they can't be had, or are of another model.
    """
    if source.startswith(("http://", "https://")):
        text = _fetched(source, token)
    else:
        text = _read(Path(source))
    return counts_of_metrics(text, fields, source)


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return _text(file.read(_MOST_BYTES + 1), str(path))
    except OSError as error:
        raise DataError(
            f"can't be read ({error.strerror})",
            who=str(path),
            mend="name the address of /metrics, or a file with what it shows",
        ) from None


def _fetched(source: str, token: str) -> str:
    """No proxy and no redirection: it is a server of this hospital's own."""
    parts = urlsplit(source)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    mend = "is it a server of the model, and may this machine ask it?"
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", parts.path or "/metrics", headers=headers)
        answer = connection.getresponse()
        data = answer.read(_MOST_BYTES + 1)
        connection.close()
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(
            f"gives no answer ({type(error).__name__})", who=source, mend=mend
        ) from None
    if answer.status != 200:
        raise DataError(f"answers with {answer.status}", who=source, mend=mend)
    return _text(data, source)


def _text(data: bytes, who: str) -> str:
    if len(data) > _MOST_BYTES:
        raise DataError(f"has over {_MOST_BYTES >> 20} MiB, which no such text has", who=who)
    return data.decode("utf-8", "replace")
