"""What a hospital's process and a child that computes say to each other: JSON heads, and bodies.

A message is a head (a JSON object) and, where it has one, a content's body behind it in pieces.
Nothing is pickled. What is larger than agreed, or isn't such a message, is refused.
"""

from __future__ import annotations

import json
import tempfile
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from wardround.common import errors
from wardround.common.errors import TransportError, WardroundError
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol.message import Content
from wardround.common.text import one_line
from wardround.common.transport.frames import CHUNK_BYTES

MOST_HEAD_BYTES = 1 << 20
_IN_MEMORY_BYTES = 16 << 20
Head = dict[str, Any]
_SIZE = "size"


class Pipe:
    """One end.

    Parameters
    ----------
    spool : folder for bodies on their way, while they are large
    most_bytes : of a body
    """

    def __init__(self, connection: Connection, spool: Path, most_bytes: int) -> None:
        self._connection, self._spool, self._most = connection, spool, most_bytes
        self._turn = threading.Lock()

    def send(self, head: Head, content: Content | None = None) -> None:
        """Send a message as a whole, whoever else sends. Raises OSError if nobody is there."""
        body = encode_content(content) if content is not None else None
        size = body.size_bytes if body is not None else 0
        with self._turn:
            self._connection.send_bytes(json.dumps(head | {_SIZE: size}).encode())
            for offset in range(0, size, CHUNK_BYTES):
                assert body is not None
                self._connection.send_bytes(body.read(offset, CHUNK_BYTES))

    def receive(self) -> tuple[Head, Content]:
        """The next message; its content is empty where it has none. Raises EOFError or OSError when
        the other end is gone, TransportError for what is no message."""
        try:
            head = json.loads(self._connection.recv_bytes(MOST_HEAD_BYTES))
            size = head.pop(_SIZE)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TransportError("a child's message is malformed") from None
        if type(size) is not int or not 0 <= size <= self._most:
            raise TransportError(f"a child's message of {size!r:.20} bytes is none")
        if size == 0:
            return head, Content()
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._spool)) as file:
            while file.tell() < size:
                file.write(self._connection.recv_bytes(CHUNK_BYTES))
            file.seek(0)
            return head, decode_content(file, size, stored=True)

    def close(self) -> None:
        """Nothing comes any more."""
        self._connection.close()


# --- errors ---------------------------------------------------------------------------------------
_KINDS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, WardroundError)
}


def told_error(error: Exception) -> Head:
    """An error as it travels: one of ours as a whole, as the nearest kind that all know; of others
    their kind alone, since their text may quote a cell."""
    if isinstance(error, WardroundError):
        kind = next(one for one in type(error).__mro__ if _KINDS.get(one.__name__) is one)
        fields = {"what": error.what, "who": error.who, "mend": error.mend, "told": error.told}
        return {"kind": kind.__name__} | fields
    if isinstance(error, OSError):
        return {"kind": "OSError", "number": error.errno, "what": error.strerror or ""}
    return {"kind": "", "what": f"{type(error).__name__} in the hospital's host"}


def read_error(head: Head) -> Exception:
    """The error that was told."""
    kind, what = str(head.get("kind")), one_line(str(head.get("what", "")), 4000)
    if kind == "OSError":
        return OSError(head.get("number"), what)
    who, mend, outside = (str(head.get(name, "")) for name in ("who", "mend", "told"))
    return _KINDS.get(kind, WardroundError)(what, who=who, mend=mend, told=outside)
