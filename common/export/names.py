"""Names of files and of inputs that an export has. Whoever reads or feeds one asks here."""

from __future__ import annotations

from collections.abc import Collection

GRAPH, PROGRAM, WEIGHTS = "model.onnx", "model.pt2", "model.safetensors"
INFO, SOURCE, TOTALS = "export.json", "source.json", "preparation.safetensors"
"""Of an export's folder; the last is the model folder's."""
EXTRA = "pip install 'wardround[export]'"
OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
"""Of ONNX files: what runtimes of 2023 and later read; nothing here needs a newer one."""
TRACED_OPSET = 18
"""The lowest that torch's own exporter writes."""
ENCODER = "encoder"
"""Folder of an export with what tokens are made by: config.json, tokenizer.json."""
TOKENS, MASK, TAG_PROBABILITIES = "input_ids", "attention_mask", "tag_probabilities"
"""Of a text model's graph; classes of whole texts have the schema's outputs."""
PIXELS = "pixels"
ADAPTERS = "adapter_model.safetensors"
"""Of a language model's adapters alone, as peft has them."""


def graph_input(column: str, outputs: Collection[str]) -> str:
    """The graph's input for a column: its own name, but where an output has that.

    >>> graph_input("age", ["risk"]), graph_input("risk", ["risk"])
    ('age', 'input/risk')
    """
    return f"input/{column}" if column in outputs else column
