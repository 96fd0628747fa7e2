"""Images of the persons at one party: files that a column of its table names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from wardround.common.errors import DataError
from wardround.common.settings.declared import Name
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.declared import Options


class ImageColumn(Options):
    """``[task.parties.NAME.images]``: images, one for each person, for a split network."""

    column: Name = Field("file", description="the image's file, below the table's folder")
    size: list[Annotated[int, Field(ge=8, le=2**12)]] = Field(
        [28, 28],
        min_length=2,
        max_length=3,
        description="pixels along each axis, rows first; three numbers for volumes",
    )
    channels: Literal[1, 3] = Field(1, description="grey, or red, green and blue")


def read_images(table: Table, images: ImageColumn) -> Tensor:
    """The image of each row, N x channels x size, uint8 or float32 in [0, 1], read as the imaging
    task reads them. Raises DataError, by the row's place, for one that can't be read, or shows who
    the patient is."""
    # torch, and readers of pictures, where there are any to read
    from wardround.common.tasks.imaging.decode import decode
    from wardround.common.tasks.imaging.gather import check_room, stacked
    from wardround.common.tasks.imaging.listed import filled, inside
    from wardround.common.tasks.imaging.options import ImagingOptions

    options = ImagingOptions(size=list(images.size), channels=images.channels)
    if table.called or len(table.files) != 1:
        raise DataError(
            f"{table.place(0, images.column)}: images are read beside one file that names them"
        )
    folder, found, size = table.files[0].parent, [], 0
    for row, cell in enumerate(filled(table, images.column)):
        place = table.place(row, images.column)
        image = decode(inside(folder, cell, place), options, place)
        if isinstance(image, LeftOut):
            raise DataError(f"{place}: {image.reason}; take the row out")
        size += image.pixels.nbytes
        check_room(size)
        found.append(image.pixels)
    return stacked(found)
