"""A simulation whose hospitals can never be enough ends with a sentence: nobody else will come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.common.errors import WardroundError
from wardround.simulations import simulate

BASE = """
[federation]
rounds = 1
min_clients = 3
round_timeout_s = 20
runs = "RUNS"
[data]
path = "DATA"
[task]
name = "tabular"
[task.columns]
target = "y"
split = "s"
[simulation]
baselines = false
"""


def written(folder: Path, sites: dict[str, str]) -> Path:
    """A configuration beside the files of hospitals, each with rows of one split."""
    data, generator = folder / "data", np.random.default_rng(0)
    data.mkdir()
    for name, split in sites.items():
        rows = [f"{x:.3f},{n % 2},{split}" for n, x in enumerate(generator.normal(size=20))]
        (data / f"{name}.csv").write_text("\n".join(["x,y,s", *rows]) + "\n")
    file = folder / "federation.toml"
    file.write_text(BASE.replace("RUNS", str(folder / "runs")).replace("DATA", str(data)))
    return file


THREE = dict.fromkeys(("north", "south", "west"), "train")
LATE = "[clients.north]\narrives_s = 100\nleaves_s = 200\n[clients.south]\nleaves_s = 50\n"


@pytest.mark.parametrize(
    ("sites", "overrides", "sentence"),
    [
        (
            dict.fromkeys(("north", "south"), "train"),
            [],
            r"is 3, .*min_cohort 3, and there are 2 hospitals \(in data.path\); lower it",
        ),
        (THREE | {"west": "test"}, [], "2 of 3 hospitals can train, 1 in evaluations only"),
        (
            THREE | {"west": "test"},
            ["federation.min_clients=2"],
            "min_cohort: 2 hospitals take part in training",
        ),
        (THREE, ["secure_aggregation.min_cohort=4"], "min_cohort: 3 hospitals take part"),
        (
            THREE,
            ["federation.clients_per_round=3", "secure_aggregation.min_cohort=4"],
            "clients_per_round is 3, below secure_aggregation.min_cohort 4",
        ),
        (THREE, ["federation.clients_per_round=2"], "clients_per_round is 2, below"),
        (THREE, ["evaluation.clients=2"], "evaluation.clients is 2, below"),
        (
            THREE,
            ["simulation.dropout=0.999", "federation.round_attempts=2"],
            "failed after 2 attempts: .*0 of 3 hospitals answered usefully",
        ),
        (THREE, ["simulation.scenario=SCENARIO"], "the scenario never has 3 clients at once"),
        (
            THREE,
            ["privacy.unit=example", "privacy.epsilon=1", "privacy.epsilon_limit=0.001"],
            "its limit is 0.001.*0 of 3 hospitals can train, federation.min_clients is 3",
        ),
    ],
)
def test_who_can_never_be_enough(
    tmp_path: Path, sites: dict[str, str], overrides: list[str], sentence: str
) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(LATE)
    overrides = [one.replace("SCENARIO", str(scenario)) for one in overrides]
    with pytest.raises(WardroundError, match=sentence):
        simulate(written(tmp_path, sites), overrides=overrides)
