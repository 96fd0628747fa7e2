"""A finished model recalibrated over hospitals: the numbers are those of all rows together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from tests.unlike import Consortium
from wardround.client.models.outputs import in_unit
from wardround.common.calibration.calibration import read_calibration
from wardround.common.calibration.families import OF_KIND
from wardround.common.calibration.fitting import Rows
from wardround.common.calibration.thresholds import thresholds
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, TaskError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.procedures.calibrate.procedure import Calibrate, halves
from wardround.common.run.sums import read_sums
from wardround.server.results.shared import SMALLEST
from wardround.simulations import analyse, simulate

ONE = ("federation.rounds=1", "simulation.baselines=false")
PLAIN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"
ALL = 'procedure.rows="all"'


def asking(run: Path) -> tuple[str, ...]:
    return 'procedure.name="calibrate"', f"procedure.model={json.dumps(str(run))}"


def pooled(made: Consortium, run: Path) -> Rows:
    """All hospitals' rows, as one who had them would have them."""
    folder, task = ModelFolder.open(run), make_task(made.config())
    shards = [task.load(path) for path in sorted((made.folder / "hospitals").iterdir())]
    examples = [task.prepare(raw, folder.totals, raw) for raw in shards]
    module = folder.module()
    said = [task.predictions(module(one.inputs), folder.totals) for one in examples]
    names = said[0]
    targets = np.concatenate([one.targets.numpy() for one in examples])
    kind = made.kind  # type: ignore[attr-defined]
    unit = (0.0, 1.0)
    if kind == "regression":
        from wardround.common.tasks.targets import scale

        targets, unit = in_unit(targets, folder.totals), scale(folder.totals)
    columns = {name: np.concatenate([one[name] for one in said]) for name in names}
    return Rows.of(kind, columns, targets, np.arange(len(targets)), unit)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_masked_or_not_the_numbers_are_those_of_the_pooled_rows(
    kind: str, unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    made = unlike(kind)
    run = simulate(made.config(*ONE, PLAIN, runs=tmp_path / "trained")).run_directory
    object.__setattr__(made, "kind", kind)
    found = []
    for number, secure in enumerate((MASKED, PLAIN) if kind == "binary" else (MASKED,)):
        config = made.config(secure, *asking(run), ALL, runs=tmp_path / str(number))
        directory = analyse(config).run_directory
        found.append(read_calibration(directory / "calibration.json"))
        assert "What corrects it" in (directory / "report.html").read_text()
    masked, plain = found[0], found[-1]
    rows, family = pooled(made, run), OF_KIND[kind]
    if kind == "multiclass":
        rows = rows.select(np.flatnonzero(rows.targets >= 0))

    def penalised(at: np.ndarray) -> float:
        return float(rows.sums(family, tuple(at))["loss"][0]) + family.pull.penalty(tuple(at))

    peer = minimize(penalised, family.pull.centre, method="Nelder-Mead", tol=1e-10).x
    numbers = plain.figures["numbers"]
    names = ["intercept"] * family.intercept + ["slope"] * family.slope
    assert [numbers[name][0] for name in names] == pytest.approx(peer, abs=2e-4)
    assert (masked.slope, masked.intercept) == pytest.approx((plain.slope, plain.intercept))
    assert masked.rows == plain.rows == len(rows)
    assert plain.model == ModelFolder.open(run).digest and plain.signer == ""


def test_a_survival_models_slope_is_of_strata(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    made = unlike("survival")
    run = simulate(made.config(*ONE, PLAIN, runs=tmp_path / "trained")).run_directory
    config = made.config(MASKED, *asking(run), ALL, runs=tmp_path / "asked")
    found = read_calibration(analyse(config).run_directory / "calibration.json")
    folder, task, family = ModelFolder.open(run), make_task(made.config()), OF_KIND["survival"]
    shards = [task.load(path) for path in sorted((made.folder / "hospitals").iterdir())]
    strata = []
    for raw in shards:
        one = task.prepare(raw, folder.totals, raw)
        risk = folder.module()(one.inputs)[:, 0].detach().double().numpy()
        truth = one.targets.double().numpy()
        strata.append(Rows("survival", risk, truth, np.arange(len(risk))))

    def penalised(at: np.ndarray) -> float:
        losses = [one.sums(family, tuple(at))["loss"][0] for one in strata]
        return float(sum(losses)) + family.pull.penalty(tuple(at))

    peer = minimize(penalised, [1.0], method="Nelder-Mead", tol=1e-10).x
    assert found.slope == pytest.approx(peer[0], abs=2e-4)


def test_what_it_cant_be_asked_of_is_refused(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    made = unlike("binary")
    run = simulate(made.config(*ONE, PLAIN, runs=tmp_path / "trained")).run_directory
    private = ("privacy.unit='example'", "privacy.epsilon=8.0")
    with pytest.raises(ConfigError, match="'calibrate' gives exact sums"):
        analyse(made.config(PLAIN, *asking(run), *private, runs=tmp_path))
    # totals that a server made up: none that rows give, and of too few of an outcome
    config = made.config(PLAIN, *asking(run), runs=tmp_path)
    asked = Calibrate.of(config, make_task(config), ModelFolder.open(run))
    honest = {name: np.ones(shape) for name, shape in (asked.shapes([]) or {}).items()}
    with pytest.raises(TaskError, match="too few rows of an outcome to recalibrate by"):
        asked.shapes([honest])
    enough = {
        name: one * {"rows": 100.0, "rarer": 50.0}.get(name.partition("/")[2], 1.0)
        for name, one in honest.items()
    }
    for bad in (-5.0, np.nan, np.inf):
        false = {
            name: one * bad if name.endswith(("curvature", "bound")) else one
            for name, one in enough.items()
        }
        with pytest.raises(TaskError, match="none that rows could give"):
            asked.shapes([false])


def test_halves_are_of_patients_and_follow_from_nothing_else() -> None:
    keys = np.array([f"P{n // 3}" for n in range(600)])
    half = halves(keys)
    assert np.array_equal(half[::3], half[1::3]) and 70 < half[::3].sum() < 130
    assert np.array_equal(halves(keys[::-1])[::-1], half)


def test_a_runs_model_folder_has_thresholds_of_its_evaluation(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    run = simulate(unlike("binary").config(*ONE, PLAIN, runs=tmp_path)).run_directory
    sums = read_sums(run, "test")
    assert sums is not None and min(sums["positives"].sum(), sums["negatives"].sum()) >= 10
    stored = json.loads((run / "model" / "thresholds.json").read_text())
    assert stored["split"] == "test"
    expected = [json.loads(json.dumps(vars(one))) for one in thresholds(sums, smallest=SMALLEST)]
    assert stored["thresholds"] == expected
    assert "thresholds.json" in {one.name for one in ModelFolder.open(run).listed.files}
