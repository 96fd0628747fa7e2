"""What each way of tuning trains, sends and averages."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from wardround.client.training.activation_checkpointing import recomputing
from wardround.common.model.named import build_model, model_arrays, model_entries
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.triplets import TripletLinear

WAYS = ("full", "lora", "ffa_lora", "adalora", "head")


def size(model: nn.Module) -> int:
    return sum(value.numel() for value in model_entries(model).values())


def made(encoder: Path, tuning: str, **options: object) -> nn.Module:
    task = TextTask(encoder=str(encoder), tuning=tuning, max_length=32, **options)
    return build_model(task, {}, seed=5)


def test_of_minilm_adapters_are_a_third_of_a_percent() -> None:
    """Rank 8 at query and value, 6 layers of width 384: 6 * 2 * 8 * (384 + 384), and the head's
    384 * 3 + 3. Full: MiniLM's 22,713,216 parameters without the pooler's 384 * 385."""
    sizes = {way: size(build_model(TextTask(tuning=way), {}, 1)) for way in WAYS}
    head = 384 * 3 + 3
    assert sizes["full"] == 22_713_216 - 384 * 385 + head
    assert sizes["lora"] == 6 * 2 * 8 * (384 + 384) + head
    assert sizes["ffa_lora"] == 6 * 2 * 8 * 384 + head
    assert sizes["adalora"] == 6 * 2 * 8 * (384 + 384 + 1) + head
    assert sizes["head"] == head
    assert sizes["lora"] / sizes["full"] == pytest.approx(0.00332, abs=1e-5)


@pytest.mark.parametrize("tuning", WAYS)
def test_a_fresh_model_computes_what_the_encoder_does_and_every_party_has_the_same(
    encoder: Path, tuning: str
) -> None:
    model, again = made(encoder, tuning).eval(), made(encoder, tuning).eval()
    bare = made(encoder, "head").eval()
    bare.head.load_state_dict(model.head.state_dict())
    tokens = torch.randint(5, 40, (6, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), bare(tokens))
        assert torch.equal(model(tokens), again(tokens))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(model_arrays(model)) == trained and "head.weight" in trained


def spread(model: nn.Module, seed: int) -> None:
    """Give what is trained other values, as local training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator))


def products(model: nn.Module) -> list[torch.Tensor]:
    return [
        layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        for layer in model.modules()
        if hasattr(layer, "lora_A")
    ]


@pytest.mark.parametrize(("tuning", "exact"), [("ffa_lora", True), ("lora", False)])
def test_only_ffa_lora_averages_the_products(encoder: Path, tuning: str, exact: bool) -> None:
    """mean_k(B_k) A = mean_k(B_k A) where all have one A (Sun et al. 2024)."""
    hospitals = [made(encoder, tuning) for _ in range(3)]
    for seed, model in enumerate(hospitals):
        spread(model, seed)
    mean = made(encoder, tuning)
    entries = [model_entries(model) for model in hospitals]
    with torch.no_grad():
        for name, value in model_entries(mean).items():
            value.copy_(torch.stack([one[name] for one in entries]).mean(0))
        of_products = [
            torch.stack(parts).mean(0) for parts in zip(*map(products, hospitals), strict=True)
        ]
        assert len(of_products) == 4
        for found, expected in zip(products(mean), of_products, strict=True):
            assert torch.allclose(found, expected, atol=1e-5) == exact


def test_adalora_spends_its_budget_on_the_most_important_triplets(encoder: Path) -> None:
    model = made(encoder, "adalora", rank=4, target_rank=1).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, TripletLinear)]
    spread(model, 1)
    tokens = torch.randint(5, 40, (6, 32), generator=torch.Generator().manual_seed(0))
    found = model(tokens)
    sizes = torch.cat(
        [
            torch.stack(
                [
                    (layer.lora_E[i] * torch.outer(layer.lora_P[:, i], layer.lora_Q[i])).norm()
                    for i in range(4)
                ]
            )
            for layer in layers
        ]
    ).detach()
    kept = sizes >= sizes.sort(descending=True).values[len(layers) - 1]
    assert kept.sum() == len(layers) == 4
    found.sum().backward()
    gradients = torch.cat([layer.lora_E.grad for layer in layers])
    assert (gradients != 0).all()  # those left out can come back
    wide = made(encoder, "adalora", rank=4, target_rank=4).eval()
    wide.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert not torch.allclose(wide(tokens), found)
        for number, layer in enumerate(x for x in wide.modules() if isinstance(x, TripletLinear)):
            layer.lora_E[~kept[4 * number : 4 * number + 4]] = 0
        torch.testing.assert_close(wide(tokens), found)


@pytest.mark.parametrize("tuning", ["lora", "adalora"])
def test_recomputed_activations_give_the_same_gradients(encoder: Path, tuning: str) -> None:
    tokens = torch.randint(5, 40, (6, 32), generator=torch.Generator().manual_seed(0))
    gradients = []
    for recomputed in (False, True):
        model = made(encoder, tuning, rank=4, dropout=0.0).train()
        spread(model, 1)
        with recomputing(model) if recomputed else nullcontext():
            model(tokens).square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(gradients[1], gradients[0])
