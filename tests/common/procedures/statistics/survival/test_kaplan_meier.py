"""Curves over unlike hospitals are those of lifelines on their rows together."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import restricted_mean_survival_time

from tests.common.procedures.statistics.unlike import asked, hospitals
from wardround.common.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:Starting with pandas")
ASKED = {"name": "km", "kind": "kaplan_meier", "time": "time", "event": "event", "by": "stage"}


def values(files: dict[str, str]) -> dict:
    return json.loads(files["statistics.json"])["analyses"][0]


def lines(found: dict) -> dict[str, dict]:
    return {one["group"]: one for one in found["values"]["curves"]}


def frames_with_gaps() -> list[pd.DataFrame]:
    frames = hospitals()
    frames[0].loc[:20, "time"] = np.nan
    frames[2].loc[:7, "time"] = -1.0
    return frames


def test_exact_values_are_those_of_lifelines() -> None:
    frames = frames_with_gaps()
    files = asked(frames, ASKED | {"exact": True, "restricted_mean": 300})
    pooled = pd.concat(frames)
    pooled = pooled[pooled.time >= 0]
    found = values(files)
    curves = lines(found)
    assert sorted(curves) == ["A", "B", "C"]  # C is at one hospital alone
    for place, name in enumerate("ABC"):
        own, line = pooled[pooled.stage == name], curves[name]
        km = KaplanMeierFitter().fit(own.time, own.event)
        at = km.survival_function_at_times(line["time"]).to_numpy()
        np.testing.assert_allclose(line["survival"], at, atol=1e-12)
        limits = km.confidence_interval_survival_function_
        there = limits.iloc[np.searchsorted(limits.index, line["time"], side="right") - 1]
        np.testing.assert_allclose(np.c_[line["lower"], line["upper"]], there, atol=1e-12)
        row = found["tables"][0]["rows"][place]
        assert row[0] == name and row[3] == km.median_survival_time_
        assert row[6] == pytest.approx(restricted_mean_survival_time(km, t=300), rel=1e-12)
        assert all(count % 5 == 0 for count in (row[1], row[2], *line["at_risk"]))
    test = multivariate_logrank_test(pooled.time, pooled.stage, pooled.event)
    assert found["values"]["log_rank"]["statistic"] == pytest.approx(test.test_statistic, rel=1e-11)
    assert found["values"]["log_rank"]["p"] == pytest.approx(test.p_value, rel=1e-9)
    assert [plot["type"] for plot in found["plots"]] == ["curves", "curves"]


def test_what_is_shown_lies_between_its_limits_to_its_last_decimal() -> None:
    exact = lines(values(asked(hospitals(), ASKED | {"exact": True})))
    found = values(asked(hospitals(), ASKED))
    for name, line in lines(found).items():
        there = np.array(exact[name]["survival"])
        assert line["time"] == exact[name]["time"]
        last = np.array([10.0 ** -len(str(one).split(".")[1]) for one in line["survival"]])
        assert (np.array(line["least"]) <= there + last).all()
        assert (there <= np.array(line["survival"]) + last).all()
        assert (last[1:] >= 1e-4).all() and np.diff(line["survival"]).max() <= 0
    assert found["values"]["log_rank"]["statistic"] == pytest.approx(25.92)  # not of steps


@pytest.mark.parametrize("grid", [100.0, 400.0])
def test_on_a_coarse_grid_everything_follows_from_the_steps(grid: float) -> None:
    """Rows that are moved to the ends of their steps give the same bytes, down to the last digit
    of each figure: so that no figure tells more than the steps."""
    frames = hospitals()
    question = ASKED | {"grid": grid}
    first = asked(frames, question)
    curves = lines(values(first))
    for frame in frames:
        for name, line in curves.items():
            own = frame.stage == name
            ends = np.array([*line["time"], np.inf])
            place = np.searchsorted(ends, np.ceil(frame.time / grid) * grid)
            to = ends[place]
            frame.loc[own & np.isfinite(to), "time"] = to[own & np.isfinite(to)]
    again = asked(frames, question)
    assert again == first


def test_few_events_and_few_rows_beside_a_curve_are_not_shown() -> None:
    frames = hospitals()
    for frame in frames:
        frame.loc[frame.stage == "C", "event"] = 0
    found = values(asked(frames, ASKED))
    assert sorted(lines(found)) == ["A", "B"]
    assert found["tables"][0]["rows"][2][:3] == ["C", "not shown", "not shown"]
    # of three rows in C: A is kept back, else all rows less A and B are these three
    for frame in frames:
        frame["stage"] = np.where(frame.stage == "C", "B", frame.stage)
    frames[2].loc[:2, "stage"] = "C"
    question = {"smallest_cell": 5}
    settings = '[task.columns]\ncategorical = ["stage"]\ncategories = {stage = ["A", "B", "C"]}'
    found = values(asked(frames, ASKED, settings=settings))
    assert sorted(lines(found)) == ["B"], question


def test_nobody_is_shown_of_few() -> None:
    found = values(asked(hospitals(rows=(2, 1, 1)), {k: v for k, v in ASKED.items() if k != "by"}))
    assert found["tables"] == [] and found["plots"] == []


def test_steps_are_of_persons_where_patients_are_named() -> None:
    """Each row ten times over: ten stays of a patient are one person, so steps are those of one."""
    question = {key: value for key, value in ASKED.items() if key != "by"}
    once = [frame.assign(patient=[f"p{n}" for n in range(len(frame))]) for frame in hospitals()]
    stays = [pd.concat([frame] * 10) for frame in once]
    settings = '[task.columns]\npatient_id = "patient"'
    one, ten, rows = (
        lines(values(asked(frames, question, settings=text)))["all"]["time"]
        for frames, text in ((once, settings), (stays, settings), (stays, ""))
    )
    assert len(one) - 3 <= len(ten) <= len(one) < len(rows)


def test_a_horizon_ends_what_is_seen() -> None:
    frames = hospitals()
    found = lines(values(asked(frames, ASKED | {"exact": True, "horizon": 365, "by": "sex"})))
    pooled = pd.concat(frames)
    for name, line in found.items():
        own = pooled[pooled.sex == name]
        km = KaplanMeierFitter().fit(own.time.clip(upper=365), own.event * (own.time <= 365))
        at = km.survival_function_at_times(line["time"]).to_numpy()
        np.testing.assert_allclose(line["survival"], at, atol=1e-12)
        assert line["time"][-1] <= 365


def test_times_that_need_too_fine_a_grid_are_told_in_a_sentence() -> None:
    found = values(asked(hospitals(), ASKED | {"grid": 0.001}))
    assert "ask with grid = " in found["notes"][0] and found["tables"] == []


def test_with_privacy_a_horizon_is_asked_for() -> None:
    settings = "[privacy]\nepsilon = 1.0\nunit = 'example'"
    with pytest.raises(ConfigError, match="give it a horizon"):
        asked(hospitals(), {k: v for k, v in ASKED.items() if k != "by"}, settings=settings)
