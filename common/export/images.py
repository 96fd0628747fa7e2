"""An imaging model as one ONNX graph: scaling of intensities, the network, probabilities.

    pixels  float32 N x C x size   in [0, 1]: bytes as 255ths, other numbers by ``task.window``

The outputs are the schema's, float64 N x 1 each. Inside the graph: mean and deviation of each
channel over the hospitals, which the run agreed on. Outside, and done by the same code as in
training (``common/tasks/imaging/pixels.py``): decoding, grey or colours, window, orientation,
resampling to ``task.size``. These depend on a file's own format, and the window stands before the
resampling. Augmentation is of training only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wardround.common.export.names import PIXELS
from wardround.common.export.source import Source
from wardround.common.export.text import Probabilities
from wardround.common.export.traced import traced_graph


def image_graph(source: Source) -> bytes:
    """The ONNX file of an imaging model. Raises ModelRefused."""
    schema = source.schema
    return traced_graph(
        traced_module(source),
        {PIXELS: torch.rand(2, schema.channels, *schema.size)},
        {PIXELS: {0: "N"}},
        [one.name for one in schema.outputs],
        source.notes,
    )


def traced_module(source: Source) -> nn.Module:
    """Pixels to the graph's outputs."""
    return _Classifier(source.module)


class _Classifier(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.probabilities = model, Probabilities()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.probabilities(self.model(pixels))
        return found
