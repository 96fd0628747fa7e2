"""A small model of a table, which most tests here predict with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wardround.common.predict import Predictor, load_model
from wardround.simulations import simulate

TASK = """
federation.rounds = 1
federation.runs = "runs"
simulation.baselines = false
secure_aggregation.enabled = false
data.path = "data"
[task]
name = "tabular"
min_category_count = 2
[task.columns]
target = "died"
numeric = ["*"]
categorical = ["ward"]
binary = ["smoker"]
patient_id = "mrn"
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two hospitals whose rows have numbers, a category and a binary column."""
    here = tmp_path_factory.mktemp("predict")
    (here / "data").mkdir()
    generator = np.random.default_rng(3)
    for name, count in (("north", 60), ("south", 33)):
        lines = ["mrn,age,crp,ward,smoker,died"]
        for row in range(count):
            age, crp = generator.normal(60, 15), generator.gamma(2.0)
            cells = f"{row:05},{age:.3f},{crp:.4f},{'abc'[row % 3]},{'yes' if row % 2 else 'no'}"
            lines.append(f"{cells},{int(age + 10 * crp + generator.normal(0, 9) > 80)}")
        (here / "data" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (here / "federation.toml").write_text(TASK)
    yield simulate(here / "federation.toml").run_directory


@pytest.fixture(scope="session")
def model(run: Path) -> Predictor:
    return load_model(run)
