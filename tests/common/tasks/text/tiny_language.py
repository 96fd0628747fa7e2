"""A language model of a few thousand random weights, in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = "user assistant is it yes no maybe fever cough pain the patient has a of what : .".split()
CHAT = (
    "{% for message in messages %}{{ '<s>' + message['role'] + ' : ' + message['content'] "
    "+ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant : ' }}{% endif %}"
)


def tiny_language(folder: Path, seed: int = 0, chat: bool = True, tied: bool = True) -> Path:
    """A Llama of two layers, width 32, grouped-query attention, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    marks = ["<unk>", "<s>", "</s>", "<pad>"]
    vocabulary = {word: number for number, word in enumerate([*marks, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.decoder = decoders.Metaspace(replacement=" ", prepend_scheme="never")
    kind: Any = PreTrainedTokenizerFast  # it has no types
    fast = kind(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=tied,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        )
        model = LlamaForCausalLM(config)
        # the default spread of 0.02 makes every next token nearly as likely
        for value in model.parameters():
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    return folder


def write_lines(path: Path, answers: list[str], split: str = "train", extra: int = 0) -> None:
    """A hospital's file: one question a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    symptoms = ("fever", "cough", "pain")
    with path.open("a", encoding="utf-8") as file:
        for number, answer in enumerate(answers):
            symptom = symptoms[(number + extra) % 3]
            line = {
                "prompt": f"has the patient {symptom}" + " ." * (number % 4),
                "response": answer,
                "split": split,
            }
            file.write(json.dumps(line) + "\n")
