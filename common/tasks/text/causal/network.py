"""The model: a language model's body, what is trained beside it, and its head where it is needed.

What leaves it is two numbers a token, not the scores of a whole vocabulary: the log-likelihood of
the token that stands there, and whether it is the likeliest. The head is computed for scored tokens
only, so many at a time that their scores take little memory.

Shapes: B rows, T tokens of a row, S <= T tokens of the longest, H width, V vocabulary, K scored.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wardround.common.tasks.text.causal.rows import BRANCH, DOCUMENT, POSITION, TOKEN
from wardround.common.tasks.text.frozen import FrozenEmbedding
from wardround.common.tasks.text.merging import merge
from wardround.common.tasks.text.network import drawn_prompt
from wardround.common.tasks.text.triplets import budget

SCORES = 1 << 24
"""Numbers of K x V at a time: 64 MiB."""


class CausalModel(nn.Module):
    """Planes B x 4 x T int64 (``rows.py``) to B x T x 2 float32: the log-likelihood of each scored
    token after the prompt and its own branch, and 1 where it is the likeliest; zeros elsewhere.

    Parameters
    ----------
    body : gives H numbers for each token, in transformers' form
    head : H to V; None where the body's input embedding is the head too
    rank_left : adalora: average rank that is left
    prompt : P learnt vectors that stand before every row, and that every document sees; 0 for none
    base : frozen, where the base's weights are no entries: what they are pinned by
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        rank_left: int | None,
        prompt: int = 0,
        base: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.base = base
        self.prompt = nn.Parameter(drawn_prompt(body, prompt)) if prompt else None
        self.rank_left = rank_left

    def forward(self, planes: Tensor) -> Tensor:
        """See the class."""
        with budget(self, self.rank_left):
            return self._forward(planes)

    def merged(self) -> CausalModel:
        """A copy whose adapters are in its body's own weights, to be taken elsewhere."""
        own = copy.deepcopy(self)
        with budget(own, own.rank_left):
            merge(own)
        own.rank_left = None
        return own.eval()

    def hidden(self, planes: Tensor) -> Tensor:
        """B x S x H: what the body says at each token."""
        documents, branches = planes[:, DOCUMENT], planes[:, BRANCH]
        seen = sees(documents, branches)
        # B x 1 x S x S is taken as it is: transformers would look at values, which vmap can't do
        before = 0 if self.prompt is None else len(self.prompt)
        out = self.body(
            **self.embedded(planes[:, TOKEN]),
            position_ids=after_prompt(planes[:, POSITION], before),
            attention_mask=seeing_prompt(seen, before)[:, None],
            use_cache=False,
        )
        hidden: Tensor = out.last_hidden_state[:, before:]
        return hidden

    def embedded(self, tokens: Tensor) -> dict[str, Tensor]:
        """Tokens as the body takes them, with what stands before them."""
        if self.prompt is None:
            return {"input_ids": tokens}
        embedding = self.body.get_input_embeddings()  # type: ignore[operator]
        before = self.prompt.expand(len(tokens), *self.prompt.shape)
        return {"inputs_embeds": torch.cat([before, embedding(tokens)], 1)}

    def scores(self, hidden: Tensor) -> Tensor:
        """... x H to ... x V; float32 where nothing is trained.

        bfloat16 has steps of an eighth at scores of 16 to 32: several tokens would be likeliest,
        and a choice between them would follow their order.
        """
        if torch.is_grad_enabled():
            return self._head(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            return self._head(hidden.float())

    def _head(self, hidden: Tensor) -> Tensor:
        if self.head is not None:
            found: Tensor = self.head(hidden)
            return found
        embedding = self.body.get_input_embeddings()  # type: ignore[operator]
        if isinstance(embedding, FrozenEmbedding):
            return embedding.scores(hidden)
        return F.linear(hidden, embedding.weight)

    def _forward(self, planes: Tensor) -> Tensor:
        if _transformed(planes):
            return self._everywhere(planes)
        if not self._apart():
            return self._trimmed(planes)
        found = planes.new_zeros((len(planes), planes.shape[2], 2), dtype=torch.float32)
        parts = [(rows, self._trimmed(planes[rows])) for rows in like_rows(planes[:, DOCUMENT] > 0)]
        order = torch.cat([rows for rows, _ in parts])
        found = torch.cat([part for _, part in parts])
        return found[order.argsort()]

    def _apart(self) -> bool:
        """Whether rows may go through the body a few at a time: not where somebody who watches its
        layers expects each of them once for a batch (private gradients)."""
        return not any(
            one._forward_hooks for one in self.modules() if one._parameters and one.training
        )

    def _trimmed(self, planes: Tensor) -> Tensor:
        width = planes.shape[2]
        longest = max(1, int((planes[:, DOCUMENT] > 0).any(0).sum()))
        planes = planes[:, :, :longest]
        hidden, before = self.hidden(planes), predecessors(planes)
        rows, places = (planes[:, BRANCH] != 0).nonzero(as_tuple=True)
        found = self._scored(hidden[rows, before[rows, places]], planes[rows, TOKEN, places])
        out = hidden.new_zeros((len(planes), width, 2), dtype=torch.float32)
        return out.index_put((rows, places), found)

    def _scored(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """K x H and K to K x 2."""
        most = max(1, SCORES // self.vocabulary)
        pieces = list(zip(torch.split(hidden, most), torch.split(tokens, most), strict=True))
        if len(pieces) == 1 or not torch.is_grad_enabled():
            found = [self._likelihood(*one) for one in pieces]
        else:  # scores are large, and cheap to work out again
            found = [checkpoint(self._likelihood, *one, use_reentrant=False) for one in pieces]
        return torch.cat(found)

    def _likelihood(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        scores = self.scores(hidden).float()
        own = scores.gather(-1, tokens[..., None])[..., 0]
        best, total = scores.detach().amax(-1), torch.logsumexp(scores, -1)
        return torch.stack([own - total, (own.detach() >= best).float()], -1)

    def tuned(self) -> AbstractContextManager[None]:
        """Within it the body computes with what is trained beside it."""
        return budget(self, self.rank_left)

    @property
    def vocabulary(self) -> int:
        """V."""
        if self.head is not None:
            return int(self.head.out_features)  # type: ignore[arg-type]
        return int(self.body.get_input_embeddings().num_embeddings)  # type: ignore[operator]

    def _everywhere(self, planes: Tensor) -> Tensor:
        """The same within vmap, where no value can be looked at: the head at every token."""
        hidden, before = self.hidden(planes), predecessors(planes)
        moved = hidden.gather(1, before[..., None].expand(*before.shape, hidden.shape[-1]))
        found = self._likelihood(moved, planes[:, TOKEN])
        return torch.where((planes[:, BRANCH] != 0)[..., None], found, 0.0)


def sees(documents: Tensor, branches: Tensor) -> Tensor:
    """B x S x S, bool: which tokens (last axis) each one sees: those before it and itself, of its
    document, of the prompt or its own branch. Padding sees padding, as something must be seen."""
    size = documents.shape[1]
    order = torch.ones(size, size, dtype=torch.bool, device=documents.device).tril()
    trunk = branches.clamp_min(0)
    same = trunk[:, :, None] == trunk[:, None, :]
    shared = same | (trunk[:, None, :] == 0)
    return order & (documents[:, :, None] == documents[:, None, :]) & shared


def after_prompt(positions: Tensor, before: int) -> Tensor:
    """B x S positions to B x (P + S), of rows after P learnt vectors."""
    first = torch.arange(before, device=positions.device).expand(len(positions), before)
    return torch.cat([first, positions + before], 1) if before else positions


def seeing_prompt(seen: Tensor, before: int) -> Tensor:
    """B x S x S to B x (P + S) x (P + S): all see the P vectors, these only those before."""
    if not before:
        return seen
    size = before + seen.shape[1]
    first = torch.ones(size, before, dtype=torch.bool, device=seen.device).tril()
    return torch.cat([first.expand(len(seen), size, before), F.pad(seen, (0, 0, before, 0))], 2)


def predecessors(planes: Tensor) -> Tensor:
    """B x S int64: where the token stands that each one follows: the one before it, of a branch's
    first token the last of its prompt. 0 for a row's first."""
    documents, branches = planes[:, DOCUMENT], planes[:, BRANCH].clamp_min(0)
    places = torch.arange(planes.shape[2], device=planes.device).expand_as(documents)
    before = (places - 1).clamp_min(0)
    prompt = torch.where((branches == 0) & (documents > 0), places, 0).cummax(1).values
    first = branches != branches.gather(1, before)
    return torch.where(first & (branches > 0), prompt.gather(1, before), before)


def like_rows(present: Tensor) -> list[Tensor]:
    """Rows in groups of like length, the shortest first.

    A group is as long as its longest row: another row joins while the padding stays below a tenth
    of the group, or the group is so small that layers would be slower for it.
    """
    lengths = present.sum(1)
    order = lengths.argsort(stable=True)
    groups: list[list[int]] = [[]]
    real = 0
    for row, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        width = (len(groups[-1]) + 1) * length
        wasted = width - real - length
        full = width > _TOKENS
        small = real < _FEW_TOKENS
        if groups[-1] and (full or (wasted > width // _WASTE and not small)):
            groups.append([])
            real = 0
        groups[-1].append(row)
        real += length
    return [torch.tensor(group, device=present.device) for group in groups if group]


_WASTE = 16
_FEW_TOKENS = 256
_TOKENS = 1 << 15
"""Tokens of a group: without gradients memory doesn't follow the size of a test set."""


def _transformed(planes: Tensor) -> bool:
    """Whether this is within vmap, where no value can be looked at."""
    if torch.compiler.is_compiling():
        return False
    try:
        int(planes[:, DOCUMENT].sum())
    except RuntimeError:
        return True
    return False
