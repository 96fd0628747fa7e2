"""Everything that one study publishes of the same rows, and what linear programming makes of it."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

from tests.common.procedures.statistics.unlike import asked

LEVELS = {"arm": ["a", "b"], "stage": ["1", "2", "3"], "died": ["no", "yes"]}
SETTINGS = (
    "[task.columns]\ncategorical = ['arm', 'stage', 'died']\n[task.columns.categories]\n"
    + "\n".join(f"{name} = {levels}" for name, levels in LEVELS.items())
)
ANALYSES = [
    {"name": "all", "kind": "summary", "categories": [*LEVELS]},
    {"name": "by", "kind": "summary", "categories": ["stage"], "by": "died"},
    {"name": "two", "kind": "crosstab", "rows": "arm", "columns": "died"},
    {"name": "three", "kind": "crosstab", "rows": "arm", "columns": "stage"},
    {"name": "first", "kind": "table_one", "categories": ["stage", "died"], "by": "arm"},
]
SIZES = [len(levels) + 1 for levels in LEVELS.values()]  # and the missing ones
EVERY = np.arange(int(np.prod(SIZES))).reshape(SIZES)


def people(seed: int, rows: int) -> list[pd.DataFrame]:
    """Of one hospital, and a small one with no death; some values are missing, some cells small."""
    rng = np.random.default_rng(seed)
    found = []
    for count in (rows - 7, 7):
        arm = rng.choice(["a", "b"], count)
        stage = rng.choice(["1", "2", "3"], count, p=[0.7, 0.25, 0.05])
        died = np.where(rng.random(count) < np.where(stage == "3", 0.3, 0.05), "yes", "no")
        frame = pd.DataFrame(dict(arm=arm, stage=stage, died="no" if count == 7 else died))
        found.append(frame.mask(rng.random(frame.shape) < 0.01))
    return found


def places(**levels: str) -> np.ndarray:
    """The cells of all columns together that have these levels."""
    where = [slice(None)] * len(SIZES)
    for name, level in levels.items():
        known = [*LEVELS[name], "missing"]
        where[[*LEVELS].index(name)] = known.index(level) if level in known else slice(0, 0)
    return EVERY[tuple(where)].ravel()


def published(analyses) -> list[tuple[np.ndarray, object]]:
    """Cells, and what is published of their rows."""
    found = []
    tables = {(one["name"], table["name"]): table for one in analyses for table in one["tables"]}
    for name, by in (("all", None), ("by", "died")):
        for column, group, level, count, _ in tables[name, "categories"]["rows"]:
            of = {column: level} | ({by: group} if by else {})
            found.append((places(**of), count))
    for name, columns in (("two", "died"), ("three", "stage")):
        table = tables[name, ""]
        for line in table["rows"]:
            for level, count in zip(table["head"][1:], line[1:], strict=True):
                of = {"arm": line[0], columns: level}
                of = {key: value for key, value in of.items() if value != "all"}
                if of:
                    found.append((places(**of), count))
    table = tables["first", ""]
    for column, level, *line in table["rows"]:
        for group, count in zip(table["head"][2:-2], line, strict=False):
            of = {"arm": group} | ({column: level} if column != "n" else {})
            number = count.split(" (")[0] if isinstance(count, str) else count
            found.append((places(**of), int(number) if str(number).isdigit() else number))
    return found


def bounds(known, aim: np.ndarray, rows: int, least: int) -> tuple[float, float]:
    """The least and the most that the cells of ``aim`` can be together."""
    lines, limits = [], []
    for cells, count in known:
        low, high = {f"< {least}": (0, least - 1), "not shown": (0, rows)}.get(
            str(count), (None, None)
        )
        if low is None:
            low, high = count - least // 2, count + (least - 1) // 2
        line = np.zeros(EVERY.size)
        line[cells] = 1.0
        lines += [line, -line]
        limits += [high, -low]
    goal = np.zeros(EVERY.size)
    goal[aim] = 1.0
    ends = [
        linprog(sign * goal, lines, limits, [np.ones(EVERY.size)], [rows]) for sign in (1.0, -1.0)
    ]
    assert all(end.status == 0 for end in ends)
    return float(ends[0].fun), -float(ends[1].fun)


@pytest.mark.parametrize("seed", range(4))
def test_no_small_cell_of_any_two_columns_is_pinned(seed):
    frames = people(seed, 150 + 61 * seed)
    rows = pd.concat(frames).fillna("missing")
    files = asked(frames, *ANALYSES, settings=SETTINGS)
    known, small = published(json.loads(files["statistics.json"])["analyses"]), 0
    assert len(known) > 40
    names = [*LEVELS]
    for first, second in [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]:
        for (one, two), part in rows.groupby([first, second]):
            if len(part) < 5:
                small += 1
                low, high = bounds(known, places(**{first: one, second: two}), len(rows), 5)
                anything = low <= 1 + 1e-7 and high >= min(len(part) + 1, 4) - 1e-7
                assert anything or (high >= 5 and high - low >= 4), (one, two)  # may be a large one
    assert small > 3
