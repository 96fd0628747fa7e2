"""The models and batches of ``benchmarks.dpsgd``: an MLP, a CNN, and an encoder with adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64


def mlp() -> nn.Module:
    """784-200-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def cnn() -> nn.Module:
    """Two convolutions and two dense layers on 3 x 32 x 32, 1.6 million parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12544, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class LowRank(nn.Module):
    """A frozen linear layer and a trained difference of rank 8 (Hu et al. 2022, 2106.09685)."""

    def __init__(self, inputs: int, outputs: int, rank: int = 8) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)
        nn.init.normal_(self.lora_B.weight, std=0.02)  # zeros would leave lora_A no gradient

    def forward(self, x: Tensor) -> Tensor:
        """The adapted layer."""
        return self.base_layer(x) + 2.0 * self.lora_B(self.lora_A(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention over 4 heads and a feed-forward part, as in BERT."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (LowRank(width, width) for _ in range(3))
        self.out = LowRank(width, width)
        self.up, self.down = LowRank(width, 4 * width), LowRank(4 * width, width)
        self.first = nn.LayerNorm(width).requires_grad_(False)
        self.second = nn.LayerNorm(width).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """B x T x width."""
        size, length, width = x.shape
        q, k, v = (
            layer(x).view(size, length, 4, width // 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = self.first(x + self.out(mixed.reshape(size, length, width)))
        return self.second(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Two blocks of width 128 on 32 tokens; trained are the adapters and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(1000, 128).requires_grad_(False)
        self.blocks = nn.Sequential(Block(128), Block(128))
        self.head = nn.Linear(128, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """B x 32, int64, to B x 2."""
        return self.head(self.blocks(self.tokens(tokens)).mean(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Case:
    """A model and a batch for it. ``shape`` is None for tokens."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...] | None
    classes: int

    def model(self) -> nn.Module:
        """The same weights every time."""
        torch.manual_seed(0)
        return self.make().train()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Inputs and labels."""
        generator = torch.Generator().manual_seed(1)
        if self.shape is None:
            inputs = torch.randint(0, 1000, (BATCH, 32), generator=generator)
        else:
            inputs = torch.randn(BATCH, *self.shape, generator=generator)
        return inputs, torch.randint(0, self.classes, (BATCH,), generator=generator)


CASES = (
    Case("MLP 784-200-10", mlp, (28, 28), 10),
    Case("CNN 1.6 M", cnn, (3, 32, 32), 10),
    Case("encoder, LoRA rank 8", Encoder, None, 2),
)
