"""Figures with noise, from end to end: the same masked and plain, paid for, told, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.common.tasks.test_private_sums import Counting
from tests.simulations.run.test_private import PLAIN, ledgers
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, TaskError
from wardround.common.privacy.accounting import epsilon
from wardround.common.privacy.budget import held_out_releases
from wardround.common.run.sums import read_kept
from wardround.simulations import simulate

SETS = [
    *("privacy.unit=example", "privacy.epsilon=30", 'privacy.covers=["training", "evaluation"]'),
    *("data.validation_fraction=0.2", "simulation.baselines=false", "training.local_epochs=1"),
]


def made(tmp_path: Path, name: str, *sets: str) -> Any:
    runs = f'federation.runs="{tmp_path / name}"'
    return simulate(overrides=["federation.rounds=3", runs, *SETS, *sets])


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return made(tmp_path_factory.mktemp("masked"), "runs", "evaluation.every=2")


def test_masked_and_plain_runs_have_the_same_figures(masked: Any, tmp_path: Path) -> None:
    plain = made(tmp_path, "plain", "evaluation.every=2", PLAIN)
    for one, other in zip(masked.rounds, plain.rounds, strict=True):
        for key in ("overall", "within", "hospitals", "over"):
            assert one[key] == other[key]
        assert one.get("intervals") == other.get("intervals")
    assert [bool(row["overall"]) for row in masked.rounds] == [False, True, True]
    row = masked.rounds[-1]
    assert row["hospitals"] == {} and row["within"] == {"test": {}, "validation": {}}
    assert set(row["intervals"]["test"]) == {
        name for name, value in row["overall"]["test"].items() if value is not None
    }


def test_each_evaluation_is_paid_for_by_held_out_rows_within_epsilon(masked: Any) -> None:
    config = parse_config("", [*SETS, "federation.rounds=3", "evaluation.every=2"])
    releases = held_out_releases(config, 3)
    for entries in ledgers(masked.run_directory, 5):
        figures = [one for one in entries if one.purpose == "evaluation"]
        assert [one.round for one in figures] == [2, 3]
        paid = [release for one in figures for release in one.releases]
        sizes = [release for one in entries if not one.purpose for release in one.releases]
        assert epsilon([*sizes, *paid], 1e-5) == pytest.approx(epsilon(releases, 1e-5), rel=1e-9)
        assert epsilon([*sizes, *paid], 1e-5) <= 30 + 1e-6
        assert all(one.clipping_norm == 1.0 for one in figures)  # a row is in one bin


def test_the_report_tells_noise_and_what_it_hides(masked: Any) -> None:
    page = (masked.run_directory / "report.html").read_text()
    assert "Figures on held-out rows carry noise too" in page
    assert "figures of this table are exact" in page.lower()
    assert "the figures on held-out rows, whose" not in page
    kept = read_kept(masked.run_directory)
    assert kept is not None and kept.noised
    for split, sums in kept.sums.items():
        assert kept.intervals(split, {}) == {
            name: tuple(span) for name, span in masked.rounds[-1]["intervals"][split].items()
        }
        assert all((value >= 0).all() for value in sums.values())


def test_where_noise_hides_the_figure_no_round_is_chosen_by_it(tmp_path: Path) -> None:
    """At epsilon 0.5 a hundred rows tell nothing: the last round's model stays, and it is said."""
    found = made(
        tmp_path,
        "runs",
        "privacy.epsilon=0.5",
        "evaluation.select=best",
    )
    for row in found.rounds:
        assert row["overall"]["validation"]["auc"] is None
        assert "auc" not in row["intervals"]["validation"]
    summary = json.loads((found.run_directory / "run.json").read_text())
    assert summary["chosen_round"] == 3 and "not_chosen" in summary
    assert "Not measurable in the last one" in (found.run_directory / "report.html").read_text()


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["privacy.unit=hospital"], "privacy.unit"),
        (["task.normalise=local"], "task.normalise"),
        (['judgement.groups=["age"]'], "judgement"),
    ],
)
def test_what_can_not_carry_noise_is_refused_with_the_mend(sets: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match="'evaluation' can't be covered") as told:
        simulate(overrides=[*SETS, *sets])
    assert words in str(told.value)
    assert "leave 'evaluation' out of privacy.covers" in str(told.value)


class Silent(Counting):
    metric_bounds = {}


def test_a_task_that_says_no_bounds_is_refused_where_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="metric_bounds"):
        simulate(
            task=Silent(),
            overrides=[*SETS, f'federation.runs="{tmp_path}"'],
        )
