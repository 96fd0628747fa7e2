"""A text model as one ONNX graph: the encoder with its adapters merged in, the head, probabilities.

    input_ids       int64 N x T    the encoder's token ids, with its special tokens
    attention_mask  int64 N x T    1 for a token, 0 for padding

Of texts with classes the outputs are the schema's, float64 N x 1 each. Of tagged words there is
``tag_probabilities``, float32 N x T x L, of each tag in ``Schema.classes``; a word's tag is the
most probable one at its first token, what stands at other tokens means nothing.

Tokens are made by ``tokenizer.json`` as in training (``common/tasks/text/encoder.py``): the graph
takes ids. Adapters are merged in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wardround.common.export.exporter import Fed
from wardround.common.export.names import MASK, TAG_PROBABILITIES, TOKENS
from wardround.common.export.source import Source
from wardround.common.export.traced import traced_graph
from wardround.common.tasks.text.network import TextModel
from wardround.common.tasks.text.task import TextTask

_FREE = {0: "N", 1: "T"}


def text_graph(source: Source) -> bytes:
    """The ONNX file of a text model. Raises ModelRefused."""
    tokens = torch.ones(2, 4, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    return traced_graph(
        traced_module(source),
        {TOKENS: tokens, MASK: mask},
        {TOKENS: _FREE, MASK: _FREE},
        output_names(source),
        source.notes,
    )


def output_names(source: Source) -> list[str]:
    """Of the graph, in its order."""
    if task_of(source).tagging:
        return [TAG_PROBABILITIES]
    return [one.name for one in source.schema.outputs]


def task_of(source: Fed) -> TextTask:
    """The model's task, which is of texts."""
    assert isinstance(source.task, TextTask)  # ``exporter_of`` goes by its name
    return source.task


def traced_module(source: Source) -> nn.Module:
    """Token ids and mask to the graph's outputs, without adapters."""
    model = source.module
    assert isinstance(model, TextModel)
    return _Tagger(model.merged()) if task_of(source).tagging else _Classifier(model.merged())


class Named(nn.Module):
    """A module with outputs by name, as programs of ``torch.export`` have them: N x 1 are N."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self._names = module, list(names)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """See the class."""
        found = self.module(*inputs)
        parts = found if isinstance(found, tuple) else (found,)
        flat = [one[:, 0] if one.ndim == 2 else one for one in parts]
        return dict(zip(self._names, flat, strict=True))


class Probabilities(nn.Module):
    """N x O logits to float64 probabilities, N x 1 each: of O = 1 of the second class, else of
    every class."""

    def forward(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        values = outputs.double()
        if outputs.shape[1] == 1:
            return (torch.sigmoid(values),)
        return torch.split(torch.softmax(values, dim=1), 1, dim=1)


class _Classifier(nn.Module):
    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model, self.probabilities = model, Probabilities()

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = self.probabilities(self.model.outputs(tokens, mask != 0))
        return found


class _Tagger(nn.Module):
    def __init__(self, model: TextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        outputs = self.model.outputs(tokens, mask != 0)
        return torch.softmax(outputs * mask[:, :, None], dim=2)
