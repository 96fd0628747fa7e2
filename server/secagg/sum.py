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
from dataclasses import replace

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.ckks import CipherVector, Parameters
from wardround.common.secagg.context import (
    aggregation_context,
    pair_seeds,
    pair_sign,
    self_seeds,
)
from wardround.common.secagg.encoding import VectorLayout
from wardround.common.secagg.keys import SHARE_BYTES, ExchangeKey, commitment, to_number
from wardround.common.secagg.ring import MaskSeeds, RingVector
from wardround.common.secagg.shamir import PRIME
from wardround.common.trust.identity import KEY_BYTES
from wardround.server.secagg.key_groups import KeyGroup, SecureSession
from wardround.server.secagg.reconstruction import Reconstruction
from wardround.server.secagg.ring_sum import Phase, RingSum, Total

__all__ = ["KeyGroup", "MaskedSum", "Phase", "SecureSession", "Total"]


class MaskedSum(RingSum):
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
        sizes = task.bits, layout.update_size, layout.exact_size
        vector = RingVector(*sizes) if ckks is None else CipherVector(*sizes, ckks)
        super().__init__(group, task, layout, vector)
        self.group, self.blind_key, self.content = group, blind_key, content
        clients = len(group.names)
        self._context = aggregation_context(group.transcript, task, clients, layout, content)
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

    # --- uploads -----------------------------------------------------------------------------
    def unmask_requests(self) -> dict[str, bytes]:
        """Fix the survivor set, for good, and ask each survivor for its shares."""
        survivors = self.fix_survivors()
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
        self.expect(Phase.UNMASKING, "its shares came out of turn")
        shares = wire.Shares.from_bytes(data)
        if (shares.group, shares.index) != (self.group.id, self.task.index):
            raise ProtocolRefused("its shares are of another aggregation")
        position = self.position(shares.name, name)
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
        self.expect(Phase.UNMASKING, "there is nothing to open")
        self._vector.add_masks(self._masks_left(), self._threads)
        # each upload has a 1 there, which any mask that is left over makes a random number
        total = self.opened(
            "the masks don't cancel: a hospital was shown another model, group or setting than the "
            "others, or sent something else than a masked vector"
        )
        cipher = self._vector.cipher.data() if isinstance(self._vector, CipherVector) else None
        return replace(total, context=self._context, blind_key=self.blind_key, cipher=cipher)

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
