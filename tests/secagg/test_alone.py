"""A server that asks for masked sums in which one hospital's numbers would stand alone.

``min_cohort`` counts members. One that adds zeros hides nobody, so it must refuse: a server would
else choose it as company for the hospital that it wants to look into.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from tests.federate import Federate, Line, examples
from wardround.common.errors import RoundFailed
from wardround.common.figures.figure import Figure
from wardround.common.figures.sums import Sums
from wardround.common.protocol.names import HELD_OUT
from wardround.common.tasks.base import Fit
from wardround.server.members.sampling import splits_by_holders
from wardround.server.observer import Observer
from wardround.simulations import simulate

pytestmark = pytest.mark.usefixtures("exact_parts")

CONFIG = """
[federation]
rounds = 1
[data]
path = "h"
[task]
kind = "binary"
[task.columns]
numeric = {numeric}
target = "y"
split = "part"
[simulation]
baselines = false
"""
PLAIN = "secure_aggregation.enabled=false"


def federation(
    folder: Path,
    parts: dict[str, list[str]],
    numeric: str = '["x"]',
    extra: tuple[str, ...] = (),
) -> Path:
    """A configuration and a file of 12 rows for each hospital; ``parts`` are dealt in turn, and
    those in ``extra`` have a column more."""
    generator = np.random.default_rng(2)
    (folder / "h").mkdir()
    for name, its in parts.items():
        more = (",hiv", ",1.5") if name in extra else ("", "")
        lines = [f"x,y,part{more[0]}"]
        for row in range(12):
            x = generator.normal()
            lines.append(f"{x:.3f},{row // 3 % 2},{its[row % len(its)]}{more[1]}")
        (folder / "h" / f"{name}.csv").write_text("\n".join(lines) + "\n")
    path = folder / "federation.toml"
    path.write_text(CONFIG.format(numeric=numeric))
    return path


ALL = ["train", "validation", "test"]


def test_hospitals_that_only_evaluate_are_no_company_for_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role is told in clear, so a server knows whose zeros to ask for."""
    sites = {name: ALL for name in ("north", "south", "west")}
    path = federation(tmp_path, sites | {"abroad": ["test"], "beyond": ["test"]})
    chosen = {"north", "abroad", "beyond"}

    def lying(members: Any, config: Any) -> list[Any]:
        return [member for member in members if member.name in chosen]

    monkeypatch.setattr("wardround.server.rounds.preparation.preparing", lying)
    with pytest.raises(RoundFailed, match="it has no rows for training"):
        simulate(path, overrides=["federation.retry_wait_s=0"])


def test_hospitals_without_rows_of_a_split_are_no_company_for_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = ["train", "validation"]
    path = federation(tmp_path, {"north": ALL, "south": none, "west": none})

    def lying(members: Any) -> dict[frozenset[str], list[str]]:
        return {frozenset(member.name for member in members): list(HELD_OUT)}

    for place in ("gatherer", "key_exchange"):
        monkeypatch.setattr(f"wardround.server.secagg.{place}.splits_by_holders", lying)
    (row,) = simulate(path).rounds
    assert row["overall"] == {}
    assert "this hospital has no test rows" in str(row["refused"])


def test_a_column_that_one_hospital_has_is_in_no_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = {name: ALL for name in ("north", "south", "west")}
    path = federation(tmp_path, sites, '["*"]', extra=("north",))
    monkeypatch.setattr("wardround.common.tasks.tabular.fit_columns", lambda *_: Fit())
    with pytest.raises(RoundFailed, match="this hospital has no sum 'numeric/hiv/count'"):
        simulate(path, overrides=["federation.retry_wait_s=0"])


# --- an honest server -----------------------------------------------------------------------------
def test_each_split_is_a_sum_of_those_that_have_rows_of_it(tmp_path: Path) -> None:
    train = {name: ["train", "validation"] for name in ("east", "north", "south")}
    path = federation(tmp_path, train | {"a": ["test"], "b": ["test"], "west": ALL})
    masked, plain = (simulate(path, overrides=one).rounds[0] for one in ([], [PLAIN]))
    assert masked["refused"] == []
    over = {"test": ["a", "b", "west"], "validation": ["east", "north", "south", "west"]}
    assert masked["over"] == plain["over"] == over
    for split in HELD_OUT:
        found, expected = masked["overall"][split], plain["overall"][split]
        assert found == pytest.approx(expected, abs=1e-4)


class Notes(Observer):
    """Keeps what a user is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warnings(self, lines: list[str]) -> None:
        self.lines += lines


def test_a_split_that_too_few_have_has_no_figures_and_that_is_told_once(tmp_path: Path) -> None:
    train = {name: ["train", "validation"] for name in ("east", "north", "south")}
    path, notes = federation(tmp_path, train | {"abroad": ["test"]}), Notes()
    first, second = simulate(path, overrides=["federation.rounds=2"], observer=notes).rounds
    for row in (first, second):
        assert set(row["overall"]) == {"validation"} and row["refused"] == []
    (told,) = [line for line in notes.lines if "figures" in line]
    assert told == (
        "there are no test figures: only abroad has test rows, and a masked sum is of "
        "secure_aggregation.min_cohort = 3 hospitals at least"
    )


def test_groups_are_by_who_has_rows() -> None:
    class Sized:
        def __init__(self, name: str, validation: int, test: int) -> None:
            self.name, self.sizes = name, {"validation": validation, "test": test}

    both: Any = [Sized("a", 1, 2), Sized("b", 3, 4), Sized("c", 0, 0)]
    assert splits_by_holders(both) == {frozenset("ab"): ["validation", "test"]}
    other: Any = [Sized("a", 1, 0), Sized("b", 3, 4)]
    assert list(splits_by_holders(other).values()) == [["validation"], ["test"]]


# --- figures of its own ---------------------------------------------------------------------------
class Ranked(Line):
    """A task with a figure within hospitals, whose summary fails where all targets are alike."""

    primary_metric = "spread"
    figures = (Figure("spread", "higher", within=True),)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        ones = np.array([float((targets > 0).sum())])
        return super().metrics(outputs, targets) | {"ones": ones}

    def summarise(self, sums: Sums) -> dict[str, float]:
        ones, rows = float(sums["ones"][0]), float(sums["examples"][0])
        return super().summarise(sums) | {"spread": 1 / (rows - ones) + 1 / ones}


def test_that_rows_allow_no_figure_is_no_error_that_the_server_gets(
    federate: Federate, settings: Any
) -> None:
    """It would be a question that any model answers of one hospital in clear."""
    shards = {name: examples([1.0] * 8, [1.0, 0.0] * 4) for name in "abc"}
    shards["d"] = examples([1.0] * 8, [1.0] * 8)
    text = "[data]\ntest_fraction = 0.5\n[secure_aggregation]\nenabled = true\nmin_cohort = 3\n"
    run = federate(settings(text), shards, Ranked())
    assert run.recorder.refusals == []
    (row,) = run.directory.rounds()
    assert row["over"]["test"] == list("abcd")
    assert row["within"]["test"]["spread"] == {"mean": 1.0, "bound": 1 / 4096, "hospitals": 3}
