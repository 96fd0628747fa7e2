"""Who compares: lists under the secrets of all parties, and places to each.

It is shown 12 bytes of each token. It learns the padded length of each list, and how many persons
any group of parties have in common, not only all; and no person, since each token is under every
party's secret. It says «too few», or
how many are linked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.joint.party import Me, Party, State, Turn
from wardround.common.linkage import places
from wardround.common.linkage.plan import LENGTH_BYTES, Plan, check_senders
from wardround.common.linkage.tokens import TAG_BYTES, ascending, common, tokens_of
from wardround.common.trust.identity import digest


def compared(
    plan: Plan, session: bytes, lists: Mapping[str, bytes], lengths: Mapping[str, int]
) -> dict[str, bytes]:
    """Letters to all parties: what stands for the order, and marks in the list that the party sent
    last.

    lists : tags, by who sent them
    lengths : by owner

    Raises JointRefused: a list that isn't one, or too few persons.
    """
    tokens = []
    for name in plan.parties:
        if len(lists[name]) != TAG_BYTES * lengths[plan.last_sent(name)]:
            raise JointRefused("a list lost tokens on its way, or gained some")
        tokens.append(tokens_of(lists[name], TAG_BYTES))
        if not ascending(tokens[-1]):
            raise JointRefused("a list is not sorted, or has a token twice")
    found, where = common(tokens)
    if len(found) < plan.smallest:
        raise JointRefused(places.TOO_FEW)
    order = digest("linkage order", session, found.tobytes())
    return {
        name: places.marked(order, one, lengths[plan.last_sent(name)])
        for name, one in zip(plan.parties, where, strict=True)
    }


def read_length(plan: Plan, letter: bytes) -> int:
    """The length of a list that its owner announces. Raises JointRefused."""
    length = int.from_bytes(letter[:LENGTH_BYTES], "big")
    if len(letter) < LENGTH_BYTES:
        raise JointRefused("a party's list is not as long as the plan lets lists be")
    plan.check_length(length)
    return length


class Comparer(Party):
    """The coordinator, where it compares. It has no secret in this."""

    def __init__(self, plan: Plan, me: Me) -> None:
        self._plan, self._session = plan, me.session
        self._lengths: NDArray[np.int64] = (me.state or {}).get("lengths", np.zeros(0, np.int64))

    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        """Step 1 brings lengths, step h + 1 lists; after it there is nothing to do."""
        plan, last = self._plan, self._plan.hops + 1
        check_senders(set(letters), set(plan.parties) if number in (1, last) else set())
        if number == 1:
            found = [read_length(plan, letters[name]) for name in plan.parties]
            if any(len(letter) != LENGTH_BYTES for letter in letters.values()):
                raise JointRefused("a party of the linkage wrote out of turn, or not at all")
            self._lengths = np.array(found, np.int64)
        if number == last:
            lengths = dict(zip(plan.parties, self._lengths.tolist(), strict=True))
            return Turn(compared(plan, self._session, letters, lengths))
        return Turn(over=number > last)

    def state(self) -> State:
        """The lengths that were announced."""
        return {"lengths": self._lengths}
