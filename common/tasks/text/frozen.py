"""Frozen weights in fewer bits than float32: what is trained beside them stays in float32.

| ``base_dtype`` | a layer's weight | bits a number |
|---|---|---|
| ``bf16`` | rounded to bfloat16 | 16 |
| ``int8`` | round(127 w / m) m / 127, m the largest of its row | 8, and 32 a row |
| ``nf4`` | 16 levels in blocks of 64 (QLoRA; Dettmers et al. 2023, arXiv 2305.14314) | 4.5 |

Embeddings, and a head that shares an embedding's weight or has a vocabulary's outputs, are kept in
bfloat16 in all three; biases and norms in float32. A weight is dequantised where it is used, in the
forward pass and again in the backward pass, and never kept. Each party rounds its own copy of the
files on the CPU, by the same arithmetic, so that all have the same.

These weights are no entries of the model's state dict. What they are rounded from, and to, is
pinned by one entry (``pin_of``), the digest of the files.

Shapes: O outputs and I inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.tasks.text.libraries import bitsandbytes
from wardround.common.tasks.text.options import BaseDtype

BLOCK = 64
_ROWS = 1 << 13
_WIDE = ("lm_head", "embed_out")
_DTYPES: tuple[BaseDtype, ...] = ("float32", "bf16", "int8", "nf4")


def packed(weight: Tensor, dtype: BaseDtype) -> tuple[Tensor, ...]:
    """A weight, O x I, as it is kept; on the CPU. Raises TaskError where a library is missing."""
    weight = weight.detach().cpu().float()
    if dtype == "bf16":
        return (weight.bfloat16(),)
    if dtype == "int8":
        scale = weight.abs().amax(1, keepdim=True) / 127
        levels = (weight / scale.where(scale > 0, 1.0)).round()
        return levels.to(torch.int8), scale
    library = bitsandbytes()
    levels, state = library.quantize_4bit(weight.contiguous(), blocksize=BLOCK, quant_type="nf4")
    return levels, state.absmax, state.code


def unpacked(kept: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The weight as numbers of ``dtype``, O x I, from what ``packed`` gave."""
    if len(kept) == 1:
        return kept[0].to(dtype)
    if len(kept) == 2:
        levels, scale = kept
        return levels.to(torch.float32).mul_(scale).to(dtype)
    levels, largest, code = kept
    if levels.device.type not in ("cpu", "cuda"):
        raise TaskError(
            f"task.base_dtype = 'nf4' isn't for training.device = '{levels.device.type}'; set it "
            "to 'int8'"
        )
    library = bitsandbytes()
    state = library.QuantState(
        absmax=largest,
        shape=shape,
        code=code,
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch.float32,
    )
    found: Tensor = library.dequantize_4bit(levels, state)
    return found.to(dtype)


class _Product(torch.autograd.Function):
    """x W^T of a frozen W: what is saved for the backward pass is W as it is kept, not W."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, shape: torch.Size, *kept: Tensor) -> Tensor:
        return F.linear(x, unpacked(kept, shape, x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.shape, *kept = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(*kept)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        kept = ctx.saved_tensors  # asked for once: checkpointing makes them anew each time
        weight = unpacked(kept, ctx.shape, ctx.dtype)
        return gradient @ weight, None, *(None for _ in kept)


class _Frozen(nn.Module):
    """What a layer's frozen weight is kept as: buffers that are in no state dict."""

    def _keep(self, kept: tuple[Tensor, ...], shape: torch.Size) -> None:
        self.shape, self._names = shape, [f"kept_{number}" for number in range(len(kept))]
        for name, part in zip(self._names, kept, strict=True):
            self.register_buffer(name, part, persistent=False)

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """As ``packed`` gives it."""
        return tuple(getattr(self, name) for name in self._names)

    def _product(self, x: Tensor) -> Tensor:
        """x W^T in x's type, or autocast's: which it has forwards, it must have backwards, too."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        x = x.to(dtype)
        if not torch.is_grad_enabled() and len(self.kept) == 1 and self.kept[0].dtype != dtype:
            # a vocabulary is never whole in more bits
            parts = torch.split(self.kept[0], _ROWS)
            return torch.cat([F.linear(x, part.to(dtype)) for part in parts], -1)
        found: Tensor = _Product.apply(x, self.shape, *self.kept)  # type: ignore[no-untyped-call]
        return found

    @property
    def weight(self) -> Tensor:
        """The weight in float32, made anew."""
        return unpacked(self.kept, self.shape, torch.float32)


class FrozenLinear(_Frozen, nn.Linear):  # type: ignore[override]
    """A linear layer whose weight is frozen. ``kept``: as ``packed`` gives it."""

    def __init__(self, layer: nn.Linear, kept: tuple[Tensor, ...]) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._keep(kept, layer.weight.shape)
        self.register_parameter("bias", layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """B x ... x I to B x ... x O, in x's type, or autocast's."""
        out = self._product(x)
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def plain(self) -> nn.Linear:
        """The layer in float32, whose weight is its own."""
        with torch.random.fork_rng(devices=[]):
            layer = nn.Linear(self.in_features, self.out_features, self.bias is not None)
        layer.requires_grad_(False)
        layer.weight.copy_(self.weight)
        if self.bias is not None and layer.bias is not None:
            layer.bias.copy_(self.bias)
        return layer


def same_weight(one: nn.Module, other: nn.Module) -> bool:
    """Whether two layers share their weight, frozen or not."""
    if isinstance(one, _Frozen) and isinstance(other, _Frozen):
        return one.kept[0] is other.kept[0]
    return one.weight is other.weight


class FrozenEmbedding(_Frozen, nn.Embedding):  # type: ignore[override]
    """An embedding whose table is frozen; what it gives is float32."""

    def __init__(self, layer: nn.Embedding, kept: tuple[Tensor, ...]) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = layer.num_embeddings, layer.embedding_dim
        self.padding_idx, self.max_norm = layer.padding_idx, layer.max_norm
        self.norm_type, self.sparse = layer.norm_type, False
        self.scale_grad_by_freq = False  # of a table that has no gradient
        self._keep(kept, layer.weight.shape)

    def forward(self, input: Tensor) -> Tensor:
        """B x ... token ids to B x ... x H."""
        return F.embedding(input, self.kept[0]).float()

    def scores(self, hidden: Tensor) -> Tensor:
        """... x H to ... x V, where the embedding is the head too."""
        return self._product(hidden)

    def plain(self) -> nn.Embedding:
        """The embedding in float32, whose table is its own."""
        size = self.num_embeddings, self.embedding_dim
        return nn.Embedding(*size, self.padding_idx, _weight=self.weight, _freeze=True)


def pack(model: nn.Module, dtype: BaseDtype) -> None:
    """Keep a frozen model's weights in ``dtype``, in place, layer by layer. Raises TaskError for a
    model that has no linear layers to be kept so."""
    if dtype == "float32":
        return
    shared: dict[int, tuple[Tensor, ...]] = {}
    layers = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) is nn.Linear or (type(module) is nn.Embedding and module.max_norm is None)
    ]
    if not any(type(m) is nn.Linear and n.rpartition(".")[2] not in _WIDE for n, m in layers):
        raise TaskError(
            f"task.base_dtype = '{dtype}': the base's layers are of a kind of its own, none is "
            "linear as torch has it; set it to 'float32'"
        )
    # embeddings first: a head that shares the weight of one is kept as it is
    for name, layer in sorted(layers, key=lambda one: type(one[1]) is nn.Linear):
        known = shared.get(id(layer.weight))
        kind, leaf = type(layer), name.rpartition(".")[2]
        if known is None:
            wide = kind is nn.Embedding or leaf in _WIDE
            known = packed(layer.weight, "bf16" if wide else dtype)
            shared[id(layer.weight)] = known
        made: Callable[..., nn.Module] = FrozenLinear if kind is nn.Linear else FrozenEmbedding
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, leaf, made(layer, known))


def pin_of(digest: NDArray[np.float64], dtype: BaseDtype) -> nn.Parameter:
    """What the model is pinned by where its weights aren't in its state dict: a frozen entry of
    the files' digest (16 whole numbers) and what they are kept in."""
    values = torch.tensor([*digest.tolist(), float(_DTYPES.index(dtype))], dtype=torch.float32)
    return nn.Parameter(values, requires_grad=False)
