"""Who takes part now, and what rests on it: the gatherer with its keys, the plan of privacy.

Looked at before every attempt of every step. When members or their keys are others than before,
gatherer and plan are made anew; whose privacy budget is spent is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flwr.serverapp import Grid

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError, DataError, RoundFailed
from wardround.common.run.directory import RunDirectory
from wardround.common.tasks.base import Task
from wardround.common.trust.identity import Roster
from wardround.server.gathering.groups import GroupGatherer, may_group
from wardround.server.gathering.host import Host
from wardround.server.gathering.plain import Gatherer, PlainGatherer
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.members.sampling import training
from wardround.server.observer import Observer
from wardround.server.privacy.round import MakeSource, PrivacyPlan
from wardround.server.rounds.membership import Membership
from wardround.server.secagg.gatherer import SecureGatherer
from wardround.server.secagg.journal import Journal
from wardround.server.strategies import StrategyPlan


class Crew:
    """The members of a running federation.

    Parameters
    ----------
    roster : names and public keys; may be a live view
    make_source : gives a round's source of central noise; the operating system's if None
    """

    def __init__(
        self,
        grid: Grid,
        config: Config,
        task: Task[Any],
        plan: StrategyPlan,
        run: RunDirectory,
        observer: Observer,
        host: Host,
        roster: Roster,
        journal: Journal,
        make_source: MakeSource | None,
    ) -> None:
        self._grid, self._config, self._task, self._plan = grid, config, task, plan
        self._run, self._observer, self._host = run, observer, host
        self._journal, self._make_source = journal, make_source
        self._membership = Membership(grid, config, observer, roster, host)
        self._record()
        self.gatherer = self._make_gatherer()
        self._privacy: PrivacyPlan | None = None
        self._stale = False

    @property
    def members(self) -> Sequence[Member]:
        """Ordered by name."""
        return self._membership.members

    def look_again(self) -> None:
        """Take in who came, who left, and whose keys are others.

        Raises RoundFailed if those who are left can't run a round.
        """
        self._stale |= self._membership.changed()
        if not self._stale:
            return
        self._record()
        spent = self.gatherer.spent
        try:
            self.gatherer = self._make_gatherer()
        except ConfigError as error:  # the settings were good for the members that there were
            raise RoundFailed(error.what) from None  # who left is no reason to protect less
        self.gatherer.spent |= spent
        self._privacy, self._stale = None, False

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Go on without hospitals that can't take part with the others, and say why.

        Raises DataError if too few are left.
        """
        secure = self._config.secure_aggregation
        needed = max(
            self._config.federation.min_clients, secure.min_cohort if secure.enabled else 1
        )
        if isinstance(self.members, VirtualMembers):
            left = 0  # they are all of one make: what one lacks, others may lack as well
        else:
            self._membership.leave_out(reasons)
            left = len(training(self.members))
        if left < needed:
            name, why = next(iter(reasons.items()))
            raise DataError(f"{why} (without it {left} hospitals are left, of {needed})", who=name)
        self._observer.warnings([f"{name} takes no part: {why}" for name, why in reasons.items()])
        self._run.update(unfit=dict(reasons))
        self._stale = True
        self.look_again()

    @property
    def privacy(self) -> PrivacyPlan | None:
        """What the members release in a private run."""
        if self._privacy is None and self._config.privacy.enabled:
            self._check_known("privacy")
            name = self._run.path.name
            self._privacy = PrivacyPlan(
                self._config, self.members, self._membership.roster, name, self._make_source
            )
        return self._privacy

    def _make_gatherer(self) -> Gatherer:
        common = (self._grid, self._config, self._task, self._plan, self._observer)
        if not self._config.secure_aggregation.enabled:
            grouped = may_group(self._grid, self._config, self._plan)
            return (GroupGatherer if grouped else PlainGatherer)(*common)
        self._check_known("secure aggregation")
        return SecureGatherer(
            *common, self._membership.roster, self.members, self._journal, self._host
        )

    def _check_known(self, what: str) -> None:
        unknown = next(
            (x.name for x in self.members if x.name not in self._membership.roster), None
        )
        if unknown is not None:
            raise RoundFailed(
                f"{unknown} is not in the roster: {what} needs every hospital's public key"
            )

    def _record(self) -> None:
        members = self.members
        if isinstance(members, VirtualMembers):
            sizes = dict(members.same_sizes or {})
            device = {"device": self._config.training.device}
            who: dict[str, Any] = {"population": {"clients": len(members), **sizes, **device}}
        else:
            rows = [
                {"hospital": x.name, **x.sizes, "warnings": x.warnings}
                | ({"device": x.device} if x.device else {})
                for x in members
            ]
            refused = self._membership.refused.items()
            absent = [{"hospital": name, "reason": reason} for name, reason in refused]
            who = {"hospitals": rows, "absent": absent}
        self._run.update(
            name=self._config.federation.name,
            status="running",
            **self._task.figure_table().record(),
            strategy=self._config.strategy.name,
            **who,
        )
