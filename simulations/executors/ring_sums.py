"""A group's updates under emulated secure aggregation: the vector that masks would cancel to.

What a client's change goes through before it is added: it is weighed (rows, up to the largest
weight), clipped to the ring's reach, rounded stochastically, and added modulo 2^bits; loss, steps,
buffers and counts are added as multiples of 2^-96. One client by itself goes the whole way that a
hospital's own upload goes (``client/secagg``); of a chunk the same arithmetic is done for all at
once, to the bit (``common/secagg/rounding.py``).

Shapes: C clients of a chunk, D coordinates of an array, M exact coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray
from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.secagg.asked import Step
from wardround.client.secagg.masking import MaskedAsk, begin_upload, finish_training
from wardround.client.secagg.upload import PendingUpload
from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import Arrays, layout_of
from wardround.common.model.entries import Entries, Kind
from wardround.common.protocol.cohort import CohortMaskedReply
from wardround.common.protocol.errors import failed
from wardround.common.protocol.masked import MaskedReply
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import TrainReply, TrainRequest
from wardround.common.secagg.content import LOSS, STEPS, training_layout
from wardround.common.secagg.encoding import CLIPPED, COUNT, WEIGHT, encode_exact
from wardround.common.secagg.ring import Limbs, RingVector, add_limbs, sum_limbs
from wardround.common.secagg.rounding import CohortRounding, quantise_each
from wardround.simulations.executors.changes import Changes
from wardround.simulations.executors.sums import GroupSums, Refused


class RingSums(GroupSums):
    """The answer to a training message for a group whose masks are emulated.

    Parameters
    ----------
    request : that it came with, which asks for a masked sum
    content : its records
    model : the model, arrays : its shared entries, x, as they were sent
    hospital : gives the hospital of a node
    first : a node of the group
    """

    in_order = True

    def __init__(
        self,
        request: TrainRequest,
        content: Content,
        model: nn.Module,
        arrays: Arrays,
        hospital: Callable[[int], Hospital],
        first: int,
    ) -> None:
        self.accepted: list[int] = []
        self.refused: Refused = {}
        self._request, self._content, self._arrays = request, content, arrays
        self._hospital = hospital
        named = Entries.of(model, []).only(dict(model.named_parameters()), Kind.PARAMETER)
        self.layout = training_layout(layout_of(arrays), named, {})
        pending = self._pending(first)
        self.task, self._encoding = pending.task, pending.encoding
        self.vector = self._zeros()

    def _zeros(self) -> RingVector:
        return RingVector(self.task.bits, self.layout.update_size, self.layout.exact_size)

    def _pending(self, node_id: int) -> PendingUpload:
        """The upload of one client, as it begins it itself."""
        masked, hospital = self._request.masked, self._hospital(node_id)
        assert masked is not None  # that is what asks for these sums
        step = Step("train", self._request.model.server_round)
        state = ClientState(RecordDict())
        asked = MaskedAsk.of(masked, step, self._content, hospital, state)
        return begin_upload(asked, self.layout)

    def weights(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Rows, up to the largest weight, which is 1 where all count the same."""
        return np.minimum(np.array(rows, np.float64), self.task.largest_weight)

    def add_client(
        self, node_id: int, arrays: Arrays, *, weight: float, loss: float, steps: int
    ) -> None:
        reply = TrainReply(arrays, int(weight), steps, loss)
        hospital, pending = self._hospital(node_id), self._pending(node_id)
        try:
            content = finish_training(pending, hospital, self._arrays, reply)
        except ReplyRefused as error:
            raise ReplyRefused(failed(str(error))) from None
        self.vector.add_bytes(MaskedReply.from_records(content).vector)
        self.accepted.append(node_id)

    def add_changes(self, changes: Changes) -> None:
        weights = self.weights(changes.rows)
        shares, part = weights / self.task.largest_weight, self._zeros()
        hospitals = [self._hospital(node) for node in changes.nodes]
        seed, names = hospitals[0].config.federation.seed, [one.name for one in hospitals]
        rounding = CohortRounding(seed, self.task.purpose, names)
        words = self.layout.update_words(part.update)
        clipped = 0
        for rows, change in changes.each():
            for number, (key, goal) in enumerate(words.items()):
                values = change.get(key.partition("/")[2])
                if values is not None:  # what isn't trained hasn't changed
                    clipped += quantise_each(
                        values, shares[rows], self._encoding, rounding, number, goal, rows.start
                    )
        add_limbs(part.exact, self._exact(changes, weights, clipped))
        self.vector.add_bytes(part.data())
        self.accepted += changes.nodes

    def _exact(self, changes: Changes, weights: NDArray[np.float64], clipped: int) -> Limbs:
        """The sum of the clients' exact sections, M x 3; ``clipped``: of all together. Raises
        ProtocolRefused for a number that can't be summed."""
        values = np.zeros((len(changes), self.layout.exact_size))
        own: dict[str, Any] = {
            COUNT: 1.0,
            WEIGHT: weights,
            LOSS: changes.losses * weights,
            STEPS: changes.steps * weights,
        }
        start = 0
        for key, spec in self.layout.exact.items():
            size = math.prod(spec.shape)
            if key in own:
                values[:, start] = own[key]
            elif key == CLIPPED:
                values[0, start] = clipped
            elif "/" in key:  # a buffer, which nobody has moved
                sent = np.asarray(self._arrays[key.partition("/")[2]], np.float64).reshape(-1)
                values[:, start : start + size] = sent * weights[:, None]
            start += size
        limbs = encode_exact(values.reshape(-1), self._encoding.clients)
        return sum_limbs(limbs.reshape(*values.shape, -1))

    def content(self) -> Content:
        reply = CohortMaskedReply(tuple(self.accepted), self.refused, self.vector.data())
        return reply.to_records()

    def add_content(self, content: Content) -> None:
        reply = CohortMaskedReply.from_records(content)
        self.vector.add_bytes(reply.vector)
        self.refused |= reply.refused
        self.accepted += reply.accepted
