"""What a model was found to be, in the scale that the parties gave their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.vertical.ring import Reals


@dataclass(frozen=True)
class Fitted:
    """K coefficients.

    kept : of all inputs that weren't left out at home, by number, those that have one
    coefficients, errors : of these, and their standard errors
    intercept : None where the model has none
    points : at which a gradient was opened
    figures : more to tell, by name
    """

    kept: NDArray[np.int64]
    coefficients: Reals
    errors: Reals
    intercept: float | None
    points: int
    figures: Mapping[str, float]
