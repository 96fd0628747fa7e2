"""Runs with a scenario: a clock in every line, the same after a crash, and in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wardround.common.config.load import load_config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, RoundFailed
from wardround.common.figures.figure import Figure
from wardround.common.figures.records import human_seconds, simulated_time_notes, time_to_target
from wardround.common.run.directory import RunDirectory
from wardround.server.observer import Observer
from wardround.simulations import simulate
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.simulate import Result
from wardround.simulations.scenario.file import load_scenario
from wardround.simulations.scenario.play import Scenario

AUC = Figure("auc", "higher")
EXAMPLE = Path(__file__).parents[3] / "examples" / "scenario" / "federation.toml"
FEDERATION = """
[federation]
rounds = 6
min_clients = 2
clients_per_round = 3
round_attempts = 10
[simulation]
clients = 5
min_examples = 20
partition = "iid"
baselines = false
scenario = "hospitals/scenario.toml"
[secure_aggregation]
enabled = false
"""
SCENARIO = """
deadline_s = 60.0
target = 0.5
[default]
examples_per_s = { median = 2.5, sigma = 0.3 }
dropout = 0.2
[clients.hospital-1]
examples_per_s = 0.5
[clients.hospital-2]
arrives_s = 100.0
[clients.hospital-3]
daily = "00:02-00:04"
"""


class Crash(Exception):
    """Stands for a killed process."""


class CrashAfter(Observer):
    def __init__(self, last: int) -> None:
        self.last, self.notes = last, list[str]()

    def round_committed(self, row: dict[str, Any]) -> None:
        if row["round"] == self.last:
            raise Crash

    def warnings(self, lines: list[str]) -> None:
        self.notes += lines


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "hospitals").mkdir()
    (tmp_path / "hospitals" / "scenario.toml").write_text(SCENARIO)
    (tmp_path / "federation.toml").write_text(FEDERATION)
    return tmp_path


def run(place: Path, *sets: str, observer: Observer | None = None) -> Result:
    return simulate(place / "federation.toml", overrides=sets, observer=observer)


def told(rows: list[dict[str, Any]]) -> list[Any]:
    keys = ("round", "attempt", "cohort", "accepted", "refused")
    return [[row[key] for key in (*keys, "simulated_seconds", "simulated_time_s")] for row in rows]


def test_a_stopped_run_goes_on_with_its_clock_and_its_scenario(place: Path) -> None:
    watch = CrashAfter(0)
    whole = run(place, observer=watch)
    assert watch.notes == simulated_time_notes(whole.rounds, AUC, 0.5)
    with pytest.raises(Crash):
        run(place, observer=CrashAfter(3))
    stopped = max((place / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (place / "hospitals" / "scenario.toml").unlink()  # the run has its own
    resumed = simulate(resume=stopped)
    assert told(resumed.rounds) == told(whole.rounds)
    times = [row["simulated_time_s"] for row in whole.rounds]
    seconds = [row["simulated_seconds"] for row in whole.rounds]
    assert times == pytest.approx([sum(seconds[: i + 1]) for i in range(6)])
    assert all(0 < s <= 60 * row["attempt"] for s, row in zip(seconds, whole.rounds, strict=True))


def test_whoever_is_absent_is_not_drawn_and_whoever_is_late_not_counted(place: Path) -> None:
    rows = run(place).rounds
    start = 0.0
    for row in rows:
        if row["attempt"] == 1:
            assert ("hospital-2" in row["cohort"]) <= (start >= 100)
            assert ("hospital-3" in row["cohort"]) <= (120 <= start < 240)
        assert "hospital-1" not in row["accepted"]  # 80 rows at 0.5 a second
        start = row["simulated_time_s"]
    reasons = [x["reason"] for row in rows for x in row["refused"]]
    assert any("late in the scenario: 1" in x and "deadline is 60 s" in x for x in reasons)
    assert any("hospital-2" in row["cohort"] for row in rows)


def test_masks_change_nothing_where_links_take_no_time(place: Path) -> None:
    sets = ("federation.rounds=3", "federation.clients_per_round=4", "evaluation.every=3")
    text = "[default]\nexamples_per_s = 1.0\n[clients.hospital-2]\narrives_s = 100.0\n"
    (place / "hospitals" / "scenario.toml").write_text(text)
    plain = run(place, *sets).rounds
    secure = run(place, *sets, "secure_aggregation.enabled=true").rounds
    assert told(secure) == told(plain)
    config = load_config(place / "federation.toml")
    population = Population(config, make_task(config))
    slowest = [max(map(population.training_rows, row["accepted"])) for row in plain]
    assert [row["simulated_seconds"] for row in plain] == pytest.approx(slowest, abs=1)


def test_the_report_shows_time_to_accuracy(place: Path) -> None:
    result = run(place, "federation.rounds=2")
    text = (result.run_directory / "report.html").read_text("utf-8")
    (note,) = simulated_time_notes(result.rounds, AUC, 0.5)
    assert note in text and "auc 0.5 was reached after" in note
    assert "plot-by-time" in text and "simulated time</th>" in text
    plain = simulate(overrides=[f'federation.runs="{place}"', "federation.rounds=1", *QUICK])
    assert "by simulated time" not in (plain.run_directory / "report.html").read_text("utf-8")
    assert "simulated_time_s" not in plain.rounds[0]


QUICK = ["simulation.baselines=false", "secure_aggregation.enabled=false"]


def test_a_run_whose_clients_have_all_gone_stops_in_one_line(place: Path) -> None:
    (place / "hospitals" / "scenario.toml").write_text(
        "[default]\nexamples_per_s = 10.0\nleaves_s = 20.0\n"
    )
    with pytest.raises(RoundFailed, match="never has 2 clients at once after .*lower federation"):
        run(place)
    (folder,) = (place / "runs").iterdir()
    assert RunDirectory.open(folder).summary()["status"].startswith("stopped: the scenario never")


def test_a_client_that_nobody_is_leaves_no_run_directory(place: Path) -> None:
    (place / "hospitals" / "scenario.toml").write_text("[clients.hospital-9]\nlatency_s = 1.0\n")
    with pytest.raises(
        ConfigError, match="scenario.toml:1: clients.hospital-9: there is no client"
    ):
        run(place)
    assert not (place / "runs").exists()


def test_a_written_configuration_finds_its_scenario_from_anywhere(place: Path) -> None:
    config = load_config(place / "federation.toml")
    again = parse_config(config.to_toml())
    assert again.simulation.scenario == str(place / "hospitals" / "scenario.toml")


def test_the_example_is_valid_and_names_clients_that_are_there() -> None:
    config = load_config(EXAMPLE)
    names = Population(config, make_task(config)).names
    assert Scenario(config, names, file=load_scenario(config)).target == 0.975


def test_time_to_target_by_hand() -> None:
    rows = [
        {"round": r, "overall": {"test": {"rmse": v}}, "simulated_time_s": 100.0 * r}
        for r, v in ((1, 3.0), (2, float("nan")), (3, 2.0), (4, 1.0))
    ]
    rmse = Figure("rmse", "lower")
    assert time_to_target(rows, rmse, 2.0) == (3, 300.0)
    assert time_to_target(rows, rmse, 0.5) is None
    assert time_to_target(rows, Figure("rmse", "higher"), 2.5) == (1, 100.0)
    (note,) = simulated_time_notes(rows, rmse, 0.5)
    assert note == "4 rounds took 6.7 minutes of simulated time; rmse 0.5 was not reached."
    assert [human_seconds(x) for x in (90.0, 7200.0, 259_200.0)] == [
        "90.0 s",
        "2.0 hours",
        "3.0 days",
    ]
