"""The built-in imaging task: classification of 2D and 3D images.

Preparation is agreed from sums: each channel's mean and deviation over all hospitals' training
images. Pixels stay as they were read; the model standardises and augments them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.classes import (
    CLASS_FIGURES,
    PRIMARY,
    UNLABELLED,
    Kind,
    checked_outputs,
    class_figures,
    class_loss,
    class_predictions,
    class_sums,
    loss_sum,
    with_mean_loss,
)
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.gather import as_numbers
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.layouts import image_sites, is_one_data_set
from wardround.common.tasks.imaging.networks import make_network
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.private import PrivateImages
from wardround.common.tasks.imaging.read import digits, read_images
from wardround.common.tasks.imaging.to_predict import image_pieces, images_of, kept_names
from wardround.common.tasks.inputs import in_spans, joined, piece
from wardround.common.tasks.private_sums import ClassSums
from wardround.common.tasks.schema import Input, Schema, class_outputs
from wardround.common.tasks.to_predict import Source

_AT_A_TIME = 1024
_LEAST_DEVIATION = 1e-6
_LIKE = 0.2
"""Images whose scales differ by less are of one scale."""


class ImagingTask(Task[Images]):
    """See ``ImagingOptions`` for the keyword arguments. Raises pydantic.ValidationError."""

    options_model = ImagingOptions
    higher_is_better = True
    class_scores = True
    rowwise = True

    def __init__(self, **options: Any) -> None:
        self.options = ImagingOptions(**options)
        self.kind: Kind = "binary" if len(self.options.classes) == 2 else "multiclass"
        self.primary_metric, self.figures = PRIMARY[self.kind], CLASS_FIGURES[self.kind]
        self.phases = 1 if self.options.normalise == "federated" else 0

    # --- data --------------------------------------------------------------------------------
    def load(self, path: Path | None) -> Images:
        """Images in one of the layouts of ``layouts.py``; None: handwritten digits."""
        return digits(self.options) if path is None else read_images(path, self.options)

    def load_large(self, path: Path | None, folder: Path) -> Images:
        """The same; images that are too large for memory lie in a file in ``folder`` and are read
        when they are needed, with the same bits."""
        return digits(self.options) if path is None else read_images(path, self.options, folder)

    def sites(self, path: Path) -> dict[str, Path]:
        """Folders, CSV and npz files by name; other files are not hospitals, nor folders of
        pictures beside CSV files. Raises DataError for a name that is used twice."""
        return image_sites(path, self.options)

    def data_set(self, path: Path) -> str:
        layout = is_one_data_set(path, self.options)
        return super().data_set(path) or (layout.name if layout else "")

    def labels(self, raw: Images) -> NDArray[np.int64]:
        return raw.labels

    def patients(self, raw: Images) -> NDArray[np.str_] | None:
        return raw.patients

    def row_keys(self, raw: Images) -> NDArray[np.str_]:
        """Patients, who are digests already; else of the content of the images' files."""
        known = raw.patients if raw.patients is not None else raw.keys
        return super().row_keys(raw) if known is None else known

    def names_all(self, raw: Images) -> bool:
        return not raw.unnamed

    def given_split(self, raw: Images) -> NDArray[np.str_] | None:
        return raw.splits

    def left_out(self, raw: Images) -> tuple[LeftOut, ...]:
        return raw.left_out

    def warnings(self, raw: Images) -> list[str]:
        """Images that aren't whole, unnamed patients, one class only."""
        lines = [f"in {n} image{'s' * (n != 1)} {line}" for line, n in raw.noted.items()]
        if raw.unnamed:
            lines.append(
                f"{raw.unnamed} images name no patient: each counts as a patient of its own"
            )
        if raw.voxels and self.options.spacing is None:
            lines += _told_of(raw.voxels)
        if len(np.unique(raw.labels)) < 2:
            lines.append("all training images are of one class: it learns from the others only")
        return lines

    # --- preparation ---------------------------------------------------------------------------
    def statistics(self, train: Images, phase: int, totals: Sums) -> Sums:
        """``images``: how many; ``mean`` and ``squares``, C: sums over images of the channel's mean
        and mean square. Images are of one size, so their mean is that over pixels; and pixels are
        in [0, 1], so E[x^2] - E[x]^2 loses few digits and one phase is enough (a table needs two).
        """
        mean = np.zeros(self.options.channels)
        squares = np.zeros(self.options.channels)
        for first, second in self._each(train):
            mean += first.sum(0).numpy()
            squares += second.sum(0).numpy()
        return {"images": np.array([float(len(train))]), "mean": mean, "squares": squares}

    def _each(self, train: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image's moments, some at a time."""
        for start in range(0, len(train), _AT_A_TIME):
            end = min(start + _AT_A_TIME, len(train))
            spans = in_spans(train.pixels, start, end)
            found = [_moments(piece(train.pixels, span)) for span in spans]
            yield torch.cat([one for one, _ in found]), torch.cat([other for _, other in found])

    def private_preparation(self) -> PrivateImages | None:
        if not self.phases:
            return None
        channels = self.options.channels

        def moments(train: Images) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            empty = torch.zeros(0, channels, dtype=torch.float64)
            means, squares = zip((empty, empty), *self._each(train), strict=True)
            return torch.cat(means).numpy(), torch.cat(squares).numpy()

        return PrivateImages(channels, moments)

    def measured(self, raw: Images) -> bool:
        return raw.pixels.dtype.is_floating_point

    def prepare(self, raw: Images, totals: Sums, train: Images) -> Examples:
        """Pixels as they are; targets float32 (two classes) or int64, N; of images to predict
        NaN or ``UNLABELLED``."""
        labels = torch.from_numpy(raw.labels)
        if self.kind == "binary":
            labels = torch.where(labels == UNLABELLED, torch.nan, labels.float())
        return Examples(raw.pixels, labels)

    # --- images to predict -----------------------------------------------------------------------
    def load_rows(self, path: Path) -> Images:
        (images,) = image_pieces(path, self.options, most_bytes=None)
        return images

    def rows_of_values(self, values: Sequence[Any]) -> Images:
        return images_of(values, self.options)

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[Images]:
        if not isinstance(source, Path):
            raise TaskError("images are read from files", mend="give the path of a file or folder")
        return image_pieces(source, self.options, as_text=as_text)

    def row_notes(self, raw: Images, totals: Sums) -> list[str]:
        return [f"in some images {line}" for line in raw.noted]

    def row_names(self, raw: Images, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        if raw.named is None:
            return super().row_names(raw, keep)
        return kept_names(raw.named, self.options.files.patient_id, keep)

    def join(self, parts: list[Examples]) -> Examples:
        """Bytes become numbers up to 1 where another hospital's images are such."""
        whole = all(part.inputs.dtype == torch.uint8 for part in parts)
        inputs = (
            joined([part.inputs for part in parts], torch.uint8)
            if whole
            else joined([part.inputs for part in parts], torch.float32, as_numbers)
        )
        return Examples(inputs, torch.cat([part.targets for part in parts]))

    def schema(self, totals: Sums) -> Schema:
        options, names = self.options, tuple(self.options.classes)
        return Schema(
            task="imaging",
            kind=self.kind,
            target=options.files.label,
            inputs=(Input(name=options.files.image, kind="image"),),
            outputs=class_outputs(self.kind, names),
            classes=names,
            size=tuple(options.size),
            channels=options.channels,
        )

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        return class_predictions(self.kind, outputs, self.options.classes)

    # --- model -------------------------------------------------------------------------------
    def model(self, totals: Sums) -> nn.Module:
        """The configured network behind the scaling and augmentation of its pixels."""
        channels = self.options.channels
        if not self.phases:
            return make_network(self.options, [0.0] * channels, [1.0] * channels)
        count = float(totals["images"][0])
        if not count >= 1:
            raise TaskError("the hospitals have no training image")
        mean = np.asarray(totals["mean"]) / count
        # of pixels that are all alike, rounding may leave a little less than nothing
        variance = np.maximum(np.asarray(totals["squares"]) / count - mean**2, 0.0)
        deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
        return make_network(self.options, mean.tolist(), deviation.tolist())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return class_loss(self.kind, outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """See ``common.tasks.classes``. Raises TaskError if an output isn't finite."""
        outputs, targets = checked_outputs(outputs), targets.detach().cpu()
        losses = loss_sum(self.loss(outputs, targets))
        return class_sums(self.kind, outputs, targets, self.options.bins) | losses

    def private_sums(self, totals: Sums, noise: float) -> ClassSums:
        return ClassSums(self.kind, len(self.options.classes), noise)

    def summarise(self, sums: Sums) -> dict[str, float]:
        return with_mean_loss(class_figures(self.kind, sums), sums)


def _told_of(voxels: Sequence[tuple[float, float]]) -> list[str]:
    """A line where images are stretched to one size by unlike amounts."""
    if all(most <= least * (1 + _LIKE) for least, most in voxels):
        return []
    sides = " x ".join(
        f"{least:.2g}" if most <= least * (1 + _LIKE) else f"{least:.2g} to {most:.2g}"
        for least, most in voxels
    )
    return [
        f"images are of unlike scales: a pixel of task.size is {sides} mm of them; task.spacing "
        "brings all to the same mm"
    ]


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image and channel the mean, and the mean square, of pixels in [0, 1], float64."""
    values = pixels.flatten(2).double()
    if pixels.dtype == torch.uint8:
        values = values / 255
    return values.mean(2), values.square().mean(2)
