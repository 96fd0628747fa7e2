"""Regressions on columns at several parties, beside pooled ones and each party alone.

    python -m benchmarks.vertical [--quick] [--json PATH]

All parties and the dealer take their turns in this process, one after the other, without transport:
between machines they work at the same time. Seconds are of all of them together; bytes are what the
busiest party sends, and what the dealer does. The pooled model is statsmodels' of all columns.

drawn   10 + 10 columns, normal, at two parties; a two-valued outcome at the second
heart   Fed-Heart-Disease's four hospitals as one: what a clinic asks and sees, and blood and ECG
        at a laboratory; the clinic has the outcome
brca    Fed-TCGA-BRCA: death within the time that was seen, as logistic regression; who persons are
        at a registry, which has the outcome, stages at a clinic

AUC is on the rows that the model is of (``drawn``), or of rows left out in 5 parts. A column that
is left out for its counts is in the pooled model, so that this is part of the difference.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import statsmodels.api as sm
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from benchmarks.flamby_data import heart_disease, tcga_brca
from benchmarks.report import Row, arguments, emit
from tests.common.vertical.consortium import Consortium
from tests.common.vertical.table import DEALER
from wardround.common.vertical.told import TOLD

RIDGE = 1e-3
"""Of all models on real data: some of their parts have columns that tell the outcome."""
CLINIC = ("age", "sex", "cp", "trestbps", "exang")
LABORATORY = ("chol", "fbs", "restecg", "thalach", "oldpeak")
CATEGORIES = ("cp", "restecg")
REGISTRY = ("race", "ethnicity")
STAGES = ("ajcc_pathologic_n", "ajcc_pathologic_stage", "ajcc_pathologic_t")
Columns = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Found:
    """Of a run: coefficients of columns, seconds, MB of the busiest party and of the dealer."""

    intercept: float
    coefficients: Mapping[str, float]
    seconds: float
    party_mb: float
    dealer_mb: float
    steps: int


def regress(parties: Columns, outcome: tuple[str, Any], **options: Any) -> Found:
    """A run of all parties in this process."""
    levels = {
        name: sorted(set(values.tolist()))
        for columns in parties.values()
        for name, values in columns.items()
        if values.dtype.kind == "U"
    }
    group = Consortium(parties, outcome, levels, {"padded": 1000} | options)
    began = time.perf_counter()
    last, sent = group.run()
    seconds = time.perf_counter() - began
    sizes: Counter[str] = Counter()
    for letters in sent:
        for (sender, _), text in letters.items():
            sizes[sender] += len(text)
    told = json.loads(last[outcome[0]].told[TOLD])
    dealer = sizes.pop(DEALER) / 1e6
    found = {one["column"]: one["coefficient"] for one in told["coefficients"]}
    busiest = max(sizes.values()) / 1e6
    return Found(told["intercept"], found, seconds, busiest, dealer, len(sent))


def drawn(rows: int) -> list[Row]:
    """Normal columns, as many as rows."""
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, 20))
    eta = x @ (random.normal(size=20) * 0.35) - 0.5
    y = (random.random(rows) < 1 / (1 + np.exp(-eta))).astype(float)
    parties = {
        name: {f"{name}{place}": x[:, place] for place in places}
        for name, places in (("a", range(10)), ("b", range(10, 20)))
    }
    found = regress(parties, ("b", y))
    mine = np.array(list(found.coefficients.values()))
    began = time.perf_counter()
    pooled = sm.Logit(y, sm.add_constant(x)).fit(disp=0).params
    seconds = time.perf_counter() - began
    alone = sm.Logit(y, sm.add_constant(x[:, 10:])).fit(disp=0).params
    case = f"drawn, {rows:,} x 20"
    peers = {
        "pooled": roc_auc_score(y, x @ pooled[1:]),
        "holder alone": roc_auc_score(y, x[:, 10:] @ alone[1:]),
    }
    return [
        Row(case, "AUC", roc_auc_score(y, x @ mine), "higher", peers),
        Row(case, "largest difference of a coefficient", abs(mine - pooled[1:]).max(), "lower"),
        Row(case, "seconds", found.seconds, "lower", {"pooled": seconds}, 30.0),
        Row(case, "MB, a party", found.party_mb, "lower"),
        Row(case, "MB, the dealer", found.dealer_mb, "lower"),
        Row(case, "steps", found.steps, "lower"),
    ]


def expanded(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, and an indicator of each text of a category but the first."""
    found = {}
    for name, values in columns.items():
        if values.dtype.kind != "U":
            found[name] = values
            continue
        for text in sorted(set(values.tolist()))[1:]:
            found[f"{name}={text}"] = (values == text).astype(float)
    return found


def scores(coefficients: Mapping[str, float], columns: Mapping[str, Any]) -> Any:
    """The linear predictor."""
    return sum((value * columns[name] for name, value in coefficients.items()), np.zeros(1))


def penalised(columns: Mapping[str, Any], y: Any) -> Mapping[str, float]:
    """The pooled model, with the same penalty: Newton's steps on standardised columns."""
    names = [name for name in columns if np.ptp(columns[name]) > 0]
    x = np.column_stack([columns[name] for name in names])
    scale = x.std(axis=0)
    z = sm.add_constant((x - x.mean(axis=0)) / scale, has_constant="add")
    penalty, point = RIDGE * np.r_[0, np.ones(len(names))], np.zeros(len(names) + 1)
    for _ in range(50):
        mean = 1 / (1 + np.exp(-z @ point))
        slope = z.T @ (y - mean) / len(y) - penalty * point
        curvature = (z.T * (mean * (1 - mean))) @ z / len(y) + np.diag(penalty)
        point = point + np.clip(np.linalg.solve(curvature, slope), -1, 1)
    return dict(zip(names, point[1:] / scale, strict=True))


def real(case: str, parties: Columns, holder: str, y: Any) -> list[Row]:
    """Cross-validated in 5 parts."""
    every = {name: one for columns in parties.values() for name, one in expanded(columns).items()}
    out: dict[str, Any] = {name: np.zeros(len(y)) for name in ("vertical", "pooled", *parties)}
    runs, worst = [], 0.0
    for rows, rest in StratifiedKFold(5, shuffle=True, random_state=0).split(y, y):
        part = {
            name: {column: values[rows] for column, values in columns.items()}
            for name, columns in parties.items()
        }
        found = regress(part, (holder, y[rows]), ridge=RIDGE, smallest_cell=5)
        runs.append(found)
        held = {name: values[rest] for name, values in every.items()}
        pooled = penalised({name: one[rows] for name, one in every.items()}, y[rows])
        out["vertical"][rest] = scores(found.coefficients, held)
        out["pooled"][rest] = scores(pooled, held)
        for name, columns in part.items():
            out[name][rest] = scores(penalised(expanded(columns), y[rows]), held)
        kept = {name: every[name][rows] for name in found.coefficients}
        same = penalised(kept, y[rows])
        deviations = {name: values.std() for name, values in kept.items()}
        gaps = [abs(found.coefficients[name] - same[name]) * deviations[name] for name in same]
        worst = max(worst, *gaps)
    auc = {name: roc_auc_score(y, values) for name, values in out.items()}
    peers = {"pooled": auc["pooled"]} | {
        "holder alone" if name == holder else "other alone": auc[name] for name in parties
    }
    columns = [len(run.coefficients) for run in runs]
    seconds = float(np.median([run.seconds for run in runs]))
    return [
        Row(case, "AUC", auc["vertical"], "higher", peers),
        Row(case, "columns kept, fewest", min(columns), "higher", {"pooled": float(len(every))}),
        Row(case, "largest difference of a coefficient, same columns", worst, "lower"),
        Row(case, "seconds", seconds, "lower"),
        Row(case, "MB, a party", runs[0].party_mb, "lower"),
    ]


def heart() -> list[Row]:
    """Fed-Heart-Disease, split by columns."""
    rows = [row for part in heart_disease().values() for row in part]
    parties = {
        party: {
            name: numbers.astype(np.int64).astype(str) if name in CATEGORIES else numbers
            for name in names
            for numbers in [np.array([float(row[name]) for row in rows])]
        }
        for party, names in (("clinic", CLINIC), ("laboratory", LABORATORY))
    }
    y = np.array([float(row["disease"]) for row in rows])
    return real("heart", parties, "clinic", y)


def brca() -> list[Row]:
    """Fed-TCGA-BRCA, split by columns; its indicators are categories again."""
    rows = [row for part in tcga_brca().values() for row in part]

    def category(name: str) -> Any:
        texts = np.full(len(rows), " other", dtype="U64")
        for column in (one for one in rows[0] if one.startswith(f"{name}_")):
            here = np.array([float(row[column]) for row in rows]) == 1
            texts[here] = column.removeprefix(f"{name}_")
        return texts

    age = np.array([float(row["age_at_index"]) for row in rows])
    registry = {"age": age} | {name: category(name) for name in REGISTRY}
    parties = {"clinic": {name: category(name) for name in STAGES}, "registry": registry}
    return real("brca", parties, "registry", np.array([float(row["E"]) for row in rows]))


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows = drawn(10_000)
    if not options.quick:
        rows += drawn(100_000)
    rows += heart() + brca()
    emit("regressions of columns at several parties", rows, options.json)


if __name__ == "__main__":
    main()
