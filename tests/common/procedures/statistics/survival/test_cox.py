"""Proportional hazards over unlike hospitals are those of statsmodels and lifelines on all rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from lifelines.statistics import proportional_hazard_test
from statsmodels.duration.hazard_regression import PHReg

from tests.common.procedures.statistics.unlike import asked
from tests.common.procedures.statistics.unlike import hospitals as all_of_them
from wardround.common.errors import TaskError
from wardround.common.procedures.statistics.regression.newton import search
from wardround.common.procedures.statistics.survival import cox, partial
from wardround.common.procedures.statistics.survival.partial import Times

pytestmark = pytest.mark.filterwarnings(
    "ignore:Starting with pandas", "ignore:.*converge", "ignore:The 'retall'"
)
ASKED = {
    "name": "cox",
    "kind": "cox",
    "time": "time",
    "event": "event",
    "formula": "age + dose + C(stage)",
}
POOLED = {"risk_sets": "pooled", "merged": False}


def hospitals() -> list[pd.DataFrame]:
    return all_of_them(rows=(120, 33, 90, 1))


def values(frames: list[pd.DataFrame], **options: Any) -> dict[str, Any]:
    files = asked(frames, ASKED | options)
    return json.loads(files["statistics.json"])["analyses"][0]


def estimates(found: dict[str, Any]) -> np.ndarray:
    of = found["values"]["coefficients"].values()
    return np.array([[one["estimate"], one["standard_error"], one["p"]] for one in of])


def pooled(frames: list[pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = pd.concat([one.assign(hospital=place) for place, one in enumerate(frames)])
    rows = rows[rows.time >= 0].reset_index(drop=True)
    columns = pd.get_dummies(rows[["age", "dose", "stage"]], drop_first=True, dtype=float)
    return rows, columns


def reference(rows: pd.DataFrame, columns: pd.DataFrame, **options: Any) -> np.ndarray:
    """Coefficients, errors, p of statsmodels, after a Newton step more than it takes itself."""
    model = PHReg(rows.time, columns, rows.event, **options)
    at = np.asarray(model.fit(disp=0).params)
    for _ in range(3):
        at = at - np.linalg.solve(model.hessian(at), model.score(at))
    found = model.fit(start_params=at, disp=0, maxiter=0)
    return np.c_[at, np.sqrt(np.diag(np.linalg.inv(-model.hessian(at)))), found.pvalues]


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("sets", ["pooled", "hospital"])
def test_equals_statsmodels(ties: str, sets: str) -> None:
    frames = hospitals()
    frames[0].loc[:9, "time"] = np.nan
    rows, columns = pooled(frames)
    strata = rows.hospital if sets == "hospital" else None
    found = values(frames, ties=ties, **(POOLED if sets == "pooled" else {}))
    there = reference(rows, columns, ties=ties, strata=strata)
    np.testing.assert_allclose(estimates(found)[:, :2], there[:, :2], atol=1e-9)
    np.testing.assert_allclose(estimates(found)[:, 2], there[:, 2], atol=1e-6)
    assert [plot["type"] for plot in found["plots"]] == ["forest"]


@pytest.mark.parametrize("sets", ["pooled", "hospital"])
def test_fit_and_test_of_the_model_are_those_of_lifelines(sets: str) -> None:
    frames = hospitals()
    rows, columns = pooled(frames)
    found = values(frames, **(POOLED if sets == "pooled" else {}))
    table = columns.join(rows[["time", "event", "hospital"]])
    strata = ["hospital"] if sets == "hospital" else None
    table = table if strata else table.drop(columns="hospital")
    fitted = CoxPHFitter().fit(
        table, "time", "event", strata=strata, fit_options={"precision": 1e-12}
    )
    fit = found["values"]["fit"]
    assert fit["log-likelihood"] == pytest.approx(fitted.log_likelihood_, rel=1e-12)
    ratio = fitted.log_likelihood_ratio_test()
    assert fit["likelihood ratio"] == pytest.approx(ratio.test_statistic, rel=1e-8)
    assert fit["p of the likelihood ratio"] == pytest.approx(ratio.p_value, rel=1e-6)
    if strata:
        concordance = fit["concordance within hospitals"]
        assert concordance == pytest.approx(fitted.concordance_index_, rel=1e-12)
    test = proportional_hazard_test(fitted, table, time_transform="identity")
    chances = list(found["values"]["proportional_hazards"].values())
    np.testing.assert_allclose(chances, test.p_value, rtol=1e-4)


def test_many_ties_on_a_coarse_grid() -> None:
    frames = hospitals()
    rows, columns = pooled(frames)
    rows["time"] = np.ceil(rows.time / 90)
    found = values(frames, grid=90, **POOLED)
    there = reference(rows, columns, ties="efron")
    np.testing.assert_allclose(estimates(found)[:, :2], there[:, :2], atol=1e-9)


def test_merged_times_have_events_of_no_few_persons() -> None:
    frames = hospitals()
    rows, columns = pooled(frames)
    found = values(frames, risk_sets="pooled")
    ends = np.array([0.0, *found["values"]["times"]])
    counted, _ = np.histogram(rows.time[rows.event == 1], ends + 0.5)
    assert (counted >= 5).all() and counted.sum() == rows.event.sum()
    place = np.searchsorted(ends, rows.time)
    rows["time"] = np.where(
        rows.time <= ends[-1], ends[np.minimum(place, len(ends) - 1)], rows.time
    )
    there = reference(rows, columns, ties="efron")
    np.testing.assert_allclose(estimates(found)[:, :2], there[:, :2], atol=1e-9)


@pytest.mark.parametrize("sets", ["pooled", "hospital"])
def test_late_entries(sets: str) -> None:
    frames, draw = hospitals(), np.random.default_rng(1)
    for frame in frames:
        frame["came"] = np.floor(draw.random(len(frame)) * frame.time) + 0.5  # on no event's day
    rows, columns = pooled(frames)
    strata = rows.hospital if sets == "hospital" else None
    there = reference(rows, columns, ties="efron", entry=rows.came, strata=strata)
    found = values(frames, entry="came", **(POOLED if sets == "pooled" else {}))
    np.testing.assert_allclose(estimates(found)[:, :2], there[:, :2], atol=1e-9)
    assert "concordance within hospitals" not in found["values"]["fit"]


def test_a_level_without_an_event_ends_in_a_sentence() -> None:
    frames = hospitals()
    for frame in frames:
        frame.loc[frame.stage == "C", "event"] = 0
    found = values(frames, formula="C(stage)", risk_sets="pooled")
    assert found["tables"] == []
    assert "that of C(stage)[T.C] grows without end" in found["notes"][-1]


def test_a_column_that_follows_from_others_has_no_coefficient() -> None:
    frames = [frame.assign(double=2 * frame.dose) for frame in hospitals()]
    found = values(frames, formula="dose + double")
    coefficients = found["values"]["coefficients"]
    assert coefficients["double"]["estimate"] is None
    assert coefficients["dose"]["estimate"] is not None
    assert "No coefficient, as other columns give theirs: double." in found["notes"]


def test_few_events_or_too_many_numbers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = hospitals()
    for frame in frames:
        frame["event"] = 0
    frames[0].loc[:2, "event"] = 1
    assert "Fewer than 5 persons" in values(frames)["notes"][-1]
    monkeypatch.setattr(cox, "MOST_NUMBERS", 1_000)
    assert "ask with a larger grid than 1" in values(hospitals(), **POOLED)["notes"][-1]


def test_times_are_merged_by_persons_and_the_last_run_takes_the_rest() -> None:
    events = np.array([0, 4, 0, 2, 3, 0, 2, 1], float)
    found = Times.of(events, events, 5)
    assert found.ends.tolist() == [3, 7] and found.events.tolist() == [6, 6]
    people = np.array([0, 1, 0, 2, 3, 0, 0, 0], float)
    assert Times.of(events, people, 5).ends.tolist() == [7]
    places = np.array([0, 1, 4, 9])
    assert found.ends_of(places).tolist() == [3, 3, 7, 9]


def test_totals_that_no_rows_have_are_refused() -> None:
    """A server that lies can't make a hospital count to a billion, or go on with no number."""
    for events in (np.zeros(4), np.array([0, 1e9, 0]), np.array([1.0, np.nan])):
        with pytest.raises(TaskError, match="no rows have"):
            Times.of(events, events, 5)
    at, covered = np.zeros(1), np.zeros(1)
    risk = np.array([[-3.0, 1.0, 1.0]])
    point = partial.point(partial.parts(risk, risk, np.ones(1), 1, True), covered, at)
    with pytest.raises(TaskError, match="no rows have"):
        search(at, [point], 10.0, False)


def test_it_is_the_same_however_many_rows_are_worked_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = np.random.default_rng(2)
    z, stop = draw.normal(size=(300, 3)), np.ceil(draw.exponential(9, 300))
    event = (draw.random(300) < 0.6).astype(float)
    times = np.unique(stop[event == 1])
    spans = partial.Spans.of(times, np.floor(stop / 2) - 1, stop, event)
    found = []
    for block in (2**21, 40):
        monkeypatch.setattr(partial, "BLOCK", block)
        own, _ = partial.own_parts(z, np.full(3, 0.2), times, spans, efron=True)
        found.append(partial.point(own, z[event == 1].sum(0), np.full(3, 0.2)))
    for name, values_ in found[0].items():
        np.testing.assert_allclose(found[1][name], values_, rtol=1e-11)
