"""What is trained of a language model: prompts against peft, frozen bases in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from wardround.common.errors import TaskError
from wardround.common.model.named import build_model
from wardround.common.tasks.text.causal.base import find_base, make_language_model
from wardround.common.tasks.text.causal.task import CausalTask
from wardround.common.tasks.text.frozen import FrozenEmbedding, FrozenLinear
from wardround.common.tasks.text.libraries import peft

LINES = [
    {"prompt": "Is it fever?", "choices": ["yes", "no", "it may be"], "answer": "no"},
    asked("Name the sign.", "cough"),
]


def made(folder: Path, base: Path, **options: Any) -> tuple[Any, torch.Tensor]:
    """The model as after training, and rows."""
    task = CausalTask(kind="causal", base_model=str(base), max_length=120, **options)
    raw = task.load(write_lines(folder / "lines.jsonl", LINES))
    model = build_model(task, {}, seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model, task.prepare(raw, {}, raw).tensor()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's
def test_a_prompt_is_what_pefts_prompt_tuning_computes(tmp_path: Path, llama: Path) -> None:
    model, rows = made(tmp_path, llama, tuning="prompt", prompt_tokens=6)
    bare = make_language_model(find_base(str(llama)), trained=False)
    config = peft().PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=6)
    theirs = peft().get_peft_model(bare, config)
    tokens, _, documents, branches = rows[1].numpy()  # one response after its prompt
    real = documents > 0
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(model.prompt)
        ids = torch.tensor(tokens[real])[None]
        scores = F.log_softmax(theirs(input_ids=ids).logits[0, 6:], -1)
        wanted = scores[:-1].gather(1, ids[0, 1:, None])[:, 0]
        found = model(rows)[1, real, 0]
    scored = torch.tensor(branches[real] != 0)
    assert scored.sum() >= 5
    torch.testing.assert_close(found[scored], wanted[scored[1:]], atol=1e-5, rtol=1e-5)


def test_every_document_of_a_packed_row_sees_the_prompt(tmp_path: Path, llama: Path) -> None:
    options: dict[str, Any] = {"tuning": "prompt", "prompt_tokens": 6}
    model, apart = made(tmp_path, llama, **options)
    _, together = made(tmp_path, llama, packing=True, **options)
    assert len(apart) == 2 and len(together) == 1
    with torch.no_grad():
        one, two = model(apart)[..., 0], model(together)[..., 0]
    torch.testing.assert_close(one[one != 0].sort()[0], two[two != 0].sort()[0])
    with sdpa_kernel(SDPBackend.MATH):  # as private gradients do
        rows = torch.func.vmap(lambda row: model(row[None])[0])(apart)
    torch.testing.assert_close(rows[..., 0], one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["bf16", "int8", "nf4"])
def test_a_base_in_fewer_bits_computes_what_its_rounded_weights_do(
    tmp_path: Path, dtype: str, tied: bool
) -> None:
    base = tiny_llama(tmp_path / "base", tie_word_embeddings=tied)
    model, rows = made(tmp_path, base, base_dtype=dtype)
    whole, _ = made(tmp_path, base)
    merged = model.merged()
    assert not any(isinstance(m, FrozenLinear | FrozenEmbedding) for m in merged.modules())
    with torch.no_grad():
        found = model(rows)[..., 0]
        torch.testing.assert_close(found, merged(rows)[..., 0], atol=2e-5, rtol=1e-5)
        apart = (found - whole(rows)[..., 0]).norm() / whole(rows)[..., 0].norm()
    assert 0 < apart < 0.05
    # the head isn't put into 4 bits, and one that is an embedding is kept once
    kept = [m for m in model.modules() if isinstance(m, FrozenLinear | FrozenEmbedding)]
    wide = {m.kept[0].data_ptr() for m in kept if len(m.kept) == 1 and m.weight.shape[0] > 200}
    assert len(wide) == (1 if tied else 2) and (model.head is None) == tied
    model.train()
    model(rows)[..., 0].sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_base_without_linear_layers_is_refused(tmp_path: Path) -> None:
    """GPT-2's layers are transformers' Conv1D."""
    base = tiny_llama(tmp_path / "base", "gpt2")
    with pytest.raises(TaskError, match="none is linear as torch has it; set it to 'float32'"):
        made(tmp_path, base, base_dtype="int8", tuning="prompt")
