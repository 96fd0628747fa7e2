"""Arrays of a plain reply whose update came in words, as the arrays that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.bfloat16 import widened
from wardround.common.compression.writing import CLIP, Writing
from wardround.common.flower.arrays import Arrays
from wardround.common.flower.conforming import conform
from wardround.common.secagg.encoding import Encoding


class WrittenArrays(Mapping[str, NDArray[Any]]):
    """Each read anew when it is looked at: the received array and the change that its words are.

    sent : the reply's arrays, words where the writing has a scale
    received : the shared model as it was sent
    """

    def __init__(
        self, sent: Mapping[str, NDArray[Any]], received: Arrays, writing: Writing
    ) -> None:
        self._sent, self._received, self._writing = sent, received, writing
        self._names = frozenset(writing.names)

    def __getitem__(self, name: str) -> NDArray[Any]:
        value = self._sent[name]
        if name not in self._names:
            return value
        step = Encoding(8 * value.dtype.itemsize, CLIP, 1, 1).step
        vector = np.multiply(value.reshape(-1), np.float32(step), dtype=np.float32)
        received = self._received[name]
        change = self._writing.read(name, vector).reshape(received.shape)
        return conform(widened(received) + change, received.dtype.name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sent)

    def __len__(self) -> int:
        return len(self._sent)
