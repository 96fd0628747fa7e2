"""What all hospitals agree on before an analysis begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Agreed:
    """Of the first step's totals.

    rows : of all hospitals; with noise under ``[privacy]``
    persons : likewise; None where the study names no patients: each row is a person then
    levels : of each column of categories that an analysis asks for, its texts in their order
    """

    rows: int
    persons: int | None = None
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def people(self) -> int:
        """Persons, or rows where none are named."""
        return self.rows if self.persons is None else self.persons
