"""The imaging task: 2D and 3D images, two or more classes."""

from wardround.common.tasks.imaging.task import ImagingTask

__all__ = ["ImagingTask"]
