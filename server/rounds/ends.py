"""How a round ends without a model, and a run before its last round."""

from __future__ import annotations

MOST_LOST = 4
"""Rounds in a row that are lost as some hospitals fail: one that does stops after some failures."""


class BudgetsSpent(Exception):
    """Too few hospitals may go on."""


class RoundLost(Exception):
    """The round's one sum can't be opened, or tells nothing.

    failed : hospitals that had nothing to add
    """

    def __init__(self, why: str, failed: int = 0) -> None:
        super().__init__(why)
        self.failed = failed
