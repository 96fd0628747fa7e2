"""Loss and figures in closed form; options that are refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wardround.client.data.splitting import split_rows
from wardround.common.config.load import parse_config
from wardround.common.errors import TaskError
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.rows import IGNORED


def test_the_loss_is_the_mean_over_a_sentences_words() -> None:
    """Equal logits of L tags give log L a word, however many words; no words give 0."""
    task = TextTask(entities=["A", "B"])
    targets = torch.full((3, 6), IGNORED)
    targets[0, 1], targets[1, 1:5] = 3, torch.tensor([0, 1, 2, 4])
    outputs = torch.zeros(3, 6, 5, requires_grad=True)
    losses = task.loss(outputs, targets)
    torch.testing.assert_close(losses, torch.tensor([math.log(5), math.log(5), 0.0]))
    losses.sum().backward()
    assert torch.isfinite(outputs.grad).all() and (outputs.grad[targets == IGNORED] == 0).all()


def test_figures_of_perfect_outputs() -> None:
    task = TextTask()
    targets = torch.tensor([[IGNORED, 1, 2, IGNORED, 0], [IGNORED, 0, 1, IGNORED, 1]])
    outputs = 50.0 * torch.nn.functional.one_hot(targets.clamp_min(0), 3)
    figures = task.summarise(task.metrics(outputs, targets))
    assert figures["f1"] == figures["precision_Disease"] == 1 and figures["support_Disease"] == 3
    assert figures["loss"] == pytest.approx(0, abs=1e-6) and figures["examples"] == 2
    with pytest.raises(TaskError, match="not finite"):
        task.metrics(outputs * math.inf, targets)


@pytest.mark.parametrize(("classes", "outputs"), [(["a", "b"], 1), (["a", "b", "c"], 3)])
def test_classes_of_texts(encoder: Path, classes: list[str], outputs: int) -> None:
    task = TextTask(kind="sequence", classes=classes, encoder=str(encoder), max_length=64)
    rows = task.load(None)
    examples = task.prepare(rows, {}, rows)
    found = task.model({}).eval()(examples.inputs[:8])
    assert found.shape == (8, outputs)
    figures = task.summarise(task.metrics(found, examples.targets[:8]))
    assert 0 <= figures[task.primary_metric] <= 1 or math.isnan(figures[task.primary_metric])
    assert figures["examples"] == 8
    assert np.isfinite(figures["loss"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entities": ["A", "A"]}, "stands there twice"),
        ({"entities": ["B-1"]}, "of letters"),
        ({"classes": ["one"]}, "at least 2"),
        ({"tuning": "adalora", "rank": 4, "target_rank": 5}, "can't be above rank"),
        ({"target_rank": 2}, "has no effect with tuning"),
        ({"columns": {"text": "a", "label": "a"}}, "two meanings"),
        ({"lerning": 1}, "Extra inputs"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextTask(**options)


def test_pieces_of_a_sentence_are_on_one_side_of_the_split(encoder: Path) -> None:
    task = TextTask(encoder=str(encoder), max_length=8)
    rows = task.load(None)
    assert rows.pieces > 20
    config = parse_config("[data]\ntest_fraction = 0.4\n")
    parts = split_rows(task, rows, config, bytes(32))
    sentences = [set(rows.origin[index, 1].tolist()) for index in parts.values() if len(index)]
    assert len(sentences) == 2 and not sentences[0] & sentences[1]


def test_a_sentence_is_known_by_its_words_in_all_its_pieces(tmp_path: Path, encoder: Path) -> None:
    text = "\n".join([*(f"word{n % 5}\tO" for n in range(20)), "", "short\tB-Disease", ""])
    (tmp_path / "a.tsv").write_text(text)
    found = []
    for length in (8, 64):
        task = TextTask(encoder=str(encoder), max_length=length)
        raw = task.load(tmp_path / "a.tsv")
        assert (len(raw) > 2) == (length == 8)
        found.append(dict.fromkeys(task.row_keys(raw).tolist()))
    assert list(found[0]) == list(found[1]) and len(found[0]) == 2
