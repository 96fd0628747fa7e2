"""The images of one shard, as they are found, to ``Images``; nothing is dropped without a count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from wardround.common.errors import DataError, Unreadable
from wardround.common.memory import most_bytes
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES, Unread, allowed
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.pixels import Decoded

NO_IMAGE = "no image by their names' endings, or content"


class Gathered:
    """Images with labels and splits ('' where the data says none), and what is left out."""

    def __init__(self) -> None:
        self._found: list[tuple[Decoded, int, str, str]] = []
        self._left: list[LeftOut] = []
        self._unread = Unread("images", allowed(OF_IMAGE_FILES))
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._found)

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
        if isinstance(image, LeftOut):
            self._left.append(image)
            return
        image = replace(image, patient=patient) if patient else image
        self._bytes += image.pixels.nbytes
        check_room(self._bytes)
        known = split or image.patient is not None
        self._found.append((image, label, split, "" if known else key()))
        self._left += image.left_out

    def add_unreadable(self, error: Unreadable) -> None:
        """A file, or a folder of slices, that no image can be made of."""
        self._unread.add(str(error))

    def check(self, otherwise: str) -> None:
        """Raise DataError where more can't be read than the hospital lets be left out, and with
        ``otherwise`` where there is no image."""
        self._left.append(self._unread.left_out(len(self) + len(self._unread)))
        if not len(self):
            raise DataError(otherwise)

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
        return Images(
            stacked([image.pixels for image, *_ in found]),
            np.array([label for _, label, *_ in found], dtype=np.int64),
            np.array(patients) if unnamed < len(found) else None,
            splits if splits[0] else None,
            added(self._left),
            unnamed=unnamed if unnamed < len(found) else 0,
            noted=noted,
            keys=np.array(keys),
        )


def check_room(size_bytes: int) -> None:
    """Raise DataError where images of so many bytes can't be kept: once apart, once as one tensor.

    Asked with every image, so that a shard that is too large fails early and not by the system's
    hand, which names no reason.
    """
    if 2 * size_bytes > most_bytes():
        raise DataError(
            f"images of task.size take over {2 * size_bytes >> 30} GiB, and there are "
            f"{most_bytes() >> 30} GiB of memory; lower task.size, or use fewer images"
        )


def stacked(
    images: list[torch.Tensor],
    join: Callable[[list[torch.Tensor]], torch.Tensor] = torch.stack,
) -> torch.Tensor:
    """One tensor; uint8 if every image is, else float32 in [0, 1]."""
    if all(image.dtype == torch.uint8 for image in images):
        return join(images)
    return join([image / 255 if image.dtype == torch.uint8 else image.float() for image in images])
