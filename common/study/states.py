"""The states of a study at the server, and which may follow which.

    submitted -> waiting -> queued -> running -> complete, failed
    each of the first four -> aborted, expired

Waiting is for hospitals' approvals. A study that is over stays what it is.
"""

from __future__ import annotations

from typing import Literal, get_args

State = Literal[
    "submitted", "waiting", "queued", "running", "complete", "failed", "aborted", "expired"
]
STATES: tuple[State, ...] = get_args(State)
OVER: frozenset[State] = frozenset(("complete", "failed", "aborted", "expired"))
_NEXT: dict[State, frozenset[State]] = {
    "submitted": frozenset(("waiting", "failed", "aborted", "expired")),
    "waiting": frozenset(("queued", "failed", "aborted", "expired")),
    "queued": frozenset(("running", "waiting", "failed", "aborted", "expired")),
    "running": frozenset(OVER),
}


def may_follow(old: State, new: State) -> bool:
    """Whether a study that is ``old`` may become ``new``.

    >>> may_follow("waiting", "queued"), may_follow("aborted", "running")
    (True, False)
    """
    return new in _NEXT.get(old, frozenset())
