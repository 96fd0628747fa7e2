"""An npz of images and labels, as MedMNIST has them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.row_keys import array_key
from wardround.common.tasks.data.shards import SPLIT_NAMES, visible
from wardround.common.tasks.imaging.gather import Gathered
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded, fit

_KINDS = ("images", "labels")


def read_npz(path: Path, options: ImagingOptions, gathered: Gathered) -> Images:
    """``train_images``, ``train_labels``, ``val_...``, ``test_...``; or ``images``, ``labels``.

    Of an npz file, or the one in a folder. Raises DataError naming the array.
    """
    if path.is_dir():
        entries = visible(path)
        (path,) = (entry for entry in entries if entry.suffix.lower() == ".npz")
        gathered.leave_out(len(entries) - 1, "items", "beside an npz file")
    with _readable(path):
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            names = list(file.files)
    for prefix, split in _parts(path, names, gathered).items():
        with _readable(path):
            images = _Rows.of(path, f"{prefix}images")
            with np.load(path, allow_pickle=False) as file:
                targets = file[f"{prefix}labels"]
        labels = _npz_labels(images, targets, options, f"{path}: {prefix}labels")
        gathered.expect(len(labels))
        for number, (image, label) in enumerate(zip(images.each(), labels, strict=True)):
            place = f"{path}: {prefix}images[{number}]"
            key = partial(array_key, image)
            gathered.add(of_numbers(image, options, place), int(label), split, key)
    if not len(gathered):
        raise DataError(f"{path}: there are no images in it")
    return gathered.images()


def image_arrays(path: Path) -> Iterator[tuple[str, int, NDArray[Any]]]:
    """(array, position in it, image) of all arrays whose names end in 'images', in the order of the
    npz. Raises DataError."""
    with _readable(path):
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if name.endswith(_KINDS[0])]
    if not names:
        raise DataError(f"{path}: no array whose name ends in '{_KINDS[0]}'")
    for name in names:
        with _readable(path):
            rows = _Rows.of(path, name)
        for number, image in enumerate(rows.each()):
            yield name, number, image


def _parts(path: Path, arrays: Collection[str], gathered: Gathered) -> dict[str, str]:
    """What stands before 'images' and 'labels', with the split that it says.

    Raises DataError for images without labels, labels without images, and a part of no split.
    """
    splits = {"": ""} | {f"{name}_": split for name, split in SPLIT_NAMES.items()}
    kinds = {name: kind for name in arrays for kind in _KINDS if name.endswith(kind)}
    found = {}
    for name, kind in kinds.items():
        prefix = name.removesuffix(kind)
        if prefix not in splits:
            raise DataError(
                f"{path}: an array of {kind} whose name is of no split; rename it (train_{kind}, "
                f"val_{kind}, test_{kind}) or leave it out"
            )
        found[prefix] = splits[prefix]
    if not found:
        raise DataError(
            f"{path}: no arrays named train_images and train_labels, or images and labels"
        )
    if "" in found and len(found) > 1:
        part = next(prefix for prefix in found if prefix)
        raise DataError(f"{path}: it has images and {part}images; keep one of the two")
    for name, other in ((p + a, p + b) for p in found for a, b in (_KINDS, _KINDS[::-1])):
        if name in arrays and other not in arrays:
            raise DataError(f"{path}: {name} without {other}; add it, or leave both out")
    others = len(arrays) - len(kinds)
    gathered.leave_out(others, "arrays", "neither images nor labels by their names")
    return found


def of_numbers(image: NDArray[Any], options: ImagingOptions, place: str) -> Decoded:
    """An array as an image. Raises DataError for one of other things, or axes."""
    if image.dtype.kind not in "iufb":
        raise DataError(f"{place}: not of numbers")
    return fit(image, options, place)


def _npz_labels(
    images: _Rows, targets: NDArray[Any], options: ImagingOptions, place: str
) -> NDArray[np.int64]:
    """One class for each image, N int64. Raises DataError."""
    single = targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1)
    if not single or len(images.shape) < 3 or images.shape[0] != len(targets):
        raise DataError(f"{place}: one label for each image is needed")
    most = len(options.classes)
    whole = targets.dtype.kind in "iu"
    if not whole or (len(targets) and not (0 <= int(targets.min()) <= int(targets.max()) < most)):
        raise DataError(
            f"{place}: labels are whole numbers below {most}, one for each of task.classes"
        )
    return targets.reshape(-1).astype(np.int64)


@dataclass(frozen=True)
class _Rows:
    """An array of an npz, of which a row at a time is in memory.

    shape, dtype : of the whole array; ``whole``: the array, where its file can't be read by rows
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    whole: NDArray[Any] | None = None

    @classmethod
    def of(cls, path: Path, name: str) -> _Rows:
        """Raises what numpy and zipfile raise."""
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            header = _header(file)
        if header is None:
            with np.load(path, allow_pickle=False) as arrays:
                array = arrays[name]
            return cls(path, name, array.shape, array.dtype, array)
        return cls(path, name, *header)

    def each(self) -> Iterator[NDArray[Any]]:
        """The rows in order. Raises DataError."""
        if self.whole is not None:
            yield from self.whole
            return
        count = int(np.prod(self.shape[1:], dtype=np.int64))
        with _readable(self.path), zipfile.ZipFile(self.path) as archive:
            with archive.open(f"{self.name}.npy") as file:
                _header(file)
                for _ in range(self.shape[0]):
                    data = file.read(count * self.dtype.itemsize)
                    row = np.frombuffer(data, self.dtype)
                    if len(row) != count:
                        raise EOFError
                    yield row.reshape(self.shape[1:])


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of the array whose rows follow; None where they don't: of another order, or no
    numbers."""
    version, forms = np.lib.format.read_magic(file), np.lib.format
    if version not in ((1, 0), (2, 0)):
        return None
    read = forms.read_array_header_1_0 if version == (1, 0) else forms.read_array_header_2_0
    shape, columns_first, dtype = read(file)
    return None if columns_first or dtype.kind not in "iufb" else (shape, dtype)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise DataError for what isn't a whole npz."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check data.path") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"{path}: not readable as npz ({type(error).__name__})") from None
    except zlib.error:
        raise DataError(f"{path}: not readable as npz (damaged)") from None
