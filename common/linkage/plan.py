"""What of a linkage follows from its settings: who asks whom in which step, and how much.

The parties stand in a ring, in the order of their names. A list is named by its owner, the party
whose rows it is of. It goes round the ring from its owner on, and back the same way.

    step 0               each party sends its own list on, and its length to everybody
    steps 1 to h         each multiplies the list that came, and sends it on; in the last one the
                         first 12 bytes of each token, to whoever compares
    step h + 1           who compares tells each party which tokens of the last list that it sent
    steps h + 2 on       each says in which places of the list as it came these stood, and sends
                         them back; in step 2h + 2 each has those of its own list

Of k >= 3 parties h = k: a list comes back to its owner, who sends it to be compared. Of two h = 1:
the other one does.
"""

from __future__ import annotations

from dataclasses import dataclass

from wardround.common.errors import JointRefused
from wardround.common.joint.party import COORDINATOR, FEWEST_PARTIES
from wardround.common.linkage.points import TOKEN_BYTES

LENGTH_BYTES = PLACE_BYTES = 4
ORDER_BYTES = 32


@dataclass(frozen=True)
class Plan:
    """A linkage as its settings have it.

    parties : 2 to 5 names, ordered
    compare : COORDINATOR or one of them: who is shown the tokens under all secrets
    smallest : fewest persons that may be linked
    padded : lengths of lists are multiples of this
    most_rows : of a party
    """

    parties: tuple[str, ...]
    compare: str
    smallest: int
    padded: int
    most_rows: int

    @property
    def count(self) -> int:
        """k, the number of parties."""
        return len(self.parties)

    @property
    def hops(self) -> int:
        """h, the number of times that each list is passed on."""
        return 1 if self.count == FEWEST_PARTIES else self.count

    @property
    def steps(self) -> int:
        """Of a run."""
        return 2 * self.hops + 3

    def last_sent(self, name: str) -> str:
        """Whose list a party sends to be compared."""
        return self.after(name, -self.hops)

    @property
    def longest(self) -> int:
        """The longest list."""
        return self.length(self.most_rows)

    @property
    def letter_bytes(self) -> int:
        """The most bytes of a letter."""
        return max(ORDER_BYTES, LENGTH_BYTES + TOKEN_BYTES * self.longest)

    def length(self, rows: int) -> int:
        """Tokens in the list of a party with so many rows: padded, and never none."""
        return max(1, -(-rows // self.padded)) * self.padded

    def places_bytes(self, shortest: int) -> int:
        """Of a letter that names places: as long for one person as for all of the shortest list."""
        return LENGTH_BYTES + PLACE_BYTES * shortest

    def after(self, name: str, steps: int = 1) -> str:
        """Who stands so many places further in the ring."""
        return self.parties[(self.parties.index(name) + steps) % self.count]

    def check_length(self, length: int) -> None:
        """Raise JointRefused unless a list may be so long."""
        if length % self.padded or not self.padded <= length <= self.longest:
            raise JointRefused("a party's list is not as long as the plan lets lists be")


def check_senders(came: set[str], expected: set[str]) -> None:
    """Raise JointRefused unless exactly those have written who should."""
    if came != expected:
        raise JointRefused("a party of the linkage wrote out of turn, or not at all")


def everybody(plan: Plan) -> tuple[str, ...]:
    """All who are told lengths: the parties, and whoever compares."""
    return plan.parties if plan.compare != COORDINATOR else (*plan.parties, COORDINATOR)
