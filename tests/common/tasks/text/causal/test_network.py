"""The model against transformers' own: choices as branches, packing, padding, groups of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from wardround.common.tasks import load_task
from wardround.common.tasks.text.causal import network
from wardround.common.tasks.text.causal.base import find_base, make_language_model, make_tokenizer
from wardround.common.tasks.text.causal.network import like_rows
from wardround.common.tasks.text.causal.task import CausalTask

LINES = [
    {"prompt": "Is it fever?", "choices": ["yes", "no", "it may be"], "answer": "no"},
    asked("Name the sign.", "cough"),
    {
        "messages": [
            {"role": "system", "content": "Short."},
            {"role": "user", "content": "A?"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "C?"},
            {"role": "assistant", "content": "dd"},
        ]
    },
    {"prompt": "Which?", "choices": ["left", "right"], "answer": 1},
]


def made(folder: Path, base: Path, **options: Any) -> CausalTask:
    write_lines(folder / "lines.jsonl", LINES)
    task = load_task(
        "text", {"kind": "causal", "base_model": str(base), "max_length": 150, **options}
    )
    assert isinstance(task, CausalTask)
    return task


def reference(task: CausalTask, base: Path, prompt: list[int], answer: list[int]) -> float:
    """Log-likelihood of an answer after a prompt, by transformers alone."""
    model = make_language_model(find_base(str(base)), trained=False)
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        scores = F.log_softmax(model(input_ids=ids).logits[0], -1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return float(sum(scores[at, one] for at, one in zip(places, answer, strict=True)))


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_answer_is_as_likely_as_after_its_prompt_alone(
    tmp_path: Path, family: str, packing: bool
) -> None:
    target = ["c_attn"] if family == "gpt2" else ["q_proj"]
    base = tiny_llama(tmp_path / "base", family)
    options = {"tuning": "full"} if family == "gpt2" else {"target_modules": target}
    task = made(tmp_path, base, packing=packing, **options)
    raw = task.load(tmp_path / "lines.jsonl")
    examples = task.prepare(raw, {}, raw)
    assert len(examples) == (2 if packing else 4)
    model = task.model({}).eval()
    with torch.no_grad():
        outputs = model(examples.tensor())
    found = {}
    for row in range(len(examples)):
        tokens, _, documents, branches = examples.tensor()[row].numpy()
        for document in range(1, documents.max() + 1):
            here = documents == document
            text = tuple(tokens[here & (branches <= 0)])
            for branch in range(1, branches[here].max() + 1):
                mask = here & (branches == branch)
                found[text, tuple(tokens[mask])] = float(outputs[row, mask, 0].sum())
    assert len(found) == 7
    for (prompt, answer), value in found.items():
        own = reference(task, base, [int(x) for x in prompt], [int(x) for x in answer])
        assert value == pytest.approx(own, abs=1e-4)


def test_an_earlier_answer_is_scored_where_it_stands(tmp_path: Path, llama: Path) -> None:
    task = made(tmp_path, llama)
    raw = task.load(tmp_path / "lines.jsonl")
    examples = task.prepare(raw.select(np.array([2])), {}, raw)
    tokens, _, _, branches = examples.tensor()[0].numpy()
    spoken = make_tokenizer(find_base(str(llama))).decode(tokens[branches < 0])
    assert spoken == "b<|im_end|>"
    with torch.no_grad():
        outputs = task.model({}).eval()(examples.tensor())
    before = [int(x) for x in tokens[: int(np.flatnonzero(branches < 0)[0])]]
    own = reference(task, llama, before, [int(x) for x in tokens[branches < 0]])
    assert float(outputs[0, branches < 0, 0].sum()) == pytest.approx(own, abs=1e-4)


def test_rows_are_the_same_in_any_company(tmp_path: Path, llama: Path) -> None:
    """Groups of like length, padding and pieces of the vocabulary's scores change nothing."""
    task = made(tmp_path, llama)
    raw = task.load(tmp_path / "lines.jsonl")
    inputs = task.prepare(raw, {}, raw).tensor()
    model = task.model({}).eval()
    with torch.no_grad():
        whole = model(inputs.repeat(3, 1, 1))
        alone = torch.cat([model(one[None]) for one in inputs])
        with sdpa_kernel(SDPBackend.MATH):  # the fused form has no rule for vmap
            dense = torch.vmap(lambda one: model(one[None])[0])(inputs)
    torch.testing.assert_close(whole, alone.repeat(3, 1, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dense, alone, rtol=1e-4, atol=1e-5)


def test_scores_in_pieces_have_the_same_gradient(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made(tmp_path, llama)
    raw = task.load(tmp_path / "lines.jsonl")
    examples = task.prepare(raw, {}, raw)
    found = []
    for most in (network.SCORES, 4 * 259):
        monkeypatch.setattr(network, "SCORES", most)
        torch.manual_seed(1)
        model = task.model({}).train()
        task.loss(model(examples.tensor()), examples.targets).sum().backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == 8  # A and B beside two layers each of two blocks
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_one_token_is_the_likeliest_where_bfloat16_knows_of_several(
    tmp_path: Path, dtype: str, tied: bool
) -> None:
    base = tiny_llama(tmp_path, tie_word_embeddings=tied)
    model: Any = CausalTask(kind="causal", base_model=str(base), base_dtype=dtype).model({})
    layer = model.body.get_input_embeddings() if tied else model.head
    weight = layer.weight.detach().float()
    hidden = 1e4 * F.normalize(torch.randn(20, 32, generator=torch.Generator().manual_seed(0)))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = model.scores(hidden)
    torch.testing.assert_close(found, hidden @ weight.T)
    assert found.dtype == torch.float32
    rounded = found.bfloat16()
    assert (rounded == rounded.amax(-1, keepdim=True)).sum() > 20  # what it would have been


def test_groups_are_all_rows_once_and_hold_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(20, 600, 97)
    present = torch.arange(600)[None] < torch.tensor(lengths)[:, None]
    groups = like_rows(present)
    assert sorted(torch.cat(groups).tolist()) == list(range(97))
    padded = sum(len(group) * lengths[group].max() for group in groups)
    assert padded < 1.07 * lengths.sum()
