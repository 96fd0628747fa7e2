"""Statistics over hospitals beside the named libraries on the same rows together.

    python -m benchmarks.statistics [--quick] [--json PATH]

Each family is a function of the hospitals' frames and of ``Ask``, which runs ``analyse`` plain and
masked, stops where the two don't publish the same bytes, and gives what was published. A row is the
largest difference from a library's figures; its limit is what the documents promise. Hospitals are
unlike: made-up ones with ties, gaps, a group that one lacks, one of 33 rows without an event, one
of a single row; Fed-TCGA-BRCA's six regions. ``--quick`` leaves out the real data.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from lifelines import CoxPHFitter, KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import median_survival_times, restricted_mean_survival_time
from statsmodels.duration.hazard_regression import PHReg

from benchmarks.flamby_data import tcga_brca
from benchmarks.report import Row, arguments, emit
from benchmarks.statistics_counts import counts
from benchmarks.statistics_regression import regressions
from wardround.common.config.load import parse_config
from wardround.simulations import analyse

Frames = Mapping[str, pd.DataFrame]
Found = dict[str, dict[str, Any]]
Difference = tuple[str, float, float | None, str]
"""Of which figure, how large, its limit, from which library."""
Ask = Callable[..., Found]
"""Analyses, as ``[[procedure.analyses]]`` has them -> what was published of each, by its name."""


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    warnings.simplefilter("ignore")  # of lifelines' and statsmodels' own calls
    rows = list[Row]()
    data = {"made up": made_up()} | ({} if options.quick else {"Fed-TCGA-BRCA": brca()})
    for case, frames in data.items():
        with tempfile.TemporaryDirectory() as place:
            ask = asker(frames, Path(place))
            for family in FAMILIES:
                rows += [row(case, *one) for one in family(frames, ask)]
    emit("Largest difference from a library on all rows; plain and masked", rows, options.json)


def row(case: str, metric: str, value: float, limit: float | None, library: str) -> Row:
    """A largest difference. ``limit``: of the documents; None where the result says it itself."""
    return Row(f"{case}: {library}", metric, value, "lower", limit=limit)


# --- hospitals -----------------------------------------------------------------------------------
def made_up() -> dict[str, pd.DataFrame]:
    """Columns age, dose, arm, time, event; arm C at one hospital alone; gaps in time."""
    draw, found = np.random.default_rng(20), dict[str, pd.DataFrame]()
    for place, count in enumerate((900, 33, 400, 1)):
        arm = draw.choice(["A", "B", "C"] if place == 2 else ["A", "B"], count)
        age = draw.normal(60 + 4 * place, 11, count).round(1)
        dose = draw.exponential(3.0, count).round(2)
        rate = np.exp(0.02 * (age - 60) + 0.5 * (arm == "B") - 0.05 * dose) / 300
        time, lost = np.ceil(draw.exponential(1 / rate)), np.ceil(draw.uniform(1, 900, count))
        event = (time <= lost).astype(float) * (place != 1)
        time = np.minimum(time, lost)
        time[draw.random(count) < 0.02] = np.nan
        frame = {"age": age, "dose": dose, "arm": arm, "time": time, "event": event}
        found[f"hospital-{place}"] = pd.DataFrame(frame)
    return found


def brca() -> dict[str, pd.DataFrame]:
    """The same columns: dose is how many nodes' classes a tumour is beyond the first, arm whether
    it is of stage IIA."""
    found = {}
    for name, rows in tcga_brca().items():
        raw = pd.DataFrame(rows)
        number = raw.drop(columns="split").astype(float)
        nodes = number.filter(like="ajcc_pathologic_n_").sum(axis=1)
        stage = np.where(number["ajcc_pathologic_stage_Stage IIA"] > 0, "IIA", "other")
        frame = {"age": number["age_at_index"], "dose": nodes, "arm": stage}
        found[name] = pd.DataFrame(frame | {"time": number["T"], "event": number["E"]})
    return found


def asker(frames: Frames, place: Path) -> Ask:
    """Asks hospitals that have these rows, plain and masked."""
    (place / "hospitals").mkdir()
    for name, frame in frames.items():
        frame.to_csv(place / "hospitals" / f"{name}.csv", index=False)

    def ask(*analyses: Mapping[str, Any]) -> Found:
        asked = {"procedure": {"name": "statistics", "analyses": [dict(one) for one in analyses]}}
        texts = []
        for masked in ("false", "true"):
            text = SETTINGS.format(masked=masked, count=len(frames)) + tomli_w.dumps(asked)
            run = analyse(parse_config(text, path=place / "federation.toml"))
            texts.append((run.run_directory / "statistics.json").read_bytes())
        if texts[0] != texts[1]:
            sys.exit("masked sums gave other bytes than plain ones")
        return run.statistics

    return ask


SETTINGS = """
[federation]
name = "statistics"
min_clients = {count}
[data]
path = "hospitals"
[simulation]
partition = "sites"
[secure_aggregation]
enabled = {masked}
"""


# --- survival ------------------------------------------------------------------------------------
def survival(frames: Frames, ask: Ask) -> Iterable[Difference]:
    """Kaplan-Meier, Nelson-Aalen, medians, restricted means, log-rank; Cox in four ways."""
    pooled = pd.concat([one.assign(hospital=name) for name, one in frames.items()])
    pooled = pooled.dropna().reset_index(drop=True)
    times = {"time": "time", "event": "event"}
    curves = times | {"kind": "kaplan_meier", "by": "arm", "restricted_mean": 300.0}
    cox = times | {"kind": "cox", "formula": "age + dose + C(arm)"}
    all_rows = {"risk_sets": "pooled", "merged": False}
    found = ask(
        curves | {"name": "exact", "exact": True},
        curves | {"name": "shown"},
        *(
            cox | {"name": f"{ties} {sets}", "ties": ties} | (all_rows if sets == "pooled" else {})
            for ties in ("efron", "breslow")
            for sets in ("pooled", "hospital")
        ),
    )
    yield from _curves(found["exact"], pooled, 1e-12, "")
    yield from _curves(found["shown"], pooled, None, ", as shown by default")
    for ties in ("efron", "breslow"):
        for sets in ("pooled", "hospital"):
            yield from _cox(found[f"{ties} {sets}"], pooled, ties, sets)


def _curves(
    found: Mapping[str, Any], pooled: pd.DataFrame, limit: float | None, how: str
) -> Iterable[Difference]:
    off: dict[str, list[float]] = {name: [] for name in ("S", "band", "H", "median", "mean")}
    summary = {one[0]: one for one in found["tables"][0]["rows"]}
    for line in found["values"]["curves"]:
        own = pooled[pooled.arm == line["group"]]
        km = KaplanMeierFitter().fit(own.time, own.event)
        na = NelsonAalenFitter().fit(own.time, own.event)
        at = np.array(line["time"])
        place = np.searchsorted(km.timeline, at, side="right") - 1
        band = km.confidence_interval_.to_numpy()[place]
        off["S"].append(_apart(line["survival"], km.survival_function_.to_numpy()[place, 0]))
        off["band"].append(_apart(np.c_[line["lower"], line["upper"]], band))
        off["H"].append(_apart(line["hazard"], na.cumulative_hazard_.to_numpy()[place, 0]))
        _, _, _, *median, mean = summary[line["group"]][:7]
        ends = median_survival_times(km.confidence_interval_).to_numpy()[0]
        theirs = np.array([km.median_survival_time_, *ends])
        here = np.array([np.inf if one is None else one for one in median], float)
        both = np.isfinite(here) & np.isfinite(theirs)
        off["median"].append(_apart(here[both], theirs[both]) if both.any() else 0.0)
        if mean is not None:
            off["mean"].append(abs(mean / restricted_mean_survival_time(km, t=300.0) - 1))
    names = {"S": "Kaplan-Meier", "band": "its band", "H": "Nelson-Aalen", "median": "median, days"}
    for key, values in off.items():
        name = names.get(key, "restricted mean, relative")
        yield f"{name}{how}", max(values, default=0.0), limit, "lifelines"
    shown = pooled[pooled.arm.isin([one["group"] for one in found["values"]["curves"]])]
    test = multivariate_logrank_test(shown.time, shown.arm, shown.event)
    if "log_rank" in found["values"]:
        chi = found["values"]["log_rank"]["statistic"]
        off_by = abs(chi / test.test_statistic - 1)
        yield f"log-rank, relative{how}", off_by, limit and 1e-11, "lifelines"


def _cox(
    found: Mapping[str, Any], pooled: pd.DataFrame, ties: str, sets: str
) -> Iterable[Difference]:
    columns = pd.get_dummies(pooled[["age", "dose", "arm"]], drop_first=True, dtype=float)
    strata = pooled.hospital if sets == "hospital" else None
    model = PHReg(pooled.time, columns, pooled.event, ties=ties, strata=strata)
    at = np.asarray(model.fit(disp=0).params)
    for _ in range(3):  # it stops sooner than 1e-9 itself
        at = at - np.linalg.solve(model.hessian(at), model.score(at))
    errors = np.sqrt(np.diag(np.linalg.inv(-model.hessian(at))))
    of = found["values"]["coefficients"].values()
    here = np.array([[one["estimate"], one["standard_error"]] for one in of])
    how = f"Cox, {ties}, {sets}"
    yield f"{how}: coefficients", _apart(here[:, 0], at), 1e-9, "statsmodels"
    yield f"{how}: standard errors", _apart(here[:, 1], errors), 1e-9, "statsmodels"
    if ties == "efron":
        table = columns.join(pooled[["time", "event", "hospital"]])
        own = {"strata": ["hospital"]} if sets == "hospital" else {}
        table = table if own else table.drop(columns="hospital")
        options = {"precision": 1e-12}
        fit = CoxPHFitter().fit(table, "time", "event", fit_options=options, **own)
        likelihood = found["values"]["fit"]["log-likelihood"]
        off_by = abs(likelihood / fit.log_likelihood_ - 1)
        yield f"{how}: log-likelihood, relative", off_by, 1e-9, "lifelines"


def _apart(here: Any, there: Any) -> float:
    return float(np.abs(np.asarray(here, float) - np.asarray(there, float)).max())


FAMILIES: tuple[Callable[[Frames, Ask], Iterable[Difference]], ...] = (
    counts,
    survival,
    regressions,
)

if __name__ == "__main__":
    main()
