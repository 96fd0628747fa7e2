"""The encoder is read as it is, the same at every party, from files that can't run code."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.common.errors import TaskError
from wardround.common.figures.sums import add_sums
from wardround.common.model.named import build_model, model_entries
from wardround.common.secagg.encoding import decode_exact, encode_exact
from wardround.common.secagg.ring import add_limbs
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text import encoder as files


@pytest.mark.parametrize(
    ("family", "pad", "targets"),
    [
        ("bert", 0, ["query", "value"]),
        ("distilbert", 0, ["q_lin", "v_lin"]),
        ("electra", 0, ["query", "value"]),
        ("roberta", 1, ["query", "value"]),
    ],
)
def test_outputs_are_those_of_transformers_own_call(tmp_path, family, pad, targets) -> None:
    """With its own (two-dimensional) mask and the whole width; trimmed and chunked here."""
    from transformers import AutoModel

    folder = tiny_encoder(tmp_path, family, pad=pad)
    task = TextTask(encoder=str(folder), max_length=24, target_modules=targets)
    model = build_model(task, {}, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 40, (100, 24), generator=generator)
    lengths = torch.randint(2, 20, (100,), generator=generator)
    tokens[torch.arange(24) >= lengths[:, None]] = pad
    own = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    mask = (tokens != pad).long()
    with torch.no_grad():
        hidden = own(input_ids=tokens, attention_mask=mask).last_hidden_state
        expected = model.head(hidden) * mask[:, :, None]
        found = model(tokens)
    assert found.shape == (100, 24, 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.enable_grad():
        torch.testing.assert_close(model(tokens), expected, rtol=1e-4, atol=1e-5)
    pooled = TextTask(
        encoder=str(folder), kind="sequence", max_length=24, target_modules=targets
    ).model({})
    mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(pooled.eval()(tokens), pooled.head(mean), rtol=1e-4, atol=1e-5)


def test_building_draws_nothing_for_the_encoder_and_shares_what_is_frozen(encoder: Path) -> None:
    files._kept.cache_clear()
    first = build_model(TextTask(encoder=str(encoder), max_length=32), {}, seed=3)
    second = build_model(TextTask(encoder=str(encoder), max_length=32), {}, seed=3)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert (one.data_ptr() == other.data_ptr()) != one.requires_grad
    whole = build_model(TextTask(encoder=str(encoder), tuning="full", max_length=32), {}, seed=3)
    assert all(p.requires_grad for p in whole.parameters())
    assert all(value.is_floating_point() for value in model_entries(whole).values())


def summed(parts: list[dict]) -> dict:
    """As secure aggregation adds them: exactly, as whole numbers of a ring."""
    totals = {}
    for name in parts[0]:
        limbs = encode_exact(parts[0][name], len(parts))
        for part in parts[1:]:
            add_limbs(limbs, encode_exact(part[name], len(parts)))
        totals[name] = decode_exact(limbs)
    plain = add_sums(parts)
    assert all(np.array_equal(plain[name], totals[name]) for name in plain)
    return totals


def test_one_other_encoder_among_hospitals_is_found(tmp_path: Path, encoder: Path) -> None:
    task = TextTask(encoder=str(encoder), max_length=64)
    other = TextTask(encoder=str(tiny_encoder(tmp_path / "other", seed=1)), max_length=64)
    rows = task.load(None)
    same = [task.statistics(rows, 0, {}) for _ in range(7)]
    totals = task.condense(summed(same))
    assert totals["encoder"].shape == (16,) and set(totals) == {"encoder"}
    task.model(totals)
    with pytest.raises(TaskError, match="different encoder files"):
        task.condense(summed([*same, other.statistics(rows, 0, {})]))
    with pytest.raises(TaskError, match="different encoder files"):
        other.condense(summed(same))
    with pytest.raises(TaskError, match="not those that the federation agreed on"):
        other.model(totals)
    with pytest.raises(TaskError, match="not those that the federation agreed on"):
        other.prepare(rows, totals, rows)


@pytest.mark.parametrize("name", files.FILES)
def test_the_digest_is_of_all_three_files(tmp_path: Path, encoder: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(encoder, copy)
    assert np.array_equal(files.digest_words(copy), files.digest_words(encoder))
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    assert not np.array_equal(files.digest_words(copy), files.digest_words(encoder))
    (copy / name).unlink()
    with pytest.raises(TaskError, match=f"there is no {name}"):
        TextTask(encoder=str(copy)).load(None)


def test_weights_that_lack_something_or_are_no_safetensors_are_refused(tmp_path, encoder) -> None:
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(encoder, copy)
    weights = load_file(copy / "model.safetensors")
    lacking = {k: v for k, v in weights.items() if "layer.1.output.dense" not in k}
    save_file(lacking, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TaskError, match="2 of the encoder's weights are missing"):
        TextTask(encoder=str(copy), max_length=32).model({})
    (copy / "model.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(TaskError, match="not readable as an encoder"):
        TextTask(encoder=str(copy), max_length=32).model({})


def test_an_encoder_that_does_not_fit_is_refused(tmp_path: Path, encoder: Path) -> None:
    with pytest.raises(TaskError, match="at most 80 tokens"):
        TextTask(encoder=str(encoder), max_length=81).model({})
    assert (
        files.longest_input(
            {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
        )
        == 512
    )
    with pytest.raises(TaskError, match="no such folder"):
        TextTask(encoder=str(tmp_path / "nowhere")).load(None)
    copy = tmp_path / "copy"
    shutil.copytree(encoder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(TaskError, match="a family other than bert"):
        TextTask(encoder=str(copy)).model({})
    with pytest.raises(TaskError, match="no linear layer 'nothing'; it has dense, key, query"):
        TextTask(encoder=str(encoder), max_length=32, target_modules=["nothing"]).model({})


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"intermediate_size": "64"}, "not readable as an encoder"),
        ({"hidden_size": "32"}, "it has no hidden_size that is a whole number"),
        ({"hidden_size": None}, "it has no hidden_size that is a whole number"),
        ({"num_hidden_layers": None}, "not readable as an encoder"),
        ({"num_attention_heads": 0}, "not readable as an encoder"),
        ({"pad_token_id": 9999}, "not readable as an encoder"),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
            "its weights are quantised .* set task.base_dtype",
        ),
        ({"pad_token_id": -5}, "it has no pad_token_id that is a whole number"),
        ({"pad_token_id": True}, "it has no pad_token_id that is a whole number"),
        ({"max_position_embeddings": "80"}, "no max_position_embeddings that is a whole number"),
        ({"max_position_embeddings": None}, "no max_position_embeddings that is a whole number"),
    ],
)
def test_a_config_that_makes_no_encoder_is_refused(
    tmp_path: Path, encoder: Path, wrong: dict, message: str, tuning: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(encoder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(TaskError, match=message) as caught:
        TextTask(encoder=str(copy), max_length=32, tuning=tuning).model({})
    assert "\n" not in str(caught.value) and str(copy) in str(caught.value)


def test_extras_that_are_not_installed_are_named(encoder: Path, monkeypatch) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"pip install 'wardround\[text\]'"):
        TextTask().load(None)
    for module in ("tokenizers", "transformers", "peft"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            files._tokenizer.cache_clear()
            files._kept.cache_clear()
            task = TextTask(encoder=str(encoder), max_length=32)
            with pytest.raises(TaskError, match=r"pip install 'wardround\[text\]'"):
                task.load(None)
                task.model({})
