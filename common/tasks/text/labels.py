"""Texts with classes in several columns: a head for each on one encoder.

``kind = "labels"`` of the text task. A text may lack some of its classes; it counts for the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.figures.figure import Figure
from wardround.common.figures.sums import Sums, ratio
from wardround.common.tasks.base import Examples
from wardround.common.tasks.classes import (
    CLASS_FIGURES,
    UNLABELLED,
    Kind,
    checked_outputs,
    class_figures,
    class_loss,
    class_predictions,
    class_sums,
)
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.schema import LABELS, Input, Output, Schema, head_outputs
from wardround.common.tasks.text import encoder as files
from wardround.common.tasks.text.example import example_heads
from wardround.common.tasks.text.network import TextModel
from wardround.common.tasks.text.options import TextOptions
from wardround.common.tasks.text.rows import Rows
from wardround.common.tasks.text.task import TextTask
from wardround.common.tasks.text.tokenise import Form, class_numbers, read_rows, rows_of_table


class LabelsTask(TextTask):
    """See ``TextOptions`` for the keyword arguments; ``kind`` is "labels"."""

    class_scores = False
    higher_is_better = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.primary_metric = "loss"
        kinds = [(name, _kind(classes)) for name, classes in self.options.heads.items()]
        self.figures = (
            Figure("loss", "lower"),
            *(_of(one, name) for name, kind in kinds for one in CLASS_FIGURES[kind]),
        )

    def load(self, path: Path | None) -> Rows:
        """CSV files with a text and the heads' columns in each row; None: invented ones, whose
        columns are the first two heads.

        Raises DataError naming file and line, TaskError for an encoder that can't be used.
        """
        tokenizer, form = files.make_tokenizer(self._folder()), _form(self.options)
        if path is not None:
            return read_rows(path, self.options, tokenizer, form)
        texts, numbers = example_heads()
        columns: dict[str, list[str]] = {self.options.columns.text: texts}
        for place, (name, classes) in enumerate(self.options.heads.items()):
            column = [row[min(place, 1)] % len(classes) for row in numbers]
            columns[name] = [classes[one] for one in column]
        table = Table.of(columns, Path("example"))
        return rows_of_table(table, self.options, tokenizer, form)

    def labels(self, raw: Rows) -> NDArray[np.int64]:
        """The class of the first head; a class of its own for a text that lacks it."""
        first = raw.targets[:, 0]
        return np.where(first == UNLABELLED, -1, first).astype(np.int64)

    def warnings(self, raw: Rows) -> list[str]:
        """How files are written, and heads that have nothing to learn from here."""
        lines = [*raw.told]
        for place, name in enumerate(self.options.heads):
            known = set(raw.targets[:, place].tolist()) - {UNLABELLED}
            if len(known) < 2:
                what = f"all are of one class of '{name}'" if known else f"none has a '{name}'"
                lines.append(f"of the texts {what}: that head learns from the others only")
        return lines

    def prepare(self, raw: Rows, totals: Sums, train: Rows) -> Examples:
        """Token ids N x T int64; classes N x heads int64, ``UNLABELLED`` where there is none."""
        self._check_encoder(totals)
        tokens = torch.from_numpy(raw.tokens.astype(np.int64))
        return Examples(tokens, torch.from_numpy(raw.targets))

    def schema(self, totals: Sums) -> Schema:
        return Schema(
            task="text",
            kind=LABELS,
            inputs=(Input(name=self.options.columns.text, kind="text"),),
            outputs=tuple(
                Output(name=one, kind="probability", of=of)
                for name, classes in self.options.heads.items()
                for one, of in head_outputs(name, classes)
            ),
            max_length=self.options.max_length,
        )

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        """Probabilities, by the names of the schema's outputs (``head_outputs``)."""
        found = {}
        heads = zip(self.options.heads.items(), self._parts(outputs), strict=True)
        for (name, classes), part in heads:
            values = class_predictions(_kind(classes), part, classes).values()
            for (output, _), column in zip(head_outputs(name, classes), values, strict=True):
                found[output] = column
        return found

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """B: the mean over the heads of ``class_loss``, which is 0 where a class isn't known."""
        return torch.stack([loss for _, loss in self._losses(outputs, targets)]).mean(0)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """``class_sums`` of each head, over the texts with a class, by ``NUMBER.NAME``; ``rows``
        and ``loss``. Raises TaskError if an output isn't finite."""
        outputs, targets = checked_outputs(outputs), targets.detach().cpu()
        total = self.loss(outputs, targets).double().sum().reshape(1).numpy()
        sums: Sums = {"rows": np.array([float(len(targets))]), "loss": total}
        for place, (kind, part, truth) in enumerate(self._heads(outputs, targets)):
            known = truth != UNLABELLED
            found = class_sums(kind, part[known], _typed(kind, truth[known]), self.options.bins)
            sums |= {f"{place}.{name}": value for name, value in found.items()}
        return sums

    def private_sums(self, totals: Sums, noise: float) -> None:
        """None: figures of several heads have no common bound yet."""
        return None

    def summarise(self, sums: Sums) -> dict[str, float]:
        rows = float(sums["rows"][0])
        figures = {"loss": float(ratio(sums["loss"][0], rows)), "examples": rows}
        for place, (name, classes) in enumerate(self.options.heads.items()):
            prefix = f"{place}."
            own = {
                key.removeprefix(prefix): value
                for key, value in sums.items()
                if key.startswith(prefix)
            }
            found = class_figures(_kind(classes), own)
            figures |= {_named(figure, name): value for figure, value in found.items()}
        return figures

    def _network(self, encoder: nn.Module, width: int, pad: int) -> TextModel:
        options, widths = self.options, self._widths()
        rank_left = options.adalora_rank if options.tuning == "adalora" else None
        return TextModel(encoder, width, sum(widths), pad, options.dropout, True, rank_left)

    def _widths(self) -> list[int]:
        """Outputs of each head."""
        return [len(one) if len(one) > 2 else 1 for one in self.options.heads.values()]

    def _parts(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return torch.split(outputs, self._widths(), dim=1)

    def _heads(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Kind, Tensor, Tensor]]:
        """Of each head its kind, outputs and class numbers."""
        classes = self.options.heads.values()
        for one, part, truth in zip(classes, self._parts(outputs), targets.unbind(1), strict=True):
            yield _kind(one), part, truth

    def _losses(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Kind, Tensor]]:
        for kind, part, truth in self._heads(outputs, targets):
            if kind == "multiclass":
                yield kind, class_loss(kind, part, truth)
                continue
            known = truth != UNLABELLED
            typed = torch.where(known, truth, 0).to(part.dtype)
            yield kind, class_loss(kind, part, typed) * known


def _form(options: TextOptions) -> Form:
    text, heads = options.columns.text, options.heads

    def kept(table: Table) -> Table:
        table = table.keep(~table.missing(text), "without a text")
        known = np.zeros(len(table), dtype=np.bool_)
        for name in heads:
            known |= ~table.missing(name)
        return table.keep(known, "without any class")

    def targets(table: Table) -> NDArray[np.int64]:
        columns = [
            class_numbers(table, name, classes, f"task.heads.{name}")
            for name, classes in heads.items()
        ]
        return np.stack(columns, axis=1)

    return Form((text,), (text, *heads), kept, targets, "a text and a class")


def _kind(classes: list[str]) -> Kind:
    return "binary" if len(classes) == 2 else "multiclass"


def _typed(kind: Kind, truth: Tensor) -> Tensor:
    return truth.float() if kind == "binary" else truth


def _named(name: str, head: str) -> str:
    """A figure of a head."""
    return f"{name}_{head}"


def _of(figure: Figure, head: str) -> Figure:
    bound = figure.bound if figure.bound is None else _named(figure.bound, head)
    return Figure(
        _named(figure.name, head),
        figure.better,
        bound,
        figure.unit,
        figure.within,
        figure.together,
    )
