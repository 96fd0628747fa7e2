"""A study's rounds as lines of the server's log: which study it is stands in each."""

from __future__ import annotations

import logging
from typing import Any

from wardround.common.figures.figure import Figure, with_bound
from wardround.common.figures.records import model_bound, model_figure
from wardround.common.process.logs import log_event
from wardround.server.observer import Observer
from wardround.server.studies.rows import Event

log = logging.getLogger("wardround.server")


class StudyLog(Observer):
    """Few lines, as many studies share the log; ``metrics.jsonl`` and the dashboard have all.

    study : what people are shown of it
    primary : the figure that a round is told by
    """

    def __init__(self, study: str, rounds: int, primary: Figure) -> None:
        self._study, self._rounds, self._primary = study, rounds, primary

    def round_committed(self, row: dict[str, Any]) -> None:
        fields: dict[str, Any] = {"hospitals": len(row.get("accepted", ()))}
        for split in row.get("overall", {}):
            if (figure := model_figure(row, split, self._primary)) is not None:
                bound = model_bound(row, split, self._primary)
                fields[f"{split} {self._primary.name}"] = with_bound(f"{figure:.4f}", bound)
        log_event(log, f"study {self._study}: round {row['round']}/{self._rounds}", **fields)

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        log_event(
            log,
            f"study {self._study}: attempt {attempt} at round {server_round} failed",
            level=logging.WARNING,
            reason=reason,
        )


def tell_event(name: str, event: Event) -> None:
    """A line on what has happened to a study."""
    fields: dict[str, Any] = {"by": event.who} | ({"reason": event.reason} if event.reason else {})
    what = {
        "state": f"is {event.new}",
        "claim": "is gone on with",
        "decision": f"{event.who}: {event.new}",
        "delivery": f"{event.who} has {_OWED.get(event.reason, event.reason)}",
    }[event.kind]
    if event.kind in ("decision", "delivery"):
        del fields["by"]
    if event.kind == "delivery":
        fields = {}
    log_event(log, f"study {name} ({event.study[:12]}): {what}", **fields)


_OWED = {"results": "its results", "ended": "been told its end"}
