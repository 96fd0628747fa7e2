"""Attacks on a single hospital's numbers that worked once, each by its own name."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.federate import Federate, Line, examples
from tests.lying import hospitals
from tests.lying.hospitals import HereSite, Rows, Study, study
from tests.lying.server import Ask, LyingServer
from wardround.client.algorithms import ALGORITHMS
from wardround.client.data.hospital import Place
from wardround.client.privacy.account import open_ledger
from wardround.client.privacy.book import SharedBook
from wardround.client.privacy.round import noise_source
from wardround.client.requests.received import totals_of
from wardround.client.secagg import masking
from wardround.client.secagg.upload import PendingUpload, part_of
from wardround.common.errors import ConfigError, PrivacyRefused, RequestRefused, RoundFailed
from wardround.common.figures.figure import BINARY
from wardround.common.figures.intervals import figure_variances
from wardround.common.figures.sums import Sums, binary_figures, binary_sums
from wardround.common.figures.within import STEPS, VARIANCE_STEPS, own_sums
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.emulated import emulated_group
from wardround.common.secagg.encoding import FAILED
from wardround.common.secagg.equations import FURTHER
from wardround.common.secagg.messages import TaskRequest
from wardround.common.secagg.rounding import KeyRounding
from wardround.common.tasks.base import Examples
from wardround.server.secagg import gatherer
from wardround.server.secagg.sum import KeyGroup

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


class Emulating(LyingServer):
    """Asks for sums of a group that has no keys, as a simulation's server does."""

    group: bytes | None = None

    def _task(self, ask: Ask, group: KeyGroup) -> TaskRequest:
        task = super()._task(ask, group)
        fields = "index", "purpose", "bits", "clip", "largest_weight", "fine"
        values = {name: getattr(task, name) for name in fields}
        return TaskRequest(self.group or task.group, **values)


def test_sums_of_a_group_without_keys() -> None:
    """The same numbers leave a simulated hospital without a mask. Here nothing leaves, whatever
    number of clients the group's id tells, and the sums of those with keys are had as ever."""
    server = Emulating(study())
    for ask in HONEST:
        for clients in (1, 5, 2**32 - 1):
            server.group = emulated_group(clients)
            before = len(server.refusals)
            assert server.play(ask) is None
            told = [why for name, why in server.refusals[before:] if name != "server"]
            assert len(told) == 5 and all("doesn't know that group" in why for why in told)
        server.group = None
        assert server.play(ask) is not None
    assert not server.leaks


@pytest.mark.parametrize("ask", HONEST[1:])
def test_a_message_for_many_is_for_no_hospital(ask: Ask) -> None:
    """A simulation's cohorts are asked so, and answer with more than one hospital may."""
    server = LyingServer(study())
    for one in HONEST[: HONEST.index(ask)]:
        assert server.play(one) is not None
    for crafted in (replace(ask, config={"clients": [1, 2, 3]}), replace(ask, plain=True)):
        assert server.play(crafted) is None
    assert server.told("is for many clients, and this is one hospital") and not server.leaks
    assert server.play(ask) is not None


def test_what_derives_from_a_seed_is_a_simulations() -> None:
    """The plan's seed is known to the server: rounding or noise by it would be no secret. Nor is
    there a place without keys, or a ledger among others', between machines."""
    hospital = here(study()).hospital
    assert not hospital.simulated and not hospital.emulates_masks and hospital.book is None
    one, other = (masking.rounding_of(hospital, "train 1") for _ in range(2))
    assert isinstance(one, KeyRounding) and isinstance(other, KeyRounding)
    assert one.key != other.key
    first, second = (noise_source(hospital, "privacy", 1) for _ in range(2))
    assert not first.simulated and first.random_bytes(16) != second.random_bytes(16)
    with pytest.raises(ValueError, match="only a simulated hospital's masks"):
        Place(emulates_masks=True)
    hospital.book = SharedBook(Path("book"))
    with pytest.raises(PrivacyRefused, match="a simulation's"):
        open_ledger(hospital)


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


def solutions(total: float, rows: tuple[int, int, int], positives: int, close: float) -> set[Any]:
    """Classes and areas of three hospitals whose areas have this sum: all of
    (p1, p2, p3, area 1, area 2, area 3). An area is k / (2 p (n - p)) for a whole k."""
    found = set()
    for p1, p2 in itertools.product(range(1, rows[0]), range(1, rows[1])):
        p3 = positives - p1 - p2
        if not 1 <= p3 < rows[2]:
            continue
        sizes = [2 * p * (n - p) for p, n in zip((p1, p2, p3), rows, strict=True)]
        areas = [np.arange(size + 1) / size for size in sizes]
        third = total - areas[0][:, None] - areas[1][None]
        whole = np.round(third * sizes[2])
        fits = (np.abs(third - whole / sizes[2]) < close) & (whole >= 0) & (whole <= sizes[2])
        for a, b in zip(*np.nonzero(fits), strict=True):
            found.add((p1, p2, p3, areas[0][a], areas[1][b], whole[a, b] / sizes[2]))
    return found


def test_three_areas_from_their_sum() -> None:
    """By an honest server, too: rows are announced, positives are summed. Of some rounds' exact
    sums four choices of the hospitals' positives are left of 90, and few areas for each."""
    rng, rows = np.random.default_rng(4), (13, 17, 19)
    truth = [rng.permutation(np.arange(n) < n // 3) for n in rows]
    within = [figure for figure in BINARY if figure.name == "auc"]
    exact, told, spreads = [], [], []
    for _ in range(3):  # rounds
        sums = [
            binary_sums(rng.permutation(n) / n, y.astype(int))
            for n, y in zip(rows, truth, strict=True)
        ]
        own = [binary_figures(one) for one in sums]
        exact.append(math.fsum(one["auc"] for one in own))
        pairs = zip(own, sums, strict=True)
        added = [own_sums(a, within, figure_variances(a, b))["within:auc"] for a, b in pairs]
        told.append(math.fsum(one[1] for one in added))
        spreads.append(math.fsum(one[3] for one in added))
    positives = sum(n // 3 for n in rows)

    def possible(one: Any, spread: float) -> bool:
        """Whether classes and areas allow so large a variance: at most area (1 - area), times
        1 / (p - 1) + 1 / (n - p - 1). It may be as small as it likes."""
        most = 0.0
        for p, n, area in zip(one[:3], rows, one[3:], strict=True):
            if not 1 < p < n - 1:
                return True
            most += area * (1 - area) * (1 / (p - 1) + 1 / (n - p - 1))
        return most > spread - 3 / VARIANCE_STEPS

    def classes(sums: list[float], close: float) -> set[Any]:
        each = [
            {one[:3] for one in solutions(x, rows, positives, close) if possible(one, spread)}
            for x, spread in zip(sums, spreads, strict=True)
        ]
        return set.intersection(*each)

    right = tuple(n // 3 for n in rows)
    assert right in classes(exact, 1e-12) and len(classes(exact, 1e-12)) <= 4
    assert right in classes(told, 1.5 / STEPS) and len(classes(told, 1.5 / STEPS)) > 60
    assert len(solutions(told[0], rows, positives, 1.5 / STEPS)) > 10_000


SCAFFOLD = """
[strategy]
name = "scaffold"
[training]
local_epochs = 1
batch_size = 4
[secure_aggregation]
enabled = true
min_cohort = 3
colluding = 1
clip = 8.0
"""


def test_two_sums_of_one_update(
    federate: Federate, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCAFFOLD's control variates are the update once more, with another factor: of the two
    hospitals that are left beside one that colludes, both updates came out. By an honest server."""
    shards = {
        name: examples([float(i + 1)] * n, [2.0 + i] * n)
        for i, (name, n) in enumerate(zip("abc", (4, 8, 16), strict=True))
    }
    with pytest.raises(ConfigError, match="an update is told in 2 sums with strategy 'scaffold'"):
        federate(settings(SCAFFOLD), shards, Line())
    monkeypatch.setattr("wardround.server.secagg.group_limits.too_few", lambda *args: "")
    with pytest.raises(RoundFailed, match="an update is told in 2 sums with strategy 'scaffold'"):
        federate(settings(SCAFFOLD), shards, Line())
    own, opened = dict[str, Any](), dict[str, Any]()
    finish, means = masking.finish_upload, gatherer.means

    def watched(pending: Any, hospital: Any, update: Any, *args: Any) -> Any:
        own[hospital.name] = {k: float(part_of(x, slice(1))[0]) for k, x in update.items()}
        return finish(pending, hospital, update, *args)

    def seen(layout: Any, total: Any, *args: Any) -> Any:
        for name, words in layout.update_words(total.update).items():
            opened[name] = float(words.view(np.int32)[0]) * total.step
        return means(layout, total, *args)

    monkeypatch.setattr(masking, "finish_upload", watched)
    monkeypatch.setattr(gatherer, "means", seen)
    monkeypatch.setattr("wardround.client.requests.job.too_few", lambda *args: "")
    federate(settings(SCAFFOLD), shards, Line())
    weight, control = "arrays/weight", "control/weight"
    factors = -1 / (np.array([1, 2]) * settings(SCAFFOLD).training.lr)  # steps follow from rows
    left = [opened[name] - own["c"][name] for name in (weight, control)]
    solved = np.linalg.solve(np.array([np.ones(2), factors]), left)
    assert solved == pytest.approx([own["a"][weight], own["b"][weight]], rel=1e-3)


def test_what_is_told_twice_is_known() -> None:
    for name, algorithm in ALGORITHMS.items():
        job = SimpleNamespace()
        assert len(algorithm.reply_records(job, {})) == FURTHER.get(name, 0)  # type: ignore[arg-type]


def test_as_many_steps_everywhere_make_one_sum(federate: Federate, settings: Any) -> None:
    """Then the control variates are a multiple of the update, and tell nothing more."""
    shards = {
        name: examples([1.0] * n, [2.0] * n) for name, n in zip("abc", (4, 8, 16), strict=True)
    }
    run = federate(settings(SCAFFOLD.replace("epochs", "steps")), shards, Line())
    assert len(run.directory.rounds()) == 1


def zeros(pending: PendingUpload) -> tuple[bytes, memoryview]:
    """What a hospital that fails sent before."""
    nothing = {name: np.zeros(spec.shape) for name, spec in pending.layout.update.items()}
    return pending.finish(nothing, {FAILED: np.ones(1)})


class Crafted(Rows):
    """A second phase, for which all hospitals but a have rows that the totals don't fit."""

    phases = 2

    def statistics(self, train: Examples, phase: int, totals: Sums) -> Sums:
        if phase and len(train) > 7:
            raise KeyError("a category that the totals don't have")
        return super().statistics(train, phase, totals)


def test_totals_that_only_one_hospitals_rows_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others added zeros: the sum was this hospital's. Now they add what hides it."""
    monkeypatch.setattr(hospitals, "Rows", Crafted)
    for hidden in (True, False):
        server = LyingServer(study(3))
        assert server.play(Ask("statistics", 0)) is not None
        total = server.play(Ask("statistics", 1))
        assert total is not None and server.partial == [(("run-1", "statistics", 1), 1)]
        truth = server.truth(Ask("statistics", 1), "a")
        found = np.isclose(truth[:, None], total.exact[None]).any(1)
        assert found.tolist() == [not hidden] * 5
        monkeypatch.setattr(PendingUpload, "fail", zeros)


def test_a_first_model_of_the_servers_choice() -> None:
    """Round 1's weights are what every hospital makes from the seed, or what the plan has."""
    server = LyingServer(study())
    assert server.play(Ask("statistics", 0)) is not None
    assert server.play(Ask("train", 1, model="crafted")) is None
    assert server.told("round 1 begins with other weights than this hospital makes")
    assert server.play(Ask("train", 1)) is not None
