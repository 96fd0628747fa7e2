"""The images of one shard, as they are found, to ``Images``; nothing is dropped without a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from wardround.common.errors import DataError, Unreadable
from wardround.common.memory import most_bytes
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES, Unread, allowed
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.stored.writer import StoreWriter
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.kept import NOWHERE, Room, facts
from wardround.common.tasks.imaging.pixels import Decoded
from wardround.common.tasks.inputs import Inputs

NO_IMAGE = "no image by their names' endings, or content"


class Gathered:
    """Images with labels and splits ('' where the data says none), and what is left out.

    room : where they may go if they don't fit into memory; None: nowhere
    """

    def __init__(self, room: Room | None = None) -> None:
        self._room = room
        self._writer: StoreWriter | None = None
        self._found: list[tuple[Decoded, int, str, str]] = []
        self._left: list[LeftOut] = []
        self._unread = Unread("images", allowed(OF_IMAGE_FILES))
        self._bytes = self._coming = self._looked_at = 0

    def __len__(self) -> int:
        return len(self._found)

    def expect(self, images: int) -> None:
        """So many more are to be added, or left out."""
        self._coming += images

    def add(
        self,
        image: Decoded | LeftOut,
        label: int,
        split: str,
        key: Callable[[], str],
        patient: str = "",
    ) -> None:
        """An image, or why there is none.

        key : tells it from others by its content; asked for where neither patient nor split do
        patient : a digest, where it isn't the image that says whose it is
        """
        self._coming = max(0, self._coming - 1)
        if isinstance(image, LeftOut):
            self._left.append(image)
            return
        image = replace(image, patient=patient) if patient else image
        known = split or image.patient is not None
        kept = (self._kept(image), label, split, "" if known else key())
        self._found.append(kept)
        self._left += image.left_out

    def add_unreadable(self, error: Unreadable) -> None:
        """A file, or a folder of slices, that no image can be made of."""
        self._coming = max(0, self._coming - 1)
        self._unread.add(str(error))

    def check(self, otherwise: str) -> None:
        """Raise DataError where more can't be read than the hospital lets be left out, and with
        ``otherwise`` where there is no image."""
        self._left.append(self._unread.left_out(len(self) + len(self._unread)))
        if not len(self):
            raise DataError(otherwise)

    def _kept(self, image: Decoded) -> Decoded:
        """The image, without pixels once they lie in the file."""
        size = image.pixels.nbytes
        self._bytes += size
        if self._writer is None and self._is_short(self._bytes + self._coming * size):
            self._to_disk()
        if self._writer is None:
            check_room(self._bytes)
            return image
        self._writer.add(image.pixels, self._coming)
        return replace(image, pixels=NOWHERE)

    def _is_short(self, size_bytes: int) -> bool:
        """Whether so much, all of the shard as far as is known, is to lie on the disk."""
        if self._room is None or size_bytes <= self._looked_at:
            return False
        self._looked_at = size_bytes + size_bytes // 8  # to look costs as much as a small image
        return self._room.is_short(size_bytes)

    def _to_disk(self) -> None:
        """From now on; what is in memory goes there too."""
        assert self._room is not None
        self._writer = self._room.writer()
        for number, (image, label, split, key) in enumerate(self._found):
            self._writer.add(image.pixels, len(self._found) - number + self._coming)
            self._found[number] = (replace(image, pixels=NOWHERE), label, split, key)

    def discard(self) -> None:
        """Leave nothing of a file that wasn't finished."""
        if self._writer is not None:
            self._writer.discard()

    def leave_out(self, count: int, what: str, reason: str) -> None:
        """Something that no image was made of; none of it where ``count`` is 0."""
        self._left.append(LeftOut(count, what, reason))

    def images(self) -> Images:
        """The shard; at least one image must be there."""
        found = self._found
        keys = [key for *_, key in found]
        patients = [image.patient for image, *_ in found]
        unnamed = patients.count(None)
        if unnamed < len(patients):  # nobody knows whether those without a name are one patient
            patients = [
                name or f"unnamed image {key or number}"
                for number, (name, key) in enumerate(zip(patients, keys, strict=True))
            ]
        splits = np.array([split for _, _, split, _ in found])
        noted: dict[str, int] = {}
        for line in (line for image, *_ in found for line in image.noted):
            noted[line] = noted.get(line, 0) + 1
        pixels: Inputs = NOWHERE.expand(len(found), 0)
        if self._writer is None:
            pixels = stacked([image.pixels for image, *_ in found])
        images = Images(
            pixels,
            np.array([label for _, label, *_ in found], dtype=np.int64),
            np.array(patients) if unnamed < len(found) else None,
            splits if splits[0] else None,
            added(self._left),
            unnamed=unnamed if unnamed < len(found) else 0,
            noted=noted,
            keys=np.array(keys),
            voxels=_voxels([image.voxel for image, *_ in found]),
        )
        if self._writer is None or self._room is None:
            return images
        return self._room.opened(self._writer.finish(facts(images)))


def _voxels(found: list[tuple[float, ...] | None]) -> tuple[tuple[float, float], ...]:
    known = [voxel for voxel in found if voxel is not None]
    return tuple((min(axis), max(axis)) for axis in zip(*known, strict=True))


def check_room(size_bytes: int) -> None:
    """Raise DataError where images of so many bytes can't be kept: once apart, once as one tensor.

    Asked with every image, so that a shard that is too large fails early and not by the system's
    hand, which names no reason.
    """
    if 2 * size_bytes > most_bytes():
        raise DataError(
            f"images of task.size take over {2 * size_bytes >> 30} GiB, and there are "
            f"{most_bytes() >> 30} GiB of memory; set task.store = 'disk' or leave it out, or "
            "lower task.size"
        )


def stacked(images: list[Tensor]) -> Tensor:
    """One tensor; uint8 if every image is, else float32 in [0, 1]."""
    if all(image.dtype == torch.uint8 for image in images):
        return torch.stack(images)
    return torch.stack([as_numbers(image) for image in images])


def as_numbers(image: Tensor) -> Tensor:
    """float32 in [0, 1], of bytes 255ths."""
    return image / 255 if image.dtype == torch.uint8 else image.float()
