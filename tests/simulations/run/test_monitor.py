"""What a finished model meets at all hospitals: the sums are those of all persons, and of few of
them nothing is told."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unlike import make_consortium
from wardround.common.config.task import make_task
from wardround.common.drift.compare import compare
from wardround.common.drift.counts import Counts
from wardround.common.drift.field import fields_of
from wardround.common.drift.reference import Reference
from wardround.common.drift.rows import columns_of
from wardround.common.errors import ConfigError
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.procedures.monitor.shown import shown_counts
from wardround.simulations import analyse, simulate

ONE = ("federation.rounds=1", "simulation.baselines=false")
PLAIN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"
LEAST = 5


def asking(run: Path) -> tuple[str, ...]:
    model = f"procedure.model={json.dumps(str(run))}"
    return 'procedure.name="monitor"', model, 'procedure.rows="all"'


def first_of_each(path: Path, column: str, person: str) -> list[float]:
    """A column's cells of each person's first row, in a reading of their own."""
    with open(path, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["died"]]
    found = {row[person]: row[column] for row in reversed(rows)}
    return [float(cell) if cell else np.nan for cell in found.values()]


def test_masked_or_not_it_is_all_persons_and_a_sum_hides_what_home_sees(
    tmp_path: Path,
) -> None:
    made = make_consortium("binary", tmp_path / "made")
    run = simulate(made.config(*ONE, PLAIN, runs=tmp_path / "trained")).run_directory
    folder, asked = ModelFolder.open(run), asking(run)
    fields = fields_of(folder.schema)
    before = [
        analyse(made.config(secure, *asked, runs=tmp_path / name)).run_directory
        for name, secure in (("masked", MASKED), ("plain", PLAIN))
    ]
    texts = [(one / "reference.json").read_bytes() for one in before]
    assert texts[0] == texts[1]
    found = Reference.read(before[0] / "reference.json", fields, folder.digest)
    assert found.whose == "all hospitals" and not any("at probab" in k for k in found.counts.cells)
    for cells in found.counts.cells.values():
        assert not (cells % LEAST).any() and cells.sum() > 0
    field = next(one for one in fields if one.name == "lactate")
    shards = sorted((made.folder / "hospitals").iterdir())
    values = [x for path in shards for x in first_of_each(path, "lactate", "patient")]
    exact = field.counted(field.of_numbers(np.array(values)))
    shown = found.counts.cells[field.key]
    ends = np.flatnonzero(shown)
    assert (np.abs(np.cumsum(exact) - np.cumsum(shown))[ends[:-1]] <= LEAST / 2).all()
    assert abs(exact.sum() - shown.sum()) <= LEAST / 2
    # one hospital's unit is wrong by 38.67 times, from its tenth row on
    small = made.folder / "hospitals" / "St. Mary's.csv"
    task = make_task(made.config())
    own = Counts.of(fields, columns_of(task, task.load(small), folder.schema))
    rows = list(csv.reader(small.read_text("utf-8").splitlines()))
    at = rows[0].index("lactate")
    with open(small, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            rows[:10] + [[*r[:at], f"{float(r[at]) * 38.67:.2f}", *r[at + 1 :]] for r in rows[10:]]
        )
    now = Counts.of(fields, columns_of(task, task.load(small), folder.schema))
    drifted = {one.field.name for one in compare(own, now) if one.drifted}
    reference = f"procedure.reference={json.dumps(str(before[0]))}"
    later = analyse(made.config(MASKED, *asked, reference, runs=tmp_path / "later")).run_directory
    told = json.loads((later / "monitoring.json").read_text())["compared"]
    summed = {one["name"] for one in told if one["drifted"]}
    assert (drifted, summed) == ({"lactate"}, set())
    assert "Beside the reference" in (later / "report.html").read_text()
    with pytest.raises(ConfigError, match="'monitor' gives exact sums"):
        private = ("privacy.unit='example'", "privacy.epsilon=8.0")
        analyse(made.config(PLAIN, *asked, *private, runs=tmp_path))
    with pytest.raises(ConfigError, match=r"procedure\.reference"):
        wrong = f"procedure.reference={json.dumps(str(run))}"
        analyse(made.config(PLAIN, *asked, wrong, runs=tmp_path))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(3, 7))
def test_a_place_that_isnt_shown_may_hold_anything_under_k(cells: list[int], least: int) -> None:
    shown = shown_counts(np.array(cells), least)
    assert (shown >= 0).all() and not (shown % least).any()
    if not shown.any():
        return
    ends = np.flatnonzero(shown)
    off = np.cumsum(cells) - np.cumsum(shown)
    assert (np.abs(off[ends[:-1]]) <= least / 2).all() and abs(off[-1]) <= least / 2
    # whoever knows the number of all rows: other cells with the same total show the same
    for place in np.flatnonzero(shown == 0):
        lot = np.flatnonzero(ends > place)
        start = ends[lot[0] - 1] + 1 if lot.size and lot[0] else 0
        for held in range(least):
            other = np.array(cells)
            if lot.size:  # within a lot the place that fills it gives or takes
                end = ends[lot[0]]
                total = other[start : end + 1].sum()
                if lot[0] == len(ends) - 1:
                    total = other[start:].sum()
                    other[end + 1 :] = 0
                other[start:end] = 0
                other[place], other[end] = held, total - held
            else:
                begin = ends[-2] + 1 if len(ends) > 1 else 0
                total = other[begin:].sum()
                other[begin:] = 0
                other[place], other[ends[-1]] = held, total - held
            assert other.sum() == sum(cells)
            assert shown_counts(other, least).tolist() == shown.tolist()
