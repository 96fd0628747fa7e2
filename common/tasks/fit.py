"""Whether hospitals' data go together: what a task says of the names of their sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fit:
    """How hospitals fit together, by the names of their sums.

    unfit : hospitals that can't take part with the others, and why
    unused : keys of sums that nobody uses; they are not summed
    notes : what else the coordinator should know, one line each
    """

    unfit: Mapping[str, str] = field(default_factory=dict)
    unused: frozenset[str] = frozenset()
    notes: Sequence[str] = ()
