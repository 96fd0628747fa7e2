"""What every key is bound to: session, group, keys, task and content, as digests.

Clients that were shown another roster, cohort, key, model, setting or layout derive other mask
keys, and their masks never cancel: the server gets noise instead of a sum.
"""

from __future__ import annotations

import struct

from wardround.common.secagg.encoding import VectorLayout
from wardround.common.secagg.keys import derive
from wardround.common.secagg.messages import TaskRequest
from wardround.common.secagg.ring import MaskSeeds
from wardround.common.trust.identity import KEY_BYTES, Roster, digest, encode_parts, roster_digest


def session_id(descriptor: bytes, roster: Roster, nonce: bytes) -> bytes:
    """Names a session: the agreed settings, the roster, and the server's fresh nonce."""
    return digest("session", descriptor, roster_digest(roster), nonce)


def group_id(request: bytes) -> bytes:
    """Names a group: the bytes of its GroupRequest, so members, graph and thresholds."""
    return digest("group", request)


def transcript_digest(group: bytes, digests: tuple[bytes, ...]) -> bytes:
    """The group with all its members' keys."""
    return digest("transcript", group, *digests)


def aggregation_context(
    transcript: bytes,
    task: TaskRequest,
    clients: int,
    layout: VectorLayout,
    content: bytes,
) -> bytes:
    """What one aggregation's masks are bound to: 32 bytes that every client works out for itself.

    transcript : of the group with all its keys
    task : number, purpose and encoding, as the server asked
    clients : of the group; layout : of the vector that this client is going to send
    content : digest of model and settings, as received
    """
    return digest(
        "aggregation",
        transcript,
        struct.pack(">Q", task.index),
        task.purpose.encode(),
        task.encoding(clients).to_bytes(),
        layout.digest(),
        content,
    )


def pair_seeds(shared: bytes, context: bytes) -> MaskSeeds:
    """The mask of two neighbours, from the secret that they share (``ExchangeKey.shared`` of their
    round keys). The same at both ends, if they were shown the same context."""
    return _seeds(shared, "pair mask", context)


def self_seeds(self_mask: bytes, context: bytes) -> MaskSeeds:
    """A client's own mask. Without it a server that claims a client had dropped out, and so gets
    its pair masks opened, could read an upload that comes late (Bonawitz et al. 2017)."""
    return _seeds(self_mask, "self mask", context)


def _seeds(secret: bytes, purpose: str, context: bytes) -> MaskSeeds:
    both = derive(secret, purpose, context, length=2 * KEY_BYTES)
    return MaskSeeds(both[:KEY_BYTES], both[KEY_BYTES:])


def pair_sign(own: int, other: int) -> int:
    """With which sign the client at position ``own`` adds its mask with ``other``: +1 for the first
    of the two in the group's order, so that the two cancel."""
    return 1 if own < other else -1


def share_binding(group: bytes, sender: str, receiver: str) -> bytes:
    """What an encrypted share is bound to besides its key."""
    return encode_parts(group, sender.encode(), receiver.encode())
