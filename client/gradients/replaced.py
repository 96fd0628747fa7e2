"""Torch's recurrent layers and attention, made of layers that Opacus can take samples of.

Each gives what the layer that it stands for gives, to rounding, from the same parameters, which is
what ``make.py`` holds it to before it trusts it. Dropout draws other numbers than torch's own.

Shapes: B examples, T positions to ask from, S to look at, L layers, D directions, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from opacus.layers import DPGRU, DPLSTM, DPRNN
from opacus.layers.dp_multihead_attention import SequenceBias
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from wardround.client.gradients.base import Unsupported

State = Tensor | tuple[Tensor, Tensor]
_RECURRENT: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.LSTM: DPLSTM,
    nn.GRU: DPGRU,
    nn.RNN: DPRNN,
}


@dataclass(frozen=True)
class Replaced:
    """A layer in another's place.

    parts : for each parameter of the layer that was there, by name, what stands for it; stacked
        along their first axis they are the parameter
    """

    module: nn.Module
    parts: dict[str, list[nn.Parameter]]


def replacement(where: str, layer: nn.Module) -> Replaced | None:
    """What stands for a layer; None if it can stay as it is.

    where : its name in a message. The new layer's numbers are its own; the caller sets them.

    Raises Unsupported for a layer that has no equal.
    """
    if type(layer) not in (*_RECURRENT, nn.MultiheadAttention):
        return None
    if not any(p.requires_grad for p in layer.parameters()):
        return None
    device = next(layer.parameters()).device
    with torch.random.fork_rng(devices=[]):  # new layers draw numbers that nobody needs
        if isinstance(layer, nn.MultiheadAttention):
            made = _Attention(layer)
            return Replaced(made.to(device), made.parts(layer))
        assert isinstance(layer, nn.RNNBase)
        if layer.proj_size:
            raise Unsupported(f"{where}: Opacus has no form of proj_size")
        recurrent = _Recurrent(layer)
        return Replaced(recurrent.to(device), recurrent.parts())


class _Recurrent(nn.Module):
    """``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` as a layer of Opacus's for each of its layers, with
    dropout between them."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.batch_first, self.dropout = layer.batch_first, layer.dropout
        self.directions = 2 if layer.bidirectional else 1
        options: dict[str, Any] = {"bias": layer.bias, "batch_first": layer.batch_first}
        options["bidirectional"] = layer.bidirectional
        if isinstance(layer, nn.RNN):
            options["nonlinearity"] = layer.nonlinearity
        make, hidden = _RECURRENT[type(layer)], layer.hidden_size
        widths = [layer.input_size] + [hidden * self.directions] * (layer.num_layers - 1)
        self.layers = nn.ModuleList(make(width, hidden, **options) for width in widths)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """See ``Replaced``: ``bias_ih_l1_reverse`` is the second layer's ``bias_ih_l0_reverse``."""
        return {
            name.replace("_l0", f"_l{number}"): [parameter]
            for number, layer in enumerate(self.layers)
            for name, parameter in layer.named_parameters()
        }

    def flatten_parameters(self) -> None:
        """Nothing: a model may ask for it."""

    def forward(
        self, input: Tensor | PackedSequence, hx: State | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        if isinstance(input, Tensor) and input.dim() != 3:
            raise Unsupported("a recurrent layer was given one sequence and no batch of them")
        ends: list[State] = []
        for number, layer in enumerate(self.layers):
            if number:
                input = self._drop(input)
            input, end = layer(input, self._of_layer(hx, number))
            ends.append(end)
        if isinstance(ends[0], tuple):
            return input, (torch.cat([h for h, _ in ends]), torch.cat([c for _, c in ends]))
        return input, torch.cat([end for end in ends if isinstance(end, Tensor)])

    def _of_layer(self, hx: State | None, number: int) -> State | None:
        """D x B x H of L D x B x H."""
        own = slice(number * self.directions, (number + 1) * self.directions)
        if hx is None:
            return None
        return hx[own] if isinstance(hx, Tensor) else (hx[0][own], hx[1][own])

    def _drop(self, x: Tensor | PackedSequence) -> Tensor | PackedSequence:
        if isinstance(x, Tensor):
            return F.dropout(x, self.dropout, self.training)
        return PackedSequence(F.dropout(x.data, self.dropout, self.training), *x[1:])


class _Attention(nn.Module):
    """``nn.MultiheadAttention`` as ordinary linear layers."""

    # what torch's transformers ask a layer for, so that they don't take a faster way past it
    in_proj_weight = in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.batch_first, self.dropout = layer.batch_first, layer.dropout
        self.num_heads, self.zero = layer.num_heads, layer.add_zero_attn
        width, bias = layer.embed_dim, layer.in_proj_bias is not None
        self.query = nn.Linear(width, width, bias)
        self.key = nn.Linear(layer.kdim, width, bias)
        self.value = nn.Linear(layer.vdim, width, bias)
        self.out_proj = nn.Linear(width, width, bias)
        self.more = layer.bias_k is not None
        if self.more:
            self.more_key = SequenceBias(width, batch_first=True)
            self.more_value = SequenceBias(width, batch_first=True)

    def parts(self, layer: nn.MultiheadAttention) -> dict[str, list[nn.Parameter]]:
        """See ``Replaced``."""
        own = dict(self.named_parameters())
        three = ("query", "key", "value")
        places = {f"{one[0]}_proj_weight": [f"{one}.weight"] for one in three}
        for kind in ("weight", "bias"):
            places[f"in_proj_{kind}"] = [f"{one}.{kind}" for one in three]
        places |= {"bias_k": ["more_key.bias"], "bias_v": ["more_value.bias"]}
        names = [name for name, _ in layer.named_parameters()]
        return {name: [own[one] for one in places.get(name, [name])] for name in names}

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if query.dim() != 3:
            raise Unsupported("an attention was given one sequence and no batch of them")
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        query, key, value = self.query(query), self.key(key), self.value(value)
        if self.more:
            key, value = self.more_key(key), self.more_value(value)
        if self.zero:
            key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
        query, key, value = (
            x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2) for x in (query, key, value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        for mask in (self._of_pairs(attn_mask, scores), self._of_keys(key_padding_mask)):
            if mask is not None:
                scores = scores + F.pad(mask, (0, scores.shape[-1] - mask.shape[-1]))
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        out = self.out_proj((weights @ value).transpose(1, 2).flatten(2))
        if not self.batch_first:
            out = out.transpose(0, 1)
        if not need_weights:
            return out, None
        return out, weights.mean(1) if average_attn_weights else weights

    def _of_pairs(self, mask: Tensor | None, scores: Tensor) -> Tensor | None:
        """T x S, or B heads x T x S, as what is added to B x heads x T x S."""
        if mask is None:
            return None
        added = _added(mask, scores.dtype)
        return added if mask.dim() == 2 else added.reshape(-1, self.num_heads, *mask.shape[1:])

    def _of_keys(self, mask: Tensor | None) -> Tensor | None:
        """B x S, likewise."""
        return None if mask is None else _added(mask, torch.get_default_dtype())[:, None, None]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to scores: -inf where a position is masked."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)
