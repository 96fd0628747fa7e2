"""What tests say of figures with noise."""

from __future__ import annotations

import math

from wardround.common.figures.noised import Measured


def unmeasured(found: Measured) -> list[str]:
    """Names of figures that noise or too few rows hide."""
    return [name for name, value in found.figures.items() if not math.isfinite(value)]
