"""Texts and what answers them: an encoder learns to find the answer by meaning.

``kind = "pairs"`` of the text task. What is predicted of a text is its embedding: the answer of a
question is the nearest of the answers' embeddings, by cosine.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.figures.figure import Figure
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples
from wardround.common.tasks.classes import checked_outputs
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.schema import PAIRS, Input, Output, Schema
from wardround.common.tasks.text import encoder as files
from wardround.common.tasks.text.example import example_pairs
from wardround.common.tasks.text.network import TextModel
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.ranking import pair_loss, ranking_figures, ranking_sums
from wardround.common.tasks.text.rows import Rows
from wardround.common.tasks.text.task import TextTask
from wardround.common.tasks.text.tokenise import Form, read_rows, rows_of_table, with_cells
from wardround.common.text import normal_text

_PARTS = 2  # a text and its answer


class EmbeddingModel(TextModel):
    """Token ids, B x T int64, to B x H float32 of length 1; pairs, B x 2 x T, to B x 2 x H."""

    def forward(self, tokens: Tensor) -> Tensor:
        """See the class."""
        found = F.normalize(super().forward(tokens.flatten(0, -2)).float(), dim=1)
        return found.view(*tokens.shape[:-1], found.shape[1])


class PairsTask(TextTask):
    """See ``TextOptions`` for the keyword arguments; ``kind`` is "pairs"."""

    coupled_examples = True
    class_scores = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.primary_metric = "mrr"
        recall = ("recall_at_1", f"recall_at_{self.options.top_k}")
        better = [Figure(name, "higher") for name in ("mrr", *recall)]
        self.figures = (*better, Figure("candidates"), Figure("loss", "lower"))

    def load(self, path: Path | None) -> Rows:
        """CSV files with a text and an answer in each row; None: invented ones.

        Raises DataError naming file and line, TaskError for an encoder that can't be used.
        """
        tokenizer, form = files.make_tokenizer(self._folder()), _form(self.options)
        if path is not None:
            return read_rows(path, self.options, tokenizer, form)
        table = Table.of(dict(zip(form.columns, example_pairs(), strict=True)), Path("example"))
        return rows_of_table(table, self.options, tokenizer, form)

    def labels(self, raw: Rows) -> NDArray[np.int64]:
        """Numbers of the shard's answers."""
        return np.unique(raw.targets, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def warnings(self, raw: Rows) -> list[str]:
        """How files are written, and answers that nothing is told apart from."""
        few = len(set(raw.targets.tolist())) < _PARTS
        alone = "all texts have the same answer: nothing is learnt from them" if few else ""
        return [*raw.told, *([alone] if alone else [])]

    def prepare(self, raw: Rows, totals: Sums, train: Rows) -> Examples:
        """Token ids N x 2 x T int64; N int64, equal for equal answers."""
        self._check_encoder(totals)
        tokens = torch.from_numpy(raw.tokens.astype(np.int64))
        return Examples(tokens, torch.from_numpy(raw.targets))

    def schema(self, totals: Sums) -> Schema:
        width = files.width(files.encoder_config(self._folder()))
        names = [f"embedding_{place}" for place in range(1, width + 1)]
        return Schema(
            task="text",
            kind=PAIRS,
            target=self.options.columns.answer,
            inputs=(Input(name=self.options.columns.text, kind="text"),),
            outputs=tuple(Output(name=name, kind="number") for name in names),
            max_length=self.options.max_length,
        )

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        """The embedding, N by ``embedding_1``, ...; of pairs the text's."""
        texts = outputs[:, 0] if outputs.ndim > _PARTS else outputs
        values = texts.detach().cpu().double().numpy()
        return {f"embedding_{place}": column for place, column in enumerate(values.T, 1)}

    def _network(self, encoder: nn.Module, width: int, pad: int) -> TextModel:
        """Without a head, but where nothing else is trained: then it starts as the identity, so
        that what the encoder knows already isn't lost."""
        options = self.options
        rank_left = options.adalora_rank if options.tuning == "adalora" else None
        model = EmbeddingModel(encoder, width, width, pad, options.dropout, True, rank_left)
        model.head = nn.Identity()
        if options.tuning == "head":
            model.head = nn.Linear(width, width, bias=False)
            nn.init.eye_(model.head.weight)
        return model

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """B, see ``pair_loss``."""
        return pair_loss(outputs, targets, self.options.temperature)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """See ``ranking_sums``: a hospital's answers of one split are those that are searched.

        Raises TaskError if an output isn't finite.
        """
        outputs, targets = checked_outputs(outputs), targets.detach().cpu()
        return ranking_sums(outputs, targets, self.options.temperature, self.options.top_k)

    def private_sums(self, totals: Sums, noise: float) -> None:
        """None: an answer more or less moves the rank of every text."""
        return None

    def summarise(self, sums: Sums) -> dict[str, float]:
        return ranking_figures(sums, self.options.top_k)


def _form(options: TextOptions) -> Form:
    text, answer = options.columns.text, options.columns.answer
    needed = {text: "without a text", answer: "without an answer"}
    return Form(
        (text, answer),
        (text, answer),
        lambda table: with_cells(table, needed),
        lambda table: _answer_numbers(table, answer),
        "both a text and an answer",
    )


def _answer_numbers(table: Table, column: str) -> NDArray[np.int64]:
    """N, equal for equal answers of any hospital: they stay with their rows."""
    texts = [normal_text(str(cell)) for cell in table.cells(column)]
    known = {text: hashlib.sha256(text.encode()).digest()[:8] for text in set(texts)}
    joined = b"".join(known[text] for text in texts)
    return np.frombuffer(joined, dtype=">i8").astype(np.int64)
