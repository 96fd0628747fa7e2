"""I7: how many examples go through a model at once follows what its layers make of one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wardround.client.training.evaluation import ROWS_AT_A_TIME, model_outputs
from wardround.common.model.activations import rows_at_once
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Examples

MEBIBYTE = 1 << 20


class Seen(nn.Module):
    """Convolutions over a picture, that note how many came at once."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, channels, 3, padding=1)
        self.last = nn.Linear(channels, 2)
        self.came: list[int] = []

    def forward(self, pictures: Tensor) -> Tensor:
        self.came.append(len(pictures))
        found: Tensor = self.last(self.first(pictures).relu().mean((2, 3)))
        return found


@pytest.mark.parametrize(
    ("model", "shape", "rows"),
    [
        # a picture of 64 x 64 numbers in, 31 of them out: 32 x 16 KiB, half a MiB
        (nn.Conv2d(1, 31, 3, padding=1), (1, 64, 64), 64),
        (nn.Conv2d(1, 63, 3, padding=1), (1, 64, 64), 32),
        # the widest layer counts: 255 + 1 numbers, a KiB, are 32,768 in the room
        (nn.Sequential(nn.Linear(1, 255), nn.Linear(255, 1)), (1,), ROWS_AT_A_TIME),
        # one that is larger than the room goes alone
        (nn.Conv2d(1, 3000, 1), (1, 64, 64), 1),
    ],
)
def test_it_is_the_largest_layer_that_counts(
    model: nn.Module, shape: tuple[int, ...], rows: int
) -> None:
    given = torch.zeros(1, *shape)
    assert rows_at_once(model.eval(), lambda: given, 10_000, ROWS_AT_A_TIME) == rows
    assert not any(one._forward_hooks for one in model.modules())


def test_few_examples_go_at_once_without_a_look() -> None:
    def row() -> Tensor:
        raise AssertionError("asked for")

    assert rows_at_once(nn.Conv2d(1, 63, 3), row, 32, ROWS_AT_A_TIME) == ROWS_AT_A_TIME


@pytest.mark.parametrize(("micro", "most"), [(None, 16), (50, 50)])
def test_an_evaluation_takes_so_many_and_says_the_same(micro: int | None, most: int) -> None:
    """Unless a setting says how many."""
    model = Seen(127)  # 128 x 16 KiB of a picture: 2 MiB
    pictures = torch.rand(70, 1, 64, 64)
    outputs = model_outputs(
        model, Examples(pictures, torch.zeros(70)), TrainingTable(micro_batch_size=micro)
    )
    assert max(model.came) == most and sum(model.came) - 70 == (micro is None)
    with torch.no_grad():
        assert torch.allclose(outputs, model(pictures), atol=1e-6)
