"""What a federation is told by its host, and the host by it: who may be asked, and when to wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wardround.common.errors import NobodyContributed, RoundFailed
from wardround.server.gathering.gatherer import Expected
from wardround.server.members.member import Member


@dataclass(frozen=True)
class KnownModel:
    """What is known once the model is, for the plan that hospitals accept.

    expected : what a training reply holds
    first_model : digest (hexadecimal) of the shared arrays that round 1 trains from
    """

    expected: Expected
    first_model: str


def first_ready(here_s: Mapping[str, float], count: int) -> list[str] | None:
    """The first ``count``, by when their updates came; None where there aren't so many."""
    return sorted(here_s, key=lambda name: here_s[name])[:count] if len(here_s) >= count else None


@dataclass(frozen=True)
class Host:
    """The host of a federation.

    Parameters
    ----------
    on_model : is told, before the first round, what hospitals will be asked to send
    wait_ready : returns when enough hospitals can be asked; called before every attempt at a step.
        True: the others are waited for, too, as long as the host's settings say
    standing : gives something that changes when hospitals were told of another membership or other
        settings, so that what they had accepted is over
    departures : counts the requests that weren't answered as a hospital had left, or withdrawn
    gone : names of those who can't be asked now by such a decision of their own
    present : of members that could train, those that a cohort may be drawn from now
    on_members : is told who was found to take part, before more of them are waited for
    due : of hospitals that are told to train in a round: when each one's update will be here, by
        the host's own clock; with when each was to be done with what it was told before, where that
        was given up. None: its clock is when answers come
    first : of kept updates, by when each was or will be here, in the order that decides where that
        is the same: who are the first so many that are here together. None: not so many yet.
        Raises RoundFailed where there never will be
    go_on : how a run that stopped goes on, as the end of a sentence
    anew : how another run is begun, the same
    """

    on_model: Callable[[KnownModel], None] = lambda known: None
    wait_ready: Callable[[bool], None] = lambda everyone: None
    standing: Callable[[], object] = lambda: None
    departures: Callable[[], int] = lambda: 0
    gone: Callable[[], Collection[str]] = frozenset
    present: Callable[[Sequence[Member]], Sequence[Member]] = lambda members: members
    due: Callable[[int, Mapping[str, float]], Mapping[str, float] | None] = lambda *told: None
    first: Callable[[Mapping[str, float], int], list[str] | None] = first_ready
    on_members: Callable[[Sequence[Member]], None] = lambda members: None
    go_on: str = "go on with the same run directory"
    anew: str = "begin another run"


class Attempts:
    """Attempts at a step, numbered, until ``most`` have failed by themselves.

    One during which a hospital was revoked, added or renewed, or that lacked an answer of one that
    had left, isn't counted: what people may do at any time must not end a run.
    """

    def __init__(self, most: int, host: Host, first: int = 1) -> None:
        self.number, self._left, self._host = first, max(1, most - first + 1), host
        self._begun = self._now()

    def __iter__(self) -> Iterator[int]:
        while True:
            self._begun = self._now()
            yield self.number
            self.number += 1

    @property
    def disturbed(self) -> bool:
        """Whether people have changed something since the present attempt began."""
        return self._now() != self._begun

    def _now(self) -> tuple[object, int]:
        return self._host.standing(), self._host.departures()

    def another(self) -> bool:
        """After a failure: whether there is another attempt. To be asked once for each failure,
        before the next begins: it counts."""
        self._left -= not self.disturbed
        return self._left > 0


def given_up(
    error: RoundFailed, server_round: int, attempts: int, kept: int, host: Host
) -> RoundFailed:
    """The error of a round that isn't tried again: what happened, which round's model is left, and
    whether this run can go on.

    kept : the last round that counts
    """
    tries = f"{attempts} attempt{'s' if attempts != 1 else ''}"
    what = f"round {server_round} failed after {tries}: {error}; round {kept} is kept; "
    if isinstance(error, NobodyContributed):
        what += f"this run would come to the same again: change settings or data, and {host.anew}"
        return NobodyContributed(what)
    return RoundFailed(f"{what}{host.go_on}")
