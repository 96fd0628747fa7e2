"""The running mean equals numpy's, in any order, in constant memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.common.flower.arrays import ArraySpec, layout_of
from wardround.server.strategies.aggregation import RunningMean

floats = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(hnp.arrays(np.float32, (3, 2), elements=floats), min_size=1, max_size=8),
    data=st.data(),
)
def test_it_is_the_weighted_mean_whatever_the_order(values, data) -> None:
    weights = data.draw(st.lists(st.integers(1, 10**6), min_size=len(values), max_size=len(values)))
    order = data.draw(st.permutations(range(len(values))))
    expected = np.average(np.stack(values).astype(np.float64), axis=0, weights=weights)
    means = []
    for indices in (range(len(values)), order):
        mean = RunningMean({"w": ArraySpec((3, 2), "float32")})
        for index in indices:
            mean.add({"w": values[index]}, weights[index])
        means.append(mean.mean()["w"])
    np.testing.assert_allclose(means[0], expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(means[0], means[1], rtol=3e-7, atol=1e-9)
    assert means[0].dtype == np.float32


def test_whole_numbers_are_rounded_not_cut() -> None:
    mean = RunningMean({"steps": ArraySpec((), "int64")})
    mean.add({"steps": np.array(1)}, 1)
    mean.add({"steps": np.array(2)}, 3)
    assert mean.mean()["steps"] == 2 and mean.mean()["steps"].dtype == np.int64


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_a_weight_that_is_not_positive_is_a_bug(weight) -> None:
    with pytest.raises(ValueError, match="weight must be positive"):
        RunningMean({}).add({}, weight)


def test_no_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="no mean of nothing"):
        RunningMean({}).mean()


@pytest.mark.parametrize("secure", ["false", "true"])
def test_memory_does_not_grow_with_the_number_of_clients(federate, line, secure) -> None:
    """1 MB of parameters: what 20 clients need at most is what 4 need, plus the small things."""
    import torch

    from wardround.common.config.load import parse_config
    from wardround.common.tasks.base import Examples

    def peak(clients: int) -> int:
        config = parse_config(
            "[federation]\nrounds = 1\nmin_clients = 1\n[data]\ntest_fraction = 0.0\n"
            f"[training]\nlr = 1e-9\n[secure_aggregation]\nenabled = {secure}\n"
        )
        shard = Examples(torch.ones(2, 250_000), torch.ones(2))
        shards = {f"h{index}": shard for index in range(clients)}
        tracemalloc.start()
        federate(config, shards, task=line(features=250_000))
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    peak(4)
    few, many = peak(4), peak(20)
    model_bytes = layout_of({"w": np.zeros(250_000, np.float32)})["w"].shape[0] * 4
    assert many - few < 3 * model_bytes, f"{(many - few) / model_bytes:.1f} models more"
