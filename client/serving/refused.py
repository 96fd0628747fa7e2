"""What a request is told that isn't answered: a status and a sentence of ours, nothing of it.

A place is said by numbers and by names that the model has (``rows[3].age``). What a request called
a field, or wrote into one, never comes back.
"""

from __future__ import annotations


class Unanswered(Exception):
    """A request that gets no prediction.

    status : of HTTP
    reason : one line, that quotes nothing of the request
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def unfit(place: str, what: str) -> Unanswered:
    """422: a body that can be read and isn't what the model takes."""
    return Unanswered(422, f"{place}: {what}")
