"""What a watch finds, and how often it is wrong: ``common/drift`` on rows with known faults.

    python -m benchmarks.drift [--quick] [--json PATH]

Two populations without end: rows of Fed-Heart-Disease (920 rows of four hospitals: numbers, two
values, categories, many gaps) and of breast cancer (569 rows, 30 inputs that go together), drawn
with replacement, numbers moved by a tenth of a deviation. Each is scored by a model that a
federation of 10 rounds trained. Reference and windows are drawn alike; 500 rows make a reference.
``PSI over 0.2``: the usual rule on the same windows, any field. A fault is put into every window;
'found' is the share of windows with an alarm.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Row, arguments, emit
from wardround.common.drift.compare import compare, psi
from wardround.common.drift.counts import Column, Counts
from wardround.common.drift.field import Field, fields_of
from wardround.common.drift.scoring import Scored
from wardround.common.monitor.watch import score
from wardround.common.predict.load import load_model
from wardround.common.predict.predictor import Predictor
from wardround.common.tasks.data.table import Table
from wardround.simulations import simulate

POOL, REFERENCE, REFERENCES = 60_000, 500, 10
SIZES, FAULTY = (50, 200, 1000), (50, 100, 200)
_HEART = """
[federation]
name = "heart"
rounds = 10
[task]
positive = ["1", "2", "3", "4"]
[task.columns]
target = "disease"
numeric = ["age", "trestbps", "chol", "thalach", "oldpeak"]
binary = ["sex", "fbs", "exang"]
categorical = ["cp", "restecg", "slope"]
categories = { cp = ["1", "2", "3", "4"], restecg = ["0", "1", "2"], slope = ["1", "2", "3"] }
[simulation]
partition = "sites"
baselines = false
[data]
path = "sites"
"""
_COLUMNS = (
    "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal disease".split()
)
_WHOLE = {"sex", "cp", "fbs", "restecg", "exang", "slope", "disease"}
Changed = Callable[[Table, np.random.Generator], Table]


class Rows:
    """A population of rows, a model of them, and all rows scored once."""

    def __init__(self, predictor: Predictor, rows: Table) -> None:
        self.predictor, self.rows = predictor, rows
        self.schema = predictor.schema
        self.fields = fields_of(self.schema)
        self.scored = score(predictor, rows)

    def window(self, generator: np.random.Generator, n: int, found: Scored | None = None) -> Counts:
        """Counts of n rows at random, of the population or of ``found``."""
        scored = self.scored if found is None else found
        return scored.counts(self.fields, self.schema, generator.integers(0, scored.rows, n))

    def changed(self, column: str, values: NDArray[Any]) -> Scored:
        """The population with another column."""
        data = self.rows.data
        place = data.column_names.index(column)
        made = Table.of({column: _cells(values)}, Path("made")).data.column(0)
        return score(
            self.predictor,
            replace(self.rows, data=data.set_column(place, column, made), _coded={}),
        )

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column's numbers."""
        return self.rows.numbers(column)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    windows = 100 if options.quick else 1000
    rows: list[Row] = []
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            populations = {"heart": heart(Path(folder)), "cancer": cancer()}
        finally:
            os.chdir(here)
    for name, population in populations.items():
        rows += clean(name, population, windows)
    rows += unlucky("cancer", populations["cancer"], windows // 20, 100)
    rows += faults(populations["heart"], windows // 5)
    rows += one_of_many()
    emit("Drift: what is found, and false alarms", rows, options.json)


# --- no drift -------------------------------------------------------------------------------------
def clean(name: str, population: Rows, windows: int) -> list[Row]:
    """False alarms, percent of windows, each with a reference of its own."""
    found = []
    for n in SIZES:
        alarms = usual = 0
        for which in range(windows):
            generator = np.random.default_rng([n, which])
            reference = population.window(generator, REFERENCE)
            seen = compare(reference, population.window(generator, n))
            alarms += any(one.drifted for one in seen)
            usual += any(one.psi > 0.2 for one in seen)
        peers = {"PSI over 0.2": 100 * usual / windows}
        case = f"{name}, {windows:,} clean windows of {n:,}"
        found.append(Row(case, "false alarms, %", 100 * alarms / windows, "lower", peers, 1.0))
    return found


def unlucky(name: str, population: Rows, references: int, windows: int) -> list[Row]:
    """A hospital has one reference: of so many, how many raise more than one false alarm in 100
    windows of 200 rows, and the most of any."""
    shares = []
    for which in range(references):
        generator = np.random.default_rng([which, 5])
        reference = population.window(generator, REFERENCE)
        alarms = sum(
            any(one.drifted for one in compare(reference, population.window(generator, 200)))
            for _ in range(windows)
        )
        shares.append(100 * alarms / windows)
    case = f"{name}, {references} references, {windows} windows of 200 each"
    over = 100 * float(np.mean(np.array(shares) > 1.0))
    return [
        Row(case, "references with over 1 %, %", over, "lower"),
        Row(case, "false alarms of the worst, %", max(shares), "lower"),
    ]


# --- with faults ----------------------------------------------------------------------------------
def faults(heart: Rows, windows: int) -> list[Row]:
    """Windows with an alarm, percent, by fault and size."""
    generator = np.random.default_rng(7)
    total = len(heart.rows)
    cp = np.array(heart.rows.categories("cp"), dtype=object)
    new = {}
    for share in (0.1, 0.2):
        changed = cp.copy()
        changed[generator.random(total) < share] = "9"
        new[share] = changed
    kinds: dict[str, Scored] = {
        "unit: chol / 38.67": heart.changed("chol", heart.numbers("chol") / 38.67),
        "unit: age x 10": heart.changed("age", heart.numbers("age") * 10),
        "unit: trestbps / 7.5": heart.changed("trestbps", heart.numbers("trestbps") / 7.5),
        "unit: chol / 38.67, a third of rows": heart.changed(
            "chol",
            heart.numbers("chol") / np.where(generator.random(total) < 1 / 3, 38.67, 1.0),
        ),
        "missing: thalach": heart.changed("thalach", np.full(total, np.nan)),
        "missing: exang": heart.changed("exang", np.full(total, None, dtype=object)),
        "new category in 10 %": heart.changed("cp", new[0.1]),
        "new category in 20 %": heart.changed("cp", new[0.2]),
    }
    found = [_found(heart, name, scored, windows) for name, scored in kinds.items()]
    for share in (0.8, 0.3):
        for known in (True, False):
            outcomes = "outcomes known" if known else "scores alone"
            name = f"label shift, 55 % to {share:.0%}, {outcomes}"
            found.append(_found(heart, name, _shifted(heart, share, known, generator), windows))
    return [row for rows in found for row in rows]


def _found(heart: Rows, name: str, scored: Scored, windows: int) -> list[Row]:
    rows = []
    for n in FAULTY:
        alarms = 0
        for which in range(REFERENCES):
            generator = np.random.default_rng([n, which, 1])
            reference = heart.window(generator, REFERENCE)
            for _ in range(windows // REFERENCES):
                seen = compare(reference, heart.window(generator, n, scored))
                alarms += any(one.drifted for one in seen)
        made = windows // REFERENCES * REFERENCES
        rows.append(Row(name, f"found in {n} rows, %", 100 * alarms / made, "higher"))
    return rows


def _shifted(heart: Rows, share: float, known: bool, generator: np.random.Generator) -> Scored:
    """As many rows, of which ``share`` are ill."""
    key = Field("outcome", "disease").key
    truth = heart.scored.columns[key].values
    ill, well = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)
    ones = int(share * POOL)
    rows = np.concatenate([generator.choice(ill, ones), generator.choice(well, POOL - ones)])
    columns = {
        one: column
        for one, column in heart.scored.select(rows.astype(np.int64)).items()
        if known or one != key
    }
    return Scored(columns, POOL, ())


# --- at home and in the sum -----------------------------------------------------------------------
def one_of_many() -> list[Row]:
    """A unit error at one hospital: creatinine in mg/dl instead of umol/l; 200 rows each."""
    field = Field("input", "creatinine", tuple(np.exp(4.4 + 0.4 * np.linspace(-2.5, 2.5, 21))))
    generator = np.random.default_rng(0)

    def of(values: NDArray[np.float64]) -> Counts:
        return Counts.of([field], {field.key: Column(values)})

    def drawn(n: int) -> NDArray[np.float64]:
        return np.exp(generator.normal(4.4, 0.4, n))

    reference, rows = of(drawn(40_000)), list[Row]()
    for hospitals in (8, 50):
        parts = [of(drawn(200)) for _ in range(hospitals - 1)]
        wrong = of(drawn(200) / 88.4)
        total = wrong
        for part in parts:
            total = total + part
        for where, counts in (("at home", wrong), ("in the sum", total)):
            cells = reference.cells[field.key], counts.cells[field.key]
            (seen,) = compare(reference, counts)
            case = f"unit error at one of {hospitals}, {where}"
            rows.append(Row(case, "PSI", psi(*cells), "higher", {}, 0.2))
            rows.append(Row(case, "alarm", float(seen.drifted), "higher"))
    return rows


# --- populations ----------------------------------------------------------------------------------
def heart(folder: Path) -> Rows:
    """Fed-Heart-Disease; DataError where it isn't there."""
    data = Path(os.environ.get("WARDROUND_DATA", Path(__file__).parents[2] / "shared" / "data"))
    lines: list[list[str]] = []
    (folder / "sites").mkdir()
    for site in ("cleveland", "hungarian", "switzerland", "va"):
        text = (data / "heart_disease" / f"processed.{site}.data").read_text()
        own = [line.split(",") for line in text.split()]
        own = [[_tidy(name, cell) for name, cell in zip(_COLUMNS, one, strict=True)] for one in own]
        lines += own
        body = "\n".join(",".join(one) for one in own)
        (folder / "sites" / f"{site}.csv").write_text(",".join(_COLUMNS) + "\n" + body + "\n")
    (folder / "heart.toml").write_text(_HEART)
    result = simulate(folder / "heart.toml")
    columns = {
        name: np.array([one[at] for one in lines], dtype=object)
        for at, name in enumerate(_COLUMNS)
        if name not in ("ca", "thal")
    }
    return Rows(load_model(result.run_directory), drawn(columns, _WHOLE))


def _tidy(name: str, cell: str) -> str:
    cell = "" if cell in ("?", "-9", "-9.0") else cell
    return str(int(float(cell))) if cell and name in _WHOLE else cell


def cancer() -> Rows:
    """Breast cancer data and the built-in example's model."""
    result = simulate(overrides=["federation.rounds=10", "simulation.baselines=false"])
    predictor = load_model(result.run_directory)
    table = predictor.task.load(None)
    columns = {
        name: np.array(table.data.column(name).to_pylist(), dtype=object) for name in table.columns
    }
    return Rows(predictor, drawn(columns, {"malignant"}))


def drawn(columns: dict[str, NDArray[Any]], whole: set[str]) -> Table:
    """Rows drawn with replacement; what isn't ``whole`` is moved by a tenth of its deviation."""
    generator = np.random.default_rng(3)
    rows = generator.integers(0, len(next(iter(columns.values()))), POOL)
    made: dict[str, list[Any]] = {}
    for name, values in columns.items():
        if name in whole:
            made[name] = [str(cell) if cell != "" else None for cell in values[rows]]
            continue
        numbers = np.array([float(cell) if cell != "" else np.nan for cell in values])
        off = 0.1 * np.nanstd(numbers) * generator.normal(size=POOL)
        made[name] = _cells(numbers[rows] + off)
    return Table.of(made, Path("made"))


def _cells(values: NDArray[Any]) -> list[Any]:
    """As cells of a table: None where there is no number."""
    return [None if value is None or value != value else value for value in values.tolist()]


if __name__ == "__main__":
    main()
