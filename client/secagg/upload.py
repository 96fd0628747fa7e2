"""One masked vector of a hospital: the masks that are being prepared, and the numbers to hide.

Nothing of it leaves before it is remembered that its aggregation is used; under its masks one
vector leaves, whatever fails before. A large vector lies in a file, and is made piece by piece: in
the file there is never a mask without a number under it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wardround.client.secagg.asked import Asked
from wardround.common.bfloat16 import widened
from wardround.common.compression.writing import Writing
from wardround.common.errors import ProtocolRefused
from wardround.common.mapped import is_large, let_go, windows
from wardround.common.secagg import messages as wire
from wardround.common.secagg.blind import add_exact_mask
from wardround.common.secagg.content import OPEN
from wardround.common.secagg.encoding import (
    CLIPPED,
    COUNT,
    FAILED,
    WEIGHT,
    Encoding,
    VectorLayout,
    add_whole,
    encode_exact,
    whole_numbers,
)
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.ring import (
    MaskSeeds,
    RingVector,
    Seed,
    Words,
    add_key_streams,
    add_limbs,
)
from wardround.common.secagg.rounding import (
    ROUNDING_KEY_BYTES,
    Dither,
    KeyRounding,
    Rounding,
    quantise,
)

_WORTH_A_THREAD_BYTES = 1 << 18
Seeds = Sequence[tuple[MaskSeeds, int]]
"""All masks of one vector, each with its sign."""


@dataclass(frozen=True, eq=False)
class Change:
    """``after - before``, worked out where it is looked at: of a large model it isn't there as a
    whole. Both are contiguous, of one dtype; of one shape, or ``before`` is one number. Of bfloat16
    the change is float32."""

    after: NDArray[Any]
    before: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.after.shape


def part_of(values: NDArray[Any] | Change, window: slice) -> NDArray[Any]:
    """Some of an array's numbers, flat."""
    if not isinstance(values, Change):
        return values.reshape(-1)[window]
    before = values.before if values.before.ndim == 0 else values.before.reshape(-1)[window]
    change: NDArray[Any] = widened(values.after.reshape(-1)[window]) - widened(before)
    let_go(before)
    return change


class Uploader(Protocol):
    """The hospital's party in the protocol, as an upload needs it."""

    name: str

    def mark_uploaded(self, task: wire.TaskRequest, asked: Asked) -> None:
        """Remember that the aggregation is used, and for what. Raises ProtocolRefused if it was
        before, or if the request brings something else than earlier ones of its run."""


class Encrypts(Protocol):
    """What encrypts masked words."""

    def encrypt(self, words: Words, after: memoryview | bytes = b"") -> memoryview:
        """Their ciphertexts, and then the bytes of ``after``."""


class PendingUpload:
    """A vector whose masks are being prepared; ``finish`` adds the numbers to hide.

    ``limits``: of the group whose sum it goes into. ``blind``: gives the mask that only hospitals
    take off, where there is one; ``cipher``: what encrypts the update section in its place.
    """

    def __init__(
        self,
        client: Uploader,
        task: wire.TaskRequest,
        layout: VectorLayout,
        encoding: Encoding,
        limits: Thresholds,
        asked: Asked,
        seeds: Callable[[], Seeds],
        threads: int = 1,
        blind: Callable[[], MaskSeeds] | None = None,
        cipher: Encrypts | None = None,
    ) -> None:
        self._cipher = cipher
        self.task, self.layout, self.encoding, self._blind = task, layout, encoding, blind
        self.limits, self._asked = limits, asked
        self._client, self._seeds, self._threads = client, seeds, threads
        self._spent = self._given = False
        self._future: Future[RingVector] | None = None
        size_bytes = layout.update_size * task.bits // 8
        self._by_pieces = is_large(size_bytes)
        if size_bytes >= _WORTH_A_THREAD_BYTES and not self._by_pieces:
            pool = ThreadPoolExecutor(1, "masks")
            self._future = pool.submit(self._prepare)
            pool.shutdown(wait=False)

    def finish(
        self,
        update: Mapping[str, NDArray[Any] | Change],
        exact: Mapping[str, NDArray[Any]],
        weight: int = 1,
        rounding: Rounding | bytes | None = None,
        writing: Writing | None = None,
    ) -> tuple[bytes, memoryview]:
        """The Upload and the masked vector that goes with it (not copied: a host may cut it up).

        Parameters
        ----------
        update : the arrays of the layout's update section, as changes to be averaged; int64 for a
            fine encoding; whole numbers, float64 or int64, for words
        exact : those of the exact section; a missing one counts as zero
        weight : what the weighted arrays count with, from 1 to the task's largest weight
        rounding : of stochastic rounding, or 16 secret bytes for it; None: from the operating
            system
        writing : how the weighted arrays are written, with ``[compression]``

        Raises ProtocolRefused, with nothing given out and the aggregation not used, for NaN, an
        infinity, or a number too large to be summed.
        """
        if self._spent:
            raise ProtocolRefused("an upload is finished once, also after an error")
        if not 1 <= weight <= self.task.largest_weight:
            raise ProtocolRefused(f"the weight {weight} is not in 1..{self.task.largest_weight}")
        vector = self._masks()
        if rounding is None or isinstance(rounding, bytes):
            rounding = KeyRounding(rounding or secrets.token_bytes(ROUNDING_KEY_BYTES))
        clipped, start = 0, 0
        for number, (name, spec) in enumerate(self.layout.update.items()):
            values, size = update[name], math.prod(spec.shape)
            if values.shape != spec.shape:
                raise ValueError(f"'{name}' has shape {values.shape}, not {spec.shape}")
            share = weight / self.task.largest_weight if name in self.layout.weighted else 1.0
            if writing is not None and name in self.layout.weighted:
                values = writing.written(name.partition("/")[2], part_of(values, slice(None)))
            dither = rounding.of(number)
            for window, target in self._targets(vector, start, size):
                clipped += self._add(part_of(values, window), share, dither, target)
            start += size
        own = {COUNT: 1.0, WEIGHT: float(weight), CLIPPED: float(clipped)}
        return self._give_out(vector, own, exact)

    def _add(self, values: NDArray[Any], share: float, dither: Dither, target: Words) -> int:
        """Add numbers of one array to their place; how many were clipped."""
        if self.encoding.words:
            add_whole(whole_numbers(values, self.encoding.levels), target)
            return 0
        if self.encoding.fine:
            add_whole(values, target)
            return 0
        return quantise(values, share, self.encoding, dither, target)

    def _targets(self, vector: RingVector, start: int, size: int) -> Iterator[tuple[slice, Words]]:
        """Where an array's numbers are to be added, masks there already: which of them, and their
        place; each is to be used before the next one is asked for."""
        whole = vector.update[start : start + size]
        if not self._by_pieces:
            yield slice(0, size), whole
            return
        seeds = self._update_seeds()
        for window in windows(size, whole.itemsize):
            words = np.zeros(window.stop - window.start, whole.dtype)
            add_key_streams(words, seeds, self._threads, start + window.start)
            yield window, words
            whole[window] = words
            let_go(whole[window])

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
        for window in windows(len(vector.update), vector.update.itemsize):
            part = vector.update[window]
            part[:] = np.frombuffer(secrets.token_bytes(part.nbytes), part.dtype)
            let_go(part)
        return self._give_out(vector, own, {})

    def _masks(self) -> RingVector:
        """The masks alone (``by_pieces``: those of the exact section); made anew where numbers were
        already added to the first ones."""
        begun = None if self._spent else self._future
        self._spent = True
        return begun.result() if begun else self._prepare()

    def _prepare(self) -> RingVector:
        vector = RingVector(self.task.bits, self.layout.update_size, self.layout.exact_size)
        vector.add_exact_masks(self._seeds())
        if self._blind is not None:
            add_exact_mask(vector.exact[OPEN:], self._blind())
        if not self._by_pieces:
            add_key_streams(vector.update, self._update_seeds(), self._threads)
        return vector

    def _update_seeds(self) -> list[Seed]:
        """Of all masks on the update section."""
        seeds = [(one.update, sign) for one, sign in self._seeds()]
        if self._blind is None or self._cipher is not None:
            return seeds
        return [*seeds, (self._blind().update, 1)]

    def _give_out(
        self, vector: RingVector, own: Mapping[str, float], exact: Mapping[str, NDArray[Any]]
    ) -> tuple[bytes, memoryview]:
        """Add the exact section, and remember that the aggregation is used before it leaves."""
        numbers = {name: np.array([value]) for name, value in own.items()} | dict(exact)
        limbs = encode_exact(self.layout.exact_values(numbers), self.encoding.clients)
        add_limbs(vector.exact, limbs)
        data = vector.data()
        if self._cipher is not None:
            data = self._cipher.encrypt(vector.update, data[vector.update.nbytes :])
        self._client.mark_uploaded(self.task, self._asked)
        self._given = True
        header = wire.Upload(self.task.group, self.task.index, self._client.name)
        return header.to_bytes(), data
