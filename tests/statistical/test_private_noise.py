"""The noise that the server sees: on the sum, in full, whoever drops out or colludes.

All gradients are zero, so the model after a round is noise and nothing else. Everything is drawn
from seeds, but a wrong share would fail for any seed: each comparison is at ``EACH``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest

from wardround.common.protocol.names import TRAIN, UNMASK
from wardround.common.tasks.base import Examples

EACH = 1e-8
FEATURES, CLIENTS, NORM, LR, Z = 4000, 7, 0.5, 0.1, 1.3


def released(
    settings: Any, federate: Any, line: Any, gone: set[str], late: set[str], colluding: int
) -> tuple[np.ndarray, float, int]:
    """The noise in units of what the sum must carry; survivors."""
    names = [f"h{index}" for index in range(CLIENTS)]
    config = settings(
        "[privacy]\nunit='example'\nnoise='distributed'\n"
        f"clipping_norm={NORM}\nnoise_multiplier={Z}\nsize_noise=0.5\n"
        f"[training]\nlocal_steps=1\nlr={LR}\n[federation]\nmin_clients=2\n"
        f"[secure_aggregation]\nenabled=true\nthreshold=0.6\ncolluding={colluding}\n"
    )

    def intercept(message: Any, name: str) -> str | None:
        kind = message.metadata.message_type
        return (
            "gone"
            if (kind, name) in {(TRAIN, g) for g in gone} | {(UNMASK, g) for g in late}
            else None
        )

    zeros = Examples(torch.zeros(3, FEATURES), torch.zeros(3))
    run = federate(
        config, dict.fromkeys(names, zeros), line(features=FEATURES), intercept=intercept
    )
    sizes = [row["train"] for row in run.directory.summary()["hospitals"]]
    survivors = len(run.recorder.rows[0]["accepted"])
    # the model moved by the mean of the survivors' -lr / b (sum of clipped gradients + noise)
    sum_of_noise = run.outcome.model["weight"].reshape(-1).astype(np.float64) * survivors
    full = LR / (sum(sizes) / CLIENTS) * Z * NORM
    return sum_of_noise / full, full, survivors


def honest(colluding: int) -> int:
    """The fewest honest hospitals in a sum: t must stay, by the threshold; each of the n - t others
    that a server says are gone costs it t - c answers of n - c."""
    t = math.floor(0.6 * CLIENTS) + 1
    return CLIENTS - colluding - (CLIENTS - colluding) * (CLIENTS - t) // (t - colluding)


@pytest.mark.parametrize(
    ("gone", "late", "colluding"),
    [
        (set(), set(), 0),
        ({"h1"}, set(), 0),
        ({"h1", "h4"}, set(), 0),
        ({"h1"}, {"h2"}, 0),
        (set(), set(), 1),
        ({"h5", "h6"}, set(), 1),
    ],
)
def test_survivors_without_colluders_carry_the_whole_noise(
    settings: Any, federate: Any, line: Any, gone: set[str], late: set[str], colluding: int
) -> None:
    noise, _, survivors = released(settings, federate, line, gone, late, colluding)
    assert survivors == CLIENTS - len(gone)
    wanted = survivors / honest(colluding)  # each carries 1 / honest
    low, high = chi2.ppf([EACH, 1 - EACH], FEATURES)
    statistic = (noise**2).sum() / wanted
    assert low < statistic < 1.005 * high  # rounding adds a little
    # what is left when the colluders' shares are taken off
    assert wanted * (survivors - colluding) / survivors >= 1
    assert kstest(noise / math.sqrt(wanted), "norm").pvalue > EACH


def test_noise_cut_to_three_quarters_would_be_noticed(
    settings: Any, federate: Any, line: Any
) -> None:
    """The comparison above has the power to fail."""
    noise, _, survivors = released(settings, federate, line, set(), set(), 0)
    wanted = survivors / honest(0)
    low, _ = chi2.ppf([EACH, 1 - EACH], FEATURES)
    assert ((0.75 * noise) ** 2).sum() / wanted < low
    assert kstest(0.75 * noise / math.sqrt(wanted), "norm").pvalue < EACH


def test_no_two_hospitals_and_no_two_rounds_share_noise(
    settings: Any, federate: Any, line: Any
) -> None:
    one, _, _ = released(settings, federate, line, {"h1", "h2"}, set(), 0)
    other, _, _ = released(settings, federate, line, {"h3", "h4"}, set(), 0)
    # of five hospitals' shares they have three in common: correlation 3/5, were two the same, other
    assert abs(np.corrcoef(one, other)[0, 1] - 3 / 5) < 6 * (1 - 0.36) / math.sqrt(FEATURES)
