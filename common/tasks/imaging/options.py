"""The options of the built-in imaging task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.settings.declared import Name
from wardround.common.settings.effects import Effect
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.class_limits import MOST_CLASSES, too_fine
from wardround.common.tasks.declared import Options, distinct_codes

Fraction = Annotated[float, Field(ge=0, lt=1)]
SMALLEST = {"cnn": 8, "resnet18": 8, "densenet121": 32}
"""Pixels that each network needs along every axis, for what it halves."""
_MOST_PIXELS = 2**27
_MAX_GAP = 2.5
"""One missing slice is bridged, two in a row are not."""


class NetworkOptions(Options):
    """``[task.model]``: the network."""

    effects = (
        Effect("groups", "norm", ("group",)),
        Effect("width", "kind", ("cnn",)),
        Effect("stem", "kind", ("resnet18",)),
    )

    kind: Literal["cnn", "resnet18", "densenet121"] = Field(
        "cnn",
        description="six convolutions, or MONAI's networks; `densenet121` takes at least 32 pixels",
    )
    norm: Literal["group", "batch", "none"] = Field(
        "group", description="see below; `none`: of the `cnn` only"
    )
    groups: int = Field(8, ge=1, le=256, description="of channels, normalised together")
    width: int = Field(32, ge=1, le=256, description="channels of the first stage")
    dropout: Fraction = Field(0.0, description="before the last layer; at each in `densenet121`")
    stem: Literal["auto", "small", "large"] = Field(
        "auto",
        description=(
            "`small` (3 x 3, full resolution; `auto` up to 64 pixels) or `large` (7 x 7, a quarter)"
        ),
    )

    @model_validator(mode="after")
    def _fits(self) -> NetworkOptions:
        if self.norm == "none" and self.kind != "cnn":
            raise WrongKey("norm", f"{self.kind} doesn't train without normalisation; use 'group'")
        if self.norm == "group" and self.kind == "cnn" and self.width % self.groups:
            raise WrongKey("width", f"must be a multiple of groups, which is {self.groups}")
        return self


class AugmentOptions(Options):
    """``[task.augment]``: each drawn anew for every image and step, uniformly within its bound."""

    rotation: float = Field(0.0, ge=0, le=180, description="degrees to either side")
    translation: Fraction = Field(0.0, description="share of the image's size, to either side")
    scaling: Fraction = Field(0.0, description="`0.1` means by 0.9 to 1.1")
    flip: list[Literal["horizontal", "vertical", "depth"]] = Field(
        [], max_length=3, description="axes along which half of the images are mirrored"
    )

    @property
    def enabled(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self.rotation or self.translation or self.scaling or self.flip)


class FileOptions(Options):
    """``[task.files]``: columns of the table that names the images, and which of them are meant."""

    image: Name = Field("file", description="the image, below the CSV's folder")
    label: Name = Field("label", description="its class")
    patient_id: Name | None = Field(None, description="whose images stay on one side of the split")
    split: Name | None = Field(
        None, description="a column that says `train`, `validation` or `test`"
    )
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,50}$")] = Field(
        "T1w", description="of a BIDS data set: which images, by the last word of their names"
    )


class ImagingOptions(Options):
    """``[task]`` with ``name = 'imaging'``."""

    classes: list[str] = Field(
        [str(digit) for digit in range(10)],
        min_length=2,
        max_length=MOST_CLASSES,
        description="names in the order of the outputs; of two, the second is the positive one",
    )
    size: list[Annotated[int, Field(ge=1, le=_MOST_PIXELS)]] = Field(
        [28, 28],
        min_length=2,
        max_length=3,
        description="pixels along each axis, rows first; three numbers for volumes",
    )
    channels: Literal[1, 3] = Field(1, description="grey, or red, green and blue")
    window: tuple[float, float] | None = Field(
        None,
        description=(
            "`[low, high]`: source values that become 0 and 1 (CT: Hounsfield units); left out: "
            "each image's own extremes"
        ),
    )
    spacing: list[Annotated[float, Field(ge=1e-3, le=1e3)]] | None = Field(
        None,
        min_length=2,
        max_length=3,
        description=(
            "mm between pixels, along each axis of `size`: images are resampled to them, then cut "
            "or filled up to `size` about their centre; left out: each image is stretched to `size`"
        ),
    )
    normalise: Literal["federated", "none"] = Field(
        "federated",
        description="mean and deviation of each channel over all hospitals, from sums; or not",
    )
    files: FileOptions = FileOptions()
    model: NetworkOptions = NetworkOptions()
    augment: AugmentOptions = AugmentOptions()
    burned_in: Literal["refuse", "drop", "keep"] = Field(
        "refuse", description="what becomes of a file that says its pixels show the patient"
    )
    max_gap: float = Field(
        _MAX_GAP,
        ge=1,
        le=1000,
        description=(
            "largest distance between neighbouring slices of a volume, in usual (median) ones"
        ),
    )
    store: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description=(
            "where decoded images are: in `memory`, or in a file on the `disk` from which batches "
            "are read; `auto`: on the disk where they take over a quarter of the free memory"
        ),
    )
    bins: int = Field(
        1000, ge=2, le=100_000, description="score bins of the areas under a curve, in the logit"
    )

    @model_validator(mode="before")
    @classmethod
    def _window_is_a_pair(cls, values: object) -> object:
        if isinstance(values, dict) and isinstance(values.get("window"), list):
            return values | {"window": tuple(values["window"])}
        return values

    @model_validator(mode="after")
    def _fits(self) -> ImagingOptions:
        try:
            distinct_codes(self.classes)
        except ValueError as error:
            raise WrongKey("classes", str(error)) from None
        if why := too_fine(len(self.classes), self.bins):
            raise WrongKey("bins", why)
        least = SMALLEST[self.model.kind]
        if min(self.size) < least:
            raise WrongKey("size", f"{self.model.kind} needs at least {least} pixels on each axis")
        if math.prod(self.size) > _MOST_PIXELS:
            raise WrongKey("size", f"more than {_MOST_PIXELS} pixels in all; lower it")
        if self.window and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise WrongKey("window", "[low, high], finite, with low below high")
        if self.spacing and len(self.spacing) != len(self.size):
            raise WrongKey("spacing", f"needs a number for each of the {len(self.size)} of size")
        if len(self.size) == 2 and self.max_gap != _MAX_GAP:
            raise WrongKey("max_gap", "has no effect on images of two axes; leave it out")
        if "depth" in self.augment.flip and len(self.size) == 2:
            raise WrongKey("augment.flip", "images of two axes have no depth")
        return self
