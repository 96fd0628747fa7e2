"""A shard of images, decoded and of one size, with what is known of each.

Where an image came from is said without its file's name, which may name a patient: by its place in
the folder, in the order of names, or its line in the CSV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.inputs import Inputs, selected


@dataclass(frozen=True)
class Images:
    """Images of one shard.

    pixels : N x C x rows x columns (or x depth x rows x columns): uint8, or float32 in [0, 1]; in
        memory, or read from a file
    labels : N, int64, positions in ``classes``
    patients : N texts, digests of the patients' identifiers; None where unknown
    splits : N of 'train', 'validation' and 'test'; None where the data doesn't say
    left_out : of the files, when they were read
    unnamed : images of which the patient isn't known, where that of others is
    keys : N texts, of the content of each image's file ('' where the data says the split)
    noted : what the hospital should know, and of how many images that it read
    voxels : mm of the files' images that one pixel stands for, along each axis: least, most; none
        where files don't say
    named : N rows, what says whose each image is; of images to predict only
    """

    pixels: Inputs
    labels: NDArray[np.int64]
    patients: NDArray[np.str_] | None = None
    splits: NDArray[np.str_] | None = None
    left_out: tuple[LeftOut, ...] = ()
    unnamed: int = 0
    noted: Mapping[str, int] = field(default_factory=dict)
    keys: NDArray[np.str_] | None = None
    named: pa.Table | None = None
    voxels: tuple[tuple[float, float], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: NDArray[np.int64]) -> Images:
        """The images at these positions, in that order, as copies; stored pixels stay where they
        are."""
        return replace(
            self,
            left_out=(),
            pixels=selected(self.pixels, np.asarray(rows, dtype=np.int64)),
            labels=self.labels[rows],
            patients=None if self.patients is None else self.patients[rows],
            splits=None if self.splits is None else self.splits[rows],
            keys=None if self.keys is None else self.keys[rows],
            named=None if self.named is None else self.named.take(pa.array(rows)),
        )
