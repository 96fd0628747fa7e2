"""The server's side of secure aggregation, as state machines without any transport.

    SecureSession: hellos    ->  KeyGroup: bundles -> accepted -> ready
                                 MaskedSum: uploading -> unmasking -> done, for each aggregation

The server forwards what clients have signed and encrypted for each other, adds up masked vectors as
they arrive, and learns from the shares of t holders what to subtract from the sum. Memory is one
vector, whatever the number of clients. Whatever a client sends is checked; ProtocolRefused says
what was wrong with it, RoundFailed that too few are left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.ckks import CipherVector, Parameters
from wardround.common.secagg.context import (
    aggregation_context,
    pair_seeds,
    pair_sign,
    self_seeds,
)
from wardround.common.secagg.encoding import COUNT, VectorLayout, decode_exact
from wardround.common.secagg.keys import SHARE_BYTES, ExchangeKey, commitment, to_number
from wardround.common.secagg.ring import Limbs, MaskSeeds, RingVector, Words
from wardround.common.secagg.shamir import PRIME
from wardround.common.trust.identity import KEY_BYTES
from wardround.server.secagg.key_groups import KeyGroup, SecureSession
from wardround.server.secagg.reconstruction import Reconstruction

__all__ = ["KeyGroup", "MaskedSum", "Phase", "SecureSession", "Total"]


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


class MaskedSum:
    """One aggregation of a group.

    Parameters
    ----------
    group : ready, with an aggregation left
    task : what every client is asked
    layout : of the vector
    content : digest of what every client was sent
    threads : to expand masks with
    blind_key : name of the hospitals' key that its vectors are masked by besides; b"" for none
    ckks : where updates come encrypted, in which ring
    """

    def __init__(
        self,
        group: KeyGroup,
        task: wire.TaskRequest,
        layout: VectorLayout,
        content: bytes,
        threads: int = 1,
        blind_key: bytes = b"",
        ckks: Parameters | None = None,
    ) -> None:
        self.blind_key = blind_key
        clients = len(group.names)
        self.group, self.task, self.layout, self.phase = group, task, layout, Phase.UPLOADING
        self.encoding = task.encoding(clients)
        self.survivors: set[int] = set()
        self.answers: dict[str, bytes] = {}
        self._context = aggregation_context(group.transcript, task, clients, layout, content)
        sizes = task.bits, layout.update_size, layout.exact_size
        self._vector = RingVector(*sizes) if ckks is None else CipherVector(*sizes, ckks)
        self._secrets = Reconstruction(group.names, group.parameters.threshold)
        self._shares, self.liars = self._secrets.shares, self._secrets.liars
        self._threads = threads

    @classmethod
    def restore(
        cls,
        group: KeyGroup,
        task: wire.TaskRequest,
        layout: VectorLayout,
        content: bytes,
        requests: Mapping[str, bytes],
        threads: int = 1,
        blind_key: bytes = b"",
        ckks: Parameters | None = None,
    ) -> MaskedSum:
        """An aggregation whose survivor set is fixed; its ``vector`` is still to be filled in.

        Parameters
        ----------
        requests : the UnmaskRequest of each survivor; they say who the survivors are

        Raises ProtocolRefused unless they are of this aggregation and agree.
        """
        masked = cls(group, task, layout, content, threads, blind_key, ckks)
        asked = {name: wire.UnmaskRequest.from_bytes(data) for name, data in requests.items()}
        sets = {(one.group, one.index, one.survivors) for one in asked.values()}
        survivors = next(iter(sets), (b"", 0, ()))[2]
        if sets != {(group.id, task.index, survivors)} or task.group != group.id:
            raise ProtocolRefused("the requests to unmask are not of one aggregation")
        if (
            max(survivors, default=0) >= len(group.names)
            or len(survivors) < group.parameters.survivors
            or group.gap(survivors)
        ):
            raise ProtocolRefused("the survivor set is not one of the group")
        if [group.names[position] for position in survivors] != sorted(asked):
            raise ProtocolRefused("the requests to unmask are not one for each survivor")
        masked.survivors, masked.phase = set(survivors), Phase.UNMASKING
        return masked

    @property
    def vector(self) -> RingVector:
        """The masked sum; it holds the plain one once it is opened."""
        return self._vector

    # --- uploads -----------------------------------------------------------------------------
    def add_upload(self, name: str, header: bytes, vector: bytes | memoryview) -> None:
        """Add a member's masked vector to the sum; nothing else of it is kept."""
        self._expect(Phase.UPLOADING, "its upload came after the survivor set was fixed")
        upload = wire.Upload.from_bytes(header)
        if (upload.group, upload.index) != (self.group.id, self.task.index):
            raise ProtocolRefused("its upload is of another aggregation")
        position = self._member(upload.name, name)
        if position in self.survivors:
            raise ProtocolRefused("it uploaded twice")
        self._vector.add_bytes(vector)
        self.survivors.add(position)

    def unmask_requests(self) -> dict[str, bytes]:
        """Fix the survivor set, for good, and ask each survivor for its shares.

        Raises RoundFailed if too few have uploaded, or too few of some neighbours: nothing can be
        opened then, and no hospital would help.
        """
        self._expect(Phase.UPLOADING, "the survivor set is fixed already")
        least = self.group.parameters.survivors
        if len(self.survivors) < least:
            raise RoundFailed(
                f"{len(self.survivors)} of {len(self.group.names)} hospitals uploaded, and a sum "
                f"of fewer than {least} is not opened"
            )
        if gap := self.group.gap(self.survivors):
            raise RoundFailed(f"too few hospitals uploaded: {gap}")
        self.phase = Phase.UNMASKING
        survivors = tuple(sorted(self.survivors))
        offset = SHARE_BYTES * (self.task.index - self.group.parameters.first)
        requests = {}
        for position in survivors:
            ciphertexts = []
            for sender in self.group.neighbours[position]:
                place = self.group.neighbours[sender].index(position)
                sealed = self.group.bundles[self.group.names[sender]].ciphertexts[place]
                ciphertexts.append(sealed[offset : offset + SHARE_BYTES])
            requests[self.group.names[position]] = wire.UnmaskRequest(
                self.group.id, self.task.index, survivors, tuple(ciphertexts)
            ).to_bytes()
        return requests

    # --- shares ------------------------------------------------------------------------------
    def add_shares(self, name: str, data: bytes) -> None:
        """Keep a survivor's shares."""
        self._expect(Phase.UNMASKING, "its shares came out of turn")
        shares = wire.Shares.from_bytes(data)
        if (shares.group, shares.index) != (self.group.id, self.task.index):
            raise ProtocolRefused("its shares are of another aggregation")
        position = self._member(shares.name, name)
        if position not in self.survivors:
            raise ProtocolRefused("it sent shares but did not upload")
        owners = sorted([*self.group.neighbours[position], position])
        if len(shares.shares) != len(owners):
            raise ProtocolRefused("its shares are not one for each neighbour")
        # 32 bytes may be a number beyond the prime: a second way to write another share
        if any(to_number(share) >= PRIME for share in shares.shares):
            raise ProtocolRefused("a share is out of range")
        for owner, share in zip(owners, shares.shares, strict=True):
            if share:  # an empty one: its sender encrypted something else than shares
                self._secrets.add(owner, position, to_number(share))
        self.answers[name] = data

    def enough(self) -> bool:
        """Whether every secret that is needed has its threshold of shares."""
        return all(self._secrets.enough(owner) for owner in self._needed())

    def open(self) -> Total:
        """Rebuild the secrets, subtract the masks, and give the sum.

        Raises RoundFailed if shares are missing or false, or if the masks don't cancel.
        """
        self._expect(Phase.UNMASKING, "there is nothing to open")
        self._vector.add_masks(self._masks_left(), self._threads)
        self.phase = Phase.DONE
        exact = decode_exact(self._vector.exact)
        # each upload has a 1 here, which any mask that is left over makes a random number
        count = self.layout.exact_arrays(exact)[COUNT][0]
        if count != len(self.survivors):
            raise RoundFailed(
                "the masks don't cancel: a hospital was shown another model, group or setting than "
                "the others, or sent something else than a masked vector"
            )
        names = [self.group.names[position] for position in sorted(self.survivors)]
        return Total(
            self._vector.update,
            exact,
            names,
            self.encoding.step,
            self.task.largest_weight,
            self._vector.exact,
            self._context,
            len(self.group.names),
            self.blind_key,
            self._vector.cipher.data() if isinstance(self._vector, CipherVector) else None,
        )

    def _needed(self) -> Iterator[int]:
        """Survivors, and the others that have a surviving neighbour: the first ones' self masks and
        the second ones' pair masks are what the sum still holds."""
        for position in range(len(self.group.names)):
            near = self.group.neighbours[position]
            if position in self.survivors or not self.survivors.isdisjoint(near):
                yield position

    def _masks_left(self) -> list[tuple[MaskSeeds, int]]:
        """What survivors' masks leave in the sum, with the sign that removes it.

        Of two survivors the pair masks cancel. A survivor's self mask was added, so it is taken
        away; a survivor's mask with somebody who sent nothing stands there alone with the
        survivor's own sign. That somebody's round key is what shares give.
        """
        masks = []
        for position in self._needed():
            if position in self.survivors:
                secret = self._secrets.rebuild(position, self._is_self_mask)
                masks.append((self_seeds(secret, self._context), -1))
                continue
            key = ExchangeKey(self._secrets.rebuild(position, self._is_round_key))
            for other in self.group.neighbours[position]:
                if other in self.survivors:
                    shared = key.shared(self._public_key(other))
                    seeds = pair_seeds(shared, self._context)
                    masks.append((seeds, -pair_sign(other, position)))
        return masks

    def _is_self_mask(self, position: int, secret: bytes) -> bool:
        name = self.group.names[position]
        expected = commitment(self.group.id, name, self.task.index, secret)
        return self._slice(self.group.bundles[name].keys.commitments) == expected

    def _is_round_key(self, position: int, secret: bytes) -> bool:
        return ExchangeKey(secret).public == self._public_key(position)

    def _public_key(self, position: int) -> bytes:
        return self._slice(self.group.bundles[self.group.names[position]].keys.public_keys)

    def _slice(self, block: bytes) -> bytes:
        offset = KEY_BYTES * (self.task.index - self.group.parameters.first)
        return block[offset : offset + KEY_BYTES]

    def _member(self, claimed: str, name: str) -> int:
        if claimed != name:
            raise ProtocolRefused(f"its message is that of '{claimed[:64]}'")
        if name not in self.group.accepted:
            raise ProtocolRefused("it is not in the group of this aggregation")
        return self.group.names.index(name)

    def _expect(self, phase: Phase, otherwise: str) -> None:
        if self.phase is not phase:
            raise ProtocolRefused(otherwise)
