"""Split networks on plain arrays: the whole network's gradients, bounds, noise, schedules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from wardround.common.errors import JointRefused
from wardround.common.privacy.losses import gaussian_epsilon
from wardround.common.settings import SplitOptions
from wardround.common.split.cost import most_appearances, spent
from wardround.common.split.modules import Head, image_tower, seeded, table_tower
from wardround.common.split.schedule import Schedule
from wardround.common.split.sides import FeatureSide, OutcomeSide, alone
from wardround.common.split.weights import GROWN, Protection, Weights

BARE = Protection(None, 0.0, bytes(32), bytes(32))
PERSONS, WIDTH = 60, 3


OWN = torch.randn(PERSONS, 2, generator=torch.Generator().manual_seed(1))
OUTCOME = (torch.rand(PERSONS, generator=torch.Generator().manual_seed(4)) < 0.3).float()


def two_sides(
    tower: nn.Module, inputs: Tensor, protection: Protection = BARE, batches: int = 4
) -> tuple[FeatureSide, OutcomeSide, Head]:
    schedule = Schedule(3, len(inputs), batches, 16, 12)
    head = seeded(0, "registry", lambda: Head(table_tower(2, 4, WIDTH), WIDTH, WIDTH, 5))
    assert isinstance(head, Head)
    features = FeatureSide(Weights(tower, 0.01), inputs, schedule, protection)
    holder = OutcomeSide(Weights(head, 0.01), OWN, OUTCOME, ("clinic",), schedule, protection)
    return features, holder, head


def of_images() -> tuple[nn.Module, Tensor]:
    pixels = torch.randint(0, 256, (PERSONS, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    return seeded(0, "clinic", lambda: image_tower([8, 8], 1, 4, WIDTH)), pixels.to(torch.uint8)


def of_a_table() -> tuple[nn.Module, Tensor]:
    values = torch.randn(PERSONS, 5, generator=torch.Generator().manual_seed(2))
    return seeded(0, "clinic", lambda: table_tower(5, 6, WIDTH)), values


@pytest.mark.parametrize("make", [of_images, of_a_table])
def test_gradients_are_the_whole_networks(make):
    tower, inputs = make()
    features, holder, head = two_sides(tower, inputs)
    rows = Schedule(3, PERSONS, 4, 16, 12).batch(0)
    crossing = features.sends(0)
    back = holder.answers(0, {"clinic": crossing})["clinic"]

    def split(named: dict[str, Tensor], x: Tensor, g: Tensor) -> Tensor:
        return (features.weights.call(named, x) * g).sum(1)

    found = features.weights.gradient(split, inputs[rows], torch.from_numpy(back))
    logits = head(tower(inputs[rows]), OWN[rows])
    F.binary_cross_entropy_with_logits(logits, OUTCOME[rows]).backward()
    for name, parameter in tower.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-6), name


def test_it_learns_what_the_whole_network_learns():
    """Adam's steps on both sides are torch's on the whole network."""
    tower, inputs = of_a_table()
    features, holder, head = two_sides(tower, inputs, batches=9)
    whole = torch.optim.Adam([*tower.parameters(), *head.parameters()], lr=0.01)
    schedule = Schedule(3, PERSONS, 9, 16, 12)
    for number in range(9):
        features.receives(
            number, holder.answers(number, {"clinic": features.sends(number)})["clinic"]
        )
        rows = schedule.batch(number)
        whole.zero_grad()
        logits = head(tower(inputs[rows]), OWN[rows])
        F.binary_cross_entropy_with_logits(logits, OUTCOME[rows]).backward()
        whole.step()
    for side, module in ((features, tower), (holder, head)):
        for name, parameter in module.named_parameters():
            assert torch.allclose(side.weights.named[name], parameter, atol=1e-5), name
    logits, truth = holder.scores({"clinic": features.sends_held_out()})
    assert logits.shape == truth.shape == (12,)


def test_what_crosses_is_bounded_and_noised():
    """Without noise no row is longer than clip; with noise the deviation is 2 clip z."""
    tower, inputs = of_a_table()
    clip = Protection(0.2, 0.0, bytes(32), bytes(32))
    features, holder, _ = two_sides(tower, inputs, clip)
    sent = features.sends(0)
    back = holder.answers(0, {"clinic": 100 * sent})["clinic"]
    for values in (sent, back):
        assert np.linalg.norm(values, axis=1).max() <= 0.2 * (1 + 1e-5)
    noise = Protection(0.2, 1.5, bytes(32), bytes(32))
    drawn = noise.noised(np.zeros((4000, 5), np.float32), "numbers", 0, 5)
    assert drawn.std() == pytest.approx(2 * 0.2 * 1.5, rel=0.03)


def test_noise_is_drawn_again_for_the_same_values_only():
    noise = Protection(1.0, 1.0, b"s" * 32, bytes(32))
    one, other = np.zeros((2, 3), np.float32), np.full((2, 3), 0.25, np.float32)
    first = noise.noised(one, "numbers", 7, 3)
    assert (noise.noised(one, "numbers", 7, 3) == first).all()
    assert not (noise.noised(one, "numbers", 8, 3) == first).any()
    assert not np.isclose(noise.noised(other, "numbers", 7, 3) - other, first).any()


def test_one_person_moves_a_protected_step_by_no_more_than_two_clips():
    """The sum that is noised, before and after one person's values grow a millionfold."""
    tower, inputs = of_a_table()
    weights = Weights(tower, 0.1)
    sums = []

    class Seen(Protection):
        def noised(self, values, purpose, number, each):
            sums.append(values)
            return values

    seen = Seen(0.05, 1.0, bytes(32), bytes(32))

    def objective(named: dict[str, Tensor], x: Tensor) -> Tensor:
        return weights.call(named, x).square().sum(1)

    other = inputs[:16].clone()
    other[3] *= 1e6
    for rows in (inputs[:16], other):
        weights.protected_gradient(objective, seen, "weights", rows)
    assert 0 < np.linalg.norm(sums[0] - sums[1]) <= 2 * 0.05 * (1 + 1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 90), st.integers(1, 40), st.integers(1, 30), st.integers(1, 20))
def test_schedules(persons, batches, size, held_out):
    if persons < size + held_out:
        with pytest.raises(JointRefused, match="too few"):
            Schedule(5, persons, batches, size, held_out)
        return
    found = Schedule(5, persons, batches, size, held_out)
    drawn = [found.batch(number) for number in range(batches)]
    counts = np.bincount(np.concatenate(drawn), minlength=persons)
    assert all(len(set(one.tolist())) == size for one in drawn)
    assert counts[found.held_out].sum() == 0 and len(found.held_out) == held_out
    options = SplitOptions(link="who", batches=batches, batch_size=max(2, size), held_out=10)
    options = options.model_copy(update={"batch_size": size, "held_out": held_out})
    assert counts.max() <= most_appearances(options, persons)


def test_numbers_that_grow_are_refused_in_fixed_words():
    tower, inputs = of_a_table()
    features, _, _ = two_sides(tower, inputs * np.inf)
    with pytest.raises(JointRefused, match=GROWN):
        features.sends(0)


def test_alone_uses_own_columns_only():
    own = torch.randn(80, 2, generator=torch.Generator().manual_seed(5))
    outcome = (own[:, 0] > 0).float()
    head = Head(table_tower(2, 8, WIDTH), 0, WIDTH, 8)
    logits, truth = alone(head, 0.02, own, outcome, Schedule(1, 80, 150, 16, 20))
    assert ((logits > 0) == (truth == 1)).mean() > 0.8


def test_what_noise_costs_is_two_gaussian_releases_a_batch():
    """Of mu = sqrt(2 k) / z, by Balle and Wang; of 64 persons one is in 3 of 20 batches of 8."""
    options = SplitOptions(
        link="who", batches=20, batch_size=8, held_out=10, clip=1.0, noise_multiplier=4.0
    )
    assert most_appearances(options, 74) == 3
    assert spent(options, 74) == pytest.approx(gaussian_epsilon(6**0.5 / 4, 1e-5), rel=1e-9)
    assert spent(SplitOptions(link="who"), 1000) == float("inf")
    assert most_appearances(options, 17) == 0
