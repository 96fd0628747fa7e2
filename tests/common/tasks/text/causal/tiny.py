"""A random language model of two layers and a tokenizer of bytes, in Hugging Face layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

BEGIN, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
CHAT = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_llama(
    folder: Path,
    family: str = "llama",
    chat: str | None = CHAT,
    seed: int = 0,
    spread: float | None = None,
    **config: object,
) -> Path:
    """Write config.json, model.safetensors, tokenizer.json and tokenizer_config.json. ``config``
    overrides the rest; ``spread`` is of the weights: the usual 0.02 makes every next token nearly
    as likely."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    known = [PAD, BEGIN, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(known)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([PAD, BEGIN, END])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
    } | ({"chat_template": chat} if chat else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    settings: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 160,
        "vocab_size": len(known),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": True,
    }
    if family == "gpt2":
        settings = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160}
        settings |= {"vocab_size": len(known), "bos_token_id": 1, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Any = AutoModelForCausalLM  # it has no types
        model = made.from_config(AutoConfig.for_model(family, **settings | config))
        for value in model.parameters():
            if spread is not None and value.dim() > 1:
                torch.nn.init.normal_(value, std=spread)
    model.save_pretrained(folder)
    return folder


def write_lines(path: Path, lines: Iterable[Mapping[str, Any] | str]) -> Path:
    """A file of JSON lines; a text is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


def asked(prompt: str, response: str, **more: object) -> dict[str, Any]:
    """A line with a prompt and its response."""
    return {"prompt": prompt, "response": response, **more}
