"""A unit trains or is held out: what a run costs is the dearer of its sides."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.privacy.entries import HELD_OUT, TRAINS, Entry, Limit, Spent
from wardround.client.privacy.ledger import Ledger
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import Release, epsilon

DELTA = 1e-5
WHOSE = {HELD_OUT: {"validation", "test"}}


def entry(side: str, run: str, *releases: Release) -> Entry:
    where = f"{side} {run}" if side else ""
    return Entry("f", run, 1, 0, "ab", "", "example", 1.0, releases, False, side=where)


def of(*releases: Release) -> float:
    return epsilon(releases, DELTA)


spendings = st.lists(
    st.tuples(
        st.sampled_from(["", TRAINS, HELD_OUT, "validation", "test"]),
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from([3.0, 7.0]),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=30, deadline=None)
@given(spendings)
def test_the_worst_unit_is_the_worst_choice_of_sides(found: list[tuple[str, str, float]]) -> None:
    spent = Spent(entry(side, run, Release(z)) for side, run, z in found)
    runs = sorted({run for _, run, _ in found})
    worst = max(
        of(
            *(
                Release(z)
                for side, run, z in found
                if not side or dict(zip(runs, parts, strict=True))[run] in WHOSE.get(side, {side})
            )
        )
        for parts in itertools.product((TRAINS, "validation", "test"), repeat=len(runs))
    )
    assert spent.epsilon("example", DELTA) == pytest.approx(worst, rel=1e-12)
    assert spent.copy().epsilon("example", DELTA) == spent.epsilon("example", DELTA)


def test_with_many_runs_what_is_older_counts_on_both_sides() -> None:
    """Never too little: each run's own sides differ, so no two of them are alike."""
    runs = range(12)
    both = [(Release(5.0 + run), Release(30.0 - run)) for run in runs]
    spent = Spent(
        entry(side, str(run), one)
        for run in runs
        for side, one in zip((TRAINS, HELD_OUT), both[run], strict=True)
    )
    dearer = of(*(min(pair, key=lambda one: one.noise_multiplier) for pair in both))
    all_of_it = of(*itertools.chain(*both))
    assert dearer <= spent.epsilon("example", DELTA) <= all_of_it


def test_a_limit_is_held_on_each_side_and_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, one = tmp_path / "ledger.sqlite", Release(4.0)
    limit = Limit(of(one, one) + 1e-9, DELTA, "example")
    with Ledger.create(path, "h") as ledger:
        for side in (TRAINS, HELD_OUT):
            for _ in range(2):
                ledger.spend(entry(side, "r", one), limit)
        for side in (TRAINS, HELD_OUT, ""):
            with pytest.raises(PrivacyRefused, match="its limit is"):
                ledger.spend(entry(side, "r", one), limit)
        with pytest.raises(PrivacyRefused):  # of another run nobody knows the side
            ledger.spend(entry(HELD_OUT, "r2", one), limit)
    with Ledger.open(path, "h") as ledger:
        assert ledger.spent(DELTA, "example") == pytest.approx(of(one, one))
        assert [x.side for x in ledger.entries()] == ["train r"] * 2 + ["held-out r"] * 2
