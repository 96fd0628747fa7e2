"""Why a request wasn't answered, as programs tell it apart: a code beside the sentence for people.

Flower's error replies carry a code and a reason, and so do ours over a network (``code`` in
``common/transport/frames.py``'s Start). No sentence is looked into.
"""

from __future__ import annotations

from enum import IntEnum

from wardround.common.errors import (
    DescriptionExpired,
    JointRefused,
    NotEvaluating,
    PlanRejected,
    PrivacyRefused,
    RulesEdited,
    SharesGiven,
    StoppedAfterFailures,
    StudyIsOver,
    WaitsForApproval,
)

FAILED = "failed: "
"""How the server's own line of a client that failed begins."""


class Code(IntEnum):
    """What the other side acts on. Ours lie above Flower's own numbers.

    FAILED : nothing is known but the sentence; Flower's number for an app that raised an error
    BUDGET : the hospital's privacy budget, or its ledger, forbids it
    REJECTED : a person at the hospital has rejected the run's plan
    EDITED : its own rules are others since it accepted the plan, and it must be shown that again
    FAILURES : the hospital failed too often in this run, and a person there must look
    NOT_NOW : the hospital's policy keeps it out of this round's evaluation
    GAVE_SHARES : it has given shares for a sum of this purpose, and takes part in no other one
    EXPIRED : the signed description that the hospital has isn't in force by its clock
    WAITING : a person at the hospital hasn't decided on the run's plan yet
    OVER : the study is over at the hospital: by its clock, or since it was told so
    JOINT_ENDS : a joint procedure ends at it: what it got, or has, allows no other step
    """

    FAILED = 2
    BUDGET = 1001
    REJECTED = 1002
    EDITED = 1003
    FAILURES = 1004
    NOT_NOW = 1005
    GAVE_SHARES = 1006
    EXPIRED = 1007
    WAITING = 1008
    OVER = 1009
    JOINT_ENDS = 1010


_OF = {
    PrivacyRefused: Code.BUDGET,
    PlanRejected: Code.REJECTED,
    RulesEdited: Code.EDITED,
    StoppedAfterFailures: Code.FAILURES,
    NotEvaluating: Code.NOT_NOW,
    SharesGiven: Code.GAVE_SHARES,
    DescriptionExpired: Code.EXPIRED,
    WaitsForApproval: Code.WAITING,
    StudyIsOver: Code.OVER,
    JointRefused: Code.JOINT_ENDS,
}


def code_for(error: Exception) -> Code:
    """The code that goes with an error."""
    return next((code for kind, code in _OF.items() if isinstance(error, kind)), Code.FAILED)


def code_of(code: int) -> Code:
    """The code of an error reply, if it is one of ours; else FAILED."""
    return Code(code) if code in set(Code) else Code.FAILED


def failed(reason: str) -> str:
    """The server's line of a client that failed."""
    return f"{FAILED}{reason}"


def has_failed(line: str) -> bool:
    """Whether a client's line says that it failed: no update of it came. (One that came and wasn't
    accepted has another; in a cohort's reply the line is all there is.)"""
    return line.startswith(FAILED)
