"""What an error may advise, enumerated: a test follows each one to a run that starts.

A mend that takes protection away (``WEAKER``) is for settings that don't fit each other; a fault of
a hospital's data never carries one.
"""

from __future__ import annotations

from enum import StrEnum


class Mend(StrEnum):
    """Advice, as it stands behind an error's semicolon."""

    START_MORE = "start more clients"
    LOWER_MIN_CLIENTS = "lower it"
    SMALLER_SUMS = "lower it, or set secure_aggregation.enabled = false"
    SHOW_UPDATES = (
        "choose a strategy that works on the mean, or set secure_aggregation.enabled = false"
    )


WEAKER = frozenset({Mend.SMALLER_SUMS, Mend.SHOW_UPDATES})
