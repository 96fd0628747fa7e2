"""A training request and its answer where ``[compression]`` has updates written in few bits.

The scales that a request brings are held against the plan's rule and what this hospital was shown
last, which is kept in its state: whichever round the server says to go on from, and whether or not
training failed then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.hospital import Hospital
from wardround.client.secagg.masking import rounding_of
from wardround.client.secagg.upload import Change, part_of
from wardround.client.state import ClientState
from wardround.common.compression.scales import SCALES, check_scales, first_scales, layers
from wardround.common.compression.writing import CLIP, Writing
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, Layout
from wardround.common.protocol.train import TrainReply, TrainRequest
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.rounding import quantise

_ROUND = "round"


def writing_of(
    request: TrainRequest,
    hospital: Hospital,
    state: ClientState,
    layout: Layout,
    parameters: Iterable[str],
) -> Writing | None:
    """How the answer's update is written; None where the settings compress nothing.

    layout : of the model's shared arrays; parameters : those that are trained

    Raises RequestRefused where the request's scales aren't such as the plan's rule makes.
    """
    table = hospital.config.compression
    if table.bits is None:
        return None
    names, model = layers(layout, parameters), request.model
    came = request.record(SCALES, {SCALES: ArraySpec((len(names),), "float64")})[SCALES]
    first, shown = first_scales(layout, names, table.first_scale), state.load(SCALES, 0)
    if shown is None:
        check_scales(came, model.server_round, first)
    else:
        check_scales(came, model.server_round, first, shown[SCALES], int(shown[_ROUND][0]))
    return Writing.of(hospital.config, model.server_round, names, came)


def keep_scales(writing: Writing | None, state: ClientState) -> None:
    """Of a request that is answered: remember its scales and its round. (Not as a version of a
    round: which one is gone on from would be the server's word.)"""
    if writing is None:
        return
    shown = {SCALES: np.array(writing.scales), _ROUND: np.array([writing.server_round], np.int64)}
    state.save(SCALES, shown, 0, 0)


def with_ratios(reply: TrainReply, received: Arrays, writing: Writing) -> TrainReply:
    """The reply with what it adds for the next round's scales.

    Raises RequestRefused for an update that isn't finite.
    """
    ratios = writing.ratios(lambda name: _change(reply, received, name))
    if not np.isfinite(ratios).all():
        raise RequestRefused("training gave NaN or infinity; lower training.lr?")
    return replace(reply, records={**reply.records, SCALES: {SCALES: ratios}})


def in_words(
    reply: TrainReply, received: Arrays, writing: Writing, hospital: Hospital
) -> TrainReply:
    """A plain reply with each trained array as words: whole numbers of ``compression.bits`` bits,
    of all the levels that these have, as nothing is added to them before they are read."""
    bits = writing.bits
    encoding = Encoding(bits, CLIP, 1, 1)
    rounding = rounding_of(hospital, f"train {writing.server_round}")
    arrays: dict[str, NDArray[Any]] = dict(reply.arrays)
    for number, name in enumerate(writing.names):
        vector = writing.written(name, _change(reply, received, name))
        words = np.zeros(len(vector), f"uint{bits}")
        quantise(vector, 1.0, encoding, rounding.of(number), words)
        arrays[name] = words.view(f"int{bits}").reshape(received[name].shape)
    return replace(reply, arrays=arrays)


def _change(reply: TrainReply, received: Arrays, name: str) -> NDArray[Any]:
    """A layer's change, flat."""
    return part_of(Change(reply.arrays[name], received[name]), slice(None))
