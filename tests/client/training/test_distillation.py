"""The received model as a teacher: by hand, by torch's own divergence, by finite differences."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.client.small_models import Classes, configured, residual, rows, vector
from wardround.client.training.batches import batches
from wardround.client.training.distillation import Teacher, divergence
from wardround.client.training.settings import check_training
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, TaskError
from wardround.common.privacy.incompatible import check_settings
from wardround.common.rng import client_keys
from wardround.common.settings import TrainingTable
from wardround.common.tasks.tabular import TabularTask

SEED = (7, 2, "a")
LABELS = torch.zeros(2, dtype=torch.int64)


def test_by_hand() -> None:
    """Scores log 3 and 0 over T = 1: (3/4, 1/4) against (1/2, 1/2)."""
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(teacher, student, LABELS[:1], 1.0).item() == pytest.approx(expected, rel=1e-6)
    # T = 2 of twice the scores, times T^2
    assert divergence(2 * teacher, student, LABELS[:1], 2.0).item() == pytest.approx(4 * expected)
    # the same two classes as one logit
    logit = torch.tensor([[-math.log(3.0)]])
    found = divergence(logit, torch.zeros(1, 1), torch.zeros(1), 1.0)
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert divergence(teacher, teacher, LABELS[:1], 3.0).item() == 0.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_the_divergence_of_torchs_distributions(temperature: float) -> None:
    torch.manual_seed(0)
    one, other = torch.distributions.Categorical, torch.distributions.Bernoulli
    kl = torch.distributions.kl_divergence
    t, s = torch.randn(9, 4), torch.randn(9, 4)
    expected = kl(one(logits=t / temperature), one(logits=s / temperature)) * temperature**2
    labels = torch.zeros(9, dtype=torch.int64)
    torch.testing.assert_close(divergence(t, s, labels, temperature), expected)
    t, s = torch.randn(9, 1), torch.randn(9, 1)
    expected = kl(other(logits=t / temperature), other(logits=s / temperature)) * temperature**2
    torch.testing.assert_close(divergence(t, s, torch.zeros(9), temperature), expected[:, 0])


def test_tokens_count_where_they_are_labelled() -> None:
    torch.manual_seed(0)
    t, s = torch.randn(3, 5, 4), torch.randn(3, 5, 4)
    each = torch.stack([divergence(t[i], s[i], torch.zeros(5), 2.0) for i in range(3)])
    targets = torch.zeros(3, 5, dtype=torch.int64)
    torch.testing.assert_close(divergence(t, s, targets, 2.0), each.mean(1))
    targets[0, 2:] = -100
    targets[2] = -100  # nothing of it is labelled: no loss and no number that isn't one
    found = divergence(t, s, targets, 2.0)
    torch.testing.assert_close(found[0], each[0, :2].mean())
    torch.testing.assert_close(found[1], each[1].mean())
    assert found[2] == 0.0
    torch.testing.assert_close(divergence(t, s, torch.zeros(3), 2.0), each.mean(1))
    with pytest.raises(TaskError, match="no scores of classes"):
        divergence(t[0, 0], s[0, 0], LABELS, 2.0)


def test_training_minimises_the_sum() -> None:
    """Against the same steps written out: SGD on cross entropy plus weight times the divergence."""
    torch.manual_seed(0)
    model, data, options = (
        residual(),
        rows(),
        {"distillation": 0.7, "distillation_temperature": 3.0},
    )
    theirs, start = copy.deepcopy(model), copy.deepcopy(model)
    config = configured(local_epochs=2, **options)
    outcome = train_on_batches(model, data, Classes(), config, SEED)
    losses = []
    for part in batches(23, config.training, client_keys(7, "batches", 2, ["a"])):
        outputs = theirs(data.inputs[part])
        with torch.no_grad():
            taught = start(data.inputs[part])
        loss = nn.functional.cross_entropy(outputs, data.targets[part])
        loss = loss + 0.7 * 9.0 * nn.functional.kl_div(
            torch.log_softmax(outputs / 3.0, 1),
            torch.softmax(taught / 3.0, 1),
            reduction="batchmean",
        )
        theirs.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in theirs.parameters():
                p -= 0.1 * p.grad
        losses.append(float(loss.detach()))
    torch.testing.assert_close(vector(model), vector(theirs), rtol=1e-5, atol=1e-6)
    assert outcome.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_it_holds_scores_near_the_received_ones() -> None:
    torch.manual_seed(0)
    start, moved = residual(), []
    for weight in (0.0, 10.0):
        model = copy.deepcopy(start)
        config = configured(distillation=weight, local_epochs=10, lr=0.02)
        train_on_batches(model, rows(), Classes(), config, SEED)
        with torch.no_grad():
            gap = divergence(start(rows().inputs), model(rows().inputs), rows().targets, 1.0)
        moved.append(float(gap.mean()))
    assert moved[1] < 0.2 * moved[0]


def test_the_teacher_is_the_model_as_it_was_and_shares_what_is_frozen() -> None:
    torch.manual_seed(0)
    model = residual(dropout=0.5)
    frozen = next(model.parameters()).requires_grad_(False)
    teacher = Teacher(model, TrainingTable(distillation=1.0))
    inside = teacher._model
    assert next(inside.parameters()) is frozen and not inside.training and model.training
    assert all(
        p is q or p.data_ptr() != q.data_ptr()
        for p, q in zip(model.parameters(), inside.parameters(), strict=True)
    )
    options = {"distillation": 1.0, "precision": "bf16", "micro_batch_size": 3}
    outcome = train_on_batches(model, rows(), Classes(), configured(**options), SEED)
    assert math.isfinite(outcome.loss) and frozen.grad is None


def test_who_is_refused() -> None:
    class Numbers(Classes):
        class_scores, coupled_examples = False, True

    for line, message in [
        ("distillation = 0.5", "training.distillation: compares scores of classes"),
        ("micro_batch_size = 3", "training.micro_batch_size: this task's loss of one row depends"),
        ("precision = 'fp16'", "training.precision: 'fp16' needs a GPU"),
    ]:
        config = parse_config(f"[training]\n{line}\n")
        with pytest.raises(ConfigError, match=message):
            check_training(config, Numbers())
    check_training(configured(distillation=1.0, micro_batch_size=3), Classes())
    kinds: dict[str, Any] = {
        kind: TabularTask(kind=kind, columns=columns)
        for kind, columns in {
            "binary": {"target": "y"},
            "multiclass": {"target": "y"},
            "regression": {"target": "y"},
            "survival": {"time": "t", "event": "e"},
        }.items()
    }
    scores = {kind: task.class_scores for kind, task in kinds.items()}
    assert scores == {"binary": True, "multiclass": True, "regression": False, "survival": False}
    private = "[privacy]\nunit = '{}'\nnoise = 'local'\nnoise_multiplier = 1.0\n"
    for key in ("distillation = 1.0", "checkpoint_activations = true", "compile = true"):
        text = f"[training]\n{key}\n"
        with pytest.raises(
            ConfigError, match=f"training.{key.split()[0]}: with privacy.unit = 'ex"
        ):
            check_settings(parse_config(text + private.format("example")))
        check_settings(parse_config(text + private.format("hospital")))


def test_one_logit() -> None:
    """A task of one's own with one logit: a binary loss on B x 1."""

    class Binary(Classes):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            target = (targets > 0).float()
            bce = nn.functional.binary_cross_entropy_with_logits
            return bce(outputs[:, 0], target, reduction="none")

    model = residual(classes=1)
    outcome = train_on_batches(model, rows(), Binary(), configured(distillation=1.0), SEED)
    assert math.isfinite(outcome.loss)
