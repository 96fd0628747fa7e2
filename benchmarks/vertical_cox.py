"""Cox regression of columns at several parties, beside the pooled one and each party alone.

    python -m benchmarks.vertical_cox [--quick] [--json PATH]

All parties and the dealer take their turns in this process, one after the other, without transport.
Seconds are the processor's, of all of them together; bytes are what the busiest party sends, and
the dealer.

drawn   10 + 10 columns, normal, at two parties, coefficients of 0.3 a deviation and more; and 9
        columns at three. The pooled model is statsmodels', by Efron's ties
brca    Fed-TCGA-BRCA by columns: age, ethnicity and race at a registry, which has time and event;
        stages and the tumour's kind at a clinic. Harrell's c-index of rows left out in 5 parts; the
        pooled model is lifelines' of the same penalty, of all columns; coefficients are compared on
        all rows, those of the same columns
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lifelines import CoxPHFitter
from lifelines.utils import concordance_index
from pandas import DataFrame
from sklearn.model_selection import StratifiedKFold
from statsmodels.duration.hazard_regression import PHReg

from benchmarks.flamby_data import tcga_brca
from benchmarks.report import Row, arguments, emit
from tests.common.vertical.consortium import Consortium
from tests.common.vertical.table import DEALER
from wardround.common.vertical.told import TOLD

RIDGE = 0.01
"""Of all models of real data: columns of its parts nearly determine each other."""
REGISTRY = ("age_at_index", "ethnicity_not hispanic", "race_black", "race_white")
CLINIC = (
    "ajcc_pathologic_stage_Stage I",
    "ajcc_pathologic_n_N1",
    "ajcc_pathologic_t_T",
    "morphology_8520/3",
    "treatment_or_therapy_yes",
)
Columns = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Found:
    """Of a run: what was told, seconds, and MB that the busiest party and the dealer send."""

    told: Mapping[str, Any]
    seconds: float
    party_mb: float
    dealer_mb: float

    @property
    def coefficients(self) -> dict[str, float]:
        """By column."""
        return {one["column"]: one["coefficient"] for one in self.told["coefficients"]}

    @property
    def points(self) -> int:
        """At which slope or curvature was opened."""
        return int(self.told["gradients_opened"]) + 2


def regress(parties: Columns, holder: str, survival: Any, **options: Any) -> Found:
    """A run of all parties in this process. survival : (n, 2), time and event."""
    given = {"model": "cox", "padded": 1000} | options
    group = Consortium(parties, (holder, survival), options=given)
    began = time.process_time()
    last, sent = group.run()
    seconds = time.process_time() - began
    sizes: Counter[str] = Counter()
    for letters in sent:
        for (sender, _), text in letters.items():
            sizes[sender] += len(text)
    dealer = sizes.pop(DEALER) / 1e6
    told = json.loads(last[holder].told[TOLD])
    return Found(told, seconds, max(sizes.values()) / 1e6, dealer)


def drawn(rows: int, widths: tuple[int, ...], intervals: int = 20) -> list[Row]:
    """Normal columns of as many parties as ``widths``."""
    random = np.random.default_rng(1)
    x = random.normal(size=(rows, sum(widths)))
    hazard = np.exp(x @ (random.normal(size=sum(widths)) * 0.3))
    time_s, until = random.exponential(1 / hazard), random.exponential(1, rows)
    survival = np.stack([np.minimum(time_s, until), (time_s <= until).astype(float)], axis=1)
    ends, parties = np.cumsum([0, *widths]), {}
    for name, start, end in zip("abcde", ends, ends[1:], strict=False):
        parties[name] = {f"{name}{place}": x[:, place] for place in range(start, end)}
    found = regress(parties, "a", survival, intervals=intervals)
    mine = np.array(list(found.coefficients.values()))
    began = time.process_time()
    pooled = PHReg(survival[:, 0], x, status=survival[:, 1], ties="efron").fit(disp=0)
    seconds = time.process_time() - began
    errors = np.array([one["standard_error"] for one in found.told["coefficients"]])
    case = f"drawn, {rows:,} x {sum(widths)}, {len(widths)} parties, {intervals} intervals"
    apart = np.abs(mine - pooled.params)
    return [
        Row(case, "largest difference of a coefficient", apart.max(), "lower", {}, 0.02),
        Row(case, "the same in standard errors", (apart / pooled.bse).max(), "lower"),
        Row(case, "largest ratio of standard errors", np.abs(errors / pooled.bse).max(), "lower"),
        Row(case, "seconds", found.seconds, "lower", {"pooled": seconds}, 30.0),
        Row(case, "seconds, a point", found.seconds / found.points, "lower"),
        Row(case, "MB, a party", found.party_mb, "lower"),
        Row(case, "MB, the dealer", found.dealer_mb, "lower"),
    ]


def pooled(columns: Mapping[str, Any], survival: Any) -> dict[str, float]:
    """lifelines' model of columns that vary, in their own units."""
    names = [name for name in columns if np.ptp(columns[name]) > 0]
    scale = {name: float(columns[name].std()) for name in names}
    table = DataFrame({name: columns[name] / scale[name] for name in names})
    table = table.assign(time=survival[:, 0], event=survival[:, 1])
    found = CoxPHFitter(penalizer=RIDGE).fit(table, "time", "event").params_
    return {name: float(found[name]) / scale[name] for name in names}


def scores(coefficients: Mapping[str, float], columns: Mapping[str, Any]) -> Any:
    """The linear predictor."""
    return sum((value * columns[name] for name, value in coefficients.items()), np.zeros(1))


def brca() -> list[Row]:
    """Fed-TCGA-BRCA, split by columns."""
    rows = [row for part in tcga_brca().values() for row in part]

    def columns(beginnings: tuple[str, ...]) -> dict[str, Any]:
        names = [name for name in rows[0] if name.startswith(beginnings)]
        return {name: np.array([float(row[name]) for row in rows]) for name in names}

    parties = {"clinic": columns(CLINIC), "registry": columns(REGISTRY)}
    every = parties["clinic"] | parties["registry"]
    survival = np.array([[float(row["T"]), float(row["E"])] for row in rows])
    out = {name: np.zeros(len(rows)) for name in ("vertical", "pooled", *parties)}
    cut = StratifiedKFold(5, shuffle=True, random_state=0)
    for kept, rest in cut.split(survival, survival[:, 1]):
        part = {
            name: {column: values[kept] for column, values in own.items()}
            for name, own in parties.items()
        }
        models = {name: pooled(own, survival[kept]) for name, own in part.items()}
        models["pooled"] = pooled({name: one[kept] for name, one in every.items()}, survival[kept])
        models["vertical"] = regress(part, "registry", survival[kept], ridge=RIDGE).coefficients
        held = {name: values[rest] for name, values in every.items()}
        for name, model in models.items():
            out[name][rest] = scores(model, held)
    index = {
        name: concordance_index(survival[:, 0], -values, survival[:, 1])
        for name, values in out.items()
    }
    found = regress(parties, "registry", survival, ridge=RIDGE)
    same = pooled({name: every[name] for name in found.coefficients}, survival)
    apart = [abs(found.coefficients[name] - same[name]) * every[name].std() for name in same]
    largest = [abs(same[name]) * every[name].std() for name in same]
    peers = {
        "pooled": index["pooled"],
        "holder alone": index["registry"],
        "other alone": index["clinic"],
    }
    case = f"brca, {len(rows)} persons, {int(survival[:, 1].sum())} events"
    return [
        Row(case, "c-index, rows left out", index["vertical"], "higher", peers),
        Row(case, "columns kept", len(same), "higher", {"pooled": float(len(every))}),
        Row(case, "largest difference, a deviation's", max(apart), "lower", {}, 0.02),
        Row(case, "largest coefficient, a deviation's", max(largest), "higher"),
        Row(case, "points", found.points, "lower"),
        Row(case, "seconds, a point", found.seconds / found.points, "lower"),
        Row(case, "MB, a party", found.party_mb, "lower"),
    ]


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows = drawn(10_000, (10, 10)) + drawn(10_000, (3, 3, 3)) + brca()
    if not options.quick:
        rows += drawn(10_000, (10, 10), 50) + drawn(100_000, (10, 10))
    emit("Cox regressions of columns at several parties", rows, options.json)


if __name__ == "__main__":
    main()
