"""A study's course as it is told: the server's messages as lines for people, over every break."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from wardround.client.researcher.calls import Away, Calls
from wardround.client.researcher.showing import clock
from wardround.common.study import frames as f
from wardround.common.study.states import OVER
from wardround.common.text import one_line

_PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)
_WORDS = {"accepted": "has accepted", "rejected": "has rejected", "waiting": "is to decide again"}


@dataclass(frozen=True)
class Update:
    """Something that is new of a study.

    line : the study as it is now
    event : what happened; None where only time or a round has passed
    """

    text: str
    line: f.Line
    event: f.Event | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<{self.line.name}: {self.text}>"

    def _repr_html_(self) -> str:
        when = clock(self.event.time) if self.event else ""
        return (
            f"<div><code>{html.escape(when)}</code> <b>{html.escape(self.line.name)}</b> "
            f"{html.escape(self.text)}</div>"
        )


def watch(
    calls: Calls, line: f.Line, after: int = 0, sleep: Callable[[float], object] = time.sleep
) -> Iterator[Update]:
    """What happens to a study until it is over, from after event number ``after`` on.

    A server that is away is waited for; that is said once. Raises what ``Calls.ask`` raises, but
    for Away.
    """
    told, tries, said = _Told(line), 0, False
    while True:
        try:
            with calls.stream(f.Watch(study=line.id, after=after)) as messages:
                for data in messages:
                    new, tries, said = f.Watched.read(data), 0, False
                    yield from told.updates(new)
                    after = max([after, *(event.number for event in new.events)])
            if told.line.state in OVER:
                return  # else the server has had this stream for long, and takes another
        except Away as error:
            if not said:
                said = True
                yield Update(f"{one_line(str(error))}; trying again", told.line)
            sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
            tries += 1


class _Told:
    """What was told of a study already."""

    def __init__(self, line: f.Line) -> None:
        self.line = line
        self._waiting: tuple[str, ...] = ()
        self._round = 0

    def updates(self, new: f.Watched) -> Iterator[Update]:
        """Lines for what is new in a message."""
        self.line = line = new.line
        for event in new.events:
            if event.new == "complete":  # its rounds came before
                yield from self._rounds(line)
            yield Update(_event(event), line, event)
        if line.state in ("submitted", "waiting") and line.waiting_for != self._waiting:
            self._waiting = line.waiting_for
            if self._waiting:
                yield Update(f"waiting for {', '.join(self._waiting)}", line)
        yield from self._rounds(line)

    def _rounds(self, line: f.Line) -> Iterator[Update]:
        if line.state in ("running", "complete") and line.round > self._round:
            self._round = line.round
            yield Update(f"round {line.round} of {line.rounds}", line)


def _event(event: f.Event) -> str:
    reason = f": {one_line(event.reason)}" if event.reason else ""
    who, new = one_line(event.who, 100), one_line(event.new, 100)
    if event.kind == "decision":
        return f"{who} {_WORDS.get(event.new, new)}{reason}"
    if event.kind == "delivery":
        what = "has the results" if event.reason == "results" else "has been told its end"
        return f"{who} {what}"
    if event.kind == "claim":
        return "taken over by another server; it goes on"
    by = f" by {who}" if new == "aborted" else ""
    return f"{new}{by}{reason}"
