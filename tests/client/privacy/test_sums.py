"""A description under differential privacy: what one unit changes, what it costs, what is drawn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.sums import PrivateSum
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, PrivacyRefused, WardroundError
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.budget import announcement
from wardround.common.privacy.sums import own_multiplier, step_release, steps_epsilon
from wardround.common.procedures.known import make_procedure
from wardround.common.secagg.graph import thresholds
from wardround.common.tasks.data.table import Table
from wardround.simulations import analyse

TEXT = """
[task]
name = "tabular"
[task.columns]
target = "ill"
numeric = ["age"]
categorical = ["ward"]
categories = {{ ward = ["a", "b"] }}
{patient}
[privacy]
unit = "{unit}"
epsilon = {epsilon}
noise = "{noise}"
{more}
[procedure]
name = "describe"
ranges = {{ age = [0, 100] }}
"""


def config(
    unit: str = "example", noise: str = "local", epsilon: float = 1.0, more: str = ""
) -> str:
    patient = 'patient_id = "who"' if unit == "patient" else 'ignore = ["who"]'
    return TEXT.format(unit=unit, noise=noise, epsilon=epsilon, more=more, patient=patient)


def table(folder: Path, rows: list[tuple[Any, ...]], made: Config) -> Table:
    path = folder / "rows.csv"
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("age,ward,ill,who\n" + "\n".join(lines) + "\n")
    found = make_task(made).load(path)
    assert isinstance(found, Table)
    return found


row = st.tuples(
    st.none() | st.integers(-20, 130), st.sampled_from(["a", "b", None]), st.integers(0, 1)
)


@settings(max_examples=25, deadline=None)
@given(st.lists(row, min_size=1, max_size=6), st.lists(row, min_size=1, max_size=3))
def test_no_unit_changes_more_than_is_said(
    tmp_path_factory: pytest.TempPathFactory,
    others: list[tuple[Any, ...]],
    own: list[tuple[Any, ...]],
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    settings_ = parse_config(config("patient"))
    procedure = make_procedure(settings_, make_task(settings_))
    without = [(*one, f"p{number}") for number, one in enumerate(others)]
    with_ = [*without, *((*one, "new") for one in own)]
    parts = ({"train": table(folder, rows, settings_)} for rows in (without, with_))
    before, after = (procedure.sums(one, []) for one in parts)
    moved = math.sqrt(sum(float(((after[k] - before[k]) ** 2).sum()) for k in before))
    assert moved <= procedure.sensitivity(len(own)) * (1 + 1e-12)
    assert {k: v.shape for k, v in before.items()} == procedure.shapes([])


def test_the_bound_is_reached() -> None:
    settings_ = parse_config(config())
    assert make_procedure(settings_, make_task(settings_)).sensitivity(1) == 2.0  # of 3 columns


def test_all_of_the_run_costs_what_the_plan_says() -> None:
    for wanted in (0.5, 3.0):
        made = parse_config(config(epsilon=wanted))
        release = step_release(made, 1)
        cost = epsilon([*announcement(made.privacy), release], 1e-5)
        assert 0.99 * wanted < cost <= wanted and steps_epsilon(made, 1) == cost
    fixed = parse_config(config().replace("epsilon = 1.0", "noise_multiplier = 2.0"))
    assert step_release(fixed, 1) == Release(2.0)


def test_shares_of_those_who_are_honest_are_the_whole() -> None:
    made = parse_config(config(noise="distributed", more="[secure_aggregation]\ncolluding = 1"))
    limits, release = thresholds(8, 0.75, 1, 3), step_release(made, 1)
    own = own_multiplier(made, release, limits.honest(1))
    assert math.isclose(own * math.sqrt(limits.honest(1)), release.noise_multiplier)
    assert (
        own_multiplier(parse_config(config()), release, limits.honest(1))
        == release.noise_multiplier
    )


def hospitals(folder: Path, count: int = 3, rows: int = 60) -> Path:
    (folder / "hospitals").mkdir()
    generator = np.random.default_rng(5)
    for number in range(count):
        lines = [
            f"{generator.integers(0, 100)},{'ab'[row % 2]},{row % 2},p{number}-{row // 4}"
            for row in range(rows)
        ]
        text = "age,ward,ill,who\n" + "\n".join(lines) + "\n"
        (folder / "hospitals" / f"h{number}.csv").write_text(text)
    return folder / "federation.toml"


@pytest.mark.parametrize("noise", ["local", "distributed"])
def test_a_private_description_is_paid_for_and_noised(tmp_path: Path, noise: str) -> None:
    path = hospitals(tmp_path)
    path.write_text(
        '[data]\npath = "hospitals"\n' + config("patient", noise, 4.0, "records_per_patient = 2")
    )
    result = analyse(path)
    found = result.description
    assert found["privacy"]["unit"] == "patient" and found["privacy"]["epsilon"] <= 4.0
    made = result.config
    for ledger in sorted((result.run_directory / "ledgers").glob("*.sqlite")):
        with Ledger.open(ledger, ledger.stem) as kept:
            (entry,) = (one for one in kept.entries() if "describe" in one.mechanism)
            assert entry.releases == (step_release(made, 1),) and entry.unit == "patient"
            assert kept.spent(1e-5, "patient") <= 4.0
    # 2 of each patient's 4 rows count; the rest is noise of 4 = 2 rows x sqrt(4 places) times z
    z = step_release(made, 1).noise_multiplier
    least = 4.0 * z * (math.sqrt(3) if noise == "local" else 1)
    assert found["noise"] >= least * 0.999
    assert abs(found["rows"] - 3 * 30) <= 5 * found["noise"]
    totals = [cell["rows"] for one in found["columns"] for cell in one["cells"]]
    assert any(total % 5 for total in totals)


def test_a_limit_stops_it_before_anything_leaves(tmp_path: Path) -> None:
    path = hospitals(tmp_path)
    text = config("example", "local", 4.0).replace(
        "[procedure]", "epsilon_limit = 2.0\n[procedure]"
    )
    path.write_text('[data]\npath = "hospitals"\n' + text)
    with pytest.raises(WardroundError, match="budget|limit"):
        analyse(path)
    (run,) = (tmp_path / "runs").iterdir()
    assert not (run / "description.json").exists() and not (run / "steps.safetensors").exists()


def test_noise_has_the_deviation_that_it_says() -> None:
    class Plan:
        run = ""

    class Fake:
        simulated, name, plan = True, "h", Plan()
        config: Config = parse_config(config(epsilon=2.0))

    step = PrivateSum(Fake(), "statistics", 0, Release(2.0), 3.0)  # type: ignore[arg-type]
    noised = step.noised({"x": np.full(20_000, 7.0)})["x"] - 7.0
    assert abs(noised.std() / 6.0 - 1) < 0.03 and abs(noised.mean()) < 0.2
    assert np.array_equal(noised * 64, np.rint(noised * 64))  # no tail of a float tells anything
    with pytest.raises(PrivacyRefused, match="no whole number"):
        step.noised({"x": np.array([0.5])})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (config("hospital"), "privacy.unit: a hospital may have any number of rows"),
        (config(noise="central"), "privacy.noise: the noise of these sums is added where"),
        (
            config().replace('categories = { ward = ["a", "b"] }\n', ""),
            "can't be agreed from counts",
        ),
        (config().replace("age = [0, 100]", "ward = [0, 1]"), "'ward' is no column of numbers"),
    ],
)
def test_what_cant_be_private_is_refused(text: str, words: str) -> None:
    made = parse_config(text)
    with pytest.raises(ConfigError, match=words):
        make_procedure(made, make_task(made))
