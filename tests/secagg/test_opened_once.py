"""A hospital gives shares for one sum of a purpose and round, of one model: what that leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.secagg.driver import (
    CONTENT,
    LAYOUT,
    Federation,
    asked_for,
    finish,
    some_numbers,
    summing,
)
from wardround.client.secagg.asked import Asked, Step
from wardround.client.secagg.contributions import Contributions, Sum
from wardround.client.secagg.state import Memory
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.content import Digests
from wardround.common.secagg.graph import thresholds

RUN = "study-20260101-000000"


def brought(model: bytes = b"m", totals: bytes = b"t", extra: bytes = b"") -> Digests:
    records = {"arrays": model, "totals": totals} | ({"control": extra} if extra else {})
    return Digests(records, CONTENT)


def ask(
    kind: str, number: int, *splits: str, digests: Digests | None = None, first: bytes = b""
) -> Asked:
    usual = asked_for(_TASK)
    return replace(
        usual,
        step=Step(kind, number, splits),
        run=RUN,
        most_uploads=3,
        first_model=first,
        digests=lambda: digests or brought(),
    )


def _task() -> bytes:
    federation = Federation(3)
    return summing(federation.ready()).task.to_bytes()


_TASK = _task()


# --- the record of a run --------------------------------------------------------------------------
def test_a_step_is_opened_once_and_nothing_before_it_again() -> None:
    record = Contributions(RUN)
    record.upload(ask("statistics", 0))
    record.upload(ask("train", 1))
    record.upload(ask("train", 1))  # a second attempt
    record.open(["train 1"], b"one")
    record.open(["train 1"], b"one")  # asked again for the same
    for refused, why in (
        (lambda: record.open(["train 1"], b"two"), "has given shares for a sum of it"),
        (lambda: record.check(ask("train", 1)), "takes part in no other one"),
        (lambda: record.check(ask("statistics", 0)), "a later sum of the run"),
        (lambda: record.open(["statistics 0"], b"older"), "a later sum of the run"),
    ):
        with pytest.raises(ProtocolRefused, match=why):
            refused()
    record.upload(ask("evaluate", 1, "test", digests=brought(b"next")))
    record.upload(ask("train", 2, digests=brought(b"next")))
    record.open(["evaluate 1 test"], b"three")  # round 2 was begun, and not opened
    record.upload(ask("evaluate", 1, "validation", digests=brought(b"next")))
    with pytest.raises(ProtocolRefused, match="evaluate 1 test: .* no other one"):
        record.check(ask("evaluate", 1, "validation", "test"))


def test_attempts_are_counted_and_bring_the_same() -> None:
    record = Contributions(RUN)
    record.upload(ask("train", 4, digests=brought(extra=b"c")))
    for other in (brought(b"other", extra=b"c"), brought(extra=b"d"), brought(totals=b"u")):
        before = record.values()
        with pytest.raises(ProtocolRefused, match="others than in an earlier attempt"):
            record.upload(ask("train", 4, digests=other))
        assert record.values() == before
    for _ in range(2):
        record.upload(ask("train", 4, digests=brought(extra=b"c")))
    with pytest.raises(ProtocolRefused, match="3 times, as often as the accepted plan allows"):
        record.upload(ask("train", 4, digests=brought(extra=b"c")))


def test_the_model_of_a_round_is_one_and_the_totals_of_a_run() -> None:
    record = Contributions(RUN)
    with pytest.raises(ProtocolRefused, match="isn't the one of round 0 that the plan has"):
        record.upload(ask("train", 1, first=b"planned"))
    record.upload(ask("train", 1, digests=brought(b"planned"), first=b"planned"))
    record.upload(ask("evaluate", 1, "test", digests=brought(b"one")))
    for asked in (
        ask("train", 2, digests=brought(b"two")),
        ask("evaluate", 1, "validation", digests=brought(b"two")),
    ):
        with pytest.raises(ProtocolRefused, match="of round 1 that this hospital was shown"):
            record.upload(asked)
    with pytest.raises(ProtocolRefused, match="the preparation's totals are others"):
        record.upload(ask("train", 2, digests=brought(b"one", b"other totals")))
    record.upload(ask("train", 2, digests=brought(b"one")))
    record.upload(ask("train", 3, digests=brought(b"whatever round 2 left")))


def test_a_purpose_says_the_step_and_nothing_else() -> None:
    train, both = Step("train", 3), Step("evaluate", 3, ("test", "validation"))
    assert train.is_purpose("train 3") and both.is_purpose("evaluate 3")
    assert both.is_purpose("evaluate 3 test 2") and both.is_purpose("evaluate 3 0")
    for wrong in ("train 30", "train 3 1", "train", "", "evaluate 3", "train 3\n"):
        assert not train.is_purpose(wrong)
    for wrong in ("evaluate 3 train", "evaluate 4", "evaluate 3 test test", "evaluate 3\n"):
        assert not both.is_purpose(wrong)
    assert not Step("evaluate", 3, ("test",)).is_purpose("evaluate 3 validation 0")


texts = st.sampled_from(["statistics 0", "train 1", "train 2", "evaluate 2 test"])
digest_bytes = st.binary(max_size=32)
sums = st.builds(
    Sum,
    st.tuples(st.integers(0, 10), st.integers(0, 1)),
    st.integers(0, 9),
    digest_bytes,
    digest_bytes,
)


@given(
    st.builds(
        Contributions,
        st.text(max_size=9),
        st.tuples(st.integers(-1, 9), st.integers(-1, 1)),
        st.dictionaries(texts, sums, max_size=4),
        digest_bytes,
        st.dictionaries(st.integers(0, 9), digest_bytes, max_size=2),
    )
)
def test_what_is_stored_reads_back(record: Contributions) -> None:
    assert Contributions.of(record.values()) == record


# --- over the protocol ----------------------------------------------------------------------------
def test_over_sessions_groups_and_runs_the_record_stays() -> None:
    """The attack of the issue: the same round once more with another cohort, or another run's plan
    in between, opens nothing."""
    federation = Federation(4)

    def opened(purpose: str, run: str, absent: str = "") -> str:
        names = [name for name in federation.names if name != absent]
        federation.begin(absent=[absent])
        group = federation.form()
        masked = summing(group, purpose=purpose)
        numbers = some_numbers(names)
        kind, number = purpose.split()
        for name in names:
            data = masked.task.to_bytes()
            asked = replace(asked_for(data), step=Step(kind, int(number)), run=run)
            try:
                pending = federation[name].begin(data, LAYOUT, replace(asked, most_uploads=9))
                masked.add_upload(name, *finish(pending, numbers[name]))
            except ProtocolRefused as error:
                return str(error)
        federation.unmask(masked)
        masked.open()
        return ""

    assert opened("train 1", RUN) == ""
    assert "takes part in no other one" in opened("train 1", RUN, absent="h03")
    assert opened("train 1", "another run") == ""
    assert "takes part in no other one" in opened("train 1", RUN, absent="h00")
    assert opened("train 2", RUN) == ""
    assert "a later sum of the run" in opened("train 1", RUN)


def test_an_older_attempt_is_not_opened_after_a_newer_one() -> None:
    federation = Federation(3)
    group = federation.ready(count=2)
    asked = replace(asked_for(_TASK), run=RUN, most_uploads=2)
    numbers, attempts = some_numbers(group.names), []
    for _ in range(2):
        masked = summing(group)
        data = masked.task.to_bytes()
        for name in group.names:
            pending = federation[name].begin(data, LAYOUT, replace(asked, terms=asked.terms))
            masked.add_upload(name, *finish(pending, numbers[name]))
        attempts.append(masked.unmask_requests())
    federation["h00"].unmask(attempts[1]["h00"])
    with pytest.raises(ProtocolRefused):
        federation["h00"].unmask(attempts[0]["h00"])
    record = Memory(federation.hospitals["h00"].store).contributions(RUN)
    assert record.sums["train 1"].uploads == 2 and record.at == (1, 0)


# --- what several opened sums tell together -------------------------------------------------------
def subsets(items: tuple[int, ...], least: int) -> Iterator[tuple[int, ...]]:
    for size in range(least, len(items) + 1):
        yield from combinations(items, size)


def opened_sums(
    count: int, colluding: int, share: float, least: int
) -> list[tuple[frozenset[int], frozenset[int], int]]:
    """All (survivors, honest hospitals that gave shares, 2t - n - c) that a server may arrange
    among ``count`` hospitals, of whom the last ``colluding`` are its friends: any group that an
    honest hospital joins, any survivor set, and the fewest answers that open it."""
    found = []
    honest_all = range(count - colluding)
    for group in subsets(tuple(range(count)), max(2, least)):
        n, friends = len(group), sum(one not in honest_all for one in group)
        limits = thresholds(n, share)
        t = limits.threshold
        if 2 * t <= n + colluding:  # hospitals refuse the group
            continue
        for survivors in subsets(group, max(limits.survivors, least)):
            honest = [one for one in survivors if one in honest_all]
            for answered in combinations(honest, max(0, t - friends)):
                spare = 2 * t - n - friends
                found.append((frozenset(honest), frozenset(answered), spare))
    return found


@pytest.mark.parametrize(
    ("count", "colluding", "share"),
    [(5, 0, 0.667), (5, 0, 0.5), (5, 1, 0.667), (6, 0, 0.5), (6, 0, 0.667)],
)
def test_no_two_opened_sums_tell_of_fewer_than_the_bound(
    count: int, colluding: int, share: float
) -> None:
    """By exhaustion: with c colluding a combination of two sums has at least the sum over both of
    2 t - n - c honest hospitals in it, and never a single one; one sum has min_cohort - c."""
    every = opened_sums(count, colluding, share, least=3)
    assert every
    for (u, a, spare), (v, b, other) in combinations(every, 2):
        if a & b:
            continue  # who has given shares for one gives none for the other
        apart = len(u ^ v)
        if u == v:
            continue  # no news
        assert apart >= max(2, spare + other)
    # and it would not hold without the rule: two sums that differ by one hospital are easily had
    assert any(len(u ^ v) == 1 for (u, _, _), (v, _, _) in combinations(every, 2))


@given(st.data())
def test_no_combination_of_many_opened_sums_has_a_single_hospital(data: st.DataObject) -> None:
    """Drawn sequences of attempts over nine hospitals: Gaussian elimination finds no hospital by
    itself."""
    count = 9
    spent: set[int] = set()
    rows: list[list[int]] = []
    for _ in range(data.draw(st.integers(1, 6))):
        group = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=3)))
        t = thresholds(len(group), data.draw(st.sampled_from([0.5, 0.667, 0.8]))).threshold
        survivors = sorted(
            data.draw(st.sets(st.sampled_from(group), min_size=min(len(group), max(3, t))))
        )
        fresh = [one for one in survivors if one not in spent]
        if len(fresh) < t:
            continue
        spent |= set(data.draw(st.permutations(fresh))[:t])
        rows.append([int(one in survivors) for one in range(count)])
    for one in range(count):
        assert not solves(rows, one)


def solves(rows: list[list[int]], hospital: int) -> bool:
    """Whether the unit vector of a hospital is in the span of the rows."""

    def rank(matrix: list[list[int]]) -> int:
        left, found = [[Fraction(x) for x in row] for row in matrix], 0
        for column in range(len(matrix[0]) if matrix else 0):
            pivot = next((r for r in left if r[column]), None)
            if pivot is None:
                continue
            left.remove(pivot)
            left = [
                [x - r[column] / pivot[column] * y for x, y in zip(r, pivot, strict=True)]
                for r in left
            ]
            found += 1
        return found

    if not rows:
        return False
    unit = [int(one == hospital) for one in range(len(rows[0]))]
    return rank(rows) == rank([*rows, unit])


def test_the_elimination_finds_what_two_sums_tell() -> None:
    rows = [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert solves(rows, 3) and not solves(rows, 0) and not solves([], 0)
    assert solves([[1, 1, 0], [0, 1, 1], [1, 0, 1]], 0)
