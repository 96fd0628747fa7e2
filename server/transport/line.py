"""One hospital's connection, over which it is asked for all studies that it takes part in.

A ``Line`` belongs to a name of the roster. It outlives connections: a message that was sent over
one goes on over the next. Which study a message is about stands in it (``Start.study``): a line
hands it to the ``Link`` that the study's grid has made, and never looks further into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from wardround.common.text import one_line
from wardround.common.transport.frames import Again, Frame, Heads, Start
from wardround.common.transport.mailbox import Incoming, Mailbox
from wardround.server.transport.events import ServerEvents


class StudyLink(Protocol):
    """What one study asks of a hospital (``links.py``)."""

    def begins_anew(self) -> None:
        """Another process of the hospital is connected: it knows nothing of what was asked."""

    def wanted(self, start: Start) -> str | None:
        """As ``Events.wanted`` of a mailbox."""

    def arrived(self, message: Incoming) -> None:
        """A message is whole."""

    def gone(self, start: Start) -> None:
        """A request has arrived at the hospital."""

    def failed(self, start: Start, reason: str) -> None:
        """A request was refused, or couldn't be brought over."""

    def fail_all(self, reason: str) -> None:
        """Answer whatever is still open with an error."""

    def stored_bytes(self) -> int:
        """Of answers that are here and not pulled yet."""

    def again(self) -> None:
        """People there have decided something."""


class Line:
    """One hospital.

    Parameters
    ----------
    changed : the condition that guards all lines of a server
    full : why there is no room for a message; ''

    Attributes
    ----------
    studies : what each study asks of it, by study id
    instance, address : of its process
    left : the reason of its goodbye, until it connects again
    """

    def __init__(
        self,
        name: str,
        most_bytes: int,
        folder: Path,
        changed: threading.Condition,
        events: ServerEvents,
        full: Callable[[Line, Start], str] = lambda line, start: "",
    ) -> None:
        self.name = name
        self.mailbox = Mailbox(self, most_bytes, folder)
        self.instance = self.address = self.left = ""
        self.studies: dict[str, StudyLink] = {}
        self._full = full
        self._changed, self._events = changed, events

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.mailbox.is_open

    def silent_s(self) -> float:
        """Seconds since it was last heard of."""
        return time.monotonic() - self.mailbox.heard

    def spooled_bytes(self, but: str = "") -> int:
        """Of answers that are here and not pulled yet, or are coming; without message ``but``."""
        here = [one.stored_bytes() for one in list(self.studies.values())]
        return sum(here) + self.mailbox.inbox.size_bytes(but)

    def begin(self, instance: str, address: str) -> int:
        """A connection of the hospital's process ``instance`` begins; gives its epoch.

        Of the same process everything goes on where it was. A new one is admitted to no study until
        it has accepted its manifest; then what the last one hadn't answered is sent to it.
        """
        epoch = self.mailbox.open()
        self.left = ""
        if instance != self.instance:  # it knows nothing of what the last process was asked
            self.mailbox.forget_partial()
            self.mailbox.take_back_all()
            with self._changed:
                for link in self.studies.values():
                    link.begins_anew()
        self.instance, self.address = instance, address
        return epoch

    def goodbye(self, reason: str) -> None:
        """The hospital's process ends on purpose."""
        self.left = one_line(reason, 100)

    def fail_all(self, reason: str) -> None:
        """Answer whatever is still open, in every study, with an error."""
        for link in list(self.studies.values()):
            link.fail_all(reason)

    # --- events of the mailbox -------------------------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        if start.kind == "request":
            return "a hospital answers, it doesn't ask"
        if start.kind == "error" and start.size_bytes:
            return "an error has no body"
        if reason := self._full(self, start):
            return reason
        link = self.studies.get(start.study)
        return "" if link is None else link.wanted(start)  # of a study that is over: not needed

    def arrived(self, message: Incoming) -> None:
        link = self.studies.get(message.start.study)
        if link is None:
            message.file.close()
        else:
            link.arrived(message)

    def gone(self, start: Start) -> None:
        if (link := self.studies.get(start.study)) is not None:
            link.gone(start)

    def failed(self, start: Start, reason: str) -> None:
        if (link := self.studies.get(start.study)) is not None:
            link.failed(start, reason)

    def control(self, frame: Frame) -> None:
        if isinstance(frame, Heads):
            self._events.heads(self.name, frame, self.mailbox)
        elif isinstance(frame, Again) and (link := self.studies.get(frame.study)) is not None:
            link.again()
