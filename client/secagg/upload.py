"""One masked vector of a hospital: the masks that are being prepared, and the numbers to hide.

Nothing of it leaves before it is remembered that its aggregation is used; under its masks one
vector leaves, whatever fails before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wardround.client.secagg.contributions import Asked
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.encoding import (
    CLIPPED,
    COUNT,
    FAILED,
    ROUNDING_KEY_BYTES,
    WEIGHT,
    Encoding,
    VectorLayout,
    add_whole,
    encode_exact,
    quantise,
    whole_numbers,
)
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.keys import derive
from wardround.common.secagg.ring import RingVector, add_limbs

_WORTH_A_THREAD_BYTES = 1 << 18


class Uploader(Protocol):
    """The hospital's party in the protocol, as an upload needs it."""

    name: str

    def mark_uploaded(self, task: wire.TaskRequest, asked: Asked) -> None:
        """Remember that the aggregation is used, and for what. Raises ProtocolRefused if it was
        before, or if the request brings something else than earlier ones of its run."""


class PendingUpload:
    """A vector whose masks are being prepared; ``finish`` adds the numbers to hide.

    ``limits``: of the group whose sum it goes into.
    """

    def __init__(
        self,
        client: Uploader,
        task: wire.TaskRequest,
        layout: VectorLayout,
        encoding: Encoding,
        limits: Thresholds,
        asked: Asked,
        prepare: Callable[[], RingVector],
    ) -> None:
        self.task, self.layout, self.encoding = task, layout, encoding
        self.limits, self._asked = limits, asked
        self._client, self._prepare = client, prepare
        self._spent = self._given = False
        self._future: Future[RingVector] | None = None
        if layout.update_size * task.bits // 8 >= _WORTH_A_THREAD_BYTES:
            pool = ThreadPoolExecutor(1, "masks")
            self._future = pool.submit(prepare)
            pool.shutdown(wait=False)

    def finish(
        self,
        update: Mapping[str, NDArray[Any]],
        exact: Mapping[str, NDArray[Any]],
        weight: int = 1,
        rounding_key: bytes | None = None,
    ) -> tuple[bytes, memoryview]:
        """The Upload and the masked vector that goes with it (not copied: a host may cut it up).

        Parameters
        ----------
        update : the arrays of the layout's update section, as changes to be averaged; int64 for a
            fine encoding; whole numbers, float64 or int64, for words
        exact : those of the exact section; a missing one counts as zero
        weight : what the weighted arrays count with, from 1 to the task's largest weight
        rounding_key : 16 secret bytes for stochastic rounding; None: from the operating system

        Raises ProtocolRefused, with nothing given out and the aggregation not used, for NaN, an
        infinity, or a number too large to be summed.
        """
        if self._spent:
            raise ProtocolRefused("an upload is finished once, also after an error")
        if not 1 <= weight <= self.task.largest_weight:
            raise ProtocolRefused(f"the weight {weight} is not in 1..{self.task.largest_weight}")
        vector = self._masks()
        key = rounding_key or secrets.token_bytes(ROUNDING_KEY_BYTES)
        clipped, start = 0, 0
        for number, (name, spec) in enumerate(self.layout.update.items()):
            values = update[name].reshape(-1)
            if update[name].shape != spec.shape:
                raise ValueError(f"'{name}' has shape {update[name].shape}, not {spec.shape}")
            target = vector.update[start : start + len(values)]
            start += len(values)
            if self.encoding.words:
                add_whole(whole_numbers(values, self.encoding.levels), target)
                continue
            if self.encoding.fine:
                add_whole(values, target)
                continue
            share = weight / self.task.largest_weight if name in self.layout.weighted else 1.0
            part_key = derive(key, "rounding", bytes([number % 256, number // 256]))
            clipped += quantise(values, share, self.encoding, part_key[:16], target)
        own = {COUNT: 1.0, WEIGHT: float(weight), CLIPPED: float(clipped)}
        return self._give_out(vector, own, exact)

    def fail(self) -> tuple[bytes, memoryview]:
        """The same of a hospital that has nothing to add: random numbers, but for its count and
        ``failed``, so that the sum tells nothing but those two. With zeros a model that fails at
        all but one hospital would open that one's numbers.

        Also after ``finish`` has raised: nothing was given out then, so that one vector leaves
        under these masks, this one. Raises ProtocolRefused after an upload.
        """
        if self._given:
            raise ProtocolRefused("an upload is finished once")
        own = {COUNT: 1.0, FAILED: 1.0}
        vector = self._masks()
        told = self.layout.exact_values({name: np.ones(1) for name in own}) > 0
        noise = np.frombuffer(secrets.token_bytes(vector.exact.nbytes), np.uint64)
        vector.exact[~told] = noise.reshape(vector.exact.shape)[~told]
        vector.update[:] = np.frombuffer(
            secrets.token_bytes(vector.update.nbytes), vector.update.dtype
        )
        return self._give_out(vector, own, {})

    def _masks(self) -> RingVector:
        """The masks alone; made anew where numbers were already added to the first ones."""
        begun = None if self._spent else self._future
        self._spent = True
        return begun.result() if begun else self._prepare()

    def _give_out(
        self, vector: RingVector, own: Mapping[str, float], exact: Mapping[str, NDArray[Any]]
    ) -> tuple[bytes, memoryview]:
        """Add the exact section, and remember that the aggregation is used before it leaves."""
        numbers = {name: np.array([value]) for name, value in own.items()} | dict(exact)
        limbs = encode_exact(self.layout.exact_values(numbers), self.encoding.clients)
        add_limbs(vector.exact, limbs)
        self._client.mark_uploaded(self.task, self._asked)
        self._given = True
        header = wire.Upload(self.task.group, self.task.index, self._client.name)
        return header.to_bytes(), vector.data()
