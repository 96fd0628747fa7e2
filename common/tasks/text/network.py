"""The model of the text task: the encoder, dropout, and a linear head.

Prompt tuning (Lester et al. 2021, arXiv 2104.08691) learns vectors that stand before the tokens of
every row, as if they were embeddings of tokens, and changes no layer.

Shapes: B rows of a batch, T tokens of a row (``max_length``), S <= T tokens of the batch's longest,
H width of the encoder, O outputs, P learnt vectors.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.tasks.text.merging import merge
from wardround.common.tasks.text.triplets import budget

_ROWS_AT_A_TIME = 64
"""Without gradients: memory doesn't follow the size of a test set."""

_FEW = 4
"""Training batches up to this size keep their padding, so that what dropout draws doesn't depend on
which rows they are: before private gradients trust a model they compare three rows with copies."""


class TextModel(nn.Module):
    """Token ids, B x T int64, to B x T x O for tokens, or B x O of the mean over a row's tokens.

    Parameters
    ----------
    encoder : in Hugging Face's form, gives H numbers for each token
    pad : id of padding; its positions are seen by nobody
    pooled : one output for each row
    rank_left : adalora: average rank that is left

    Attributes
    ----------
    base : frozen, where the encoder's weights are no entries: what they are pinned by
    """

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        outputs: int,
        pad: int,
        dropout: float,
        pooled: bool,
        rank_left: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head: nn.Module = nn.Linear(width, outputs)
        self._pad, self._pooled, self._budget = pad, pooled, rank_left
        self.base: nn.Parameter | None = None
        self.prompt: nn.Parameter | None = None
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout

    def learn_prompt(self, count: int) -> None:
        """Have so many vectors before every row: at first embeddings of tokens that torch's global
        generator draws."""
        if count:
            self.prompt = nn.Parameter(drawn_prompt(self.encoder, count))

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class. Positions of padding get zeros."""
        with budget(self, self._budget):
            return self._forward(tokens)

    def merged(self) -> TextModel:
        """A copy whose adapters are in its encoder's own weights, to be taken elsewhere."""
        own = copy.deepcopy(self)
        with budget(own, own._budget):
            merge(own.encoder)
        own._budget = None
        return own.eval()

    def outputs(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Of rows of any common length T: B x T x O, where padding's are arbitrary; or B x O."""
        hidden = self._hidden(tokens, present)
        if self._pooled:
            weights = present.to(hidden.dtype)
            hidden = torch.einsum("bsh,bs->bh", hidden, weights) / weights.sum(1, keepdim=True)
        outputs: Tensor = self.head(self.dropout(hidden))
        return outputs

    def _hidden(self, tokens: Tensor, present: Tensor) -> Tensor:
        """B x S x H, of the rows' own tokens."""
        # B x 1 x 1 x S is taken as it is: transformers would look at values, which vmap can't do
        if self.prompt is None:
            found = self.encoder(input_ids=tokens, attention_mask=present[:, None, None, :])
            return found.last_hidden_state  # type: ignore[no-any-return]
        before = self.prompt.expand(tokens.shape[0], *self.prompt.shape)  # traced, as len() is not
        encoder: Any = self.encoder
        embedded = torch.cat([before, encoder.get_input_embeddings()(tokens)], 1)
        seen = F.pad(present, (self.prompt.shape[0], 0), value=True)
        found = self.encoder(inputs_embeds=embedded, attention_mask=seen[:, None, None, :])
        hidden: Tensor = found.last_hidden_state[:, self.prompt.shape[0] :]
        return hidden

    def _forward(self, tokens: Tensor) -> Tensor:
        if torch.is_grad_enabled() or self.training or len(tokens) <= _ROWS_AT_A_TIME:
            return self._outputs(tokens)
        # rows of like length go together: each piece is as long as its longest row
        order = (tokens != self._pad).sum(1).argsort()
        parts = [self._outputs(tokens[rows]) for rows in torch.split(order, _ROWS_AT_A_TIME)]
        return torch.cat(parts)[order.argsort()]

    def _outputs(self, tokens: Tensor) -> Tensor:
        present = tokens != self._pad
        width = tokens.shape[1]
        few = self.training and len(tokens) <= _FEW
        longest = width if few else _longest(present)
        tokens, present = tokens[:, :longest], present[:, :longest]
        outputs = self.outputs(tokens, present)
        if self._pooled:
            return outputs
        outputs = outputs * present[:, :, None]
        return F.pad(outputs, (0, 0, 0, width - longest))


def drawn_prompt(encoder: Any, count: int) -> Tensor:
    """``count`` x H: embeddings of tokens that torch's global generator draws."""
    embedding: nn.Embedding = encoder.get_input_embeddings()
    tokens = torch.randint(embedding.num_embeddings, (count,))
    with torch.no_grad():
        return embedding(tokens).clone()  # type: ignore[no-any-return]


def _longest(present: Tensor) -> int:
    """S. Within vmap, where no value can be looked at, nothing is trimmed: T. Nor while compiling,
    for every S would be compiled anew."""
    if torch.compiler.is_compiling():
        return present.shape[1]
    try:
        return max(1, int(present.any(0).sum()))
    except RuntimeError:
        return present.shape[1]
