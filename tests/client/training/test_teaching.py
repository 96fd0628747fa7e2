"""What a finished teacher adds to the loss: by hand, by torch's own divergence, by autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.data.hospital import Units
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.client.training.settings import check_training
from wardround.client.training.steps import train_on_batches
from wardround.client.training.teaching import beside, by_word, loss_of
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.settings import TeacherTable
from wardround.common.tasks.base import Examples
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.text.rows import IGNORED

SEED = (7, 2, "a")


def with_teacher(config: Config, **options: float) -> Config:
    return config.model_copy(update={"teacher": TeacherTable(model_digest="0" * 64, **options)})


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_gradient_is_that_of_both_terms(weight: float) -> None:
    """d/ds: (1 - w) (p(s) - y) + w T (p(s/T) - p(t/T)), as the closed form has it."""
    generator = torch.Generator().manual_seed(1)
    theirs, temperature = 3 * torch.randn(9, 4, generator=generator), 2.5
    scores = torch.randn(9, 4, generator=generator).requires_grad_()
    examples = Examples(torch.zeros(9, 1), torch.arange(9) % 4)
    loss = loss_of(Classes(), TeacherTable(weight=weight, temperature=temperature))
    loss(scores, beside(Classes(), examples, theirs).targets).sum().backward()
    with torch.no_grad():
        hard = scores.softmax(1) - nn.functional.one_hot(examples.targets, 4)
        soft = (scores / temperature).softmax(1) - (theirs / temperature).softmax(1)
        expected = (1 - weight) * hard + weight * temperature * soft
    torch.testing.assert_close(scores.grad, expected)


def test_of_two_classes_by_one_logit() -> None:
    """Teacher and student at odds of 3 and 1: KL = 3/4 log 3/2 + 1/4 log 1/2."""
    task, examples = TabularTask(), Examples(torch.zeros(2, 1), torch.tensor([0.0, 1.0]))
    targets = beside(task, examples, torch.full((2, 1), math.log(3.0))).targets
    found = loss_of(task, TeacherTable(weight=0.25, temperature=1.0))(torch.zeros(2, 1), targets)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert found.tolist() == pytest.approx([0.75 * math.log(2) + 0.25 * kl] * 2)


def test_of_a_value_by_its_square() -> None:
    task = TabularTask(kind="regression", columns={"target": "y"})
    examples = Examples(torch.zeros(2, 1), torch.tensor([[1.0, 5.0], [0.0, 5.0]]))
    targets = beside(task, examples, torch.tensor([[3.0], [-1.0]])).targets
    found = loss_of(task, TeacherTable(weight=0.25))(torch.tensor([[2.0], [2.0]]), targets)
    assert found.tolist() == [0.75 * 1 + 0.25 * 1, 0.75 * 4 + 0.25 * 9]


def test_words_meet_whatever_tokens_they_are() -> None:
    """Words a b c: the student has two tokens of a, the teacher cuts off c."""
    theirs = torch.tensor([[[9.0], [1.0], [2.0]], [[5.0], [7.0], [8.0]]])
    words = torch.tensor([[IGNORED, 0, 1], [2, IGNORED, IGNORED]])
    own = torch.tensor([[0, IGNORED, 1, 2], [IGNORED, IGNORED, IGNORED, IGNORED]])
    expected = torch.tensor([[[1.0], [0.0], [2.0], [torch.nan]], [[0.0]] * 4])
    torch.testing.assert_close(by_word(theirs, words, own), expected, equal_nan=True)


class Tags(Classes):
    """Cross entropy by token, the mean over a text's words."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
        return losses.sum(1) / (targets != IGNORED).sum(1).clamp_min(1)


def test_a_word_cut_off_is_taught_by_its_label_alone() -> None:
    scores = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    examples = Examples(torch.zeros(1, 2), torch.tensor([[0, 2]]))
    theirs = torch.tensor([[[1.0, 0.0, 0.0], [torch.nan] * 3]])
    loss = loss_of(Tags(), TeacherTable(weight=0.5, temperature=1.0))
    loss(scores, beside(Tags(), examples, theirs).targets).sum().backward()
    own = scores.detach()[0, 1].softmax(0) - torch.tensor([0.0, 0.0, 1.0])
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad[0, 1], 0.5 * own / 2)


@pytest.mark.parametrize("micro", [None, 3])
def test_steps_without_weight_are_those_without_a_teacher(micro: int | None) -> None:
    task, examples = Classes(), rows()
    theirs = torch.randn(len(examples), 3, generator=torch.Generator().manual_seed(3))
    config = configured(local_epochs=2, micro_batch_size=micro)
    found = []
    for taught, given in (
        (config, examples),
        (with_teacher(config, weight=0.0), beside(task, examples, theirs)),
    ):
        torch.manual_seed(0)
        model = residual(1, dropout=0.1)
        train_on_batches(model, given, task, taught, SEED)
        found.append(vector(model))
    assert torch.equal(*found)


@pytest.mark.parametrize("form", ["bookkeeping", "functional", "loop"])
def test_each_unit_is_clipped_by_the_mixed_loss(form: str) -> None:
    """Every engine has the sum of clipped gradients that autograd has, row by row."""
    task, examples = Classes(), rows(6)
    taught = beside(task, examples, torch.randn(6, 3, generator=torch.Generator().manual_seed(3)))
    loss, model = loss_of(task, TeacherTable(weight=0.6)), nn.Linear(6, 3)
    units = Units.of(np.arange(6), 1, 0)
    expected = torch.zeros(3, 6)
    for row in range(len(units)):
        model.zero_grad()
        loss(model(taught.inputs[[row]]), taught.targets[[row]]).sum().backward()
        weight, bias = model.weight.grad, model.bias.grad
        assert weight is not None and bias is not None
        norm = math.sqrt(float(weight.square().sum() + bias.square().sum()))
        expected += weight * min(1.0, 0.5 / norm)
    engine = make_unit_gradients(model, loss, form)
    numbers = torch.arange(6)
    found = engine.clipped_sum(taught.inputs, taught.targets, numbers, 6, Clipping(0.5, False))
    torch.testing.assert_close(found.gradients[0], expected, rtol=1e-4, atol=1e-6)


def test_what_cant_be_taught_is_said_by_key() -> None:
    named = f'[teacher]\nmodel_digest = "{"0" * 64}"\n'
    survival = TabularTask(kind="survival", columns={"time": "t", "event": "e"})
    with pytest.raises(ConfigError, match="teacher: .*neither"):
        check_training(parse_config(named), survival)
    with pytest.raises(ConfigError, match="training.distillation: beside"):
        check_training(parse_config(f"training.distillation = 0.5\n{named}"), TabularTask())
    with pytest.raises(ConfigError, match="teacher.model: is missing"):
        check_training(parse_config("[teacher]\n"), TabularTask())
    with pytest.raises(ConfigError, match="trains nothing"):
        parse_config(f'procedure.name = "describe"\n{named}')
    check_training(parse_config(named), TabularTask())
