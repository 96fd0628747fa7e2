"""What a server makes of the mean of a round's models, where hospitals do it themselves.

With ``secure_aggregation.blind`` nobody but hospitals knows a mean, and each of them takes the
server's step for itself. The formulas are those of Flower's strategies, operation by operation, so
that the model is to the bit the one that the server would make; state is arrays by name.

| strategy | step, with x the model, d = mean - x |
|---|---|
| those whose next model is the mean | x <- mean |
| fedavgm | m <- beta m - d (m <- -d at first), x <- x - eta m |
| fedadam | m <- b1 m + (1 - b1) d, v <- b2 v + (1 - b2) d^2, x <- x + eta_t m / (sqrt v + tau), eta_t = eta sqrt(1 - b2^(t + 1)) / (1 - b1^(t + 1)) |
| fedadagrad | m <- d, v <- v + d^2, x <- x + eta m / (sqrt v + tau) |
| fedyogi | m as fedadam, v <- v - (1 - b2) d^2 sign(v - d^2), x <- x + eta m / (sqrt v + tau) |
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays

_Step = Callable[[int, Arrays, Arrays, Arrays, dict[str, Any]], tuple[Arrays, Arrays]]


def server_step(
    config: Config, server_round: int, model: Arrays, mean: Arrays, state: Arrays
) -> tuple[Arrays, Arrays]:
    """The next values of what optimisers move, and the next state.

    Parameters
    ----------
    server_round : of the sum, from 1
    model, mean : parameters before the round, and the weighted mean of the hospitals' after it
    state : as the last step gave it; empty at first
    """
    settings = config.strategy.settings
    options = settings.model_dump() if settings is not None else {}
    step = _STEPS.get(config.strategy.name)
    if step is None:
        return mean, {}
    return step(server_round, model, mean, state, options)


def _part(state: Arrays, name: str, like: Arrays) -> Arrays:
    """One moment of the state by the parameters' names: zeros before the first step."""
    return {k: state[f"{name}/{k}"] if state else np.zeros_like(x) for k, x in like.items()}


def _moments(first: Arrays, second: Arrays) -> Arrays:
    return {f"m/{k}": x for k, x in first.items()} | {f"v/{k}": x for k, x in second.items()}


def _momentum(
    server_round: int, model: Arrays, mean: Arrays, state: Arrays, options: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    rate, momentum = options["server_learning_rate"], options["server_momentum"]
    if momentum == 0.0 and rate == 1.0:
        return mean, {}
    moved: Arrays = {k: model[k] - x for k, x in mean.items()}
    if momentum > 0.0:
        if state:
            moved = {k: momentum * state[f"m/{k}"] + x for k, x in moved.items()}
        state = {f"m/{k}": x for k, x in moved.items()}
    return {k: model[k] - rate * x for k, x in moved.items()}, state


def _first_moment(mean: Arrays, model: Arrays, state: Arrays, beta: float) -> tuple[Arrays, Arrays]:
    """d and m."""
    change = {k: x - model[k] for k, x in mean.items()}
    first = _part(state, "m", mean)
    return change, {k: beta * x + (1 - beta) * change[k] for k, x in first.items()}


def _adam(
    server_round: int, model: Arrays, mean: Arrays, state: Arrays, options: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    beta_1, beta_2, tau = options["beta_1"], options["beta_2"], options["tau"]
    change, first = _first_moment(mean, model, state, beta_1)
    second = _part(state, "v", mean)
    second = {k: beta_2 * x + (1 - beta_2) * (change[k] ** 2) for k, x in second.items()}
    eta = (
        options["eta"]
        * np.sqrt(1 - np.power(beta_2, server_round + 1.0))
        / (1 - np.power(beta_1, server_round + 1.0))
    )
    return _adapted(model, first, second, eta, tau), _moments(first, second)


def _adagrad(
    server_round: int, model: Arrays, mean: Arrays, state: Arrays, options: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    change, first = _first_moment(mean, model, state, 0.0)
    second = {k: x + change[k] ** 2 for k, x in _part(state, "v", mean).items()}
    return _adapted(model, first, second, options["eta"], options["tau"]), _moments(first, second)


def _yogi(
    server_round: int, model: Arrays, mean: Arrays, state: Arrays, options: dict[str, Any]
) -> tuple[Arrays, Arrays]:
    beta_1, beta_2 = options["beta_1"], options["beta_2"]
    change, first = _first_moment(mean, model, state, beta_1)
    second = {
        k: x - (1.0 - beta_2) * (change[k] ** 2) * np.sign(x - change[k] ** 2)
        for k, x in _part(state, "v", mean).items()
    }
    return _adapted(model, first, second, options["eta"], options["tau"]), _moments(first, second)


def _adapted(model: Arrays, first: Arrays, second: Arrays, eta: Any, tau: float) -> Arrays:
    return {k: x + eta * first[k] / (np.sqrt(second[k]) + tau) for k, x in model.items()}


_STEPS: dict[str, _Step] = {
    "fedavgm": _momentum,
    "fedadam": _adam,
    "fedadagrad": _adagrad,
    "fedyogi": _yogi,
}
