"""Records become rows as plain Python would do it, record by record."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.sources import records as module
from wardround.client.sources.records import UNKNOWN, Patients, Records, Told, answer, rows_of
from wardround.client.sources.units import Units
from wardround.common.settings.cohort import CohortIndex, CohortTable, CohortVariable

DAY0 = date(2024, 1, 1).toordinal()
NAMES = ["b", "a", "Z", "é", "10", "9", "\U0001f600", "\uffff"]
EVENT = st.tuples(st.integers(0, 7), st.integers(0, 9))
RECORD = st.tuples(
    st.integers(0, 7), st.integers(-3, 12), st.integers(0, 2), st.sampled_from([0.1, 0.2, 0.3, 7.0])
)


def patients() -> Patients:
    found = Patients()
    for number, name in enumerate(NAMES):
        born = UNKNOWN if number == 3 else date(1990 + 5 * number, 1, 4).toordinal()
        found.add(name, born, None, (UNKNOWN, UNKNOWN))
    return found


def by_hand(take: str, found: list[tuple[int, int, float]]) -> Any:
    """Of the records in a window, as (day, hour, value)."""
    if take == "count":
        return len(found)
    if take == "any":
        return int(bool(found))
    if not found:
        return None
    values = [one[2] for one in found]
    if take == "mean":
        return float(sum(map(Fraction, values), Fraction(0))) / len(values)
    if take in ("min", "max"):
        return min(values) if take == "min" else max(values)
    moments = [one[:2] for one in found]
    moment = min(moments) if take == "first" else max(moments)
    return max(one[2] for one in found if one[:2] == moment)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(EVENT, max_size=25),
    st.lists(RECORD, max_size=40),
    st.sampled_from(["first", "last", "each"]),
    st.sampled_from(["last", "first", "min", "max", "mean", "count", "any"]),
    st.integers(-4, 2),
    st.integers(0, 4),
)
def test_rows_and_cells_are_those_of_plain_python(
    events: list[tuple[int, int]],
    some: list[tuple[int, int, int, float]],
    rows: str,
    take: str,
    low: int,
    width: int,
) -> None:
    counted = take in ("count", "any")
    one = CohortVariable(
        of="visit" if counted else "measurement",
        concepts=[] if counted else ["LOINC:1-1"],
        window_days=[low, low + width],
        take=take,  # type: ignore[arg-type]
        unit=None if counted else "1",
    )
    index = CohortIndex(
        event="visit",
        take=rows,
        age_years=[0, 23],
        earliest="2024-01-02",
        latest="2024-01-09",  # type: ignore[arg-type]
    )
    cohort, who, told = CohortTable(index=index, variables={"x": one}), patients(), Told()
    indexed, kept = Records(), Records()
    for patient, day in events:
        indexed.add(patient, DAY0 + day, DAY0 + day, 0)
    for patient, day, hour, value in some:
        kept.add(patient, DAY0 + day, DAY0 + day, 24 * day + hour, value)
    expected = []
    for name in sorted(NAMES, key=lambda text: text.encode()):
        patient = NAMES.index(name)
        days = sorted({day for other, day in events if other == patient and 1 <= day <= 8})
        days = [day for day in days if by_birthdays(patient, day)]
        days = {"first": days[:1], "last": days[-1:], "each": days}[rows]
        for day in days:
            inside = [r[1:] for r in some if r[0] == patient and low <= r[1] - day <= low + width]
            expected.append((name, date.fromordinal(DAY0 + day), by_hand(take, inside)))
    found = rows_of(index, indexed.columns(), who, told)
    table = answer(cohort, found, who, {"x": kept}, told, cohort.columns)
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


def by_birthdays(patient: int, day: int) -> bool:
    """Whether who is born on 4 January is at most 23 on the (day+1)th January 2024."""
    if patient == 3:
        return False
    years = 2024 - (1990 + 5 * patient) - (day + 1 < 4)
    return 0 <= years <= 23


def test_chunks_of_pairs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    who, told = patients(), Told()
    events, kept = Records(), Records()
    for day in range(20):
        for patient in range(8):
            events.add(patient, DAY0 + day, DAY0 + day, 0)
            kept.add(patient, DAY0 + day, DAY0 + day, day, float(day * patient))
    one = CohortVariable(of="measurement", concepts=["LOINC:1-1"], window_days=[-3, 1], unit="1")
    cohort = CohortTable(index=CohortIndex(event="visit", take="each"), variables={"x": one})
    rows = rows_of(cohort.index, events.columns(), who, told)
    whole = answer(cohort, rows, who, {"x": kept}, told, cohort.columns)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 30)
    assert answer(cohort, rows, who, {"x": kept}, told, cohort.columns).equals(whole)
    assert len(whole) == 160


@pytest.mark.parametrize("window", [(0, 3), (2, 5), (-2, 0)])
def test_a_death_counts_where_every_day_that_it_may_be_of_says_the_same(
    window: tuple[int, int],
) -> None:
    """Known to the day or to some days; who may have died within and without has no answer."""
    spans = [(a, b) for a in range(-4, 8) for b in range(a, 8)]
    found, rows = Patients(), Records()
    for number, (a, b) in enumerate([*spans, (UNKNOWN - DAY0, UNKNOWN - DAY0)]):
        patient = found.add(f"{number:03}", UNKNOWN, None, (DAY0 + a, DAY0 + b))
        rows.add(patient, DAY0, DAY0, 0, 0.0)
    cohort = CohortTable(
        index=CohortIndex(event="visit", concepts=["ENCOUNTER:IMP"]),
        variables={"died": CohortVariable(of="death", window_days=list(window))},
    )
    told = Told()
    made = rows_of(cohort.index, rows.columns(), found, told)
    column = answer(cohort, made, found, {}, told, ["died"])["died"].to_pylist()
    within = [{window[0] <= day <= window[1] for day in range(a, b + 1)} for a, b in spans]
    assert column == [*(int(one.pop()) if len(one) == 1 else None for one in within), 0]


def test_a_unit_with_another_zero_is_converted_with_it() -> None:
    one = CohortVariable(
        of="observation", concepts=["LOINC:8310-5"], window_days=[0, 1], unit="Cel"
    )
    units = Units(one, {})
    assert units.value(212, "[degF]") == pytest.approx(100)
    assert units.value(37, "Cel") == 37
