"""A run that ends when its validation figure stops improving, and how it goes on after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wardround.common.config.load import parse_config
from wardround.common.run.sums import read_kept
from wardround.common.tasks.base import Examples
from wardround.server.rounds.checkpoint import FederationState, newest_checkpoint, write_checkpoint
from wardround.server.rounds.round import EvaluationResult
from wardround.server.rounds.selection import note_figure, patience_spent

pytestmark = pytest.mark.usefixtures("exact_parts")

TEXT = (
    "[federation]\nrounds = {rounds}\n[data]\nvalidation_fraction = 0.2\n"
    "[evaluation]\npatience = {patience}\nevery = {every}\n"
)


def text(rounds: int = 12, patience: int = 2, every: int = 1) -> str:
    return TEXT.format(rounds=rounds, patience=patience, every=every)


def after(figures: Sequence[float | None], line: Any, higher: bool = False) -> FederationState:
    """The state once rounds 1, 2, ... had these figures; None: the round wasn't evaluated."""
    task, state = line(), FederationState(0, {}, {})
    task.higher_is_better = higher
    for figure in figures:
        state.round += 1
        overall = {} if figure is None else {"validation": {"loss": figure}}
        evaluation = EvaluationResult(overall=overall)
        note_figure(state, evaluation, task.figure_table().primary, None)
    return state


@pytest.mark.parametrize(
    ("figures", "higher", "best", "not_better"),
    [
        ([3.0, 2.0, 2.5], False, 2, 1),
        ([3.0, 2.0, 2.0, 2.0], False, 2, 2),
        ([3.0, None, 4.0, None, 5.0], False, 1, 2),
        ([3.0, 4.0, 1.0, 0.5], True, 2, 2),
        ([float("nan"), float("nan")], False, None, 0),
        ([2.0, float("nan"), float("nan"), 3.0], False, 1, 1),
        ([1.0, float("nan"), 0.5], False, 3, 0),
        ([None, None], False, None, 0),
    ],
)
def test_what_is_best_and_how_long_ago(figures, higher, best, not_better, line) -> None:
    state = after(figures, line, higher)
    assert (state.best_round, state.not_better) == (best, not_better)
    table = parse_config(text(patience=2)).evaluation
    reason = patience_spent(state, table, line())
    assert (reason is not None) == (not_better >= 2)
    assert patience_spent(state, table.model_copy(update={"patience": 0}), line()) is None


def data() -> dict[str, Examples]:
    """Hospital a learns w = 0 + 1/2 + 1/4 + ... to 1; see ``rising``."""
    return {"a": Examples(torch.ones(10, 1), torch.ones(10))}


class Rising:
    """A mix-in: the figure of validation rows is best at w = 0.8, which training passes."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = (outputs[:, 0] - targets) ** 2 / 2
        return losses if outputs.requires_grad else (outputs[:, 0] - 0.8) ** 2 / 2


@pytest.fixture
def rising(line: type) -> type:
    return type("RisingLine", (Rising, line), {})


def run_text(patience: int, every: int = 1) -> str:
    return text(12, patience, every) + "[training]\nlr = 0.5\nbatch_size = 100\n"


# w after round r is 1 - 2^-r: 0.5, 0.75, 0.875, 0.9375; the distance to 0.8 is least in round 2
@pytest.mark.parametrize(
    ("patience", "every", "last", "best"), [(1, 1, 3, 2), (3, 1, 5, 2), (2, 2, 6, 2), (0, 1, 12, 2)]
)
def test_the_run_ends_after_that_many_evaluated_rounds(
    settings, federate, rising, patience, every, last, best
) -> None:
    config = settings(run_text(patience, every) + "[strategy]\n")
    run = federate(config, data(), rising())
    rows = run.directory.rounds()
    assert [row["round"] for row in rows] == list(range(1, last + 1))
    assert newest_checkpoint(run.directory.checkpoints).best_round == best
    summary = run.directory.summary()
    assert summary["status"] == "complete" and summary["chosen_round"] == last
    assert ("ended_early" in summary) == (last < 12)
    if last < 12:
        assert f"has not improved in {patience} evaluated rounds" in summary["ended_early"]
        assert summary["ended_early"].endswith("in round 2")
    weight = next(iter(run.outcome.model.values()))
    np.testing.assert_allclose(weight, [[1 - 0.5**last]], rtol=1e-6)


def test_the_best_of_an_ended_run_is_chosen(settings, federate, rising) -> None:
    config = settings(run_text(2).replace("patience", "select = 'best'\npatience"))
    run = federate(config, data(), rising())
    assert run.outcome.round == 2 and len(run.directory.rounds()) == 4
    kept = read_kept(run.directory)
    assert kept is not None and kept.round == 2 and kept.over == {"validation": ["a"]}
    # two rows, of which each has (w - 0.8)^2 / 2 at w = 0.75
    assert kept.sums["validation"]["examples"] == [2.0]
    np.testing.assert_allclose(kept.sums["validation"]["loss"], [0.05**2], rtol=1e-5)


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
def test_a_run_that_is_resumed_ends_in_the_same_round(
    settings, federate, rising, monkeypatch, stop
) -> None:
    config = settings(run_text(3))

    def write_and_stop(folder: Path, state: FederationState) -> Path:
        path = write_checkpoint(folder, state)
        if state.round == stop:
            raise KeyboardInterrupt
        return path

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as stopped:
        patched.setattr("wardround.server.rounds.commits.write_checkpoint", write_and_stop)
        federate(config, data(), rising())
    directory = stopped.value.directory  # type: ignore[attr-defined]
    assert len(directory.rounds()) == stop
    for _ in range(2):  # the second time nothing is trained any more
        again = federate(config, data(), rising(), directory=directory)
        assert len(again.directory.rounds()) == 5
        assert "in round 2" in again.directory.summary()["ended_early"]


def test_an_evaluation_by_hospitals_without_validation_rows_is_told(line) -> None:
    evaluation = EvaluationResult(overall={"test": {"loss": 1.0}})
    state = FederationState(1, {}, {})
    noted = note_figure(state, evaluation, line().figure_table().primary, None)
    assert noted.note is not None and "has validation rows to choose by" in noted.note
    assert (state.best_round, state.not_better) == (None, 0)
