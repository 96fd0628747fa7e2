"""An update that is trained first and sent later: its model is fixed when it is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.secagg.driver import CONTENT
from tests.secagg.test_opened_once import RUN, ask
from wardround.client.secagg.asked import Asked
from wardround.client.secagg.contributions import Contributions, OtherThanBefore
from wardround.common.errors import ProtocolRefused, SharesGiven
from wardround.common.protocol import names as m
from wardround.common.secagg.content import Digests


def trained(number: int, model: bytes, totals: bytes = b"t") -> Asked:
    return ask("train", number, digests=Digests({m.ARRAYS: model, m.TOTALS: totals}, CONTENT))


def sent(number: int) -> Asked:
    """Of a request that brings no array."""
    one = ask("train", number, digests=Digests({}, CONTENT))
    return replace(one, step=replace(one.step, kept=True))


def test_model_and_totals_are_one_for_all_who_train_on_a_version() -> None:
    record = Contributions(RUN)
    record.train(trained(1, b"first"))
    record = Contributions.of(record.values())  # a restart
    record.train(trained(1, b"first"))
    with pytest.raises(OtherThanBefore, match="isn't the one of round 0"):
        record.train(trained(1, b"crafted"))
    with pytest.raises(OtherThanBefore, match="totals are others"):
        record.train(trained(2, b"second", b"others"))
    record.train(trained(2, b"second"))
    # figures are of the model that was trained on, too
    digests = Digests({m.ARRAYS: b"crafted", m.TOTALS: b"t"}, CONTENT)
    figures = ask("evaluate", 1, "test", digests=digests)
    with pytest.raises(OtherThanBefore, match="isn't the one of round 1"):
        record.check(figures)


def test_it_is_sent_in_a_later_round_which_is_opened_once() -> None:
    record = Contributions(RUN)
    record.train(trained(1, b"first"))
    record.upload(sent(4))
    record.upload(sent(4))  # another attempt: it brings nothing, so nothing of it can differ
    record.open(["train 4"], b"one")
    with pytest.raises(SharesGiven):
        record.check(sent(4))
    for number in (2, 3):  # nothing that lies before is asked, or trained on
        with pytest.raises(ProtocolRefused, match="has helped to open a later sum"):
            record.check(sent(number))
        with pytest.raises(ProtocolRefused, match="has helped to open a later sum"):
            record.train(trained(number, b"old"))
    record.train(trained(5, b"new"))
