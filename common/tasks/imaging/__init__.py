"""The imaging task: 2D and 3D images, two or more classes.

The task is imported when it is asked for: what reads data and knows options needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wardround.common.tasks.imaging.task import ImagingTask as ImagingTask

__all__ = ["ImagingTask"]


def __getattr__(name: str) -> object:
    """``ImagingTask``."""
    if name != "ImagingTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardround.common.tasks.imaging.task import ImagingTask

    return ImagingTask


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
