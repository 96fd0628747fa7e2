"""Letters that name places in a list: how many persons are linked, and where they stand.

A place stands for a person, the first one for the first person of the agreed order and so on; what
is left of the letter, up to the length that all of these letters of a run have, is zeros.
"""

from __future__ import annotations

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.linkage.plan import LENGTH_BYTES, PLACE_BYTES, Plan
from wardround.common.linkage.tokens import Places

TOO_FEW = "fewer persons are linked than procedure.smallest: nobody learns how many, or who"
WRONG = "places that came are none of a list of this linkage"


def written(places: Places, plan: Plan, shortest: int) -> bytes:
    """A letter of places.

    shortest : length of the shortest list: no more persons can be linked
    """
    text = len(places).to_bytes(LENGTH_BYTES, "big") + places.astype(">u4").tobytes()
    return text.ljust(plan.places_bytes(shortest), b"\0")


def read(text: bytes, plan: Plan, shortest: int, length: int) -> Places:
    """The places of a letter. Raises JointRefused.

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
