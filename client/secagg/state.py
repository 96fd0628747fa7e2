"""What a hospital remembers of secure aggregation, and its own policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from wardround.client.secagg.contributions import Contributions
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.keys import KeyChain
from wardround.common.secagg.messages import OPEN_GROUPS
from wardround.common.trust.identity import digest

Values = dict[str, Any]
_SESSION, _GROUP, _RUN = "secagg-session", "secagg-group-", "secagg-run-"
_FORGET = (
    "move KIT/state/store away and restart the client (keys of open rounds and personal layers are "
    "then lost)"
)
SESSION_FORMAT = Format("secagg session", _FORGET)


def _without_judgement(values: Values) -> Values:
    """Version 2 has what a judgement is bound to."""
    return values | {"figured": [], "figured_models": [], "figured_whose": [], "judged": ""}


def _without_state(values: Values) -> Values:
    """Version 3 has how far a procedure's state has come."""
    return values | {"grown": [], "grown_sizes": [], "grown_digests": []}


RUN_FORMAT = Format(
    "record of what was contributed to a run", _FORGET, (_without_judgement, _without_state)
)


def _say_which_graph(values: Values) -> Values:
    """Version 2 has what the check of a survivor set needs. Of a k-regular group that was made
    before nobody knows it: ``check_ring`` refuses it."""
    return values | {"window": 0, "ring": b""}


def _say_who(values: Values) -> Values:
    """Version 3 has all members' names; of a group that was made before only neighbours' are known,
    and no judgement is opened of it."""
    return values | {"everyone": []}


GROUP_FORMAT = Format("secagg group", _FORGET, (_say_which_graph, _say_who))


class Store(Protocol):
    """What a client remembers between messages: flat records of numbers, text, bytes and lists."""

    def values(self, name: str) -> Values | None:
        """A record, or None."""

    def set_values(self, name: str, values: Values) -> None:
        """Replace a record."""

    def names(self, prefix: str) -> list[str]:
        """Names of the records that start so, oldest first."""

    def remove(self, name: str) -> None:
        """Forget a record."""


@dataclass(frozen=True)
class Policy:
    """What the hospital itself insists on, whatever the server asks.

    min_cohort : fewest hospitals whose sum may be opened
    colluding : hospitals that may collude with the server
    threads : for masks of large models
    threshold : the signed settings' share of a group whose shares open a sum; a group that asks
        for fewer isn't joined (the default is the least that the settings can say)
    """

    min_cohort: int = 3
    colluding: int = 0
    threads: int = 1
    threshold: float = 0.5


@dataclass
class Session:
    """The present session: its key for shares, and the next aggregation that may be prepared."""

    session: bytes
    exchange: bytes = field(repr=False)
    hello: bytes
    next_index: int = 0


@dataclass
class Group:
    """One group of hospitals and what this one has done in it.

    group : its name, 32 bytes
    transcript : digest of it with all members' keys; b"" until they are accepted
    first, count : the aggregations that its keys are for
    clients, threshold, survivors : n, t, and the fewest whose sum may be opened
    window : fewest survivors of so many places in a row on the ring as half of the neighbours
    ring : every member's position, in their order on the ring, two bytes each, the first one more
        significant; b"" where everyone is everyone's neighbour
    position : this hospital's, in the order of names; holders, names, exchanges : of its neighbours
    link, link_index : the key chain at the oldest aggregation that isn't over
    own_keys : digest of this hospital's bundle; public_keys : the neighbours' round keys
    uploaded, answered : the last aggregation that a vector, or shares, were given out for; or -1
    answered_request, answer : what was asked then, and the bytes that were given
    run, parts : of what the last vector was sent for: the run, and names of its sums
    everyone : names of all members, in their order
    """

    group: bytes
    first: int
    count: int
    clients: int
    threshold: int
    survivors: int
    window: int
    ring: bytes
    position: int
    holders: list[int]
    names: list[str]
    exchanges: list[bytes]
    link: bytes = field(repr=False)
    link_index: int
    own_keys: bytes = b""
    transcript: bytes = b""
    public_keys: list[bytes] = field(default_factory=list)
    uploaded: int = -1
    answered: int = -1
    answered_request: bytes = b""
    answer: bytes = field(default=b"", repr=False)
    run: str = ""
    parts: list[str] = field(default_factory=list)
    everyone: list[str] = field(default_factory=list)

    def whose(self, survivors: Sequence[int]) -> bytes:
        """Digest of the names of these members; empty where they aren't known."""
        if len(self.everyone) != self.clients:
            return b""
        names = sorted(self.everyone[place] for place in survivors)
        return digest("survivors", *(name.encode() for name in names))

    @property
    def limits(self) -> Thresholds:
        """Graph and thresholds."""
        degree = len(self.holders)
        return Thresholds(self.clients, degree, self.threshold, self.survivors, self.window)

    def chain_at(self, index: int) -> KeyChain:
        """The key chain at an aggregation that isn't over."""
        chain = KeyChain(self.link, self.link_index)
        chain.advance(index)
        return chain

    def forget_before(self, index: int) -> None:
        """Forget the keys of all earlier aggregations."""
        chain = self.chain_at(index)
        self.link, self.link_index = chain.link, chain.index


class Memory:
    """Sessions and groups in a ``Store``. Raises ProtocolRefused for what isn't there, or can't be
    read here."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, session: Session) -> None:
        """Remember a new session and forget everything of the old one."""
        for name in self._store.names(_GROUP):
            self._store.remove(name)
        self.save_session(session)

    def save_session(self, session: Session) -> None:
        """Replace the session's record."""
        self._store.set_values(_SESSION, SESSION_FORMAT.seal(vars(session)))

    def present(self) -> Session | None:
        """The present session, if there is one."""
        values = self._store.values(_SESSION)
        if values is None:
            return None
        return SESSION_FORMAT.make(Session, values, ProtocolRefused)

    def session(self, session: bytes) -> Session:
        """The present session, which must be this one."""
        present = self.present()
        if present is None or present.session != session:
            raise ProtocolRefused("this hospital has no part in that session; did it restart?")
        return present

    def of_group(self, group: Group) -> Session:
        """The session that a group belongs to: the present one, for older groups are forgotten."""
        present = self.present()
        assert present is not None
        return present

    def group(self, group: bytes) -> Group:
        """A group that this hospital made keys for."""
        values = self._store.values(_GROUP + group.hex())
        if values is None:
            raise ProtocolRefused("this hospital doesn't know that group; did it restart?")
        return GROUP_FORMAT.make(Group, values, ProtocolRefused)

    def save_group(self, group: Group) -> None:
        """Replace a group's record. Of many groups those that were used longest ago are forgotten,
        so a server that knows the order in which it used them knows which are left."""
        name = _GROUP + group.group.hex()
        if self._store.values(name) is not None:
            self._store.remove(name)  # it becomes the newest
        self._store.set_values(name, GROUP_FORMAT.seal(vars(group)))
        for name in self._store.names(_GROUP)[:-OPEN_GROUPS]:
            self._store.remove(name)

    def contributions(self, run: str) -> Contributions:
        """What this hospital has contributed to a run: nothing yet, if it isn't known."""
        stored = self._store.values(_run_record(run))
        if stored is None:
            return Contributions(run)
        try:
            return Contributions.of(RUN_FORMAT.read(stored, ProtocolRefused))
        except (KeyError, TypeError, ValueError):
            raise ProtocolRefused(
                f"the {RUN_FORMAT.name} is damaged", mend=RUN_FORMAT.mend
            ) from None

    def save_contributions(self, contributions: Contributions) -> None:
        """Replace a run's record. It outlives sessions, groups and other runs."""
        values = RUN_FORMAT.seal(contributions.values())
        self._store.set_values(_run_record(contributions.run), values)


def _run_record(run: str) -> str:
    return _RUN + digest("run", run.encode()).hex()
