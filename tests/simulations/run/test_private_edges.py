"""The odd hospitals and rows of a private run: each handled, none a crash."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wardround.client.data.held_out import places, simulated_key
from wardround.common.errors import ConfigError, RoundFailed, TaskError
from wardround.common.tasks.base import Examples
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.simulations import simulate

PRIVATE = "[privacy]\nunit='example'\nnoise_multiplier=1.0\n"


def write(folder: Path, name: str, patients: list[str]) -> None:
    """Two features, one label, a patient for each row."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(len(patients))
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "x", "z", "sick"])
        for patient in patients:
            x, z = generator.normal(size=2)
            writer.writerow([patient, f"{x:.3f}", f"{z:.3f}", int(x + z > 0)])


def tabular(tmp_path: Path, *sets: str) -> list[str]:
    return [
        "federation.rounds=2",
        "simulation.baselines=false",
        f'federation.runs="{tmp_path / "runs"}"',
        f'data.path="{tmp_path / "hospitals"}"',
        "task.columns.target=sick",
        "task.columns.numeric=['x','z']",
        *sets,
    ]


PATIENT = [
    "privacy.unit=patient",
    "privacy.noise_multiplier=1.0",
    "task.columns.patient_id=patient",
]


def test_patients_with_many_rows_are_one_unit_each(tmp_path: Path) -> None:
    """What is announced is the number of patients, and a row's weight in it is not told."""
    for name in "abc":
        write(tmp_path / "hospitals", name, [f"p{i % 10}" for i in range(200)])
    sets = tabular(tmp_path, *PATIENT, "privacy.size_noise=0.5", "data.test_fraction=0.3")
    result = simulate(overrides=sets)

    hospitals = json.loads((result.run_directory / "run.json").read_text())["hospitals"]
    assert all(abs(row["train"] - 7) <= 4 for row in hospitals)  # 7 patients, 140 rows
    limited = simulate(overrides=[*sets, "privacy.records_per_patient=1"])
    first, second = (r.model.state_dict() for r in (result, limited))
    assert any(not torch.equal(first[k], second[k]) for k in first)


def trains(hospital: str) -> int:
    """A seed by which the hospital's patient p0 is held out in no study of these settings."""
    patient = np.array([identifier_digest("p0")])
    return next(n for n in range(99) if places(simulated_key(n, hospital), patient)[0] > 0.3)


def test_a_hospital_with_one_patient_takes_part(tmp_path: Path) -> None:
    write(tmp_path / "hospitals", "one", ["p0"] * 30)
    for name in "bc":
        write(tmp_path / "hospitals", name, [f"p{i}" for i in range(60)])
    result = simulate(overrides=tabular(tmp_path, *PATIENT, f"federation.seed={trains('one')}"))
    assert "one" in result.rounds[-1]["privacy"]


def test_patients_without_an_id_are_refused_by_key(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "hospitals", name, [f"p{i}" for i in range(40)])
    with pytest.raises((ConfigError, RoundFailed), match="task.columns.patient_id"):
        simulate(overrides=tabular(tmp_path, *PATIENT[:2]))


def test_a_given_split_that_divides_a_patient_is_refused(tmp_path: Path) -> None:
    """Its counts would tell of one patient several times, and its figures of a trained one."""
    for name in "abc":
        write(tmp_path / "hospitals", name, [f"p{i // 2}" for i in range(40)])
        path = tmp_path / "hospitals" / f"{name}.csv"
        header, *rows = path.read_text().splitlines()
        parts = ["train" if i < 31 else "test" for i in range(40)]  # p15 has rows 30 and 31
        lines = [f"{row},{part}" for row, part in zip(rows, parts, strict=True)]
        path.write_text("\n".join([f"{header},part", *lines]))
    sets = tabular(tmp_path, "task.columns.split=part")
    with pytest.raises(RoundFailed, match="one patient into several parts") as refused:
        simulate(overrides=[*sets, *PATIENT])
    assert "p15" not in str(refused.value)
    simulate(overrides=[*sets, "privacy.unit=example", "privacy.noise_multiplier=1.0"])


@pytest.mark.parametrize("factor", [0.5, 2])
def test_examples_that_are_not_one_for_each_row_are_refused(
    settings: Any, federate: Any, line: Any, factor: float
) -> None:
    """Two of one row would be two units, each with an epsilon of its own."""

    class Other(line):  # type: ignore[misc]
        def prepare(self, raw: Examples, totals: Any, train: Examples) -> Examples:
            kept = [i // 2 if factor == 2 else 2 * i for i in range(int(len(raw) * factor))]
            return raw.select(np.array(kept))

    even = Examples(torch.ones(4, 1), torch.zeros(4))
    with pytest.raises(RoundFailed, match=rf"made {int(4 * factor)} examples of 4 rows"):
        federate(settings(PRIVATE), {"a": even, "b": even}, Other())
    federate(settings(PRIVATE.replace("example", "hospital")), {"a": even, "b": even}, Other())


def test_an_empty_draw_is_a_step_of_noise_alone(settings: Any, federate: Any, shards: Any) -> None:
    """Of 3 and 1 rows at a rate of about 1 in 100 almost every step draws nobody."""
    config = settings(PRIVATE + "size_noise=0.5\n[training]\nlocal_steps=20\nbatch_size=1\n")
    big = Examples(torch.zeros(100, 1), torch.zeros(100))
    run = federate(config, {"a": big, "b": big})
    assert math.isfinite(run.weight()) and run.weight() != 0


@pytest.mark.parametrize("unit", ["example", "hospital"])
@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
def test_a_zero_update_is_noise_and_no_crash(
    settings: Any, federate: Any, unit: str, noise: str
) -> None:
    config = settings(
        f"[privacy]\nunit='{unit}'\nnoise='{noise}'\nnoise_multiplier=1.0\n"
        "[training]\nlocal_steps=1\n"
        "[secure_aggregation]\nenabled=true\nmin_cohort=2\nthreshold=0.5\n"
    )
    zeros = Examples(torch.zeros(4, 1), torch.zeros(4))
    run = federate(config, {"a": zeros, "b": zeros})
    assert math.isfinite(run.weight()) and run.weight() != 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
@pytest.mark.parametrize("unit", ["example", "hospital"])
def test_a_row_that_is_not_finite_adds_nothing(
    settings: Any, federate: Any, unit: str, bad: float, caplog: Any
) -> None:
    """Its hospital's other rows count; a whole update that isn't finite counts as zeros."""
    sizes = "size_noise=0.5\n" if unit == "example" else ""
    config = settings(
        f"[privacy]\nunit='{unit}'\nnoise_multiplier=0.01\nclipping_norm=1.0\n{sizes}"
        "[training]\nlocal_steps=1\n[strategy]\nweighting='uniform'\n"
    )
    good = Examples(torch.tensor([[1.0]] * 4), torch.tensor([1.0] * 4))
    hurt = Examples(torch.tensor([[1.0]] * 3 + [[bad]]), torch.tensor([1.0] * 4))
    run = federate(config, {"a": good, "b": hurt})
    assert math.isfinite(run.weight()) and run.weight() > 0.03
    if unit == "example" or not math.isfinite(bad):  # a huge update can be clipped
        assert "not finite" in caplog.text
    assert "30" not in caplog.text.replace("1.0", ""), "no value of a cell is in the log"


def test_a_layer_that_mixes_rows_is_named(settings: Any, federate: Any, line: Any) -> None:
    with pytest.raises(TaskError, match="layer '0' .BatchNorm1d. mixes the rows"):
        federate(
            settings(PRIVATE), {"a": Examples(torch.ones(3, 1), torch.ones(3))}, line(norm=True)
        )
