"""Low-rank factors: exact means of products, and the error of the mean of factors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.flower.arrays import Arrays
from wardround.common.tasks.low_rank import PROBES, Aggregation, LowRank, Pair

SCALE = 2.0


def factors(aggregation: Aggregation, probed: bool = False) -> LowRank:
    rest = "R" if aggregation == "products" else ""
    return LowRank((Pair("B", "A", SCALE, rest, "p" if probed else ""),), aggregation)


def drawn(seed: int, shape: tuple[int, int, int]) -> Arrays:
    outputs, inputs, rank = shape
    draw = np.random.default_rng(seed)
    found = {
        "B": draw.normal(size=(outputs, rank)).astype(np.float32),
        "A": draw.normal(size=(rank, inputs)).astype(np.float32),
    }
    return found | {"R": np.zeros((outputs, inputs), np.float32), "p": np.zeros(PROBES, np.float32)}


def mean(parts: list[Arrays], weights: list[float]) -> Arrays:
    total = sum(weights)
    return {
        name: np.asarray(
            sum(w * one[name].astype(np.float64) for w, one in zip(weights, parts, strict=True))
            / total,
            dtype=np.float32,
        )
        for name in parts[0]
    }


def layer(arrays: Arrays) -> np.ndarray:
    """R + s B A in float64: what the layer adds to its frozen weight."""
    product = arrays["B"].astype(np.float64) @ arrays["A"].astype(np.float64)
    return arrays["R"] + SCALE * product


@given(
    seed=st.integers(0, 2**32 - 1),
    weights=st.lists(st.integers(1, 500), min_size=2, max_size=5),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)),
)
def test_products_are_averaged_exactly_over_rounds(
    seed: int, weights: list[int], shape: tuple[int, int, int]
) -> None:
    """The dense mean of R + s B_i A_i, by hand, for hospitals of 1 to 500 rows, two rounds on."""
    rule, before = factors("products"), drawn(seed, shape)
    for server_round in (1, 2):
        trained = [
            before | {k: drawn(seed + 10 * server_round + i, shape)[k] for k in "BA"}
            for i in range(len(weights))
        ]
        by_hand = sum(w * layer(one) for w, one in zip(weights, trained, strict=True)) / sum(
            weights
        )
        sent = [one | rule.sent(before, one, 3, server_round) for one in trained]
        found = mean(sent, [float(w) for w in weights])
        own, error = rule.combined(before, found, 3, server_round)
        before = found | own
        scale = max(1.0, float(np.abs(by_hand).max()), float(np.abs(sent[0]["R"]).max()))
        np.testing.assert_allclose(layer(before), by_hand, atol=4e-6 * scale * shape[2])
        assert error is None  # nothing is told, as nothing is lost


def test_taking_turns_makes_the_product_of_means_the_mean_of_products() -> None:
    rule, before = factors("alternate"), drawn(1, (6, 5, 2))
    for server_round, moving, still in ((1, "B", "A"), (2, "A", "B"), (3, "B", "A")):
        assert rule.resting(server_round) == [still]
        trained = [
            before | {moving: drawn(server_round * 7 + i, (6, 5, 2))[moving]} for i in (0, 1)
        ]
        found = mean(trained, [1.0, 32.0])
        own, _ = rule.combined(before, found, 3, server_round)
        after = found | own
        assert np.array_equal(after[still], before[still])  # to the last bit
        by_hand = (layer(trained[0]) + 32 * layer(trained[1])) / 33
        np.testing.assert_allclose(layer(after), by_hand, atol=1e-5)
        before = after


def test_the_error_of_the_mean_of_factors_is_told_by_sums_alone() -> None:
    """Against the dense norms, over many rounds' probes: their squares' mean is unbiased."""
    rule, before = factors("factors", probed=True), drawn(5, (9, 8, 2))
    trained = [
        before | {k: v + 0.3 * drawn(50 + i, (9, 8, 2))[k] for k, v in before.items() if k in "BA"}
        for i in range(3)
    ]
    weights = [1.0, 33.0, 8.0]
    exact = sum(w * layer(one) for w, one in zip(weights, trained, strict=True)) / sum(weights)
    ratios = []
    for server_round in range(1, 200):
        sent = [one | rule.sent(before, one, 3, server_round) for one in trained]
        found = mean(sent, weights)
        own, error = rule.combined(before, found, 3, server_round)
        assert error is not None and not own["p"].any()
        ratios.append(error)
    wanted = np.linalg.norm(exact - layer(found | own)) / np.linalg.norm(exact - layer(before))
    assert 0.05 < wanted < 0.9
    # of one layer one estimate is within about a third; their middle is near
    assert np.median(ratios) == pytest.approx(wanted, rel=0.1)
    assert np.std(ratios) / wanted < 0.5


def test_equal_hospitals_lose_nothing_and_nothing_moved_tells_nothing() -> None:
    rule, before = factors("factors", probed=True), drawn(5, (4, 4, 1))
    trained = before | {"B": before["B"] + 1}
    sent = trained | rule.sent(before, trained, 1, 1)
    _, error = rule.combined(before, mean([sent, sent], [1, 1]), 1, 1)
    assert error is not None and error < 1e-5
    still = before | {"p": np.zeros(PROBES, np.float32), "B": 0 * before["B"]}
    sent = still | rule.sent(still, still, 1, 1)
    assert rule.combined(still, sent, 1, 1)[1] is None


def test_probes_follow_from_seed_round_and_layer() -> None:
    pair, arrays = Pair("B", "A", SCALE), drawn(2, (5, 4, 2))
    assert np.array_equal(pair.probed(arrays, 1, 1), pair.probed(arrays, 1, 1))
    for other in ((2, 1), (1, 2)):
        assert not np.allclose(pair.probed(arrays, 1, 1), pair.probed(arrays, *other))
    norm = math.sqrt(sum((pair.probed(arrays, 1, r) ** 2).sum() for r in range(400)) / 400)
    assert norm == pytest.approx(np.linalg.norm(layer(arrays)), rel=0.1)
