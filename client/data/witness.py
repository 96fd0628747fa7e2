"""Who outside a privacy ledger's folder knows how far it had come: asked before each spending.

What a real hospital has is its kit's audit log (``client/privacy/witness.py``); a simulated one has
none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol


class Anchor(NamedTuple):
    """A ledger's head: number of its rows, and the newest one's hash, hexadecimal."""

    number: int
    hash: str


class Witness(Protocol):
    """Of one kit."""

    @property
    def kit(self) -> str:
        """Tells the kit from every other one that uses the same ledger."""

    def newest(self) -> Anchor:
        """How far the ledger had come. Raises PrivacyRefused where nobody can say it."""

    def add(self, anchor: Anchor, entry: Mapping[str, Any]) -> None:
        """The ledger has come so far, by this entry: durable when it returns."""
