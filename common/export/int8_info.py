"""What an 8-bit graph loses and gains, as ``export.json`` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from wardround.common.settings.base import Table

Method = Literal["dynamic", "weights", "static"]


class Int8(Table):
    """An 8-bit graph beside the float one that it was made of, on labelled rows.

    method : see ``int8.py``
    rows, calibration_rows : that it was measured on; whose ranges are in it
    size_bytes, float_bytes : of the two graphs
    speed, speed_alone : the float graph's time over this one's on this machine, in batches and of
        one row; above 1 is faster
    largest : difference between two predictions of one row, relative to the output's scale
    figure : the primary one, whose loss may be at most ``tolerance``
    figures, float_figures : of the two graphs
    """

    method: Method
    rows: int = Field(ge=1)
    calibration_rows: int = Field(0, ge=0)
    size_bytes: int
    float_bytes: int
    speed: float
    speed_alone: float
    largest: float
    figure: str
    figures: Mapping[str, float]
    float_figures: Mapping[str, float]
    tolerance: float
