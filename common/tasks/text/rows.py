"""A shard of texts as token ids, before the hospitals agree on anything.

Shapes: N rows, T tokens of a row (``max_length``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.tasks.data.left_out import LeftOut

IGNORED = -100
"""Target of a token that has none: special and padding tokens, and all but a word's first."""


@dataclass(frozen=True)
class Rows:
    """One row is one sentence (or piece of a long one), or one text.

    tokens : N x T int32, the encoder's padding id after the end; of pairs N x 2 x T
    targets : N x T int64, tag number of each word at its first token, else ``IGNORED``; or N int64,
        the class, or of pairs what tells the answer from others; or N x heads int64, classes
    origin : N x 2 int64: index into ``files``, line number (from 1)
    splits : N, 'train', 'validation' or 'test'; None where the data doesn't say
    patients : N, None where the data doesn't name them
    left_out : of the files, when they were read: rows, and the ends of words or texts
    keys : N, what tells sentences or texts apart (``data/row_keys.py``), the same for all pieces
    pieces : sentences that were longer than T and became several rows
    told : what was found beside the usual when the files were read, a line each
    """

    tokens: NDArray[np.int32]
    targets: NDArray[np.int64]
    files: tuple[Path, ...]
    origin: NDArray[np.int64]
    splits: NDArray[np.str_] | None = None
    patients: NDArray[np.str_] | None = None
    left_out: tuple[LeftOut, ...] = ()
    pieces: int = 0
    keys: NDArray[np.str_] | None = None
    told: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, rows: NDArray[np.int64]) -> Rows:
        """The given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            left_out=(),
            tokens=self.tokens[index],
            targets=self.targets[index],
            origin=self.origin[index],
            splits=None if self.splits is None else self.splits[index],
            patients=None if self.patients is None else self.patients[index],
            keys=None if self.keys is None else self.keys[index],
        )
