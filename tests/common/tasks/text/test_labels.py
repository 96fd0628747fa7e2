"""Texts with classes in several columns: each head as if it were alone, gaps counted nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from wardround.client.site.hold_back import asked_columns
from wardround.common.config.load import parse_config
from wardround.common.errors import DataError
from wardround.common.figures.sums import add_sums
from wardround.common.model.named import build_model
from wardround.common.tasks import load_task
from wardround.common.tasks.class_limits import UNLABELLED
from wardround.common.tasks.text import TextTask
from wardround.common.tasks.text.labels import LabelsTask

HEADS = {"topic": ["food", "staff", "wait"], "urgent": ["no", "yes"]}


def task(encoder: Path, **options: object) -> LabelsTask:
    given = {"kind": "labels", "encoder": str(encoder), "max_length": 80, "heads": HEADS}
    made = load_task("text", given | options)
    assert isinstance(made, LabelsTask)
    return made


def test_each_head_has_the_loss_and_figures_of_a_task_of_its_own(encoder: Path) -> None:
    made = task(encoder)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(40, 4, generator=generator)
    topic = torch.randint(0, 3, (40,), generator=generator)
    urgent = torch.randint(0, 2, (40,), generator=generator)
    topic[:7], urgent[5:9] = UNLABELLED, UNLABELLED
    targets = torch.stack([topic, urgent], dim=1)
    alone = TextTask(kind="sequence", classes=HEADS["topic"], encoder=str(encoder))
    yes_no = TextTask(kind="sequence", classes=HEADS["urgent"], encoder=str(encoder))
    losses = alone.loss(outputs[:, :3], topic)
    known = urgent != UNLABELLED
    own = torch.zeros(40)
    own[known] = yes_no.loss(outputs[known, 3:], urgent[known].float())
    torch.testing.assert_close(made.loss(outputs, targets), (losses + own) / 2)
    halves = [made.metrics(outputs[part], targets[part]) for part in (slice(0, 6), slice(6, 40))]
    figures = made.summarise(add_sums(halves))
    here = topic != UNLABELLED
    expected = alone.summarise(alone.metrics(outputs[here, :3], topic[here]))
    for name in ("accuracy", "auc", "macro_f1", "examples"):
        assert figures[f"{name}_topic"] == pytest.approx(expected[name])
    expected = yes_no.summarise(yes_no.metrics(outputs[known, 3:], urgent[known].float()))
    assert figures["auc_urgent"] == pytest.approx(expected["auc"])
    assert figures["examples"] == 40 and figures["examples_urgent"] == 36
    primary = made.figure_table().primary
    assert (primary.name, primary.better) == ("loss", "lower")
    assert {"loss", "auc_urgent"} <= {one.name for one in made.figures}


def test_gradients_of_a_gap_are_zero_and_finite(encoder: Path) -> None:
    outputs = torch.randn(2, 4, requires_grad=True)
    targets = torch.tensor([[UNLABELLED, 1], [2, UNLABELLED]])
    task(encoder).loss(outputs, targets).sum().backward()
    assert (outputs.grad[0, :3] == 0).all() and outputs.grad[1, 3] == 0
    assert torch.isfinite(outputs.grad).all() and (outputs.grad[0, 3] != 0)


def test_a_hospital_may_lack_classes_and_whole_columns_of_rows(
    encoder: Path, tmp_path: Path
) -> None:
    rows = ["text,topic,urgent", "fever,food,", "cough,food,", ",wait,no", "the,,"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    made = task(encoder)
    found = made.load(tmp_path / "a.csv")
    assert found.targets.tolist() == [[0, UNLABELLED], [0, UNLABELLED]]
    told = made.warnings(found)
    assert any("one class of 'topic'" in line for line in told)
    assert any("none has a 'urgent'" in line for line in told)
    assert {one.reason for one in found.left_out} == {"without a text", "without any class"}
    (tmp_path / "b.csv").write_text("text,topic,urgent\nfever,Parking,no\n")
    with pytest.raises(DataError, match=r"none of task\.heads\.topic"):
        made.load(tmp_path / "b.csv")


def test_one_row_trains_and_is_predicted(encoder: Path) -> None:
    made = task(encoder)
    rows = made.load(None)
    examples = made.prepare(rows, {}, rows)
    outputs = build_model(made, {}, 1).eval()(examples.inputs[:1])
    found = made.predictions(outputs, {})
    assert list(found) == [one.name for one in made.schema({}).outputs]
    several = [found[f"probability_topic_{name}"] for name in HEADS["topic"]]
    np.testing.assert_allclose(np.sum(several, axis=0), 1)
    assert 0 < found["probability_urgent"][0] < 1


def test_a_hospital_sees_the_heads_columns_among_those_asked_for() -> None:
    config = parse_config(
        "[task]\nname = 'text'\nkind = 'labels'\n[task.heads]\nmood = ['good', 'bad']\n"
    )
    assert asked_columns(config) == ["text", "mood"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name the columns and their classes"),
        ({"heads": {"a": ["one"]}}, "from 2 to"),
        ({"heads": {"a": ["one", "one"]}}, "stands there twice"),
        ({"heads": {"text": ["a", "b"]}}, "two meanings"),
        ({"heads": {"a b": ["a", "b"]}}, "of letters"),
        ({"heads": {"a": ["b_c", "d", "e"], "a_b": ["c", "d", "e"]}}, "two outputs"),
        ({"heads": HEADS, "kind": "sequence"}, "has no effect with kind"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelsTask(**{"kind": "labels"} | options)
