"""Activations computed again: equal gradients, fewer bytes kept, a model left as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, Residual, configured, residual, rows, vector
from wardround.client.training.activation_checkpointing import blocks, recomputing
from wardround.client.training.steps import train_on_batches
from wardround.common.errors import TaskError

SEED = (7, 2, "a")


class Looped(nn.Module):
    """Blocks in a ModuleList, with another argument."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual(6, dropout) for _ in range(4))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x=x)
        out: Tensor = self.head(x)
        return out


def kept_bytes(model: nn.Module, x: Tensor) -> int:
    """What the backward pass of one forward keeps, each tensor once, without parameters."""
    own = {p.data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x).sum()
    return sum(seen.values())


@pytest.mark.parametrize("make", [residual, Looped])
@pytest.mark.parametrize("options", [{}, {"micro_batch_size": 3}, {"distillation": 0.5}])
def test_the_steps_are_the_same(make: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = make(dropout=0.3)
    plain = copy.deepcopy(model)
    names = list(model.state_dict())
    train_on_batches(
        model, rows(), Classes(), configured(checkpoint_activations=True, **options), SEED
    )
    train_on_batches(plain, rows(), Classes(), configured(**options), SEED)
    torch.testing.assert_close(vector(model), vector(plain), rtol=0, atol=0)
    assert list(model.state_dict()) == names
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("make", [lambda: residual(6), Looped])
def test_less_is_kept(make: Any) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.randn(64, 6)
    before = kept_bytes(model, x)
    with recomputing(model):
        inside = kept_bytes(model, x)
    assert inside < before / 5
    assert kept_bytes(model, x) == before


def test_the_outermost_repeating_level() -> None:
    found = [path for path, _ in blocks(Looped())]
    assert found == ["layers.0", "layers.1", "layers.2", "layers.3"]
    wrapped = nn.Sequential(nn.Flatten(), nn.Sequential(residual(2)[0], residual(2)[0]))
    assert [path for path, _ in blocks(wrapped)] == ["1.0", "1.1"]


def test_what_is_refused() -> None:
    def train(model: nn.Module) -> None:
        train_on_batches(model, rows(), Classes(), configured(checkpoint_activations=True), SEED)

    with pytest.raises(TaskError, match="no repeated blocks"):
        train(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)))
    norm = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)) for _ in range(2)))
    with pytest.raises(TaskError, match="layer '0.1' .BatchNorm1d. would update its running"):
        train(norm)
    assert not any("forward" in vars(module) for module in norm.modules())


def test_a_model_that_knows_how_does_it_itself() -> None:
    class Own(nn.Module):
        supports_gradient_checkpointing = True

        def __init__(self) -> None:
            super().__init__()
            self.body, self.calls = residual(), list[Any]()

        def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any) -> None:
            self.calls.append(gradient_checkpointing_kwargs)

        def gradient_checkpointing_disable(self) -> None:
            self.calls.append("off")

        def forward(self, x: Tensor) -> Tensor:
            assert self.calls == [{"use_reentrant": False}]
            out: Tensor = self.body(x)
            return out

    model = nn.Sequential(Own())
    train_on_batches(model, rows(), Classes(), configured(checkpoint_activations=True), SEED)
    assert model[0].calls == [{"use_reentrant": False}, "off"]


def test_transformers_own_way() -> None:
    """A small BERT with random weights: fewer bytes, the same gradients."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    inside = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=11, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=16,
        )
    )  # fmt: skip

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = inside

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.bert(input_ids=x).last_hidden_state[:, 0]
            return out

    model, x = Head().train(), torch.randint(11, (4, 8))
    before = kept_bytes(model, x)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(1)
        if recompute:
            with recomputing(model):
                assert kept_bytes(model, x) < before
                torch.manual_seed(1)
                loss = model(x).square().sum()
                found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        else:
            loss = model(x).square().sum()
            found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        gradients.append([g for g in found if g is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert kept_bytes(model, x) == before
