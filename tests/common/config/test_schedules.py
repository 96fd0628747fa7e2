"""Learning rates over rounds against torch's own schedulers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError
from wardround.common.secagg.content import descriptor

ROUNDS, LR = 12, 0.3
Make = Callable[[torch.optim.Optimizer, int], Any]
MAKE: dict[str, Make] = {
    "exponential": lambda o, left: theirs.ExponentialLR(o, 0.8),
    "step": lambda o, left: theirs.StepLR(o, 3, 0.8),
    "constant": lambda o, left: theirs.ConstantLR(o, 1.0),
    "linear": lambda o, left: theirs.LinearLR(o, 1.0, 0.0, left),
    "cosine": lambda o, left: theirs.CosineAnnealingLR(o, left),
}


def config(schedule: str, warmup: int = 0, rounds: int = ROUNDS) -> Config:
    decay = "lr_decay = 0.8\n" if schedule in ("exponential", "step") else ""
    decay += "step_rounds = 3\n" if schedule == "step" else ""
    return parse_config(
        f"[federation]\nrounds = {rounds}\n[training]\nlr = {LR}\nschedule = '{schedule}'\n"
        f"warmup_rounds = {warmup}\n{decay}"
    )


@pytest.mark.parametrize("warmup", [0, 1, 4])
@pytest.mark.parametrize("schedule", MAKE)
def test_it_is_torchs_schedule(schedule: str, warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    main = MAKE[schedule](optimizer, ROUNDS - warmup)
    scheduler = main
    if warmup:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        grow = theirs.LinearLR(optimizer, 1 / (warmup + 1), 1.0, warmup)
        main = MAKE[schedule](optimizer, ROUNDS - warmup)
        scheduler = theirs.SequentialLR(optimizer, [grow, main], [warmup])
    settings = config(schedule, warmup)
    for server_round in range(1, ROUNDS + 1):
        expected = optimizer.param_groups[0]["lr"]
        assert settings.lr_of(server_round) == pytest.approx(expected, rel=1e-6)
        assert expected > 0
        optimizer.step()
        scheduler.step()


def test_a_warm_up_without_end_and_a_decay_without_effect_are_refused() -> None:
    with pytest.raises(ConfigError, match="warmup_rounds is 12, not below federation.rounds 12"):
        config("constant", ROUNDS)
    with pytest.raises(ConfigError, match="lr_decay: has no effect with .*cosine"):
        parse_config("[training]\nschedule = 'cosine'\nlr_decay = 0.9\n")


def test_the_number_of_rounds_is_agreed_where_rates_depend_on_it() -> None:
    for schedule, agreed in [("cosine", True), ("linear", True), ("exponential", False)]:
        one, other = config(schedule), config(schedule, rounds=ROUNDS + 1)
        assert (descriptor(one) != descriptor(other)) == agreed
