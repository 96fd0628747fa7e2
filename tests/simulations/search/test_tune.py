"""``tune``: validation alone chooses, the same seed searches the same, and a stop costs nothing."""

from __future__ import annotations

import csv
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wardround.common.config.load import Config, load_config
from wardround.common.errors import ConfigError, RunDirectoryError, WardroundError
from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import Choice, Range, cli, simulate, tune
from wardround.simulations.search.runs import Failure, Figures, figures_of
from wardround.simulations.search.space import read_param

LR = {"training.lr": Range(low=0.001, high=1.0, log=True)}
SPACE = LR | {
    "training.local_epochs": Range(low=1, high=5),
    "strategy.name": Choice(values=["fedavg", "fedprox"]),
}
Objective = Callable[[Config], Figures | Failure]


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    return ["data.validation_fraction=0.2", f'federation.runs="{tmp_path / "runs"}"']


@pytest.fixture
def scored_by(monkeypatch) -> Callable[[Objective], list[str]]:
    """Puts a function of the configuration in place of the runs; gives the folders it was asked
    for."""

    def use(objective: Objective) -> list[str]:
        asked: list[str] = []

        def run_in(folder: Path, observer: Observer | None = None) -> Figures | Failure:
            asked.append(folder.name)
            return objective(load_config(folder / "federation.toml"))

        monkeypatch.setattr("wardround.simulations.search.tune.run_in", run_in)
        return asked

    return use


def figures(validation: float | None, test: float = 0.5, higher: bool = True) -> Figures:
    return Figures(
        primary="auc",
        better="higher" if higher else "lower",
        validation=validation,
        test=test,
        round=3,
    )


def peak(config: Config) -> Figures:
    """Best at a learning rate of 0.03, with many epochs, by fedprox."""
    far = abs(math.log10(config.training.lr / 0.03))
    extra = 0.02 * config.training.local_epochs + 0.05 * (config.strategy.name == "fedprox")
    return figures(0.8 - 0.1 * far + extra)


def essence(trials: list[Any]) -> list[tuple[Any, ...]]:
    return [(one.number, one.settings, one.status, one.score) for one in trials]


def test_validation_chooses_where_test_rows_would_choose_otherwise(sets, scored_by) -> None:
    """The better the validation figure, the worse the one on test rows."""
    scored_by(lambda c: figures(c.training.lr, test=1 - c.training.lr))
    result = tune(None, LR, 8, overrides=sets)
    rates = [one.settings["training.lr"] for one in result.trials]
    assert len(rates) == 8 and result.best.settings["training.lr"] == max(rates)
    assert load_config(result.folder / "best.toml").training.lr == max(rates)
    assert "test" not in (result.folder / "trials.csv").read_text()
    assert "test" not in (result.folder / "study.jsonl").read_text()


def test_a_lower_figure_is_better_where_the_task_says_so(sets, scored_by) -> None:
    scored_by(lambda c: figures(c.training.lr, higher=False))
    regression = [*sets, "task.kind=regression"]
    result = tune(None, LR, 5, overrides=regression)
    assert result.plan.better == "lower"
    rates = [one.settings["training.lr"] for one in result.trials]
    assert result.best.settings["training.lr"] == min(rates)


def test_same_seed_same_trials_and_they_are_of_the_space(sets, scored_by) -> None:
    """Past the first ten, trials depend on the scores of those before."""
    scored_by(peak)
    one, two = (tune(None, SPACE, 12, overrides=sets, seed=5) for _ in range(2))
    other = tune(None, SPACE, 12, overrides=sets, seed=6)
    assert one.folder != two.folder
    assert essence(one.trials) == essence(two.trials) != essence(other.trials)
    assert len({str(trial.settings) for trial in one.trials}) == 12
    for trial in one.trials:
        assert 0.001 <= trial.settings["training.lr"] <= 1.0
        assert trial.settings["training.local_epochs"] in range(1, 6)
        assert trial.settings["strategy.name"] in ("fedavg", "fedprox")


def test_the_search_finds_the_peak_better_than_chance(sets, scored_by) -> None:
    scored_by(peak)
    result = tune(None, SPACE, 30, overrides=sets)
    scores = [one.score or 0.0 for one in result.trials]
    assert result.best.score == max(scores)
    assert sum(scores[20:]) / 10 > sum(scores[:10]) / 10 + 0.03


def test_a_stopped_search_goes_on_with_the_trials_it_would_have_had(sets, scored_by) -> None:
    """Stopped in the thirteenth, where scores guide already; its journal's last line is torn, and
    another trial was being drawn up when a further process died."""
    scored_by(peak)
    quiet = tune(None, SPACE, 16, overrides=sets)
    calls = 0

    def stopped(config: Config) -> Figures:
        nonlocal calls
        calls += 1
        if calls == 13:
            raise KeyboardInterrupt
        return peak(config)

    asked = scored_by(stopped)
    with pytest.raises(KeyboardInterrupt, match="wardround tune --resume") as stop:
        tune(None, SPACE, 16, overrides=sets)
    folder = Path(str(stop.value).split("--resume ")[1])
    journal = folder / "study.jsonl"
    (begun,) = [line for line in journal.read_bytes().splitlines() if b'"op_code":4' in line][-1:]
    with open(journal, "ab") as file:
        file.write(begun + b"\n" + b'{"op_code":5,"worker_id":"')
    (folder / "study.jsonl.lock").symlink_to(journal)
    result = tune(resume=folder)
    assert essence(result.trials) == essence(quiet.trials)
    assert asked == [f"{n:03d}" for n in [*range(1, 14), *range(13, 17)]]
    assert tune(resume=folder).best == quiet.best and len(asked) == 17, "nothing is repeated"
    assert len(tune(resume=folder, trials=18).trials) == 18
    with pytest.raises(ConfigError, match="the search has 18 already; raise it"):
        tune(resume=folder, trials=5)


def test_a_failed_trial_is_noted_and_the_search_goes_on(sets, scored_by) -> None:
    def objective(config: Config) -> Figures | Failure:
        if config.training.lr > 0.1:
            return Failure("round 2 failed: it diverged")
        return figures(None if config.training.lr < 0.01 else config.training.lr)

    scored_by(objective)
    result = tune(None, LR, 12, overrides=sets)
    for one in result.trials:
        rate = one.settings["training.lr"]
        assert one.status == ("complete" if 0.01 <= rate <= 0.1 else "failed")
    reasons = {one.reason for one in result.trials}
    undefined = "its auc on validation rows is undefined"
    assert reasons == {None, "round 2 failed: it diverged", undefined}
    with open(result.folder / "trials.csv", newline="") as file:
        assert {line["why"] for line in csv.DictReader(file)} == {*reasons, ""} - {None}


def test_a_search_in_which_everything_diverges_says_so(sets) -> None:
    """A real run: the model is infinite after a step or two, and every hospital's reply refused."""
    space = {"training.lr": Range(low=1e3, high=1e4, log=True)}
    plain = [
        "training.weight_decay=1e4",
        *sets,
        "federation.rounds=2",
        "secure_aggregation.enabled=false",
    ]
    with pytest.raises(WardroundError, match="no trial of 1 was completed; the first: round"):
        tune(None, space, 1, overrides=[*plain, "federation.round_attempts=1"])


@pytest.mark.parametrize("select", ["best", "last"])
@pytest.mark.parametrize("partition", ["auto", "virtual"])
def test_without_any_validation_row_there_is_no_search(sets, select: str, partition: str) -> None:
    """It ends with the first trial, before a round is trained."""
    more = ["data.validation_fraction=0", f"evaluation.select={select}"]
    if partition == "virtual":
        more += [
            "simulation.partition=virtual",
            "federation.clients_per_round=4",
            "secure_aggregation.enabled=false",
        ]
    with pytest.raises(ConfigError, match="data.validation_fraction: no hospital has validation"):
        tune(None, LR, 3, overrides=[*sets, *more])


def test_a_hopeless_trial_is_pruned_and_counts_as_no_result(sets, monkeypatch) -> None:
    """The sixth is below the median of five others at round 5 (a quarter of 20 is warm-up)."""
    rounds_of: dict[str, int] = {}

    def run_in(folder: Path, observer: Observer | None = None) -> Figures | Failure:
        assert observer is not None
        score = 0.1 if folder.name == "006" else 0.9 + int(folder.name) / 1000
        for server_round in range(1, 21):
            rounds_of[folder.name] = server_round
            row = {"round": server_round, "overall": {"validation": {"auc": score}}}
            try:
                observer.round_committed(row)
            except WardroundError as error:
                return Failure(str(error))
        return figures(score)

    monkeypatch.setattr("wardround.simulations.search.tune.run_in", run_in)
    result = tune(None, LR, 7, overrides=sets, prune=True)
    assert [one.status for one in result.trials] == [*["complete"] * 5, "pruned", "complete"]
    assert rounds_of["006"] < 20 and rounds_of["005"] == 20
    sixth = result.trials[5]
    assert sixth.score is None and "below the median" in (sixth.reason or "")
    assert result.best.number == 7


def test_what_cannot_be_searched_is_refused_in_one_line(sets, tmp_path, monkeypatch) -> None:
    cases: list[tuple[Any, list[str], str]] = [
        ({}, [], "--param: give at least one"),
        ({"training.lr": Range(low=1, high=1)}, [], "must be from low to high"),
        ({"training.lr": Range(low=0.0, high=1.0, log=True)}, [], "must begin above 0"),
        ({"training.lr": Range(low=-1.0, high=1.0)}, [], "--param training.lr=-1.0: training.lr"),
        ({"strategy.name": Choice(values=["fedavg", "x"])}, [], "--param strategy.name=x: "),
        ({"strategy.name": Choice(values=["fedavg"])}, [], "one value is no choice"),
        ({"federation.seed": Range(low=1, high=9)}, [], "--param federation.seed: can't be"),
        ({"data.test_fraction": Range(low=0.1, high=0.2)}, [], "scored on the same rows"),
        ({"evaluation.clients": Range(low=2, high=5)}, [], "scored on the same rows"),
        ({"simulation.alpha": Range(low=0.1, high=5.0)}, [], "scored on the same rows"),
        ({"simulation": Choice(values=[{"clients": 3}, {"clients": 4}])}, [], "same rows"),
        ({"task.missing": Choice(values=["median", "drop"])}, [], "scored on the same rows"),
        ({"task.positive": Choice(values=[["1"], ["0"]])}, [], "scored on the same rows"),
        ({"task.kind": Choice(values=["binary", "regression"])}, [], "can't be compared"),
    ]
    for space, more, message in cases:
        with pytest.raises(ConfigError, match=re.escape(message)) as found:
            tune(None, space, 3, overrides=[*sets, *more])
        assert "\n" not in str(found.value)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(RunDirectoryError, match="not a search"):
        tune(resume=tmp_path)
    with pytest.raises(ConfigError, match="leave out all but --trials"):
        tune(resume=tmp_path, seed=1)
    for name in [name for name in sys.modules if name.partition(".")[0] == "optuna"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "wardround.simulations.search.study")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'wardround\[tune\]'"):
        tune(None, LR, 1, overrides=sets)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("a.b=0.001..1.0:log", Range(low=0.001, high=1.0, log=True)),
        ("a.b=1e-4..1", Range(low=1e-4, high=1)),
        ("a.b=-2..5", Range(low=-2, high=5)),
        ("a.b=fedavg,fedprox", Choice(values=["fedavg", "fedprox"])),
        ("a.b=[64],[32, 16]", Choice(values=[[64], [32, 16]])),
        ("a.b=../x,../y", Choice(values=["../x", "../y"])),
    ],
)
def test_a_parameter_is_a_range_or_a_choice(option: str, expected: Range | Choice) -> None:
    assert read_param(option) == ("a.b", expected)
    assert Range(low=1, high=5).whole and not Range(low=1, high=5.0).whole


@pytest.mark.parametrize("option", ["a.b=1..x", "a.b=1..2:exp", "a.b=..", "a=1..2", "a.b="])
def test_a_malformed_parameter_says_how_to_write_it(option: str) -> None:
    with pytest.raises(ConfigError, match=r"write "):
        read_param(option)


def test_the_command_shows_no_test_figure_before_the_end_and_how_to_go_on(
    tmp_path, capsys, monkeypatch
) -> None:
    """A real search; the configuration it recommends gives the figures that it promised."""
    monkeypatch.chdir(tmp_path)
    options = ["--set", "federation.rounds=2", "--set", "data.validation_fraction=0.2"]
    options += ["--set", "secure_aggregation.enabled=false", "--set", "simulation.baselines=false"]
    monkeypatch.setattr(
        "sys.argv",
        ["wardround", "tune", "--trials", "2", "--param", "training.lr=0.01..1", *options],
    )
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    out = capsys.readouterr().out
    (folder,) = (tmp_path / "runs").iterdir()
    before, after = out.split("Best of 2 trials")
    assert "1/2  training.lr=" in before and "validation" in before and "test" not in before
    assert f"run it: wardround simulate runs/{folder.name}/best.toml" in after
    best = load_config(folder / "best.toml")
    assert best.evaluation.select == "best" and best.runs_folder() == tmp_path / "runs"
    again = figures_of(RunDirectory.open(simulate(best).run_directory))
    assert f"{again.validation:.4f}" in after
    assert f"on test rows, which chose nothing: {again.test:.4f}" in after
    assert len(list(folder.glob("00[12]/*/metrics.jsonl"))) == 2
