"""``wardround privacy``: plan and show, as their users run them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wardround.common.config.load import load_config, parse_config
from wardround.common.errors import ConfigError, PrivacyRefused, WardroundError
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.process.main import app
from wardround.simulations import simulate
from wardround.simulations.privacy.of_sums import plan_sums
from wardround.simulations.privacy.plan import alternatives, plan_hospitals, shown_rounds


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["privacy", *arguments])
    if isinstance(result.exception, WardroundError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_plan_is_what_the_run_then_spends(tmp_path: Path) -> None:
    """Noise given: the claims of a run are the plan's figures for the announced sizes."""
    sets = [
        "federation.rounds=4",
        "simulation.baselines=false",
        f'federation.runs="{tmp_path}"',
        "privacy.unit=example",
        "privacy.noise_multiplier=1.1",
    ]
    result = simulate(overrides=sets)
    announced = {
        row["hospital"]: row["train"]
        for row in json.loads((result.run_directory / "run.json").read_text())["hospitals"]
    }
    for one in plan_hospitals(result.config, announced):
        claimed = [row["privacy"][one.hospital]["epsilon"] for row in result.rounds]
        assert one.epsilons(1e-5, [1, 2, 3, 4]) == pytest.approx(claimed, rel=1e-9)


STATISTICS = """
[procedure]
name = "statistics"
[[procedure.analyses]]
name = "ages"
kind = "summary"
columns = ["age"]
ranges = { age = [0, 120] }
[task.columns]
patient_id = "patient"
[privacy]
unit = "patient"
epsilon = 3.0
noise = "distributed"
"""


def test_of_a_study_that_trains_nothing_its_sums_are_planned(tmp_path: Path) -> None:
    """Noise on a count grows with the rows that a patient may have."""
    (tmp_path / "study.toml").write_text(STATISTICS)
    plans = [
        plan_sums(load_config(tmp_path / "study.toml", [f"privacy.records_per_patient={many}"]), 5)
        for many in (1, 8)
    ]
    assert plans[0].epsilon == pytest.approx(3.0, rel=1e-3)
    # rows and persons of the first step change most: by 8 and 1, and by 1 and 1
    assert plans[1].noise[5] == pytest.approx((65 / 2) ** 0.5 * plans[0].noise[5], rel=1e-9)
    shown = run("plan", str(tmp_path / "study.toml"), "--sizes", "90,80,70,60,50")
    assert "procedure 'statistics': no model is trained" in shown and "rounds" not in shown


def test_small_hospitals_cost_more_and_the_plan_says_so(tmp_path: Path) -> None:
    plot = tmp_path / "plan.html"
    text = run(
        "plan", "--sizes", "400,40", "--set", "privacy.unit=patient", "--set",
        "privacy.noise_multiplier=1.0", "--plot", str(plot),
    )  # fmt: skip
    assert "Small hospitals cost more: hospital-2 (40)" in text
    config = parse_config("", ["privacy.unit=patient", "privacy.noise_multiplier=1.0"])
    small, large = plan_hospitals(config, {"large": 400, "small": 40})
    assert (small.hospital, large.hospital) == ("small", "large")
    assert small.schedule.epsilon(1e-5) > 2 * large.schedule.epsilon(1e-5)
    assert f"{small.schedule.epsilon(1e-5):.3g}" in text
    assert "hospital-2 (40)" in plot.read_text() and "Plotly.newPlot" in plot.read_text()


def test_a_plan_calls_hospitals_what_people_call_them(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    for name in ("Köln", "St. Mary's"):
        lines = "".join(f"{number},{number % 2}\n" for number in range(20))
        (tmp_path / "h" / f"{name}.csv").write_text(f"x,y\n{lines}")
    config = tmp_path / "federation.toml"
    config.write_text(f"[data]\npath = '{tmp_path / 'h'}'\n[task.columns]\ntarget = 'y'\n")
    sets = ["--set", "privacy.unit=example", "--set", "privacy.noise_multiplier=1.0"]
    text = run("plan", str(config), *sets, "--plot", str(tmp_path / "plan.html"))
    assert "Köln" in text and "St. Mary's" in text


def test_other_choices_are_real_costs() -> None:
    config = parse_config(
        "", ["privacy.unit=example", "privacy.noise_multiplier=1.0", "training.batch_size=10"]
    )
    found = alternatives(config, {"a": 100, "b": 100}, None)
    by_choice = {(x.unit, x.noise_place, x.batch_size): x for x in found}
    local, shared = by_choice["example", "local", 10], by_choice["example", "distributed", 10]
    assert local.chosen and not shared.chosen
    assert local.noise == pytest.approx(2**0.5 / 10 / 2)  # two hospitals' own z / b, averaged
    assert shared.noise == pytest.approx(1 / 20)  # z over all units of the step
    assert shared.rounds == 10 * local.rounds  # one step is one round
    assert shared.epsilon == pytest.approx(
        epsilon([Release(20.0), Release(1.0, 0.1, 200)], 1e-5), rel=1e-9
    )
    hospital = by_choice["hospital", "central", None]
    assert hospital.epsilon == pytest.approx(epsilon([Release(1.0, 1.0, 20)], 1e-5), rel=1e-9)
    assert {x.batch_size for x in found if x.unit == "example"} == {5, 10, 20, 40}
    assert shown_rounds(config) == [5, 10, 15, 20]


@pytest.mark.parametrize("count", [4, 8, 50])
@pytest.mark.parametrize("colluding", [0, 1])
def test_the_noise_of_other_choices_is_that_of_all_hospitals(count: int, colluding: int) -> None:
    """Also where a few of them stand for all; distributed shares are made for the fewest honest
    hospitals in a sum: t of n stay, and each of the n - t that may be said to be gone costs a lying
    server t - c answers of the n - c honest ones."""
    config = parse_config(
        "",
        [
            "privacy.unit=example",
            "privacy.noise_multiplier=1.0",
            "training.batch_size=10",
            f"secure_aggregation.colluding={colluding}",
        ],
    )
    found = alternatives(config, {f"hospital-{i}": 100 for i in range(count)}, None)
    noise = {x.noise_place: x.noise for x in found if x.unit == "example" and x.batch_size == 10}
    t = int(0.667 * count) + 1
    honest = count - colluding
    lost = min(honest * (count - t) // (t - colluding),
               (honest * (count - t) + colluding * (count - 1)) // t)  # fmt: skip
    assert noise["local"] == pytest.approx(0.1 / count**0.5)
    assert noise["central"] == pytest.approx(0.1 / count)
    assert noise["distributed"] == pytest.approx(0.1 / (count * (honest - lost)) ** 0.5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan"], "privacy.unit: is 'none'"),
        (["plan", "--sizes", "10,x", "--set", "privacy.unit=example", "--set",
          "privacy.epsilon=1"], "--sizes 10,x"),
        (["show", "nowhere.sqlite"], "no such ledger"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_line(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        run(*arguments)


def test_show_tells_what_is_spent_and_left(tmp_path: Path) -> None:
    sets = ["federation.rounds=3", "simulation.baselines=false", f'federation.runs="{tmp_path}"']
    sets += ["privacy.unit=example", "privacy.epsilon=2"]
    result = simulate(overrides=sets)
    text = run("show", str(result.run_directory))
    assert text.count("simulated: the noise came from a seed") == 5
    spent = result.rounds[-1]["privacy"]["hospital-2"]["epsilon"]
    ledger = result.run_directory / "ledgers" / "hospital-2.sqlite"
    text = run("show", str(ledger), "--entries", "--limit", "4")
    assert f"{spent:.4g}" in text and f"limit epsilon 4: {4 - spent:.4g} left" in text
    assert text.count("dp-sgd, own noise") == 3 and "announced sizes" in text
    kit = tmp_path / "kit"
    (kit / "state").mkdir(parents=True)
    for file in ledger.parent.glob(f"{ledger.name}*"):
        shutil.copy(file, kit / "state" / file.name.replace(ledger.stem, "ledger"))
    assert f"{spent:.4g}" in run("show", str(kit))
    shutil.rmtree(ledger.parent)  # as of a deployed run, whose hospitals keep their own
    text = run("show", str(result.run_directory))
    assert "as each hospital has signed it" in text and f"{spent:.4g}" in text
    ledger = kit / "state" / "ledger.sqlite"
    ledger.write_bytes(ledger.read_bytes()[:2000])
    with pytest.raises(PrivacyRefused, match="ledger"):
        run("show", str(ledger))


def test_show_of_a_run_without_privacy_says_so(tmp_path: Path) -> None:
    sets = ["federation.rounds=1", "simulation.baselines=false", f'federation.runs="{tmp_path}"']
    result = simulate(overrides=sets)
    with pytest.raises(ConfigError, match="no privacy ledgers"):
        run("show", str(result.run_directory))


def test_a_plan_for_patients_whom_the_data_does_not_name_is_refused(tmp_path: Path) -> None:
    """G6: as the run itself would be; rows aren't counted as patients."""
    sets = ["--set", "privacy.unit=patient", "--set", "privacy.epsilon=3.0"]
    with pytest.raises(ConfigError, match="hospital-1: .*privacy.unit: the data names no patients"):
        run("plan", *sets, "--plot", str(tmp_path / "plan.html"))
