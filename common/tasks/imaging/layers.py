"""What stands before a network: scaling of pixels, and augmentation while it trains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.tasks.imaging.options import AugmentOptions

_AXES = {"horizontal": 0, "vertical": 1, "depth": 2}
"""Position in a sampling grid's last axis, which begins with the columns."""


class Standardise(nn.Module):
    """Pixels to float32, uint8 by 1/255, less the mean and over the deviation of each channel.

    mean, deviation : C numbers each, of pixels in [0, 1]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float], axes: int) -> None:
        super().__init__()
        shape = (-1, *[1] * axes)
        # every party makes them from the totals: nothing that has to travel
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(shape), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """B x C x size to the same, float32."""
        values = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return (values - self.mean) / self.deviation


class Augment(nn.Module):
    """A random rotation, translation, scaling and flip of each image, while training.

    Images are sampled linearly in one pass; what comes from outside is the nearest pixel inside.
    Draws come from torch's global generator (which training seeds), on the CPU, so that every
    device sees the same.
    """

    draws_random = True
    """For simulations: clients can't be trained at once in one vectorised pass."""

    def __init__(self, options: AugmentOptions) -> None:
        super().__init__()
        self.options = options

    def forward(self, images: Tensor) -> Tensor:
        """B x C x size to the same."""
        if not self.training:
            return images
        maps = self.draw(len(images), images.shape[2:]).to(images.device, images.dtype)
        grid = F.affine_grid(maps, list(images.shape), align_corners=False)
        return F.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def draw(self, count: int, size: torch.Size) -> Tensor:
        """B x axes x (axes + 1): where each image's grid is read from, in [-1, 1] coordinates.

        Rotations are of pixels, so that an image that isn't square isn't sheared.
        """
        # a grid says where a pixel comes from, so each map is the inverse of what is seen
        options, axes = self.options, len(size)
        maps = torch.eye(axes).repeat(count, 1, 1)
        if options.rotation:
            for first in range(axes):
                for second in range(first + 1, axes):
                    maps = maps @ _rotations(count, axes, first, second, options.rotation)
        if options.scaling:
            maps = maps / _uniform(count, 1, options.scaling).add(1)[:, :, None]
        for name in options.flip:
            mirrored = torch.rand(count) < 0.5
            maps[:, :, _AXES[name]] = torch.where(
                mirrored[:, None], -maps[:, :, _AXES[name]], maps[:, :, _AXES[name]]
            )
        # the rotation was of pixels; the grid's axes all run from -1 to 1, whatever their lengths
        extent = torch.tensor(list(size)[::-1], dtype=torch.float32)
        maps = maps * extent[None, None, :] / extent[None, :, None]
        shift = _uniform(count, axes, 2 * options.translation)
        return torch.cat([maps, shift[:, :, None]], dim=2)


def _uniform(count: int, numbers: int, bound: float) -> Tensor:
    return (torch.rand(count, numbers) * 2 - 1) * bound


def _rotations(count: int, axes: int, first: int, second: int, degrees: float) -> Tensor:
    angle = _uniform(count, 1, math.radians(degrees))[:, 0]
    turn = torch.eye(axes).repeat(count, 1, 1)
    turn[:, first, first] = turn[:, second, second] = angle.cos()
    turn[:, first, second], turn[:, second, first] = -angle.sin(), angle.sin()
    return turn
