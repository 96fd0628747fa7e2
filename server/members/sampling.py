"""Which clients are asked: drawn from (run seed, round, attempt), never from arrival.

A draw takes what it draws, whatever the number of members: a virtual population isn't copied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from wardround.common.config.load import Config
from wardround.common.joint.known import make_joint
from wardround.common.protocol.names import HELD_OUT
from wardround.common.rng import numpy_generator
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member

MOST_PREPARING, MOST_EVALUATED = 100, 1000
"""Clients of a virtual population that the preparation asks, and evaluations by default. The
first are few as each sends single messages: sums that scale inputs need no more."""


def draw_cohort(
    members: Sequence[Member], count: int | None, seed: int, server_round: int, attempt: int
) -> list[Member]:
    """``count`` of the members that train, without replacement (all if None or too few), ordered by
    name."""
    drawn = _drawn(training(members), count, seed, "cohort", server_round, attempt)
    return [member for member in drawn if member.trains]


def fewest_hospitals(config: Config) -> int:
    """The fewest hospitals that a round can be made of, by ``min_clients`` and, where masks are on,
    ``min_cohort``; where rounds are buffered, by ``buffer``. Of a joint procedure all parties."""
    if config.procedure.joint:
        return len(make_joint(config).parties)
    secure, federation = config.secure_aggregation, config.federation
    masked = secure.min_cohort if secure.enabled else 1
    return max(federation.min_clients, masked, federation.buffer or 1)


def largest_weight(config: Config, weighting: str, members: Sequence[Member]) -> int:
    """What a hospital's update counts for at most in a masked sum, for the whole run: it is in the
    plan that hospitals accept. Who joins later and is larger counts for that much."""
    table = config.secure_aggregation
    if not table.enabled or weighting != "examples":
        return 1
    # a cap above the largest hospital caps nothing, and would only coarsen the rounding
    largest = max(1, max(member.sizes["train"] for member in members))
    return min(table.max_examples or largest, largest)


def training(members: Sequence[Member]) -> Sequence[Member]:
    """The members that have rows to train on. A virtual population is as it is."""
    if isinstance(members, VirtualMembers):
        return members
    return [member for member in members if member.trains]


def here(members: Sequence[Member], gone: Collection[str]) -> Sequence[Member]:
    """Those who haven't left, as long as anybody is: who is merely away is asked, and waited
    for."""
    return ([one for one in members if one.name not in gone] if gone else None) or members


def preparing(members: Sequence[Member], config: Config) -> list[Member]:
    """Whom the federated preparation asks: all that train, or a sample of a virtual population."""
    if not isinstance(members, VirtualMembers):
        return list(training(members))
    return _drawn(members, MOST_PREPARING, config.federation.seed, "preparation")


def holding_out(members: Sequence[Member]) -> list[Member]:
    """Whom to ask for metric sums: those that have held-out rows."""
    return [member for member in members if any(member.sizes[split] for split in HELD_OUT)]


def splits_by_holders(members: Sequence[Member]) -> dict[frozenset[str], list[str]]:
    """The held-out splits by the names of the hospitals that have rows of them: a masked sum of a
    split is of these alone, for zeros of others would hide nothing."""
    found: dict[frozenset[str], list[str]] = {}
    for split in HELD_OUT:
        if having := frozenset(member.name for member in members if member.sizes[split]):
            found.setdefault(having, []).append(split)
    return found


def evaluated(members: Sequence[Member], config: Config) -> list[Member]:
    """Whom evaluations ask, of these members: the same in every round, so that figures of two
    rounds differ by the model alone."""
    count = config.evaluation.clients
    if count is None:
        if not isinstance(members, VirtualMembers):
            return list(members)
        count = MOST_EVALUATED
    return _drawn(members, count, config.federation.seed, "evaluation")


def _drawn(
    members: Sequence[Member], count: int | None, seed: int, purpose: str, *parts: int
) -> list[Member]:
    virtual = isinstance(members, VirtualMembers)
    ordered = members if virtual else sorted(members, key=lambda member: member.name)
    if count is None or count >= len(ordered):
        return list(ordered)
    generator = numpy_generator(seed, purpose, *parts)
    chosen = generator.choice(len(ordered), size=count, replace=False)
    return [ordered[index] for index in sorted(chosen.tolist())]
