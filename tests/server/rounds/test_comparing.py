"""Rounds are compared over the same hospitals, by what stands for the model, never by nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from torch import nn

from tests.federate import examples
from wardround.common.errors import ConfigError
from wardround.common.figures.figure import BINARY
from wardround.common.figures.intervals import figure_variances
from wardround.common.figures.records import changes_of_hospitals, evaluation_of, model_figure
from wardround.common.figures.sums import Sums, binary_figures, binary_sums
from wardround.common.figures.within import STEPS, VARIANCE_STEPS, means_of, own_sums, taken_out
from wardround.common.protocol import names as m
from wardround.common.run.sums import read_kept
from wardround.common.tasks.base import Examples
from wardround.server.rounds.checkpoint import FederationState, newest_checkpoint
from wardround.server.rounds.checkpoint import write_checkpoint as really_write
from wardround.server.secagg.sum_runner import SumRunner
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

pytestmark = pytest.mark.usefixtures("exact_parts")

FOUR = {name: examples([1.0] * 4, [1.0] * 4) for name in ("a", "b", "c")}
FOUR["d"] = examples([1.0] * 4, [-1.0] * 4)
PLAIN = """
[federation]
rounds = 4
min_clients = 2
[data]
validation_fraction = 0.5
[evaluation]
select = "best"
[training]
lr = 0.9
"""
SECURE = PLAIN + "[secure_aggregation]\nenabled = true\nmin_cohort = 3\n"


class Later(InProcessGrid):
    """The last hospital connects after the first round's requests to evaluate have gone out."""

    asked = False

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.asked |= any(one.metadata.message_type == m.EVALUATE for one in messages)
        return super().push_messages(messages)

    def get_node_ids(self) -> Iterable[int]:
        ids = list(super().get_node_ids())
        return ids if self.asked else ids[:-1]


def later_grid(federate: Any, config: Any, task: Any = None) -> Later:
    """A grid of the app that a whole run with these settings makes."""
    made: list[Later] = []

    def later(app: Any) -> Any:
        made.append(Later(Clients(list(FOUR), app=app)))
        return app

    federate(config, FOUR, task, wrap=later)
    return made[0]


def joined_later(federate: Any, config: Any, task: Any = None) -> Any:
    return federate(config, FOUR, task, grid=later_grid(federate, config, task))


def loss(weight: float, targets: list[float]) -> float:
    return float(np.mean([(weight - y) ** 2 / 2 for y in targets]))


def assert_kept_sums_are_the_models(run: Any, rows: list[dict[str, Any]]) -> None:
    kept, evaluation = read_kept(run.directory), evaluation_of(rows, run.outcome.round)
    assert kept is not None and kept.round == run.outcome.round
    assert kept.over == evaluation["over"] and kept.masked == rows[0]["hidden"]
    sums = kept.sums["validation"]
    assert set(sums) == {"loss", "examples"}
    figure = evaluation["overall"]["validation"]["loss"]
    assert sums["loss"][0] / sums["examples"][0] == pytest.approx(figure, rel=1e-12)


# w is 0.9 after round 1 (a, b, c want 1); with d, who wants -1, every round takes it nearer to 0.5
def test_the_best_model_is_evaluated_again_where_a_hospital_joined(federate, settings) -> None:
    run = joined_later(federate, settings(PLAIN))
    rows = run.directory.rounds()
    assert [row["over"]["validation"] for row in rows] == [["a", "b", "c"], *[list(FOUR)] * 3]
    assert [row["round"] for row in rows if "again" in row] == [2]
    again, everyone = rows[1]["again"], [1.0, 1.0, 1.0, -1.0]
    assert again["round"] == 1 and again["over"]["validation"] == list(FOUR)
    assert again["overall"]["validation"]["loss"] == pytest.approx(loss(0.9, everyone), abs=1e-4)
    values = [row["overall"]["validation"]["loss"] for row in rows]
    assert values[0] == pytest.approx(loss(0.9, everyone[:3]), abs=1e-4)
    assert values[0] < values[3] < again["overall"]["validation"]["loss"]
    assert run.outcome.round == 4  # by figures over different hospitals it would be the first
    assert_kept_sums_are_the_models(run, rows)
    (change,) = changes_of_hospitals(rows, "validation")
    assert (change.round, change.joined, change.left) == (2, ["d"], [])
    assert change.sentence() == (
        "From round 2 on figures are over other hospitals than before: with d."
    )


def test_under_masks_no_model_is_evaluated_by_two_sets_of_hospitals(
    federate, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference of two such sums is the numbers of whoever joined: here of d, to the bit."""
    opened: list[tuple[bytes, frozenset[str]]] = []
    real = SumRunner.run

    def kept(self: SumRunner, step: Any) -> Any:
        total = real(self, step)
        if step.purpose.startswith("evaluate"):
            model = step.requests[0].content[m.ARRAYS]["weight"].data
            opened.append((model, frozenset(total.survivors)))
        return total

    monkeypatch.setattr(SumRunner, "run", kept)
    run = joined_later(federate, settings(SECURE))
    rows = run.directory.rounds()
    assert [row["over"]["validation"] for row in rows] == [["a", "b", "c"], *[list(FOUR)] * 3]
    assert not any("again" in row for row in rows)
    by_model: dict[bytes, set[frozenset[str]]] = {}
    for model, over in opened:
        by_model.setdefault(model, set()).add(over)
    assert len(opened) >= 4 and all(len(sets) == 1 for sets in by_model.values())
    assert run.outcome.round >= 2  # compared anew from the round on that d was there
    assert_kept_sums_are_the_models(run, rows)


def test_nothing_is_evaluated_again_where_no_round_is_chosen(federate, settings) -> None:
    rows = joined_later(federate, settings(PLAIN.replace("best", "last"))).directory.rounds()
    assert len(rows) == 4 and not any("again" in row for row in rows)


@pytest.mark.parametrize("text", [PLAIN, SECURE], ids=["plain", "secure"])
def test_a_run_that_dies_between_the_two_evaluations_ends_with_the_same_bytes(
    federate, settings, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def write_or_stop(folder: Path, state: FederationState) -> Path:
        if state.round == 2:
            raise KeyboardInterrupt
        return really_write(folder, state)

    whole = joined_later(federate, settings(text)).directory
    grid = later_grid(federate, settings(text))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as stopped:
        patched.setattr("wardround.server.rounds.commits.write_checkpoint", write_or_stop)
        federate(settings(text), FOUR, grid=grid)
    directory = stopped.value.directory  # type: ignore[attr-defined]
    resumed = federate(settings(text), FOUR, directory=directory).directory
    files = ("model/model.safetensors", "checkpoints/round-0004.safetensors", "sums.safetensors")
    for name in files:
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    assert [row.get("again") for row in resumed.rounds()] == [
        row.get("again") for row in whole.rounds()
    ]


class Affine:
    """A mix-in: a bias that may stay at the hospital."""

    def model(self, totals: Sums) -> nn.Module:
        return nn.Sequential(nn.Linear(1, 1))


def test_personal_layers_are_compared_anew(federate, settings, line: type) -> None:
    """The best round's are at no hospital any more."""
    config = settings(PLAIN + "[strategy]\npersonal_layers = ['0.bias']\n")
    run = joined_later(federate, config, type("AffineLine", (Affine, line), {})())
    assert not any("again" in row for row in run.directory.rounds())
    assert newest_checkpoint(run.directory.checkpoints).best_round >= 2


# --- nothing to choose by -------------------------------------------------------------------------
@pytest.mark.parametrize("fraction", ["0.1", "0.0"])
@pytest.mark.parametrize("key", ["select", "patience"])
def test_no_validation_rows_at_all_are_refused_at_the_start(
    federate, settings, key: str, fraction: str
) -> None:
    few = {name: examples([1.0] * 2, [0.0, 1.0]) for name in "ab"}  # a tenth of one row
    text = PLAIN.replace("0.5", fraction)
    if key == "patience":
        text = text.replace('select = "best"', "patience = 2")
        assert "patience" in text
    with pytest.raises(ConfigError, match=f"evaluation.{key}: chooses by validation rows"):
        federate(settings(text), few)


class OneClass:
    """A mix-in: the figure is undefined, as an AUC of one class."""

    primary_metric, figures = "auc", BINARY

    def summarise(self, sums: Sums) -> dict[str, float]:
        return super().summarise(sums) | {"auc": float("nan")}  # type: ignore[misc]


def test_an_undefined_figure_chooses_nothing_and_is_told(federate, settings, line: type) -> None:
    config = settings(PLAIN.replace('"best"', '"best"\npatience = 1'))
    run = federate(config, FOUR, type("Undefined", (OneClass, line), {})())
    assert len(run.directory.rounds()) == 4 and run.outcome.round == 4
    assert "no round had a validation figure" in run.directory.summary()["not_chosen"]
    assert newest_checkpoint(run.directory.checkpoints).not_better == 0


# --- the mean within hospitals --------------------------------------------------------------------
def site(intercept: float, seed: int, rows: int = 400) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows)
    y = rng.random(rows) < 1 / (1 + np.exp(-(x + intercept)))
    return Examples(torch.tensor(x).float().view(-1, 1), torch.tensor(y).float())


def test_means_of_masked_sums_are_those_of_single_hospitals() -> None:
    within = [figure for figure in BINARY if figure.within]
    rng = np.random.default_rng(5)
    shards = [binary_sums(rng.random(n), rng.integers(0, 2, n)) for n in (40, 60, 30)]
    shards.append(binary_sums([0.2, 0.4], [0, 0]))  # has none
    parts = [binary_figures(shard) for shard in shards]
    variances = [figure_variances(*pair) for pair in zip(parts, shards, strict=True)]
    assert "auc" not in variances[3]
    sums: Sums = {}
    for part, variance in zip(parts, variances, strict=True):
        for name, value in own_sums(part, within, variance).items():
            sums[name] = sums.get(name, np.zeros(4)) + value
    rest, masked = taken_out(sums | {"loss": np.ones(1)})
    plain = means_of(parts, within)
    assert list(rest) == ["loss"] and masked.keys() == plain.keys()
    for name, one in plain.items():
        assert one["hospitals"] == 3 and abs(masked[name]["mean"] - one["mean"]) <= 0.5 / STEPS
        assert 0.5 / STEPS <= masked[name]["bound"] - one["bound"] <= 1.5 / STEPS
        true = sum(variance[name] for variance in variances[:3]) / 9
        assert 0 <= masked[name]["variance"] - true <= 1 / VARIANCE_STEPS / 3
    expected = np.mean([part["auc"] for part in parts[:3]])
    evaluation = {"overall": {"test": {"auc": 0.1}}, "within": {"test": plain}}
    assert model_figure(evaluation, "test", within[0]) == pytest.approx(expected)
    with pytest.raises(ValueError, match="count"):
        taken_out({"within:auc": np.array([1.5, 1.0, 0.0, 0.0])})
