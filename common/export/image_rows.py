"""Images to what a graph takes: decoded, windowed and resampled by the code of training.

That code resamples by torch, so unlike the graph itself, reading image files needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.export.folder import ExportFolder
from wardround.common.export.names import PIXELS
from wardround.common.export.runtime import GraphRows
from wardround.common.export.session import GraphSession
from wardround.common.figures.sums import Sums
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.gather import as_numbers
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.to_predict import image_pieces, images_of, kept_names
from wardround.common.tasks.inputs import Inputs, in_spans, piece
from wardround.common.tasks.to_predict import Source


def fed(pixels: Inputs) -> Iterator[dict[str, NDArray[Any]]]:
    """What the graph takes, some images at a time: float32 in [0, 1], of bytes 255ths."""
    for span in in_spans(pixels):
        yield {PIXELS: as_numbers(piece(pixels, span)).numpy()}


class ImageRows(GraphRows[Images]):
    """Images for one export."""

    def __init__(self, folder: ExportFolder) -> None:
        self._options = ImagingOptions(**folder.options)

    def load(self, path: Path | None) -> Images:
        if path is None:
            raise TaskError("an export has no example data", mend="give the path of images")
        return self.load_rows(path)

    def load_rows(self, path: Path) -> Images:
        (images,) = image_pieces(path, self._options, most_bytes=None)
        return images

    def rows_of_values(self, values: Sequence[Any]) -> Images:
        return images_of(values, self._options)

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[Images]:
        if not isinstance(source, Path):
            raise TaskError("images are read from files", mend="give the path of a file or folder")
        return image_pieces(source, self._options, as_text=as_text)

    def row_notes(self, raw: Images, totals: Sums) -> list[str]:
        return [f"in some images {line}" for line in raw.noted]

    def left_out(self, raw: Images) -> tuple[LeftOut, ...]:
        return raw.left_out

    def row_names(self, raw: Images, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        if raw.named is None:
            return super().row_names(raw, keep)
        return kept_names(raw.named, self._options.files.patient_id, keep)

    def predictions(self, session: GraphSession, raw: Images) -> dict[str, NDArray[Any]]:
        """The outputs by name, N each."""
        found = [session.run(batch) for batch in fed(raw.pixels)]
        return {name: np.concatenate([one[name] for one in found]) for name in session.outputs}
