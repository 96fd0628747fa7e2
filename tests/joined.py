"""A server's link and a hospital's mailbox with a connection between them, in one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from wardround.common.transport import frames as f
from wardround.common.transport.mailbox import Mailbox
from wardround.server.transport.links import Link


class Dialling(Protocol):
    """The hospital's end."""

    instance: str
    mailbox: Mailbox


def join(link: Link, process: Dialling) -> Callable[[], None]:
    """A connection; calling it moves everything that there is to move."""
    ours = link.line.begin(process.instance, "here")
    theirs = process.mailbox.open()
    sides = (
        (link.line.mailbox, ours, link.line.mailbox.frames(ours, 0.0), process.mailbox, theirs),
        (process.mailbox, theirs, process.mailbox.frames(theirs, 0.0), link.line.mailbox, ours),
    )

    def settle() -> None:
        busy = True
        while busy:
            busy = False
            for _, _, out, other, epoch in sides:
                for data in out:
                    frame = f.read_frame(data)
                    if isinstance(frame, f.Ping):
                        break
                    other.receive(epoch, frame)
                    busy = True

    return settle
