"""Frozen weights in fewer bits: how they are rounded, what is saved, and what pins them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.common.errors import CheckpointError, TaskError
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import ModelForm, load_file
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.frozen import FrozenEmbedding, FrozenLinear, packed, unpacked
from wardround.common.tasks.text.options import BaseDtype

FEWER: tuple[BaseDtype, ...] = ("bf16", "int8", "nf4")


def layer(outputs: int = 24, inputs: int = 20) -> nn.Linear:
    """With a row of zeros, and one that is a thousand times larger than the others."""
    torch.manual_seed(0)
    made = nn.Linear(inputs, outputs).requires_grad_(False)
    made.weight[3], made.weight[5] = 0.0, made.weight[5] * 1000
    return made


def test_int8_is_within_half_a_level_of_its_row() -> None:
    weight = layer().weight
    kept = packed(weight, "int8")
    found = unpacked(kept, weight.shape, torch.float32)
    level = weight.abs().amax(1, keepdim=True) / 127
    assert kept[0].dtype == torch.int8 and (kept[0].abs().amax(1)[weight.any(1)] == 127).all()
    assert ((found - weight).abs() <= level / 2 + 1e-7).all() and not found[3].any()


def test_nf4_is_the_nearest_of_16_levels_of_its_block() -> None:
    """Dettmers et al. 2023, appendix E: quantiles of a normal, 0 and +-1 exactly."""
    weight = layer(8, 128).weight
    levels, largest, code = packed(weight, "nf4")
    assert levels.numel() == weight.numel() // 2 and largest.numel() == weight.numel() // 64
    assert code[[0, 7, 15]].tolist() == [-1.0, 0.0, 1.0] and code[1] == pytest.approx(-0.6961928)
    found = unpacked((levels, largest, code), weight.shape, torch.float32)
    blocks, scale = weight.reshape(-1, 64), weight.reshape(-1, 64).abs().amax(1, keepdim=True)
    nearest = (blocks[..., None] / scale[..., None].clamp_min(1e-30) - code).abs().argmin(-1)
    torch.testing.assert_close(found.reshape(-1, 64), code[nearest] * scale)


@pytest.mark.parametrize("dtype", FEWER)
def test_a_frozen_layer_is_its_rounded_weight_forward_and_backward(dtype: BaseDtype) -> None:
    plain = layer()
    frozen = FrozenLinear(plain, packed(plain.weight, dtype))
    rounded = frozen.plain()
    assert torch.equal(rounded.weight, frozen.weight) and torch.equal(rounded.bias, plain.bias)
    x = torch.randn(2, 5, 20, requires_grad=True)
    given = torch.randn(2, 5, 24)
    torch.testing.assert_close(frozen(x), rounded(x))
    (found,) = torch.autograd.grad(frozen(x), x, given)
    torch.testing.assert_close(found, torch.autograd.grad(rounded(x), x, given)[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert frozen(x).dtype == torch.bfloat16
    # what the backward pass keeps is the packed weight
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        frozen(x)
    assert all(one.dtype != torch.float32 or one.numel() < 480 for one in saved) and saved


@pytest.mark.parametrize("dtype", FEWER)
def test_every_party_keeps_the_same_in_fewer_bytes(encoder: Path, dtype: BaseDtype) -> None:
    def memory(kept: BaseDtype) -> tuple[int, nn.Module]:
        task = TextTask(encoder=str(encoder), max_length=32, base_dtype=kept)
        model = build_model(task, {}, seed=5).eval()
        values = [*model.encoder.parameters(), *model.encoder.buffers()]
        return sum(v.nbytes for v in values if v.dtype != torch.int64), model

    (whole, plain), (fewer, model), (_, again) = memory("float32"), memory(dtype), memory(dtype)
    assert fewer < {"bf16": 0.6, "int8": 0.5, "nf4": 0.45}[dtype] * whole  # the rest: small norms
    assert model_arrays(model).keys() == model_arrays(plain).keys()
    tokens = torch.randint(5, 40, (4, 32))
    with torch.no_grad():
        found = model(tokens)
        assert torch.equal(found, again(tokens))
        apart = (found - plain(tokens)).norm() / plain(tokens).norm()
    assert 0 < apart < {"bf16": 0.01, "int8": 0.01, "nf4": 0.1}[dtype]
    one, two = (next(x for x in m.modules() if isinstance(x, FrozenLinear)) for m in (model, again))
    assert one.kept[0].data_ptr() == two.kept[0].data_ptr()  # of a machine's clients one copy


def test_adapters_of_another_base_are_refused(tmp_path: Path) -> None:
    """Of other files, and of the same files in other bits: by the pin, as neither is in it."""
    folders = [tiny_encoder(tmp_path / str(seed), seed=seed) for seed in (1, 2)]

    def of(folder: Path, dtype: BaseDtype) -> tuple[TextTask, nn.Module, ModelForm]:
        task = TextTask(encoder=str(folder), max_length=32, base_dtype=dtype)
        model = build_model(task, {}, seed=5)
        return task, model, ModelForm.of(task, model, Entries.of(model))

    _, model, form = of(folders[0], "int8")
    form.write(tmp_path / "m.safetensors", model_arrays(model), 1, 5)
    task, same, _ = of(folders[0], "int8")
    load_file(tmp_path / "m.safetensors", task, same)
    for folder, dtype in ((folders[1], "int8"), (folders[0], "bf16"), (folders[0], "float32")):
        task, other, _ = of(folder, dtype)  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match="trained over other files of the task's own"):
            load_file(tmp_path / "m.safetensors", task, other)


def test_what_is_missing_is_said(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(
        TaskError, match=r"'nf4' needs: pip install 'wardround\[quantised\]'; 'int8'"
    ):
        packed(layer().weight, "nf4")
    assert packed(layer().weight, "int8")
    kept: Any = packed(layer().weight, "int8")
    assert np.isfinite(kept[1].numpy()).all()


def test_an_embedding_that_is_the_head_too_trains_in_mixed_precision() -> None:
    """Forwards in bfloat16, backwards out of autocast, as a step does: the gradient of what is
    below is that of the rounded table, within bfloat16's eight bits."""
    embedding = nn.Embedding(30, 16)
    frozen = FrozenEmbedding(embedding, packed(embedding.weight, "bf16"))
    hidden = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        scores = frozen.scores(hidden)
    assert scores.dtype == torch.bfloat16
    scores.float().square().sum().backward()
    table = frozen.weight
    wanted = 2 * (hidden.detach() @ table.T) @ table
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32
    assert (hidden.grad - wanted).norm() < 0.02 * wanted.norm()


def test_what_is_computed_again_in_the_backward_pass_gives_the_same_gradient() -> None:
    frozen = FrozenLinear(layer(), packed(layer().weight, "int8"))
    x = torch.randn(3, 20, generator=torch.Generator().manual_seed(2), requires_grad=True)
    frozen(x).square().sum().backward()
    assert x.grad is not None
    wanted, x.grad = x.grad, None
    checkpoint(frozen, x, use_reentrant=False).square().sum().backward()
    assert torch.equal(x.grad, wanted)
