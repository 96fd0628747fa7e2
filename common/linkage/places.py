"""Letters that say where in a list the linked persons stand.

Whoever compares marks them, a bit for each token of a list: they are in the agreed order there.
Parties name their places, the first one for the first person and so on, and how many they are; what
is left of the letter, up to the length that all of these letters of a run have, is zeros.
"""

from __future__ import annotations

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.linkage.plan import LENGTH_BYTES, ORDER_BYTES, PLACE_BYTES, Plan
from wardround.common.linkage.tokens import Places

TOO_FEW = "fewer persons are linked than procedure.smallest: nobody learns how many, or who"
WRONG = "places that came are none of a list of this linkage"


def marked(order: bytes, places: Places, length: int) -> bytes:
    """A letter of who compares: 32 bytes that stand for the order, and a bit for each of ``length``
    tokens."""
    marks = np.zeros(length, np.uint8)
    marks[places] = 1
    return order + np.packbits(marks).tobytes()


def read_marks(text: bytes, plan: Plan, shortest: int, length: int) -> tuple[bytes, Places]:
    """The order and the places of such a letter. Raises JointRefused."""
    if len(text) != ORDER_BYTES + -(-length // 8):
        raise JointRefused(WRONG)
    bits = np.unpackbits(np.frombuffer(text, np.uint8, offset=ORDER_BYTES))
    places = np.flatnonzero(bits).astype(np.int64)
    if not plan.smallest <= len(places) <= shortest or places[-1] >= length:
        raise JointRefused(WRONG)
    return text[:ORDER_BYTES], places


def written(places: Places, plan: Plan, shortest: int) -> bytes:
    """A letter of a party.

    shortest : length of the shortest list: no more persons can be linked
    """
    text = len(places).to_bytes(LENGTH_BYTES, "big") + places.astype(">u4").tobytes()
    return text.ljust(plan.places_bytes(shortest), b"\0")


def read(text: bytes, plan: Plan, shortest: int, length: int) -> Places:
    """The places of such a letter. Raises JointRefused.

    length : of the list that they are places in
    """
    count = int.from_bytes(text[:LENGTH_BYTES], "big")
    if len(text) != plan.places_bytes(shortest) or not plan.smallest <= count <= shortest:
        raise JointRefused(WRONG)
    places = np.frombuffer(text, ">u4", count, LENGTH_BYTES).astype(np.int64)
    twice = len(np.unique(places)) != count
    if places.max() >= length or twice or text[LENGTH_BYTES + PLACE_BYTES * count :].strip(b"\0"):
        raise JointRefused(WRONG)
    return places
