"""E1: a hospital's fault is told with its name and its reason first, and nobody is asked to protect
less for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.common.errors import ConfigError, StrategyError, WardroundError
from wardround.common.mends import WEAKER, Mend
from wardround.server.gathering.faults import round_failed
from wardround.simulations import simulate
from wardround.simulations.run import simulate as runner


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three hospitals of 30 rows; one cell of north's is no number."""
    monkeypatch.setattr(runner, "report_run", lambda run: None)
    generator = np.random.default_rng(3)
    for name in ("north", "south", "west"):
        lines = [f"{a:.3f},{int(a > 0)}" for a in generator.normal(size=30)]
        if name == "north":
            lines[7] = "oops,1"
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,y", *lines]) + "\n")
    return tmp_path


def sets(folder: Path, *more: str) -> list[str]:
    return [
        f'federation.runs="{folder / "runs"}"',
        f'data.path="{folder}"',
        "task.columns={target='y'}",
        "federation.rounds=1",
        "simulation.baselines=false",
        *more,
    ]


@pytest.mark.parametrize("min_clients", [2, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_one_bad_cell_is_told_first_in_the_exception(
    folder: Path, min_clients: int, masked: bool
) -> None:
    more = [f"federation.min_clients={min_clients}"]
    more += [] if masked else ["secure_aggregation.enabled=false"]
    if not masked and min_clients == 2:
        assert simulate(overrides=sets(folder, *more)).rounds  # the other two go on
        return
    with pytest.raises(WardroundError) as caught:
        simulate(overrides=sets(folder, *more))
    error = caught.value
    assert error.who == "north" and str(error).startswith("north: ")
    assert "north.csv:9: column 'a'" in str(error).partition("(")[0]
    assert "2 of 3 hospitals can train" in str(error)
    for mend in WEAKER:
        assert mend not in str(error)
    assert "min_cohort or" not in str(error) and "enabled = false" not in str(error)


def test_refusals_in_one_sentence_the_first_hospital_first() -> None:
    refused = [{"hospital": f"h{i}", "reason": f"failed: cut {i}"} for i in range(5)]
    error = round_failed("0 of 5 hospitals answered", refused)
    assert str(error) == (
        "h0: cut 0; h1: cut 1; h2: cut 2 (and 2 more) (0 of 5 hospitals answered)"
    )
    assert str(round_failed("nobody came", [])) == "nobody came"


def test_what_all_hospitals_say_stands_there_once() -> None:
    refused = [{"hospital": f"h{i}", "reason": "no template"} for i in range(5)]
    error = round_failed("0 of 6", [{"hospital": "a", "reason": "own"}, *refused])
    assert str(error) == "a: own; h0, h1, h2 and 2 more: no template (0 of 6)"
    assert round_failed("0 of 5", refused).who == "h0, h1, h2 and 2 more"


MISTAKES = {
    Mend.SMALLER_SUMS: (["simulation.clients=2"], ["secure_aggregation.min_cohort=2"]),
    Mend.LOWER_MIN_CLIENTS: (["federation.min_clients=9"], ["federation.min_clients=3"]),
    Mend.SHOW_UPDATES: (["strategy.name=fedmedian"], ["secure_aggregation.enabled=false"]),
}
"""What leads to each mend, and what follows it. START_MORE is for a person at a hospital."""


@pytest.mark.parametrize("mend", MISTAKES)
def test_a_mend_that_is_followed_leads_to_a_run(
    mend: Mend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "report_run", lambda run: None)
    mistake, followed = MISTAKES[mend]
    base = [f'federation.runs="{tmp_path}"', "federation.rounds=1", "federation.min_clients=2"]
    base += ["simulation.baselines=false", *mistake]
    with pytest.raises((ConfigError, StrategyError)) as caught:
        simulate(overrides=base)
    assert caught.value.mend == mend
    assert simulate(overrides=[*base, *followed]).rounds


def test_every_mend_is_followed_here() -> None:
    assert set(Mend) == set(MISTAKES) | {Mend.START_MORE}
