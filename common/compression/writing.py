"""A round's update as hospitals write it and the server reads it: in units of each layer's reach.

A layer's change d becomes turn(d) / (k s), with s its scale and k the reach in root mean squares;
what lies beyond 1 is clipped, and the rest is rounded to the levels that the ring of the sum has
(``common/secagg/encoding.py``). Rotation is linear, and public: the sum of turned changes is turned
back once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.compression.rotation import signs, turn, turn_back
from wardround.common.compression.scales import MOST_RATIO, Scales
from wardround.common.config.load import Config
from wardround.common.flower.arrays import ArraySpec, Layout

REACH = {"hadamard": 4.0, "none": 10.0}
"""k. Turned, 6 of 100,000 numbers lie beyond 4, and they cost 1e-5 of the square; as they come, a
few numbers carry much of it (largest over root mean square: 5 to 40 on the real runs)."""
CLIP = 1.0
"""Of the ring's encoding, whose numbers are in units of the reach."""


@dataclass(frozen=True)
class Writing:
    """How one round's update is written.

    bits : of a word
    seed : of the federation
    rotation : as ``compression.rotation`` says
    scales : of the layers ``names``, in that order
    """

    bits: int
    seed: int
    server_round: int
    rotation: str
    names: Sequence[str]
    scales: Scales

    @classmethod
    def of(cls, config: Config, server_round: int, names: Sequence[str], scales: Scales) -> Writing:
        """By the settings, for this round's scales."""
        table, seed = config.compression, config.federation.seed
        return cls(int(table.bits or 0), seed, server_round, table.rotation, names, scales)

    def reach(self, name: str) -> float:
        """k s of a layer: what its largest number may be, in the model's unit."""
        return REACH[self.rotation] * float(self.scales[self.names.index(name)])

    def written(self, name: str, change: NDArray[Any]) -> NDArray[np.float32]:
        """A layer's change as a vector of its D numbers, over the reach; a copy. What isn't finite
        stays so, and is refused where it is rounded."""
        with np.errstate(over="ignore", invalid="ignore"):
            vector: NDArray[np.float32] = np.multiply(
                change.reshape(-1), 1 / self.reach(name), dtype=np.float32
            )
            if self.rotation == "hadamard":
                turn(vector, self._signs(name, len(vector)))
        return vector

    def read(self, name: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The change that such a vector (or mean of vectors) stands for; in place."""
        if self.rotation == "hadamard":
            turn_back(vector, self._signs(name, len(vector)))
        vector *= np.float32(self.reach(name))
        return vector

    def ratios(self, change: Callable[[str], NDArray[Any]]) -> NDArray[np.float32]:
        """What a hospital adds for the next round's scales: r_i / 2 of each layer, in [0, 1];
        ``change`` gives a layer's, of which one at a time is looked at."""
        return np.array([self._ratio(name, change(name)) for name in self.names], np.float32)

    def _ratio(self, name: str, change: NDArray[Any]) -> float:
        scale = float(self.scales[self.names.index(name)])
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.multiply(change.reshape(-1), 1 / scale, dtype=np.float32)
            square = float(np.dot(unit, unit)) / max(1, len(unit))
        return min(square, MOST_RATIO) / MOST_RATIO  # NaN stays: the update is refused with it

    def _signs(self, name: str, size: int) -> NDArray[np.uint8]:
        return signs(size, self.seed, self.server_round, name)


def words_layout(bits: int | None, layout: Layout, names: Iterable[str]) -> Layout:
    """Of a plain reply's arrays: those with a scale are words of so many bits (as
    ``compression.bits`` has them; None: all as they are)."""
    if bits is None:
        return layout
    return layout | {name: ArraySpec(layout[name].shape, f"int{bits}") for name in names}


def ring(config: Config) -> tuple[int, float]:
    """Bits and clip of the ring that a training update is added up in under masks."""
    bits, table = config.compression.bits, config.secure_aggregation
    return (table.bits, table.clip) if bits is None else (int(bits), CLIP)
