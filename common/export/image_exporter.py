"""Exports of imaging models: the graph, and what the model itself predicts for the images that it
is tried on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.export.exporter import Arrays, Cases, Exporter, Fed
from wardround.common.export.image_rows import fed
from wardround.common.export.images import image_graph, traced_module
from wardround.common.export.names import PIXELS, TRACED_OPSET
from wardround.common.export.source import Source
from wardround.common.export.text import Named
from wardround.common.rng import numpy_generator
from wardround.common.tasks.imaging.images import Images

_DRAWN, _SMALL = 8, 2
_MANY = 2**16
"""Numbers of an image, from which a few are tried only: a volume takes seconds."""


class ImageExporter(Exporter):
    """See ``images.py`` for what the graph takes."""

    tolerance = 1e-4
    opset = TRACED_OPSET

    def graph(self, source: Source) -> bytes:
        return image_graph(source)

    def program(self, source: Source) -> nn.Module:
        return Named(traced_module(source), [one.name for one in source.schema.outputs])

    def program_inputs(self, source: Source, columns: Arrays) -> tuple[Tensor, ...]:
        return (torch.from_numpy(columns[PIXELS]),)

    def cases(self, source: Source) -> Cases:
        pixels = case_images(source.schema.channels, source.schema.size)
        with torch.no_grad():
            outputs = source.module(torch.from_numpy(pixels))
        return Cases({PIXELS: pixels}, source.task.predictions(outputs, source.totals))

    def rows(self, source: Fed, raw: Images) -> Iterator[Arrays]:
        return fed(raw.pixels)


def case_images(channels: int, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Images in [0, 1]: black, white, a bright pixel, a ramp, a chessboard, noise; the same
    whenever it is asked. N x C x size."""
    shape = (channels, *size)
    draw = numpy_generator(0, "export parity")
    spot = np.zeros(shape)
    spot[(0, *(one // 2 for one in size))] = 1
    ramp = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    board = (np.indices(size).sum(0) % 2 + np.zeros(shape)).reshape(shape)
    count = _DRAWN if math.prod(shape) <= _MANY else _SMALL
    noise = [draw.random(shape) for _ in range(count)]
    return np.stack([np.zeros(shape), np.ones(shape), spot, ramp, board, *noise]).astype(np.float32)
