"""Attacks on a single hospital's numbers that worked once, each by its own name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.lying.hospitals import HereSite, Rows, Study, study
from tests.lying.server import Ask, LyingServer
from wardround.client.requests.received import totals_of
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.protocol.totals import Totals

HONEST = [Ask("statistics", 0), Ask("train", 1), Ask("evaluate", 1)]


def here(found: Study, name: str = "a") -> HereSite:
    site = found.sites[name]
    assert isinstance(site, HereSite)
    return site


def test_a_phase_that_the_task_hasnt_got() -> None:
    """A task that doesn't look at the number gives the same sums again, over others: the difference
    is one hospital. A table gave a histogram more, of bins of the server's choice, for each."""
    server = LyingServer(study())
    assert server.play(Ask("statistics", 0)) is not None
    assert server.play(Ask("statistics", 1, members="abcd")) is None
    assert server.told("the preparation of this hospital's task has 1 phase")
    assert server.play(Ask("train", 1)) is not None


def test_unopened_rounds_that_push_a_model_out_of_memory() -> None:
    """The model that was evaluated after a round is the one that training goes on from, whatever
    was asked and not opened in between."""
    server = LyingServer(study())
    for ask in HONEST:
        assert server.play(ask) is not None
    for number in (2, 3):  # nobody gives shares
        server.play(Ask("evaluate", number, silent="abcde"))
    assert server.play(Ask("train", 2, model="crafted")) is None
    assert server.told("the model isn't the one of round 1")
    assert server.play(Ask("train", 2)) is not None


def test_totals_under_the_name_of_others() -> None:
    """The bytes that are pinned, under the digest of others that came before: the others were
    taken."""
    own, crafted = ({"rows": np.array([x]), "sum": np.arange(4.0)} for x in (3.0, 5.0))
    right, wrong = Totals.of(own), Totals.of(crafted)
    assert totals_of(wrong)[0]["rows"] == 5.0
    with pytest.raises(RequestRefused, match="doesn't match its digest"):
        totals_of(Totals(right.record, wrong.digest))
    assert totals_of(right)[0]["rows"] == 3.0


def test_a_crafted_question_that_is_refused_meets_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that isn't the run's was refused only after it had been trained: what failed then
    was counted, and the hospital that stopped after some said so."""
    found = study()
    server = LyingServer(found)
    assert server.play(Ask("statistics", 0)) is not None
    server.play(Ask("evaluate", 1, silent="abcde"))
    failures: list[str] = []
    here(found).hospital.on_failure = lambda purpose, reason: failures.append(purpose)

    def fails(*args: Any) -> Sums:
        raise MemoryError

    monkeypatch.setattr(Rows, "metrics", fails)
    assert server.play(Ask("evaluate", 1, model="crafted")) is None
    assert server.told("others than in an earlier attempt")
    assert failures == []
    server.play(Ask("evaluate", 1))
    assert failures == ["evaluate 1"]


class Later(LyingServer):
    """Asks for the shares once another run was begun."""

    def _unmask(self, ask: Ask, masked: Any) -> None:
        for name in self._names:
            self._show(name, Ask(run="run-2"))
        super()._unmask(ask, masked)


def test_shares_for_a_run_that_is_over() -> None:
    """Who rejects a run's plan takes back what wasn't opened of it: under another run's plan, which
    nobody rejected, it was."""
    server = Later(study())
    assert server.play(Ask("statistics", 0, run="run-2")) is not None
    assert server.play(Ask("train", 1)) is None
    assert server.told("is of another run than the one that is accepted now")
