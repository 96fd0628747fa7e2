"""A request's settings, held against this hospital's own.

What a strategy sends beside the model is in ``[strategy]``, which the signed settings have: another
number, name or array would be the server's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wardround.client.algorithms import ALGORITHMS
from wardround.client.data.hospital import Hospital
from wardround.common.compression.scales import SCALES
from wardround.common.config.load import Config
from wardround.common.errors import RequestRefused
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.strategy import FEDDYN_ALPHA, PROXIMAL_MU
from wardround.common.protocol.train import TrainRequest
from wardround.common.secagg.equations import weighting_of
from wardround.common.text import one_line

_OPTIONS = {PROXIMAL_MU.key: "proximal_mu", FEDDYN_ALPHA.key: "alpha"}
"""The options of built-in strategies that requests carry, by the key of the request."""


def check_settings(request: TrainRequest | EvaluateRequest, hospital: Hospital) -> None:
    """Raise RequestRefused for what the plan doesn't have."""
    training = isinstance(request, TrainRequest)
    if not hospital.simulated:
        if request.model.clients or (isinstance(request, TrainRequest) and request.weighting):
            raise RequestRefused("the request is for many clients, and this is one hospital")
    if isinstance(request, EvaluateRequest) and request.best_round:
        if request.best_round >= request.model.server_round:
            raise RequestRefused("the request's best-round is not before its server-round")
    built_in = hospital.config.strategy.settings
    if built_in is None and not _sees_sums_only(hospital.config):
        return  # a strategy of one's own, of whose updates everything is seen anyway
    _check_numbers(request.strategy, hospital.config, training)
    if not isinstance(request, TrainRequest):
        return
    algorithm = request.algorithm
    if algorithm not in ALGORITHMS:
        return  # an unknown one is refused by its name (``job.py``)
    if built_in is not None and algorithm != built_in.algorithm:
        raise RequestRefused(
            f"the request is for algorithm '{one_line(algorithm, 40)}', that of this hospital's "
            f"strategy.name is '{built_in.algorithm}'"
        )
    known = {*ALGORITHMS[algorithm].request_records}
    known |= {SCALES} if hospital.config.compression.bits else set()
    if more := sorted(set(request.records) - known):
        raise RequestRefused(
            f"the request has a record '{one_line(more[0], 40)}', which the algorithm "
            f"'{algorithm}' doesn't take"
        )


def _sees_sums_only(config: Config) -> bool:
    return config.secure_aggregation.enabled or config.privacy.enabled


def _check_numbers(sent: Mapping[str, Any], config: Config, training: bool) -> None:
    """Each is a key of ``[strategy]``, with that value; and what training takes is there."""
    own = _own_numbers(config)
    for key, found in sent.items():
        name = one_line(str(key), 40)
        if key not in own or (config.strategy.settings is not None and not training):
            raise RequestRefused(
                f"the request has a setting '{name}', and this hospital's [strategy] doesn't"
            )
        if found != own[key]:
            raise RequestRefused(
                f"the request's {name} is {one_line(repr(found), 40)}, this hospital's "
                f"{own[key]!r:.40}"
            )
    if training and config.strategy.settings is not None:
        if lacking := sorted(set(own) - set(sent)):
            raise RequestRefused(f"the request lacks the strategy's setting '{lacking[0]}'")


def _own_numbers(config: Config) -> dict[str, Any]:
    """What requests may carry, by their keys, of the strategy's options. An own strategy's have
    their option's name, with dashes or not."""
    table = config.strategy
    if table.settings is not None:
        options = table.settings.model_dump()
        return {key: options[name] for key, name in _OPTIONS.items() if name in options}
    found = {key: table.options[name] for key, name in _OPTIONS.items() if name in table.options}
    found |= table.options
    return found | {name.replace("_", "-"): value for name, value in table.options.items()}


def check_weight(hospital: Hospital, count: int) -> None:
    """Raise RequestRefused where the plan's largest weight isn't what the signed settings let this
    hospital's ``count`` rows weigh.

    A cap that cuts off would be a factor of the server's choice: in three runs of the same first
    model three of them make three equations of three hospitals' sums. One that cuts nothing off
    gives sums that are multiples of each other.
    """
    largest, config = hospital.plan.largest_weight, hospital.config
    if largest is None:
        return  # a simulation
    cap = config.secure_aggregation.max_examples
    weighting = weighting_of(config)
    least, most = min(count, cap or count), cap or largest
    if largest == 1 if weighting == "uniform" else least <= largest <= most:
        return
    if largest == 1 and weighting == "":
        return
    says = "1" if weighting == "uniform" else f"{least} or more{f', up to {cap}' if cap else ''}"
    raise RequestRefused(
        f"the plan's largest weight is {largest}, by this hospital's rows and settings it is "
        f"{says}; begin another run, whose plan has the largest hospital's rows, or set "
        "secure_aggregation.max_examples"
    )
