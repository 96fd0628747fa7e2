"""What is counted of texts: their length, and how much of them the encoder has no piece for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.counts import Column
from wardround.common.drift.field import Field, outcome_name
from wardround.common.tasks.base import Task
from wardround.common.tasks.schema import Schema
from wardround.common.tasks.text.encoder import encoder_folder, make_tokenizer
from wardround.common.tasks.text.rows import Rows
from wardround.common.tasks.text.task import TextTask


def text_columns(raw: Rows, task: Task[Any], schema: Schema) -> dict[str, Column]:
    """Of each text the tokens, and the share of unknown ones; its class, if known."""
    assert isinstance(task, TextTask)
    tokenizer = make_tokenizer(encoder_folder(task.options.encoder))
    there = raw.tokens != tokenizer.pad
    lengths = there.sum(axis=1).astype(np.float64)
    unknown = ((raw.tokens == tokenizer.unknown) & there).sum(axis=1) / np.maximum(1.0, lengths)
    (one,) = schema.inputs
    found = {
        Field("input", f"{one.name}: tokens").key: Column(lengths),
        Field("input", f"{one.name}: unknown tokens").key: Column(unknown),
    }
    if schema.kind in ("binary", "multiclass") and (raw.targets >= 0).any():
        found[Field("outcome", outcome_name(schema)).key] = Column(
            np.where(raw.targets >= 0, raw.targets, -1).astype(np.int64)
        )
    return found


def tagged_share(tags: NDArray[np.float64], raw: Rows, task: Task[Any]) -> NDArray[np.float64]:
    """N: the share of a text's tokens with a tag other than the one of none (number 0)."""
    assert isinstance(task, TextTask)
    there = raw.tokens != make_tokenizer(encoder_folder(task.options.encoder)).pad
    share: NDArray[np.float64] = ((tags > 0) & there).sum(axis=1) / np.maximum(1, there.sum(axis=1))
    return share
