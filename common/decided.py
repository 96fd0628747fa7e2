"""Who decides a field of what a server sends, and what the hospital checks of it.

One rule: whatever shapes what leaves a hospital is in the plan that it accepted, or is worked out
by itself. So every field that a server sends is declared where it is defined, in one of five ways:

position : where in the study it stands: run, purpose, round, attempt
data     : a model, totals, a strategy's arrays; the same for all, by digest
bound    : equal to the accepted plan (or within it)
derived  : the hospital works it out itself, and compares
keys     : the protocol's own: keys, nonces, signatures, ciphertexts, lengths, reasons in words;
           proved by a signature or the transcript, or nothing that leaves depends on it

``docs/threat_model.md`` has the table of all of them (``python -m docs.reference``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sort = Literal["position", "data", "bound", "derived", "keys"]
NOTHING_YET = "nothing yet"


@dataclass(frozen=True)
class Decided:
    """Who decides a field.

    check : one sentence: what the hospital checks
    by : dotted path, without 'wardround', of the function that does; '' where nothing does
    """

    sort: Sort
    check: str
    by: str = ""

    @property
    def is_open(self) -> bool:
        """Whether something that is promised isn't checked yet."""
        return NOTHING_YET in self.check


def position(check: str, by: str = "") -> Decided:
    """Of a place in the study."""
    return Decided("position", check, by)


def data(check: str, by: str = "") -> Decided:
    """Of what is trained from or measured."""
    return Decided("data", check, by)


def bound(check: str, by: str = "") -> Decided:
    """Of what the plan says."""
    return Decided("bound", check, by)


def derived(check: str, by: str = "") -> Decided:
    """Of what the hospital works out."""
    return Decided("derived", check, by)


def keys(check: str, by: str = "") -> Decided:
    """Of the protocol's own."""
    return Decided("keys", check, by)
