"""Vectors of a group, added as they come: who is in the sum, and when it may be opened.

What is said here holds whether masks lie on the vectors (``sum.py``) or are emulated
(``emulated.py``): memory is one vector, whatever the number of clients; too few survivors, or too
few of some neighbours, open nothing; and of an opened sum the first exact coordinate says how many
are in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.encoding import COUNT, VectorLayout, decode_exact
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.ring import Limbs, RingVector, Words


class Phase(Enum):
    """Where an aggregation stands."""

    UPLOADING = auto()
    UNMASKING = auto()
    DONE = auto()


@dataclass(frozen=True)
class Total:
    """An opened sum.

    update : words of the update section, to be read as signed, in multiples of ``step``
    exact : numbers of the exact section
    survivors : names of who is in it, ordered
    largest_weight : what a hospital counts for at most
    limbs : the exact section as it was added
    context, clients : of the aggregation, and how many hospitals its group has
    blind_key : name of the hospitals' key whose masks are still on it; b"" where none are
    cipher : where updates are encrypted, their summed ciphertexts, to which ``update`` belongs
    """

    update: Words
    exact: NDArray[np.float64]
    survivors: list[str]
    step: float
    largest_weight: int
    limbs: Limbs
    context: bytes
    clients: int
    blind_key: bytes = b""
    cipher: memoryview | None = None


class SumGroup(Protocol):
    """Hospitals whose vectors are added.

    names : ordered; a position is a place in them
    accepted : names of those that may upload
    """

    id: bytes
    names: list[str]
    limits: Thresholds
    accepted: set[str]

    def gap(self, survivors: Collection[int]) -> str:
        """What is wrong with the places of these survivors; "" if nothing."""


class RingSum(ABC):
    """One aggregation of a group.

    Parameters
    ----------
    task : what every client is asked
    layout : of the vector
    vector : zeros, of the task's ring and the layout's sizes

    Attributes
    ----------
    answers : what helps to open it, by the name of who gave it
    liars : names of those whose help was false
    """

    def __init__(
        self, group: SumGroup, task: wire.TaskRequest, layout: VectorLayout, vector: RingVector
    ) -> None:
        self.members, self.task, self.layout = group, task, layout
        self.encoding = task.encoding(len(group.names))
        self.phase, self.survivors = Phase.UPLOADING, set[int]()
        self.answers: dict[str, bytes] = {}
        self.liars: set[str] = set()
        self._vector = vector
        self._positions = {name: position for position, name in enumerate(group.names)}

    @property
    def vector(self) -> RingVector:
        """The sum so far, masked or not; the plain one once it is opened."""
        return self._vector

    def add_upload(self, name: str, header: bytes, vector: bytes | memoryview) -> None:
        """Add a member's vector to the sum; nothing else of it is kept."""
        self.expect(Phase.UPLOADING, "its upload came after the survivor set was fixed")
        upload = wire.Upload.from_bytes(header)
        if (upload.group, upload.index) != (self.members.id, self.task.index):
            raise ProtocolRefused("its upload is of another aggregation")
        position = self.position(upload.name, name)
        if position in self.survivors:
            raise ProtocolRefused("it uploaded twice")
        self._vector.add_bytes(vector)
        self.survivors.add(position)

    def fix_survivors(self) -> tuple[int, ...]:
        """The survivor set, from now on for good, in order.

        Raises RoundFailed if too few have uploaded, or too few of some neighbours: nothing can be
        opened then, and no hospital would help.
        """
        self.expect(Phase.UPLOADING, "the survivor set is fixed already")
        least, names = self.members.limits.survivors, self.members.names
        if len(self.survivors) < least:
            raise RoundFailed(
                f"{len(self.survivors)} of {len(names)} hospitals uploaded, and a sum "
                f"of fewer than {least} is not opened"
            )
        if gap := self.members.gap(self.survivors):
            raise RoundFailed(f"too few hospitals uploaded: {gap}")
        self.phase = Phase.UNMASKING
        return tuple(sorted(self.survivors))

    @abstractmethod
    def unmask_requests(self) -> Mapping[str, bytes]:
        """Fix the survivor set, and what each survivor is asked to open it, by name. Raises
        RoundFailed as ``fix_survivors``."""

    @abstractmethod
    def add_shares(self, name: str, data: bytes) -> None:
        """Keep what a survivor gives to open it."""

    @abstractmethod
    def enough(self) -> bool:
        """Whether it can be opened by what was given."""

    @abstractmethod
    def open(self) -> Total:
        """The sum. Raises RoundFailed where what was given isn't enough, or false."""

    def opened(self, otherwise: str) -> Total:
        """The plain vector as a total; ``otherwise``: what is wrong if it doesn't count its
        survivors. Raises RoundFailed."""
        self.phase = Phase.DONE
        exact = decode_exact(self._vector.exact)
        if self.layout.exact_arrays(exact)[COUNT][0] != len(self.survivors):
            raise RoundFailed(otherwise)
        return Total(
            self._vector.update,
            exact,
            self.survivor_names(),
            self.encoding.step,
            self.task.largest_weight,
            self._vector.exact,
            b"",
            len(self.members.names),
        )

    def survivor_names(self) -> list[str]:
        """In their order."""
        return [self.members.names[position] for position in sorted(self.survivors)]

    def position(self, claimed: str, name: str) -> int:
        """A member's place. Raises ProtocolRefused for somebody else."""
        if claimed != name:
            raise ProtocolRefused(f"its message is that of '{claimed[:64]}'")
        if name not in self.members.accepted:
            raise ProtocolRefused("it is not in the group of this aggregation")
        return self._positions[name]

    def expect(self, phase: Phase, otherwise: str) -> None:
        """Raise ProtocolRefused in another phase."""
        if self.phase is not phase:
            raise ProtocolRefused(otherwise)
