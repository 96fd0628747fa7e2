"""Who takes part now, and what rests on it: the gatherer with its keys, the plan of privacy.

Looked at before every attempt of every step. When members or their keys are others than before,
gatherer and plan are made anew; whose privacy budget is spent is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from wardround.common.errors import ConfigError, DataError, RoundFailed
from wardround.common.flower.hosting import Grid, HostGrid
from wardround.server.gathering.cohorts import CohortGatherer, asks_cohorts
from wardround.server.gathering.gatherer import Budgets, Gatherer, RunSettings
from wardround.server.gathering.messenger import Messenger
from wardround.server.gathering.plain import PlainGatherer
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.members.sampling import fewest_hospitals, training
from wardround.server.privacy.round import PrivacyPlan
from wardround.server.rounds.membership import Membership
from wardround.server.rounds.parts import FederationParts
from wardround.server.secagg.emulated import EmulatedGroups
from wardround.server.secagg.gatherer import SecureGatherer
from wardround.server.secagg.handing import HandingOver
from wardround.server.secagg.journal import Journal
from wardround.server.secagg.key_deal import KeyDeal
from wardround.server.secagg.key_exchange import KeyExchange
from wardround.server.secagg.messenger import SecureMessenger
from wardround.server.secagg.sum_runner import SumRunner
from wardround.server.secagg.together import EmulatedGatherer, EmulatedRunner


class Participants:
    """The members of a running federation.

    Attributes
    ----------
    gatherer : asks the present members
    budgets : whose privacy budget is spent
    at_work : gives the names of those who train and answer nothing until that is done
    """

    def __init__(
        self, parts: FederationParts, *, grid: Grid, settings: RunSettings, journal: Journal
    ) -> None:
        self._parts, self._config, self._grid = parts, parts.config, grid
        self._settings, self._journal = settings, journal
        self.budgets = Budgets()
        self.at_work: Callable[[], Collection[str]] = frozenset
        self._membership = Membership(
            grid=grid,
            config=parts.config,
            observer=parts.observer,
            roster=parts.roster,
            host=parts.host,
        )
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
        # it stays so until a gatherer could be made: an attempt that fails must not hide the change
        self._stale |= self._membership.changed()
        if not self._stale:
            return
        self._record()
        try:
            self.gatherer = self._make_gatherer()
        except ConfigError as error:  # the settings were good for the members that there were
            raise RoundFailed(error.what) from None  # who left is no reason to protect less
        self._privacy, self._stale = None, False

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Go on without hospitals that can't take part with the others, and say why.

        Raises DataError if too few are left.
        """
        needed = fewest_hospitals(self._config)
        if isinstance(self.members, VirtualMembers):
            left = 0  # they are all of one make: what one lacks, others may lack as well
        else:
            self._membership.leave_out(reasons)
            left = len(training(self.members))
        if left < needed:
            name, why = next(iter(reasons.items()))
            raise DataError(f"{why} (without it {left} hospitals are left, of {needed})", who=name)
        lines = [f"{name} takes no part: {why}" for name, why in reasons.items()]
        self._parts.observer.warnings(lines)
        self._parts.run_directory.update(unfit=dict(reasons))
        self._stale = True
        self.look_again()

    @property
    def privacy(self) -> PrivacyPlan | None:
        """What the members release in a private run."""
        if self._privacy is None and self._config.privacy.enabled:
            self._check_known("privacy")
            name = self._parts.run_directory.path.name
            self._privacy = PrivacyPlan(
                self._config, self.members, self._membership.roster, name, self._parts.make_source
            )
        return self._privacy

    def _make_gatherer(self) -> Gatherer:
        settings = self._settings
        messenger = Messenger(
            grid=self._grid,
            timeout_s=self._config.federation.round_timeout_s,
            observer=self._parts.observer,
        )
        if self._config.secure_aggregation.enabled:
            if isinstance(self._grid, HostGrid) and self._grid.emulates_masks:
                return self._make_emulated(SecureMessenger(messenger, self.budgets), self._grid)
            return self._make_secure_gatherer(SecureMessenger(messenger, self.budgets))
        if asks_cohorts(self._grid, settings):
            return CohortGatherer(settings, messenger, self.budgets)
        return PlainGatherer(settings, messenger, self.budgets)

    def _make_secure_gatherer(self, messenger: SecureMessenger) -> SecureGatherer:
        self._check_known("secure aggregation")
        settings, members, host = self._settings, self.members, self._parts.host
        keys = KeyExchange(
            settings=settings,
            messenger=messenger,
            roster=self._membership.roster,
            members=members,
            journal=self._journal,
        )
        self._journal.open(keys.session_of)
        deal = KeyDeal(keys, messenger)
        runner = SumRunner(
            settings=settings,
            messenger=messenger,
            budgets=self.budgets,
            keys=keys,
            deal=deal,
            journal=self._journal,
            host=host,
        )
        handing = HandingOver(messenger, deal, members)
        return SecureGatherer(
            settings=settings, messenger=messenger, runner=runner, handing=handing, host=host
        )

    def _make_emulated(self, messenger: SecureMessenger, grid: HostGrid) -> EmulatedGatherer:
        settings, host = self._settings, self._parts.host
        groups = EmulatedGroups(self._config, self.members, len(training(self.members)))
        runner = EmulatedRunner(
            settings=settings,
            messenger=messenger,
            budgets=self.budgets,
            groups=groups,
            journal=self._journal,
            host=host,
            grid=grid,
        )
        together = asks_cohorts(grid, settings)
        return EmulatedGatherer(
            settings=settings, messenger=messenger, runner=runner, host=host, together=together
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
        self._parts.run_directory.update(
            name=self._parts.run_directory.summary().get("name") or self._config.federation.name,
            status="running",
            **self._parts.task.figure_table().record(),
            strategy=self._config.strategy.name,
            **who,
        )
