"""A server whose requests have other numbers than the settings that the hospital accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message

from tests.federate import Federate, Line, Shards, examples
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.proposal import Proposal
from wardround.client.requests.settings import check_settings
from wardround.common.config.load import Config
from wardround.common.errors import RequestRefused, RoundFailed
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import PrivacyTerms, TrainRequest

Settings = Callable[[str], Config]
FEDPROX = "[strategy]\nname = 'fedprox'\nproximal_mu = 0.1\n"
FEDDYN = "[strategy]\nname = 'feddyn'\nalpha = 0.25\n"
OWN = "[strategy]\nname = 'mine.py:Mine'\nproximal_mu = 0.5\nslow_start = 2\n"
MASKED = "[secure_aggregation]\nenabled = true\n"


def hospital(config: Config, simulated: bool = False) -> Hospital:
    shard = OwnShard("a", Line(), config, lambda: examples([1.0], [1.0]))
    roster = {name: bytes(32) for name in "abcd"}
    return Hospital(shard, keys=Keys(None, roster), place=Place(simulated=simulated))


def train(algorithm: str = "plain", *records: str, **strategy: Any) -> TrainRequest:
    sent = {name.replace("_", "-"): value for name, value in strategy.items()}
    more = {name: ArrayRecord() for name in records}
    return TrainRequest(SentModel(ArrayRecord(), 3), algorithm, strategy=sent, records=more)


FALSE = {
    "another mu": (FEDPROX, train(proximal_mu=5.0), "proximal-mu is 5.0, this hospital's 0.1"),
    "no mu": (FEDPROX, train(), "lacks the strategy's setting 'proximal-mu'"),
    "a mu of fedavg": ("", train(proximal_mu=5.0), r"'proximal-mu', and this hospital's \[strat"),
    "anything": ("", train(color="red"), "has a setting 'color'"),
    "another alpha": (FEDDYN, train("feddyn", feddyn_alpha=1e3), "feddyn-alpha is 1000.0, .* 0.25"),
    "another algorithm": ("", train("scaffold", "control"), "of this hospital's .* is 'plain'"),
    "more arrays": ("", train("plain", "control"), "a record 'control', which .* doesn't take"),
    "an own strategy's": (OWN + MASKED, train(proximal_mu=0.6), "proximal-mu is 0.6, .* 0.5"),
    "one it hasn't": (OWN + MASKED, train(server_momentum=1.0), "a setting 'server-momentum'"),
    "an evaluation's": (
        FEDPROX,
        EvaluateRequest(SentModel(ArrayRecord(), 3), strategy={"proximal-mu": 0.1}),
        "has a setting 'proximal-mu'",
    ),
    "for many": ("", TrainRequest(SentModel(ArrayRecord(), 3, clients=(1, 2))), "for many clients"),
    "weighting": ("", TrainRequest(SentModel(ArrayRecord(), 3), weighting="uniform"), "for many"),
    "a later best": (
        "",
        EvaluateRequest(SentModel(ArrayRecord(), 3), best_round=3),
        "best-round is not before its server-round",
    ),
}


@pytest.mark.parametrize("case", FALSE)
def test_what_the_plan_doesnt_have_is_refused(settings: Settings, case: str) -> None:
    text, request, why = FALSE[case]
    with pytest.raises(RequestRefused, match=why):
        check_settings(request, hospital(settings(text)))


TRUE = {
    "fedprox": (FEDPROX, train(proximal_mu=0.1)),
    "feddyn": (FEDDYN, train("feddyn", feddyn_alpha=0.25)),
    "scaffold": ("[strategy]\nname = 'scaffold'\n", train("scaffold", "control")),
    "an own one": (OWN + MASKED, train(proximal_mu=0.5, slow_start=2)),
    "an own one, seen anyway": (OWN, train("plain", "more", round_robin=7)),
    "a best round": ("", EvaluateRequest(SentModel(ArrayRecord(), 3), best_round=2)),
}


@pytest.mark.parametrize("case", TRUE)
def test_what_the_plan_has_is_taken(settings: Settings, case: str) -> None:
    text, request = TRUE[case]
    check_settings(request, hospital(settings(text)))


def test_a_simulated_hospital_is_asked_with_others(settings: Settings) -> None:
    sent = SentModel(ArrayRecord(), 3, clients=(1, 2))
    request = TrainRequest(sent, weighting="uniform")
    check_settings(request, hospital(settings(""), simulated=True))


def test_the_server_is_told_and_nothing_is_trained(
    federate: Federate, settings: Settings, shards: Shards
) -> None:
    def lying(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            if message.metadata.message_type == m.TRAIN:
                config = dict(message.content[m.CONFIG]) | {"proximal-mu": 1e6}
                message.content[m.CONFIG] = ConfigRecord(config)
            return app(message, context)

        return answer

    text = FEDPROX + "[federation]\nretry_wait_s = 0\n"
    with pytest.raises(RoundFailed, match="proximal-mu is 1000000.0, this hospital's 0.1"):
        federate(settings(text), shards, wrap=lying)


# --- what is proposed for privacy ----------------------------------------------------------------
SUMMED = (
    "[privacy]\nunit = 'example'\nnoise = 'distributed'\nepsilon = 4.0\nclipping_norm = 2.0\n"
    "[secure_aggregation]\nenabled = true\n[training]\nbatch_size = 20\nlocal_steps = 1\n"
)
ADAPTIVE = (
    "[privacy]\nunit = 'hospital'\nepsilon = 4.0\nclipping_norm = 2.0\nclipping = 'adaptive'\n"
    "clipping_lr = 0.5\ntarget_quantile = 0.25\n"
)


def proposed(config: Config, rate: float, units: float, norm: float) -> Proposal:
    """Of round 3, at a hospital of four that announced 57 units."""
    terms = PrivacyTerms("run", 3, 4, rate, units, norm)
    request = TrainRequest(SentModel(ArrayRecord(), 3), privacy=terms)
    return Proposal.of(request, hospital(config), 57)


def test_the_common_rate_and_the_expected_units_are_in_their_bounds(settings: Settings) -> None:
    """With four hospitals and one unit at each other: q = 20 x 4 / 60, so 1, and 60 / 4 of them."""
    config = settings(SUMMED)
    for rate, units in ((0.1, 20.0), (1e-3, 20.0), (1.0, 15.0), (1.0, 20.0)):
        assert proposed(config, rate, units, 2.0).expected_units == units
    for rate, units in ((0.1, 19.0), (0.1, 21.0), (0.1, 1e-6), (1.0, 14.0), (1.0, 20.1)):
        with pytest.raises(RequestRefused, match="expected-units is .* settings give"):
            proposed(config, rate, units, 2.0)
    few = settings(SUMMED.replace("batch_size = 20", "batch_size = 6"))
    assert proposed(few, 0.4, 6.0, 2.0).rate == 0.4  # 6 x 4 / 60
    with pytest.raises(RequestRefused, match="sampling-rate is 0.41, .* settings give 0 to 0.4"):
        proposed(few, 0.41, 6.0, 2.0)


def test_a_clipping_norm_is_the_settings_or_what_rounds_can_make_of_it(settings: Settings) -> None:
    """Two rounds before: from 2 exp(-0.5 x 0.75 x 2) to 2 exp(0.5 x 0.25 x 2)."""
    with pytest.raises(RequestRefused, match="clipping-norm is 3, this hospital's .* give 2$"):
        proposed(settings(SUMMED), 0.1, 20.0, 3.0)
    config = settings(ADAPTIVE)
    for norm in (0.9448, 1.0, 2.0, 2.568):
        assert proposed(config, 1.0, 1.0, norm).norm == norm
    for norm in (0.944, 2.569, 1e9):
        with pytest.raises(RequestRefused, match="settings give 0.944733 to 2.56805"):
            proposed(config, 1.0, 1.0, norm)
