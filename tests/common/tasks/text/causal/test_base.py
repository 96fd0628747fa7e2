"""Base models: which are read, which are refused and why."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.common.tasks.text.causal.tiny import asked, tiny_llama, write_lines
from wardround.common.errors import TaskError
from wardround.common.tasks import load_task
from wardround.common.tasks.text.causal.base import BUNDLED, digest_words, find_base, make_tokenizer


def model_of(base: Path) -> torch.nn.Module:
    task = load_task("text", {"kind": "causal", "base_model": str(base), "tuning": "full"})
    return task.model({})


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("qwen2", {}),
        ("gpt2", {}),
        ("gpt_neox", {"tie_word_embeddings": False}),
    ],
)
def test_families_that_compute_as_most_do_are_taken(
    tmp_path: Path, family: str, config: dict[str, object]
) -> None:
    assert list(model_of(tiny_llama(tmp_path, family, **config)).parameters())


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("granite", {"logits_scaling": 8.0}),  # scores are scaled behind the head
        ("cohere", {"logit_scale": 0.5}),
    ],
)
def test_families_that_would_compute_something_else_are_refused_by_name(
    tmp_path: Path, family: str, config: dict[str, object]
) -> None:
    with pytest.raises(TaskError, match=rf"of a family \({family}\).*take another base model"):
        model_of(tiny_llama(tmp_path, family, **config))


def test_a_gguf_file_of_an_unknown_architecture_is_refused_by_its_name(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(str(path), "abacus")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(TaskError, match=r"architecture 'abacus'.*Hugging Face folder"):
        model_of(path)
    with pytest.raises(TaskError, match=r"architecture 'abacus'.*Hugging Face folder"):
        make_tokenizer(find_base(str(path)))  # a run reads it before the model
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(TaskError, match=r"tokenizer can't be read.*check the file's download"):
        make_tokenizer(find_base(str(path)))


def test_weights_that_are_no_numbers_are_told_as_such(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(TaskError, match="no finite number; get its files again"):
        model_of(base)


def test_what_is_no_base_is_refused_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no such folder or GGUF file"):
        find_base(str(tmp_path / "none"))
    (tmp_path / "x.gguf").write_bytes(struct.pack("<4sI", b"GGML", 3))
    with pytest.raises(TaskError, match="not a GGUF file"):
        find_base(str(tmp_path / "x.gguf"))
    base = tiny_llama(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(TaskError, match="they may hold code"):
        find_base(str(base))
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TaskError, match="isn't in the folder"):
        find_base(str(base))


def test_the_digest_is_of_the_template_too(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path / "base")
    before = digest_words(find_base(str(base)))
    told = base / "tokenizer_config.json"
    told.write_text(told.read_text().replace("assistant", "doctor"))
    assert (digest_words(find_base(str(base))) != before).any()


def test_nothing_is_read_that_the_digest_is_not_of(tmp_path: Path) -> None:
    """Transformers would take a tokenizer by another name, templates and adapters beside it: two
    hospitals with one digest had different models."""
    base = tiny_llama(tmp_path / "base")
    said = json.loads((base / "tokenizer_config.json").read_text())
    said["fast_tokenizer_files"] = ["tokenizer.json", "tokenizer.4.0.0.json"]
    (base / "tokenizer_config.json").write_text(json.dumps(said))
    digest = digest_words(find_base(str(base)))
    (base / "tokenizer.4.0.0.json").write_text((base / "tokenizer.json").read_text())
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "other.jinja").write_text("other")
    assert (digest == digest_words(find_base(str(base)))).all()
    with pytest.raises(TaskError, match="its tokenizer can't be read"):  # it names a missing file
        make_tokenizer(find_base(str(base)))
    del said["fast_tokenizer_files"]
    (base / "tokenizer_config.json").write_text(json.dumps(said))
    assert isinstance(make_tokenizer(find_base(str(base))).chat_template, str)


def test_smollm2_chooses_what_everybody_knows(tmp_path: Path) -> None:
    """The one test of the real model, in the file that the package has."""
    try:
        find_base("")
    except TaskError:
        pytest.skip(f"{BUNDLED} is not installed")
    pytest.importorskip("gguf")
    options = {"kind": "causal", "choices": ["Paris", "Berlin"], "max_length": 64}
    task = load_task("text", options)
    lines = [asked("What is the capital of France?", "Paris")]
    raw = task.load(write_lines(tmp_path / "lines.jsonl", lines))
    examples = task.prepare(raw, {}, raw)
    with torch.no_grad():
        outputs = task.model({}).eval()(examples.tensor())
    figures = task.summarise(task.metrics(outputs, examples.targets))
    assert figures["accuracy"] == 1.0
