"""Exports of text models: the graph, the tokenizer beside it, and what the model itself predicts
for the rows that the graph is tried on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.export.exporter import Arrays, Cases, Exporter, Fed
from wardround.common.export.names import (
    ENCODER,
    MASK,
    TAG_PROBABILITIES,
    TOKENS,
    TRACED_OPSET,
)
from wardround.common.export.source import Source
from wardround.common.export.text import Named, output_names, task_of, text_graph, traced_module
from wardround.common.export.text_rows import batches, fed
from wardround.common.rng import numpy_generator
from wardround.common.tasks.text import encoder as files
from wardround.common.tasks.text.rows import Rows

_DRAWN = 12
_TINY = 1e-30


class TextExporter(Exporter):
    """See ``text.py`` for what the graph takes."""

    tolerance = 1e-4
    opset = TRACED_OPSET
    free_axes = ("rows", "length")

    def graph(self, source: Source) -> bytes:
        return text_graph(source)

    def program(self, source: Source) -> nn.Module:
        return Named(traced_module(source), output_names(source))

    def program_inputs(self, source: Source, columns: Arrays) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(columns[name]) for name in (TOKENS, MASK))

    def cases(self, source: Source) -> Cases:
        task = task_of(source)
        folder = files.encoder_folder(task.options.encoder)
        words = files.make_tokenizer(folder)
        size = files.vocabulary_size(files.encoder_config(folder))
        tokens = case_tokens(words, size, task.options.max_length)
        predictions = self.own(source, torch.from_numpy(tokens))
        return Cases(fed(tokens, words.pad), predictions)

    def own(self, source: Source, tokens: Tensor) -> Mapping[str, NDArray[Any]]:
        """What the model itself predicts, by names of the graph's outputs."""
        task = task_of(source)
        with torch.no_grad():
            outputs = source.module(tokens)
        if task.tagging:
            return {TAG_PROBABILITIES: torch.softmax(outputs.double(), dim=2).numpy()}
        return task.predictions(outputs, source.totals)

    def outputs(self, source: Fed, predictions: Arrays) -> Tensor:
        """Of tags their logarithms, N x T x L; T may be shorter than the targets'."""
        if not task_of(source).tagging:
            return super().outputs(source, predictions)
        values = np.log(np.maximum(predictions[TAG_PROBABILITIES], _TINY))
        lacking = task_of(source).options.max_length - values.shape[1]
        return torch.from_numpy(np.pad(values, ((0, 0), (0, lacking), (0, 0))))

    def files(self, source: Source) -> Mapping[str, bytes]:
        own = source.task.own_files()
        return {f"{ENCODER}/{x}": own[x].read_bytes() for x in ("config.json", "tokenizer.json")}

    def rows(self, source: Fed, raw: Rows) -> Iterator[Arrays]:
        pad = files.make_tokenizer(files.encoder_folder(task_of(source).options.encoder)).pad
        return (fed(raw.tokens[part], pad) for part in batches(len(raw)))


def case_tokens(words: files.WordTokenizer, size: int, longest: int) -> NDArray[np.int64]:
    """Rows of token ids, N x ``longest``: nothing but special tokens, one token, one token many
    times, what nobody knows, rows of every length class; the same whenever it is asked.

    size : of the vocabulary
    """
    draw = numpy_generator(0, "export parity")
    room = longest - len(words.prefix) - len(words.suffix)
    usual = np.setdiff1d(np.arange(size), [words.pad])
    lengths = [*np.linspace(1, room, _DRAWN - 2).astype(int), room, 2]
    inside = [[], [words.unknown], [int(usual[-1])] * room, [words.unknown] * room]
    inside += [draw.choice(usual, length).tolist() for length in lengths]
    found = np.full((len(inside), longest), words.pad, dtype=np.int64)
    for number, one in enumerate(inside):
        row = [*words.prefix, *one, *words.suffix]
        found[number, : len(row)] = row
    return found
