"""A random encoder of two layers and a tokenizer of letters, in Hugging Face layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("the", "of", "with", "fever", "cough", "acute", "renal", "failure", "##itis")


def tiny_encoder(
    folder: Path, family: str = "bert", seed: int = 0, pad: int = 0, **config: object
) -> Path:
    """Write config.json, model.safetensors and tokenizer.json. ``config`` overrides the rest."""
    from transformers import AutoConfig, AutoModel

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    known = [*SPECIAL, *WORDS, *letters, *(f"##{letter}" for letter in letters), ".", ","]
    vocabulary = {token: number for number, token in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
    }
    if family == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
        sizes |= {"max_position_embeddings": 80}
    settings = sizes | {"vocab_size": len(known), "pad_token_id": pad} | config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made: Any = AutoModel  # it has no types
        model = made.from_config(AutoConfig.for_model(family, **settings))
    model.save_pretrained(folder)
    return folder
