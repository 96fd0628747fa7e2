"""Whom a round may ask, by what is known of their privacy budgets and failures."""

from __future__ import annotations

from collections.abc import Sequence

from wardround.common.config.load import Config
from wardround.server.members.member import Member
from wardround.server.members.sampling import fewest_hospitals, training
from wardround.server.rounds.ends import BudgetsSpent
from wardround.server.rounds.participants import Participants

_LIMIT = (
    "privacy.epsilon must fit into what is left of a hospital's limit over all its runs: "
    "max_epsilon_total of its site.toml, else privacy.epsilon_limit, else privacy.epsilon itself"
)


def able(participants: Participants, config: Config) -> Sequence[Member]:
    """Members whose privacy budget allows a round, and who haven't stopped. Raises BudgetsSpent if
    too few."""
    if (reason := budgets_spent(participants, config)) is not None:
        raise BudgetsSpent(reason)
    members, budgets = training(participants.members), participants.budgets
    out = budgets.spent | budgets.stopped
    return [member for member in members if member.name not in out] if out else members


def budgets_spent(participants: Participants, config: Config) -> str | None:
    """Why no further round can be made; None where one can."""
    spent, stopped = participants.budgets.spent, participants.budgets.stopped
    if not (out := spent | stopped):
        return None
    members = training(participants.members)
    count = sum(member.name not in out for member in members)
    needed = fewest_hospitals(config)
    if count >= needed:
        return None
    if stopped:
        return (
            f"{', '.join(sorted(stopped))} stopped taking part after failures, {count} of "
            f"{len(members)} hospitals are left, and a round needs {needed}; a person there "
            "must look: `wardround client resume KIT`"
        )
    return (
        f"{len(spent)} of {len(members)} hospitals have spent their privacy budget, and a "
        f"round needs {needed}; {_LIMIT}"
    )
