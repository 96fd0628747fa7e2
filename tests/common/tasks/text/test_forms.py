"""Ways of tuning against peft's own modules or a calculation by hand; adapters put into layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from wardround.common.errors import TaskError
from wardround.common.model.named import build_model, model_arrays
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.libraries import peft


def made(encoder: Path, tuning: str, **options: object) -> nn.Module:
    task = TextTask(encoder=str(encoder), tuning=tuning, max_length=32, dropout=0.0, **options)
    model = build_model(task, {}, seed=5).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # as after training
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens() -> torch.Tensor:
    found = torch.randint(5, 40, (6, 32), generator=torch.Generator().manual_seed(0))
    found[2:, 20:] = 0
    return found


def layer_of(model: Any, name: str = "query") -> Any:
    return model.encoder.encoder.layer[1].attention.self.get_submodule(name)


def test_dora_learns_directions_and_lengths_of_rows(encoder: Path) -> None:
    """W' = m (W + s B A) / |W + s B A| by rows (Liu et al. 2024, equation 5)."""
    layer = layer_of(made(encoder, "dora", rank=3, alpha=6.0))
    base = layer.base_layer
    x = torch.randn(7, base.in_features, generator=torch.Generator().manual_seed(2))
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    moved = base.weight + 2.0 * up @ down
    lengths = layer.lora_magnitude_vector["default"].weight
    weight = lengths[:, None] * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(layer(x), x @ weight.T + base.bias, atol=1e-5, rtol=1e-5)


def test_ia3_is_a_factor_for_each_output(encoder: Path) -> None:
    model = made(encoder, "ia3", target_modules=["key", "value"])
    layer = layer_of(model, "value")
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(2))
    factor = layer.ia3_l["default"].reshape(-1)
    torch.testing.assert_close(layer(x), factor * layer.base_layer(x))
    assert sum(v.size for v in model_arrays(model).values()) == 4 * 32 + 3 * 32 + 3


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_a_prompt_is_what_pefts_prompt_tuning_computes(encoder: Path) -> None:
    model: Any = made(encoder, "prompt", prompt_tokens=7)
    bare: Any = made(encoder, "head").encoder
    config = peft().PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=7)
    theirs = peft().get_peft_model(bare, config)
    prompt = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.copy_(model.prompt)
        present = tokens() != 0
        wanted = theirs(input_ids=tokens(), attention_mask=present.long()).last_hidden_state
        model.head = nn.Identity()
        found = model.outputs(tokens(), present)
    assert wanted.shape[1] in (32, 39)
    torch.testing.assert_close(found[present], wanted[:, -32:][present], atol=1e-5, rtol=1e-5)
    said = "at most 80 tokens, 60 of them are task.prompt_tokens; set task.max_length to at most 20"
    with pytest.raises(TaskError, match=said):
        made(encoder, "prompt", prompt_tokens=60)


@pytest.mark.parametrize(
    "options",
    [
        {"tuning": "dora"},
        {"tuning": "ia3"},
        {"tuning": "lora", "lora_aggregation": "products"},
        {"tuning": "dora", "base_dtype": "int8"},
        {"tuning": "lora", "base_dtype": "nf4"},
        {"tuning": "adalora", "base_dtype": "bf16"},
        {"tuning": "prompt", "base_dtype": "int8"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_merged_layers_compute_the_same(encoder: Path, options: dict[str, Any]) -> None:
    """What is taken elsewhere has plain layers; also where products are beside the weights."""
    model: Any = made(encoder, **options)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("lora_rest"):
                value.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
        merged = model.merged()
        torch.testing.assert_close(merged(tokens()), model(tokens()), atol=2e-6, rtol=1e-5)
    kinds = {type(one) for one in merged.modules() if isinstance(one, nn.Linear)}
    assert kinds == {nn.Linear}
