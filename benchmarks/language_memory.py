"""What a language model needs at a hospital and on the wire.

Computed for models of 7 and 8 thousand million parameters; computed and measured for the one of
134.5 M that the example trains.

    python -m benchmarks.language_memory [--quick] [--json PATH]

LoRA beside q and v, AdamW, two texts of 512 tokens at a time, activations computed again in the
backward pass. GB of a step: the frozen base in its form (linear layers and embeddings in 4, 2, 1 or
0.5 bytes a weight and their scales; norms in 4), adapters with gradients and two moments (16 bytes
a number), what each layer takes in, and the activations of one layer. MB up: 4 bytes a trained
number under 32-bit masks, 1 with ``compression.bits = 8``; down 4. ``--quick`` measures nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.report import Row, arguments, emit

TEXTS, TOKENS = 2, 512
BYTES = {"float32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Of a weight; nf4 has a float32 scale for 64 weights, int8 one a row, which is nothing."""
RANKS = (8, 32)
_CHILD = """
import sys, torch
from wardround.common.tasks.text.causal.task import CausalTask
torch.set_num_threads(1)
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(one for one in lines if one.startswith(name)).split()[1]) * 1024
texts, tokens, form = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
import transformers.models.llama.modeling_llama
before = status("VmRSS")
task = CausalTask(kind="causal", max_length=tokens, rank=8, base_dtype=form)
model = task.model({})
model.body.gradient_checkpointing_enable()
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
planes = torch.ones(texts, 4, tokens, dtype=torch.int64)
planes[:, 0] = torch.arange(tokens) + 100
planes[:, 1] = torch.arange(tokens)
planes[:, 3] = 0
planes[:, 3, -3:] = 1
open("/proc/self/clear_refs", "w").write("5")
with torch.autocast("cpu", torch.bfloat16):
    loss = -model(planes)[:, -3:, 0].mean()
loss.backward()
optimizer.step()
print(status("VmHWM") - before)
"""


@dataclass(frozen=True)
class Shape:
    """A model's numbers, as its configuration has them."""

    layers: int
    width: int
    inner: int
    heads: int
    groups: int
    vocabulary: int
    tied: bool = False

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def config(self) -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
        )

    def weights(self) -> tuple[int, int]:
        """Numbers in matrices, and others: of a model without memory."""
        from transformers import LlamaForCausalLM

        with torch.device("meta"):
            model = LlamaForCausalLM(self.config())
        sizes = [(one.dim() > 1, one.numel()) for one in model.parameters()]
        return sum(n for big, n in sizes if big), sum(n for big, n in sizes if not big)

    def adapters(self, rank: int) -> int:
        """Numbers of LoRA beside q and v."""
        out = self.groups * self.head_width
        return self.layers * rank * (2 * self.width + self.width + out)

    def step_bytes(self, form: str, rank: int) -> float:
        """Of one step: see the module."""
        matrices, others = self.weights()
        inputs = self.layers * TEXTS * TOKENS * self.width * 2
        inside = TEXTS * TOKENS * 2 * (6 * self.width + 3 * self.inner)
        base = matrices * BYTES[form] + 4 * others
        return base + 16 * self.adapters(rank) + inputs + 2 * inside


SHAPES = {
    "SmolLM2 135M": Shape(30, 576, 1536, 9, 3, 49152, tied=True),
    "Mistral 7B": Shape(32, 4096, 14336, 32, 8, 32000),
    "Llama 3 8B": Shape(32, 4096, 14336, 32, 8, 128256),
}


def computed() -> list[Row]:
    """Of all shapes."""
    rows = []
    for name, shape in SHAPES.items():
        rows.append(Row(name, "parameters, millions", sum(shape.weights()) / 1e6, "lower"))
        for rank in RANKS:
            numbers = shape.adapters(rank)
            rows.append(Row(name, f"MB up a round, LoRA {rank}", 4 * numbers / 1e6, "lower"))
            rows.append(Row(name, f"MB up, LoRA {rank}, 8 bits", numbers / 1e6, "lower"))
        full = 4 * sum(shape.weights()) / 1e6
        rows.append(Row(name, "MB up a round, all weights", full, "lower"))
        for form in BYTES:
            size = shape.step_bytes(form, RANKS[0]) / 1e9
            rows.append(Row(name, f"GB of a step, {form}", size, "lower"))
    return rows


def measured() -> list[Row]:
    """One step of the smallest, in a process of its own; ``computed`` beside it."""
    rows, name = [], "SmolLM2 135M"
    for form in BYTES:
        told = subprocess.run(
            [sys.executable, "-c", _CHILD, str(TEXTS), str(TOKENS), form],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ).stdout
        most = int(told.split()[-1])
        known = {"computed": SHAPES[name].step_bytes(form, RANKS[0]) / 1e9}
        rows.append(Row(name, f"GB of a step, {form}, measured", most / 1e9, "lower", known))
    return rows


def main() -> None:
    """Compute, measure, print and write."""
    options = arguments(__doc__ or "")
    rows = computed() + ([] if options.quick else measured())
    emit("A language model's memory and messages", rows, options.json)


if __name__ == "__main__":
    main()
