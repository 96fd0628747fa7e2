"""A blind coordinator: on the sum that it opens lies a mask that only hospitals take off.

With ``secure_aggregation.blind`` a hospital i adds, below the masks of the protocol, a mask of its
own to every coordinate of its update, and to the exact ones that are of the model:

    m_i = PRG(HKDF(group key, context, n, round, model, i))

    context : names the aggregation (``context.py``), so that no two uploads have one mask
    n : hospitals of its group, which the encoding's levels follow from
    model : digest of the model that it trained from

The server opens the sum of the survivors' vectors, and with it that of their masks m_i. To who has
no key it is uniform in the ring, whoever of them is in it and whichever others dropped out: each
m_i is. (One mask that all add wouldn't do: twice it is even, so that every coordinate's lowest bit
shows.) Whoever has the key and knows the survivors' names subtracts each m_i.


With ``scheme = "ckks"`` the update, masked by the protocol, is encrypted under a key that follows
from the group key (``ckks.py``), in place of its half of m_i. The server adds ciphertexts, and
hands on the masks that are left beside the sum.

Two exact coordinates (``CHECK``) are 1 and the hospital's weight. What is read with another key,
model, round or set of names is random there: the first isn't the number of survivors then, but for
a chance of 2^-96, and nothing of that sum is used. What a lying server adds to the sum itself goes
unseen, as what it does to a model that it can read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, Layout
from wardround.common.secagg.ckks import Parameters
from wardround.common.secagg.content import CHECK, OPEN
from wardround.common.secagg.encoding import VectorLayout, decode_exact
from wardround.common.secagg.group_key import GroupKey
from wardround.common.secagg.ring import (
    LIMBS,
    Limbs,
    MaskSeeds,
    Words,
    add_key_streams,
    add_limbs,
    key_stream,
    negated,
)
from wardround.common.trust.identity import KEY_BYTES

UPDATE, EXACT, CIPHER = "update", "exact", "cipher"
"""Arrays of the opened sum, as it is carried: signed words of the ring, and limbs (M x 3) of the
exact coordinates after the first ``OPEN``; with ``scheme = "ckks"`` the summed ciphertexts, whose
words are to be added to the first."""


class Decrypts(Protocol):
    """What reads a summed ciphertext."""

    def decrypt(self, data: bytes | memoryview, count: int, bits: int) -> Words:
        """The sum of so many words. Raises ProtocolRefused."""


@dataclass(frozen=True)
class BlindMask:
    """What masks of a round are made of, but for whose.

    key : of hospitals that the server isn't one of
    server_round : of the sum
    model : digest of the model that was trained from, 32 bytes
    ckks : where updates are encrypted instead, in which ring: a mask is on exact coordinates alone
    """

    key: GroupKey
    server_round: int
    model: bytes
    ckks: Parameters | None = None

    def seeds(self, context: bytes, clients: int, name: str) -> MaskSeeds:
        """Of the mask of this hospital, in an aggregation of so many clients."""
        numbers = struct.pack(">QQ", clients, self.server_round)
        both = self.key.derive(
            "blind mask", context, numbers, self.model, name.encode(), length=2 * KEY_BYTES
        )
        return MaskSeeds(both[:KEY_BYTES], both[KEY_BYTES:])


def add_exact_mask(limbs: Limbs, seeds: MaskSeeds, sign: int = 1) -> None:
    """Add a mask to the exact coordinates after the first ``OPEN``, or take it off; in place."""
    stream = key_stream(seeds.exact, limbs.nbytes).view(np.uint64).reshape(limbs.shape)
    add_limbs(limbs, stream if sign > 0 else negated(stream))


def carried(update: Words, exact: Limbs, cipher: memoryview | None = None) -> Arrays:
    """An opened sum as the arrays that hospitals are sent: views, in types that messages have.

    exact : of all exact coordinates
    cipher : the summed ciphertexts, where updates are encrypted
    """
    words = update.view(np.dtype(f"int{8 * update.itemsize}"))
    arrays: Arrays = {UPDATE: words, EXACT: exact[OPEN:].view(np.int64)}
    return arrays if cipher is None else arrays | {CIPHER: np.frombuffer(cipher, np.uint8)}


def carried_layout(layout: VectorLayout, bits: int, ckks: Parameters | None = None) -> Layout:
    """The layout of ``carried``, for sums of vectors of this layout."""
    found = {
        UPDATE: ArraySpec((layout.update_size,), f"int{bits}"),
        EXACT: ArraySpec((layout.exact_size - OPEN, LIMBS), "int64"),
    }
    if ckks is not None:
        found[CIPHER] = ArraySpec((ckks.size_bytes(layout.update_size),), "uint8")
    return found


def read_sum(
    arrays: Arrays,
    mask: BlindMask,
    context: bytes,
    clients: int,
    survivors: Iterable[str],
    threads: int = 1,
    cipher: Decrypts | None = None,
) -> tuple[Words, Limbs]:
    """Words and exact coordinates (those after the first ``OPEN``) without the survivors' masks;
    new arrays, of the layout of ``carried``.

    cipher : where updates are encrypted, of the mask's key

    Raises ProtocolRefused where what is encrypted isn't a sum under that key.
    """
    update = arrays[UPDATE].view(arrays[UPDATE].dtype.str.replace("i", "u")).copy()
    exact = np.ascontiguousarray(arrays[EXACT]).view(np.uint64).copy()
    seeds = [mask.seeds(context, clients, name) for name in survivors]
    if cipher is None:
        add_key_streams(update, [(one.update, -1) for one in seeds], threads)
    else:
        words = cipher.decrypt(arrays[CIPHER].data, len(update), 8 * update.itemsize)
        np.add(update, words, update)
    for one in seeds:
        add_exact_mask(exact, one, -1)
    return update, exact


def read_exact(layout: VectorLayout, exact: Limbs, survivors: int) -> Arrays:
    """The arrays of the exact section by name; those that the server reads are zeros.

    Raises ProtocolRefused where these aren't sums of so many hospitals, as this one reads them.
    """
    values = np.concatenate([np.zeros(OPEN), decode_exact(exact)])
    found = layout.exact_arrays(values)
    count, weight = found[CHECK]
    if count != survivors or not weight >= count:
        raise ProtocolRefused(
            "the opened sum can't be read: it was made under another key, or from another model, "
            "than this hospital has"
        )
    return found
