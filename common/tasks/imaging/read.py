"""A hospital's images, in whichever of the layouts of ``layouts.py`` they lie.

Everything is decoded once, to ``task.size``; uint8 stays uint8 until it reaches the model. What
doesn't fit into memory is kept in a file (``kept.py``).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from wardround.common.errors import DataError
from wardround.common.tasks.data.example import example_sets
from wardround.common.tasks.data.row_keys import array_key
from wardround.common.tasks.imaging.arrays import read_npz
from wardround.common.tasks.imaging.bids import read_bids
from wardround.common.tasks.imaging.folders import read_folders
from wardround.common.tasks.imaging.gather import Gathered, check_room
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kept import Room
from wardround.common.tasks.imaging.layouts import BIDS, CSV, NPZ, SPLIT, layout_of
from wardround.common.tasks.imaging.listed import read_listed
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import fit


def read_images(path: Path, options: ImagingOptions, folder: Path | None = None) -> Images:
    """The images at ``path``.

    folder : where those may be kept that don't fit into memory; None: nowhere

    Raises DataError naming the place, and no image's file.
    """
    if folder is None or options.store == "memory" or not path.exists():
        return _read(path, options, Gathered())
    room = Room(path, options, folder)
    if (found := room.found()) is not None:
        return found
    gathered = Gathered(room)
    try:
        return _read(path, options, gathered)
    finally:
        gathered.discard()


def _read(path: Path, options: ImagingOptions, gathered: Gathered) -> Images:
    layout = layout_of(path, options) if path.exists() else None
    if layout is None and path.is_dir():
        raise DataError(
            f"{path}: no image in folders named like task.classes "
            f"({', '.join(options.classes[:10])}), and not one CSV or npz file"
        )
    if layout is None:
        raise DataError(f"{path}: no such folder, CSV or npz file; check data.path")
    if layout is CSV:
        return read_listed(path, options, gathered)
    if layout is NPZ:
        return read_npz(path, options, gathered)
    if layout is BIDS:
        return read_bids(path, options, gathered)
    return read_folders(path, options, gathered, layout is SPLIT)


def digits(options: ImagingOptions) -> Images:
    """scikit-learn's 1797 handwritten digits, 8 x 8, as the example that needs no file.

    Raises DataError without scikit-learn.
    """
    images, labels = example_sets().load_digits(return_X_y=True)
    pictures = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    if len(options.classes) != 10 or len(options.size) != 2:
        raise DataError(
            "the example data are digits: ten classes, two axes; set data.path to your images"
        )
    check_room(len(pictures) * options.channels * math.prod(options.size))
    pixels = torch.stack([fit(picture, options, "the example data").pixels for picture in pictures])
    keys = np.array([array_key(picture) for picture in pictures])
    return Images(pixels, labels.astype(np.int64), keys=keys)
