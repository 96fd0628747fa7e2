"""A hospital as the server knows it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Member:
    """A hospital of the federation: ``sizes`` has rows per split, as it announced them;
    ``device``: 'cpu' or 'cuda', where it said so."""

    name: str
    node_id: int
    sizes: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    device: str = ""

    @property
    def trains(self) -> bool:
        """False for one that has rows to evaluate on only, as an external validation site."""
        return self.sizes["train"] > 0
