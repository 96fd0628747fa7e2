"""Which clients take part in a round: drawn from (run seed, round, attempt), never from arrival."""

from __future__ import annotations

from collections.abc import Sequence

from wardround.common.rng import numpy_generator
from wardround.server.replies import Member


def draw_cohort(
    members: Sequence[Member], count: int | None, seed: int, server_round: int, attempt: int
) -> list[Member]:
    """``count`` members without replacement (all if None or too few), ordered by name."""
    ordered = sorted(members, key=lambda member: member.name)
    if count is None or count >= len(ordered):
        return ordered
    generator = numpy_generator(seed, "cohort", server_round, attempt)
    chosen = generator.choice(len(ordered), size=count, replace=False)
    return [ordered[index] for index in sorted(chosen)]
