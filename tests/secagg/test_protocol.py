"""Secure aggregation opens the plain sum of the survivors, bit for bit, or nothing at all."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.secagg.driver import (
    LAYOUT,
    Federation,
    Store,
    alone,
    finish,
    forged_unmask,
    integers,
    interpolated,
    is_plain_sum,
    plain_sum,
    some_numbers,
    start,
    stripped,
    summing,
)
from wardround.client.secagg.state import Policy
from wardround.client.state import ClientState
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.flower.arrays import ArraySpec
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import self_seeds
from wardround.common.secagg.encoding import OWN_NAMES, VectorLayout
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.common.secagg.ring import RingVector

STAYS, UPLOAD, GONE, LOST = "stays", "uploads nothing", "gone after upload", "answer lost"


def complete(t: int, survivors: int | None = None):
    """Thresholds of a complete graph of however many come."""
    return lambda n: Thresholds(n, n - 1, t, survivors or t)


# --- the sum --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    hospitals: int
    set_up: list[str]
    threshold: int
    survivors: int
    bits: int
    layout: VectorLayout
    rounds: list[list[str]]
    largest_weight: int
    seed: int


@st.composite
def cases(draw) -> Case:
    n = draw(st.integers(3, 9))
    usual = [STAYS] * 12
    step = st.sampled_from([*usual, "hello", "bundle", "accept"])
    set_up = draw(st.lists(step, min_size=n, max_size=n))
    if sum(step not in ("hello", "bundle") for step in set_up) < 2:
        set_up = [STAYS] * n
    members = sum(step not in ("hello", "bundle") for step in set_up)
    t = draw(st.integers(members // 2 + 1, members))
    shapes = draw(
        st.lists(st.sampled_from([(), (0,), (1,), (7,), (3, 5), (4, 11), (67,)]), max_size=3)
    )
    update = {
        f"u{i}": ArraySpec(shape, draw(st.sampled_from(["float32", "float64"])))
        for i, shape in enumerate(shapes)
    }
    exact = {
        f"e{i}": ArraySpec((size,), "float64")
        for i, size in enumerate(draw(st.lists(st.integers(0, 5), max_size=3)))
    }
    weighted = frozenset(name for name in update if draw(st.booleans()))
    one_round = st.lists(
        st.sampled_from([*[STAYS] * 5, UPLOAD, GONE, LOST]), min_size=n, max_size=n
    )
    return Case(
        n,
        set_up,
        t,
        draw(st.integers(t, members)),
        draw(st.sampled_from([16, 32])),
        VectorLayout.of(update, exact, weighted),
        draw(st.lists(one_round, min_size=1, max_size=3)),
        draw(st.sampled_from([1, 7, 10_000])),
        draw(st.integers(0, 2**32)),
    )


@settings(deadline=None, max_examples=30)
@given(cases())
def test_the_opened_sum_is_the_plain_sum_of_the_survivors_or_nothing_is_opened(case: Case) -> None:
    federation = Federation(case.hospitals, Policy(min_cohort=2))
    at = {
        step: {n for n, s in zip(federation.names, case.set_up, strict=True) if s == step}
        for step in ("hello", "bundle", "accept")
    }
    members = case.hospitals - len(at["hello"]) - len(at["bundle"])
    final = Thresholds(members, members - 1, case.threshold, case.survivors)
    final.check(0, 2)
    federation.begin(at["hello"])
    group = federation.form(
        lambda n: final if n == members else thresholds(n),
        len(case.rounds),
        silent=at["bundle"],
        deaf=at["accept"],
    )
    assert len(group.names) == members
    for number, steps in enumerate(case.rounds):
        does = dict(zip(federation.names, steps, strict=True))
        uploads = {n for n in group.accepted if does[n] != UPLOAD}
        answers = {n for n in uploads if does[n] == STAYS}
        numbers = some_numbers(group.names, case.layout, case.seed + number, case.largest_weight)

        def aggregate():
            return federation.aggregate(
                group,
                numbers,
                case.layout,
                absent=[n for n in group.names if does[n] == UPLOAD],
                gone=[n for n in group.names if does[n] == GONE],
                lost=[n for n in group.names if does[n] == LOST],
                bits=case.bits,
                largest_weight=case.largest_weight,
            )

        if len(uploads) < case.survivors:
            with pytest.raises(RoundFailed, match=f"^{len(uploads)} of {members} hospitals upl"):
                aggregate()
            event("too few uploads")
        elif len(answers) < case.threshold:
            with pytest.raises(RoundFailed, match=f"{len(answers)} of {case.threshold} shares"):
                aggregate()
            event("too few shares")
        else:
            masked, total = aggregate()
            assert is_plain_sum(masked, total, numbers, uploads)
            check_against_real_numbers(masked, total, [numbers[name] for name in uploads])
            event("opened")
    assert federation.refusals == []


def check_against_real_numbers(masked, total, numbers) -> None:
    """The sum means what it says: the means of update arrays up to rounding, sums to float64."""
    levels, largest = masked.encoding.levels, masked.encoding.largest_weight
    signed = total.update.view(np.int16 if masked.encoding.bits == 16 else np.int32)
    start = 0
    for name, spec in masked.layout.update.items():
        size = math.prod(spec.shape)
        weights = [one.weight / largest if name in masked.layout.weighted else 1 for one in numbers]
        clipped = [np.clip(one.update[name].astype(np.float64), -4, 4) for one in numbers]
        real = sum(w * x for w, x in zip(weights, clipped, strict=True))
        opened = signed[start : start + size] * 4.0 / (levels - 1)
        # one level by stochastic rounding, half a one by float32
        np.testing.assert_allclose(
            opened, np.reshape(real, -1), rtol=0, atol=1.5 * len(numbers) * 4 / (levels - 1)
        )
        start += size
    sums = masked.layout.exact_arrays(total.exact)
    assert sums["count"] == [len(numbers)]
    assert sums["weight"] == [sum(one.weight for one in numbers)]
    for name in list(masked.layout.exact)[len(OWN_NAMES) :]:
        for place, value in enumerate(sums[name]):
            real = sum(Fraction(float(one.exact[name][place])) for one in numbers)
            # each value is kept to 2^-97, and the float64 of the sum has three roundings
            assert (
                abs(Fraction(float(value)) - real)
                <= len(numbers) * Fraction(1, 2**97) + 3 * abs(real) / 2**53
            )


def test_a_k_regular_group_of_seventy_sums_right_with_dropouts_at_every_step() -> None:
    federation = Federation(70)
    federation.begin()
    group = federation.form(count=2, deaf=["h03", "h40"])
    assert group.parameters.degree == 24 and group.parameters.threshold == 18
    numbers = some_numbers(group.names)
    for absent, gone, lost in (
        (["h07", "h11", "h12"], ["h20"], ["h21"]),
        ([], ["h00", "h69"], []),
    ):
        masked, total = federation.aggregate(
            group, numbers, absent=absent, gone=gone, lost=lost, bits=16
        )
        survivors = set(group.names) - {"h03", "h40", *absent}
        assert is_plain_sum(masked, total, numbers, survivors)


def test_the_store_that_flower_keeps_is_one_for_secure_aggregation() -> None:
    federation = Federation(4)
    for hospital in federation.hospitals.values():
        hospital.store = ClientState(RecordDict())
    federation.begin()
    for _ in range(6):  # more groups than a client keeps open
        group = federation.form(complete(3), count=2)
    numbers = some_numbers(group.names)
    for absent in (["h02"], []):
        masked, total = federation.aggregate(group, numbers, absent=absent)
        assert is_plain_sum(masked, total, numbers, set(group.names) - set(absent))


def test_a_client_forgets_the_oldest_of_many_open_groups() -> None:
    federation = Federation(3)
    federation.begin()
    first = federation.form()
    task = summing(first).task.to_bytes()
    for _ in range(3):
        federation.form()
    start(federation["h00"], task, LAYOUT)
    federation.form()
    with pytest.raises(ProtocolRefused, match="doesn't know that group"):
        start(federation["h00"], task, LAYOUT)


# --- below the threshold --------------------------------------------------------------------------
def test_below_the_threshold_nothing_is_opened_and_the_repeat_with_fresh_masks_succeeds() -> None:
    federation = Federation(5)
    group = federation.ready(count=2)
    numbers = some_numbers(group.names)
    with pytest.raises(RoundFailed, match="3 of 5 hospitals uploaded, and a sum of fewer than 4"):
        federation.aggregate(group, numbers, absent=["h01", "h02"])
    assert federation.received("UnmaskRequest", "h00") == [], "nobody was asked for a share"
    masked, total = federation.aggregate(group, numbers)
    assert is_plain_sum(masked, total, numbers, group.names)
    first, second = federation.received("Vector", "h00")
    words = [np.frombuffer(v, np.uint32, LAYOUT.update_size) for v in (first, second)]
    assert not (words[0] == words[1]).any()


def test_a_sum_that_lacks_shares_stays_closed_until_the_last_one_comes() -> None:
    federation = Federation(5)
    group = federation.ready()
    numbers = some_numbers(group.names)
    masked = summing(group)
    for name in group.names[:4]:
        federation.upload(masked, name, numbers[name])
    requests = masked.unmask_requests()
    for name in group.names[:3]:
        masked.add_shares(name, federation[name].unmask(requests[name]))
    assert not masked.enough()
    with pytest.raises(RoundFailed, match="3 of 4 shares came that open the masks of h00"):
        masked.open()
    masked.add_shares("h03", federation["h03"].unmask(requests["h03"]))
    assert masked.enough()
    assert is_plain_sum(masked, masked.open(), numbers, group.names[:4])


def test_masks_of_two_aggregations_and_of_two_hospitals_have_nothing_in_common() -> None:
    layout = VectorLayout.of({"w": ArraySpec((500,), "float32")}, {})
    federation = Federation(3)
    group = federation.ready(count=2)
    numbers = dict.fromkeys(group.names, some_numbers(["h00"], layout)["h00"])
    vectors = []
    for _ in range(2):
        masked, _ = federation.aggregate(group, numbers, layout)
        vectors += [federation.received("Vector", name)[-1] for name in group.names]
    vectors.append(alone(masked, numbers["h00"]).data())
    for one, other in itertools.combinations(vectors, 2):
        a, b = (np.frombuffer(v, np.uint32) for v in (one, other))
        # chance: 21 pairs x 518 words x 2^-32
        assert not (a == b).any()
        assert len(np.unique(a[:500] - b[:500])) > 490, "not even up to a constant"


# --- dropouts that come back ----------------------------------------------------------------------
def test_a_late_upload_is_refused_and_all_answered_shares_do_not_open_it() -> None:
    federation = Federation(5)
    group = federation.ready()
    numbers, masked, late = some_numbers(group.names), summing(group), 4
    for name in group.names[:late]:
        federation.upload(masked, name, numbers[name])
    pending = start(federation["h04"], masked.task.to_bytes(), LAYOUT)
    federation.unmask(masked)
    header, vector = finish(pending, numbers["h04"])
    with pytest.raises(ProtocolRefused, match="came after the survivor set was fixed"):
        masked.add_upload("h04", header, vector)
    assert is_plain_sum(masked, masked.open(), numbers, group.names[:late])

    # a server that keeps the vector and all shares: it knows the round key, so all pair masks
    truth = federation.hospitals["h04"].secrets(group.id, 0)
    round_key = interpolated(masked._shares[late])
    assert round_key == truth.round_key
    left = stripped(masked, late, vector, round_key=round_key)
    plain = alone(masked, numbers["h04"])
    assert not (left.update == plain.update).any() and not (left.exact == plain.exact).any()
    # what is left on it is exactly the self mask, of which no share was given
    only = RingVector(32, LAYOUT.update_size, LAYOUT.exact_size)
    only.add_masks([(self_seeds(truth.self_mask, masked._context), 1)])
    assert (left.update - plain.update == only.update).all()
    everyone = range(5)
    for name in group.names[:late]:
        with pytest.raises(ProtocolRefused, match="was already opened, for another survivor set"):
            federation[name].unmask(forged_unmask(group, 0, name, everyone).to_bytes())
    # the late hospital itself answers for a set with itself in it: one share of four
    answer = federation["h04"].unmask(forged_unmask(group, 0, "h04", everyone).to_bytes())
    own = int.from_bytes(wire.Shares.from_bytes(answer).shares[late], "big")
    assert interpolated({late + 1: own}) != truth.self_mask
    mixed = dict(list(masked._shares[late].items())[:3]) | {late + 1: own}
    assert interpolated(mixed) not in (truth.self_mask, truth.round_key)


def test_a_hospital_that_lost_its_store_answers_nothing_of_that_session_and_joins_the_next() -> (
    None
):
    federation = Federation(4)
    group = federation.ready(count=2)
    numbers = some_numbers(group.names)
    federation.aggregate(group, numbers)
    (unmask,) = federation.received("UnmaskRequest", "h02")
    (keys,) = federation.received("KeysRequest", "h02")
    federation.hospitals["h02"].store = Store()
    task = summing(group).task.to_bytes()
    for step in (
        lambda client: client.bundle(group.request),
        lambda client: client.accept(keys),
        lambda client: start(client, task, LAYOUT),
        lambda client: client.unmask(unmask),
    ):
        with pytest.raises(ProtocolRefused, match="did it restart"):
            step(federation["h02"])
    # its new key of the old session fits no group that was made before
    federation["h02"].hello(federation.session.request())
    with pytest.raises(ProtocolRefused, match="own key was replaced"):
        federation["h02"].bundle(group.request)
    federation.begin()
    again = federation.form()
    masked, total = federation.aggregate(again, numbers)
    assert is_plain_sum(masked, total, numbers, group.names)
    with pytest.raises(ProtocolRefused, match="doesn't know that group"):
        start(federation["h00"], task, LAYOUT)


# --- threads, memory ------------------------------------------------------------------------------
def test_two_threads_give_the_same_bytes_and_the_same_sum() -> None:
    layout = VectorLayout.of({"w": ArraySpec((200_000,), "float32")}, {}, frozenset(["w"]))
    federation = Federation(3)
    group = federation.ready()
    numbers = some_numbers(group.names, layout)
    masked = summing(group, layout, threads=2)
    task, vectors = masked.task.to_bytes(), {}
    for threads in (1, 2):
        hospital = federation.hospitals["h01"].fork()
        hospital.policy = Policy(threads=threads)
        pending = start(hospital.client, task, layout)
        vectors[threads] = finish(pending, numbers["h01"])
    assert vectors[1] == vectors[2]
    for name in group.names:
        federation.hospitals[name].policy = Policy(threads=2)
        federation.upload(masked, name, numbers[name])
    federation.unmask(masked)
    total = masked.open()
    expected = sum(alone(masked, numbers[name]).update for name in group.names)
    np.testing.assert_array_equal(total.update, expected)


def test_the_server_keeps_one_vector_however_many_hospitals_upload() -> None:
    layout = VectorLayout.of({"w": ArraySpec((100_000,), "float32")}, {})
    federation = Federation(30)
    group = federation.ready()
    numbers = some_numbers(["h00"], layout)["h00"]
    task = wire.TaskRequest(group.id, 0, "train 1", 32, 4.0, 100, 0).to_bytes()
    uploads = {name: finish(start(federation[name], task, layout), numbers) for name in group.names}
    vector = layout.update_size * 4
    tracemalloc.start()
    try:
        masked = summing(group, layout)
        for name, (header, data) in uploads.items():
            masked.add_upload(name, header, data)
        kept, peak = tracemalloc.get_traced_memory()
        federation.unmask(masked)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        total = masked.open()
        _, opening = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.5 * vector and peak < 4 * vector, (kept / vector, peak / vector)
    assert opening - before < 4 * vector, (opening - before) / vector
    assert (total.update == 30 * alone(masked, numbers).update).all()


# --- false shares ---------------------------------------------------------------------------------
def lied(federation: Federation, group, liar: str):
    """An aggregation of all, where one hospital's shares are false."""
    numbers, masked = some_numbers(group.names), summing(group)
    for name in group.names:
        federation.upload(masked, name, numbers[name])
    for name, request in masked.unmask_requests().items():
        shares = wire.Shares.from_bytes(federation[name].unmask(request))
        if name == liar:
            shares = replace(shares, shares=tuple(bytes(31) + b"\7" for _ in shares.shares))
        masked.add_shares(name, shares.to_bytes())
    return masked, numbers


@pytest.mark.parametrize("liar", ["h00", "h02", "h04"])
def test_false_shares_of_one_holder_are_survived_where_more_than_t_answered(liar) -> None:
    federation = Federation(5)
    masked, numbers = lied(federation, federation.ready(complete(4)), liar)
    assert is_plain_sum(masked, masked.open(), numbers, federation.names)


@pytest.mark.parametrize("liar", ["h00", "h04"])
def test_false_shares_fail_the_round_where_all_answers_are_needed(liar) -> None:
    federation = Federation(5)
    masked, _ = lied(federation, federation.ready(complete(5)), liar)
    with pytest.raises(RoundFailed, match="open the masks of h00 are false"):
        masked.open()


def test_one_liar_of_fourteen_does_not_stop_thirteen_honest_holders() -> None:
    federation = Federation(14)
    group = federation.ready()
    assert group.parameters.threshold == 10
    masked, numbers = lied(federation, group, "h00")
    assert is_plain_sum(masked, masked.open(), numbers, federation.names)


def test_one_liar_of_thirteen_is_found_in_the_last_of_the_sets_that_are_tried() -> None:
    federation = Federation(13)
    masked, numbers = lied(federation, federation.ready(), "h00")
    assert math.comb(12, 8) == 495
    assert is_plain_sum(masked, masked.open(), numbers, federation.names)


# --- what finish refuses --------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("section", ["update", "exact"])
def test_numbers_that_are_none_are_refused_and_the_aggregation_is_not_used(bad, section) -> None:
    federation = Federation(3)
    group = federation.ready()
    numbers = some_numbers(group.names)
    wrong = {"update": dict(numbers["h01"].update), "exact": dict(numbers["h01"].exact)}
    key = "w" if section == "update" else "loss"
    wrong[section][key] = np.full_like(wrong[section][key], bad)
    masked = summing(group)
    pending = start(federation["h01"], masked.task.to_bytes(), LAYOUT)
    with pytest.raises(ProtocolRefused, match="NaN, infinity|not finite"):
        finish(pending, replace(numbers["h01"], **wrong))
    for name in group.names:
        federation.upload(masked, name, numbers[name])
    federation.unmask(masked)
    assert is_plain_sum(masked, masked.open(), numbers, group.names)


@pytest.mark.parametrize("size", [100, 1 << 16])
def test_after_a_refusal_the_upload_can_be_begun_again_but_not_finished_twice(size) -> None:
    """A thread prepares the masks of the longer one: they may be half filled after a refusal."""
    layout = VectorLayout.of(
        {"w": ArraySpec((size,), "float32")}, {"loss": ArraySpec((2,), "float64")}
    )
    federation = Federation(3)
    group = federation.ready()
    numbers, masked = some_numbers(group.names, layout), summing(group, layout)
    pending = start(federation["h01"], masked.task.to_bytes(), layout)
    with pytest.raises(ProtocolRefused, match="not finite"):
        finish(pending, replace(numbers["h01"], exact={"loss": np.full(2, np.inf)}))
    with pytest.raises(ProtocolRefused, match="finished once"):
        finish(pending, numbers["h01"])
    for name in group.names:
        federation.upload(masked, name, numbers[name])
    federation.unmask(masked)
    expected = sum(alone(masked, numbers[name]).update for name in group.names)
    assert (masked.open().update == expected).all()


def test_a_number_that_might_overflow_the_sum_is_refused_and_the_largest_allowed_is_right() -> None:
    federation = Federation(4)
    group = federation.ready(complete(3))
    largest = 2.0**94 / 4
    numbers = {
        name: replace(one, exact={"loss": np.array([largest, -largest])})
        for name, one in some_numbers(group.names).items()
    }
    masked = summing(group)
    too_large = {"loss": np.array([np.nextafter(largest, np.inf), 0.0])}
    pending = start(federation["h00"], masked.task.to_bytes(), LAYOUT)
    with pytest.raises(ProtocolRefused, match="use a larger unit"):
        finish(pending, replace(numbers["h00"], exact=too_large))
    for name in group.names:
        federation.upload(masked, name, numbers[name])
    federation.unmask(masked)
    total = masked.open()
    np.testing.assert_array_equal(LAYOUT.exact_arrays(total.exact)["loss"], [2.0**94, -(2.0**94)])
    assert integers(masked._vector.exact) == plain_sum(masked, numbers.values())[1]
