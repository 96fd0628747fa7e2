"""Why a request wasn't answered, as programs tell it apart: a code beside the sentence for people.

Flower's error replies carry a code and a reason. Our own transport (``common/transport/frames.py``)
carries the reason only, and a process of an earlier version knows and makes no codes: until
PROTOCOL 3 whatever came over a network has the code that its sentence's beginning stands for, and
these beginnings stay as they are.
"""

from __future__ import annotations

from enum import IntEnum

BUDGET = "privacy: "
"""How the reason begins with which a client refuses what its privacy budget forbids."""
REJECTED = "this hospital rejected the plan of run "
"""How the reason begins with which a client refuses what a person there has rejected."""
EDITED = "this hospital's own files have changed since it accepted the plan of run "
"""How the reason begins with which a client refuses what its present rules haven't accepted yet: it
is to be shown the plan again."""
GAVE_SHARES = "has given shares for a sum of it, and takes part in no other one"
"""In the reason with which a hospital refuses another sum of a purpose."""
FAILED = "failed: "
"""How the server's own line of a client that failed begins."""


class Code(IntEnum):
    """What the other side acts on. Ours lie above Flower's own numbers.

    FAILED : nothing is known but the sentence; Flower's number for an app that raised an error
    BUDGET : the hospital's privacy budget, or its ledger, forbids it
    REJECTED : a person at the hospital has rejected the run's plan
    EDITED : its own rules are others since it accepted the plan, and it must be shown that again
    """

    FAILED = 2
    BUDGET = 1001
    REJECTED = 1002
    EDITED = 1003


def code_of(reason: str | None, code: int = Code.FAILED) -> Code:
    """The code of an error reply: the one that it has, if that is one of ours; else (until
    PROTOCOL 3) the one that its sentence stands for."""
    if code in (Code.BUDGET, Code.REJECTED, Code.EDITED):
        return Code(code)
    if (reason or "").startswith(BUDGET):
        return Code.BUDGET
    if (reason or "").startswith(EDITED):
        return Code.EDITED
    return Code.REJECTED if (reason or "").startswith(REJECTED) else Code.FAILED


def failed(reason: str) -> str:
    """The server's line of a client that failed."""
    return f"{FAILED}{reason}"


def has_failed(line: str) -> bool:
    """Whether a client's line says that it failed: no update of it came. (One that came and wasn't
    accepted has another; in a cohort's reply the line is all there is.)"""
    return line.startswith(FAILED)
