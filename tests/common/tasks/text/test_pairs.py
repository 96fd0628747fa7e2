"""Texts and their answers: the loss and figures by hand, rows as they come, embeddings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import normalize

from wardround.common.config.load import parse_config
from wardround.common.errors import DataError, TaskError
from wardround.common.figures.sums import add_sums
from wardround.common.model.named import build_model
from wardround.common.privacy.incompatible import check_task
from wardround.common.tasks import load_task
from wardround.common.tasks.text.pairs import PairsTask
from wardround.common.tasks.text.ranking import pair_loss, ranking_figures, ranking_sums


def embeddings(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, 2, 4, generator=generator), dim=2)


def task(encoder: Path, **options: object) -> PairsTask:
    made = load_task("text", {"kind": "pairs", "encoder": str(encoder), "max_length": 80} | options)
    assert isinstance(made, PairsTask)
    return made


def test_equal_embeddings_lose_the_logarithm_of_the_other_answers() -> None:
    """Of four pairs the first two share an answer: they have three to choose from, the others
    four."""
    same = normalize(torch.ones(4, 2, 3), dim=2)
    losses = pair_loss(same, torch.tensor([7, 7, 8, 9]), 0.05)
    expected = torch.tensor([math.log(3), math.log(3), math.log(4), math.log(4)])
    torch.testing.assert_close(losses, expected)


def test_the_loss_is_the_cross_entropy_of_the_right_answer() -> None:
    """Two pairs at right angles: exp(1/t) against exp(0), by hand."""
    found = torch.eye(2)[:, None, :].repeat(1, 2, 1)
    losses = pair_loss(found, torch.tensor([1, 2]), 0.5)
    torch.testing.assert_close(losses, torch.full((2,), math.log(1 + math.exp(-2))))
    assert pair_loss(found[:1], torch.tensor([1]), 0.5).tolist() == [0.0]  # one row: nothing


def test_a_copy_of_an_answer_is_no_other_answer() -> None:
    outputs = embeddings(3)
    outputs[1, 1] = outputs[0, 1]
    twice = pair_loss(outputs, torch.tensor([1, 1, 2]), 0.1)
    alone = pair_loss(outputs[[0, 2]], torch.tensor([1, 2]), 0.1)
    torch.testing.assert_close(twice[0], alone[0])


def test_figures_by_hand() -> None:
    """Three texts, answers on a line: ranks 1, 2 and 3 of three."""
    angles = torch.tensor([0.0, 0.5, 1.5])
    answers = torch.stack([angles.cos(), angles.sin()], dim=1)
    asked = torch.tensor([-0.1, -0.1, -0.1])
    texts = torch.stack([asked.cos(), asked.sin()], dim=1)
    sums = ranking_sums(torch.stack([texts, answers], dim=1), torch.tensor([5, 6, 7]), 0.05, 2)
    figures = ranking_figures(sums, 2)
    assert figures["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert figures["recall_at_1"] == pytest.approx(1 / 3)
    assert figures["recall_at_2"] == pytest.approx(2 / 3)
    assert (figures["candidates"], figures["examples"]) == (3, 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_an_encoder_that_says_the_same_of_all_finds_nothing(answers: list[int]) -> None:
    """The right one of equal scores counts as the last; and sums of parts are figures of both."""
    targets = torch.tensor(answers)
    same = normalize(torch.ones(len(answers), 2, 3), dim=2)
    figures = ranking_figures(ranking_sums(same, targets, 0.05, 5), 5)
    assert figures["mrr"] == pytest.approx(1 / len(set(answers)))
    whole = ranking_figures(add_sums([ranking_sums(same, targets, 0.05, 5)] * 2), 5)
    assert whole["mrr"] == pytest.approx(figures["mrr"])
    assert whole["examples"] == 2 * len(answers)


def test_rows_are_pairs_and_equal_answers_are_one(encoder: Path, tmp_path: Path) -> None:
    lines = ["ask,answer,who", "fever,the ward,1", "cough,  the ward ,2", ",the ward,3", "the,,4"]
    (tmp_path / "a.csv").write_text("\n".join([*lines, "of,with,1"]) + "\n")
    made = task(encoder, columns={"text": "ask", "patient_id": "who"}, max_length=16)
    rows = made.load(tmp_path / "a.csv")
    assert rows.tokens.shape == (3, 2, 16) and rows.left_out[0].count == 1
    assert len(set(rows.targets.tolist())) == 2 and made.labels(rows).max() == 1
    assert made.patients(rows).tolist() == ["1", "2", "1"]
    again = made.select(rows, np.array([2, 0]))
    assert again.targets.tolist() == rows.targets[[2, 0]].tolist()
    with pytest.raises(DataError, match="no column 'reply'"):
        task(encoder, columns={"text": "ask", "answer": "reply"}).load(tmp_path / "a.csv")


def test_a_text_has_the_embedding_that_it_has_in_a_pair(encoder: Path) -> None:
    made = task(encoder)
    rows = made.load(None)
    assert (
        made.figure_table().primary.name == "mrr" and made.figure_table().primary.better == "higher"
    )
    inputs = made.prepare(rows, {}, rows).inputs[:6]
    model = build_model(made, {}, 1).eval()
    with torch.no_grad():
        pairs, texts = model(inputs), model(inputs[:, 0])
    assert pairs.shape == (6, 2, 32)
    torch.testing.assert_close(pairs[:, 0], texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(pairs.norm(dim=2), torch.ones(6, 2))
    named = made.predictions(pairs, {})
    assert list(named) == [one.name for one in made.schema({}).outputs]


def test_without_training_a_head_changes_nothing(encoder: Path) -> None:
    """It starts as the identity; with adapters there is none."""
    inputs = task(encoder).prepare(rows := task(encoder).load(None), {}, rows).inputs[:3]
    found = [build_model(task(encoder, tuning=t), {}, 1).eval()(inputs) for t in ("head", "lora")]
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"text": "a", "answer": "a"}}, "two meanings"),
        ({"columns": {"text": "answer"}}, "both question and answer"),
        ({"columns": {"label": "a"}}, "has no effect with kind"),
        ({"classes": ["a", "b"]}, "has no effect with kind"),
        ({"temperature": 0}, "greater than"),
        ({"top_k": 1}, "greater than"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PairsTask(kind="pairs", **options)


def test_no_single_example_can_be_protected(encoder: Path) -> None:
    config = parse_config("[privacy]\nunit = 'example'\nepsilon = 8.0\n")
    with pytest.raises(TaskError, match="depends on the others of its batch"):
        check_task(config, task(encoder))
