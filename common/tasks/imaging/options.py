"""The options of the built-in imaging task: the ``[task]`` table of ``federation.toml``."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.effects import Effect
from wardround.common.key_errors import WrongKey
from wardround.common.tasks.declared import Name, Options, distinct_codes

Fraction = Annotated[float, Field(ge=0, lt=1)]
SMALLEST = {"cnn": 8, "resnet18": 8, "densenet121": 32}
"""Pixels that each network needs along every axis, for what it halves."""
_MOST_PIXELS = 2**28
_MAX_GAP = 2.5
"""One missing slice is bridged, two in a row are not."""


class NetworkOptions(Options):
    """``[task.model]``. ``width``: channels of the small CNN's first stage."""

    effects = (
        Effect("groups", "norm", ("group",)),
        Effect("width", "kind", ("cnn",)),
        Effect("stem", "kind", ("resnet18",)),
    )

    kind: Literal["cnn", "resnet18", "densenet121"] = "cnn"
    norm: Literal["group", "batch", "none"] = "group"
    groups: int = Field(8, ge=1, le=1024)
    width: int = Field(32, ge=1, le=1024)
    dropout: Fraction = 0.0
    stem: Literal["auto", "small", "large"] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> NetworkOptions:
        if self.norm == "none" and self.kind != "cnn":
            raise WrongKey("norm", f"{self.kind} doesn't train without normalisation; use 'group'")
        if self.norm == "group" and self.kind == "cnn" and self.width % self.groups:
            raise WrongKey("width", f"must be a multiple of groups, which is {self.groups}")
        return self


class AugmentOptions(Options):
    """``[task.augment]``: each drawn anew for every image and step, uniformly within its bound.

    rotation : degrees to either side; translation : share of the image's size; scaling : 0.1 means
    by 0.9 to 1.1; flip : axes along which half of the images are mirrored
    """

    rotation: float = Field(0.0, ge=0, le=180)
    translation: Fraction = 0.0
    scaling: Fraction = 0.0
    flip: list[Literal["horizontal", "vertical", "depth"]] = []

    @property
    def enabled(self) -> bool:
        """Whether anything is to be changed."""
        return bool(self.rotation or self.translation or self.scaling or self.flip)


class FileOptions(Options):
    """``[task.files]``: columns of a CSV that names the images."""

    image: Name = "file"
    label: Name = "label"
    patient_id: Name | None = None
    split: Name | None = None


class ImagingOptions(Options):
    """``[task]`` with ``name = 'imaging'``.

    classes : names in the order of the model's outputs; of two, the second is the positive one
    size : pixels along each axis, rows first; three numbers for volumes
    window : source values that become 0 and 1 (of a CT: Hounsfield units)
    max_gap : largest distance between neighbouring slices of a volume, in usual (median) ones
    """

    classes: list[str] = Field([str(digit) for digit in range(10)], min_length=2)
    size: list[int] = [28, 28]
    channels: Literal[1, 3] = 1
    window: tuple[float, float] | None = None
    normalise: Literal["federated", "none"] = "federated"
    files: FileOptions = FileOptions()
    model: NetworkOptions = NetworkOptions()
    augment: AugmentOptions = AugmentOptions()
    burned_in: Literal["refuse", "drop", "keep"] = "refuse"
    max_gap: float = Field(_MAX_GAP, ge=1, le=1000)
    bins: int = Field(1000, ge=2, le=100_000)

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
        if len(self.size) not in (2, 3):
            raise WrongKey("size", "two numbers (rows, columns) or three (a volume)")
        least = SMALLEST[self.model.kind]
        if min(self.size) < least:
            raise WrongKey("size", f"{self.model.kind} needs at least {least} pixels on each axis")
        if math.prod(self.size) > _MOST_PIXELS:
            raise WrongKey("size", f"more than {_MOST_PIXELS} pixels in all; lower it")
        if self.window and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise WrongKey("window", "[low, high], finite, with low below high")
        if len(self.size) == 2 and self.max_gap != _MAX_GAP:
            raise WrongKey("max_gap", "has no effect on images of two axes; leave it out")
        if "depth" in self.augment.flip and len(self.size) == 2:
            raise WrongKey("augment.flip", "images of two axes have no depth")
        return self
