"""A server that dies while a masked sum is opened: hospitals train once, are asked for one survivor
set, and the run ends as if nothing had happened; or else under keys that were never used."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.restarts import (
    Watch,
    forget_ledgers,
    killed_in_round_2,
    killing,
    lives,
    result,
)
from wardround.common.errors import RoundFailed
from wardround.common.privacy.noise import NoiseSource
from wardround.common.protocol import names as m
from wardround.common.secagg import messages as wire
from wardround.common.secagg.ring import RingVector
from wardround.common.tasks.base import Examples
from wardround.server.rounds import commits
from wardround.server.secagg import journal as journals
from wardround.server.secagg.journal import Journal

pytestmark = pytest.mark.usefixtures("exact_parts")

FIVE = (
    "[federation]\nrounds = 2\nmin_clients = 3\n[data]\ntest_fraction = 0.25\n"
    "[secure_aggregation]\nenabled = true\nthreshold = 0.5\nmin_cohort = 2\n"
)
PRIVATE = FIVE + "[privacy]\nunit = 'hospital'\nnoise_multiplier = 1.0\nnoise = 'distributed'\n"
ONCE = Counter({(number, name): 1 for number in (1, 2) for name in "abcde"})
SUMS = ["statistics 0", "train 1", "evaluate 1 0", "train 2", "evaluate 2 0"]


@pytest.fixture
def five() -> dict[str, Examples]:
    """Five hospitals of 8 to 24 rows with optima of their own."""
    generator = torch.Generator().manual_seed(3)
    shards = {}
    for index, name in enumerate("abcde"):
        x = torch.rand(8 + 4 * index, 1, generator=generator) + 0.5
        shards[name] = Examples(x, x[:, 0] * (index - 1))
    return shards


@pytest.fixture
def scaled(line: Any) -> Any:
    """The line with a preparation in common: inputs divided by the federation's mean."""

    class Scaled(line):  # type: ignore[misc]
        phases = 1

        def statistics(self, train: Examples, phase: int, totals: Any) -> Any:
            inputs = train.inputs.double()
            return {"sum": inputs.sum(0).numpy(), "rows": torch.ones(1).double().numpy()}

        def prepare(self, raw: Examples, totals: Any, train: Examples) -> Examples:
            scale = float(totals["sum"][0] / totals["rows"][0])
            return Examples(raw.inputs / scale, raw.targets)

    return Scaled()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What a run leaves that nothing disturbs, by its settings; filled by who needs it first."""
    return {}


POINTS = {
    "before the journal": (Journal, "write", "before", lambda j, entry, v: entry.purpose),
    "after the journal": (Journal, "write", "after", lambda j, entry, v: entry.purpose),
    "before the answers": (Journal, "write_answers", "before", lambda j, purpose, s, t: purpose),
    "after the answers": (Journal, "write_answers", "after", lambda j, purpose, s, t: purpose),
}


@pytest.mark.parametrize(
    ("point", "purpose"),
    [
        *(("after the journal", purpose) for purpose in SUMS),
        ("before the journal", "train 1"),
        ("before the journal", "evaluate 2 0"),
        ("before the answers", "statistics 0"),
        ("before the answers", "train 2"),
        ("after the answers", "evaluate 1 0"),
        ("after the answers", "train 2"),
    ],
)
def test_killed_beside_the_journal(
    federate: Any,
    settings: Any,
    five: Any,
    scaled: Any,
    monkeypatch: Any,
    undisturbed: dict[str, Any],
    point: str,
    purpose: str,
) -> None:
    """(test_kill_unmask_points.py kills at every fifth of a server's writes.)"""
    config, watch = settings(FIVE), Watch()
    if FIVE not in undisturbed:
        undisturbed[FIVE] = result(federate(config, five, task=scaled).directory)
    owner, name, when, purpose_of = POINTS[point]
    killing(monkeypatch, owner, name, when, lambda *args: purpose_of(*args) == purpose)
    run = lives(federate, config, five, watch, task=scaled)
    assert result(run.directory) == undisturbed[FIVE]
    watch.check_one_set_each()
    twice = [key for key, count in watch.trained.items() if count > 1]
    burnt = point == "before the journal" and purpose.startswith("train")
    assert len(twice) == (5 if burnt else 0)
    assert {number for number, _ in twice} <= {int(purpose.split()[1])}
    assert not run.directory.journal.exists()


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("count", range(1, 26, 6))
def test_killed_between_requests_to_unmask(
    federate: Any,
    settings: Any,
    five: Any,
    scaled: Any,
    tmp_path: Path,
    undisturbed: dict[str, Any],
    count: int,
    private: bool,
) -> None:
    """From before the first of them to after some of each sum's five."""
    text = PRIVATE + "clipping = 'adaptive'\n" if private else FIVE
    config = settings(text)
    if text not in undisturbed:
        undisturbed[text] = result(federate(config, five, task=scaled).directory)
        forget_ledgers(tmp_path)
    watch = Watch(lambda kind, name, number: (kind, number) == (m.UNMASK, count))
    run = lives(federate, config, five, watch, task=scaled)
    assert result(run.directory) == undisturbed[text]
    assert watch.deaths == 1 and watch.trained == ONCE
    watch.check_one_set_each()


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_commit(
    federate: Any, settings: Any, five: Any, monkeypatch: Any, when: str
) -> None:
    """Before it, both sums of the round are opened from the disk with no hospital asked; after it,
    the journal is of a round that is over."""
    config, watch = settings(FIVE), Watch()
    whole = federate(config, five)
    killing(monkeypatch, commits, "write_checkpoint", when, lambda _, state: state.round == 1)
    run = lives(federate, config, five, watch)
    assert result(run.directory) == result(whole.directory)
    assert watch.deaths == 1 and watch.trained == ONCE
    assert (watch.count[m.UNMASK], watch.count[m.EVALUATE]) == (20, 10)
    watch.check_one_set_each()


@pytest.mark.parametrize("kind", [m.TRAIN, m.EVALUATE])
def test_killed_in_a_later_attempt_at_a_round(
    federate: Any, settings: Any, five: Any, kind: str
) -> None:
    """Attempt, cohort and refusals are those of the attempt that is in the journal."""
    config = settings(FIVE.replace("rounds = 2", "rounds = 2\nclients_per_round = 4"))

    def failing() -> Any:
        left = iter(range(4 if kind == m.TRAIN else 5))

        def fail(message: Any, name: str) -> str | None:
            second = message.content[m.CONFIG].get(m.ROUND, 0) == 2
            asked = message.metadata.message_type == kind
            return "lost" if second and asked and next(left, None) is not None else None

        return fail

    whole = federate(config, five, intercept=failing())
    rows = result(whole.directory)[1]
    assert rows[1]["attempt"] == (2 if kind == m.TRAIN else 1)
    assert len(rows[1]["refused"]) == (0 if kind == m.TRAIN else 6)
    first = 9 + 2 if kind == m.TRAIN else 9 + 4 + 2
    watch = Watch(lambda asked, name, count: (asked, count) == (m.UNMASK, first))
    run = lives(federate, config, five, watch, intercept=failing())
    assert watch.deaths == 1 and result(run.directory) == result(whole.directory)
    assert set(watch.trained.values()) == {1}
    watch.check_one_set_each()


def test_killed_again_and_again(
    federate: Any, settings: Any, five: Any, scaled: Any, monkeypatch: Any
) -> None:
    """After each journal, before all answers to it are here, and when they are durable."""
    config = settings(FIVE)
    whole = federate(config, five, task=scaled)
    for name in ("write", "write_answers"):
        killing(monkeypatch, Journal, name, "after", lambda *args: True, times=len(SUMS))
    watch = Watch(lambda kind, name, count: kind == m.UNMASK and count % 8 == 3)
    run = lives(federate, config, five, watch, task=scaled)
    assert result(run.directory) == result(whole.directory)
    assert watch.deaths == 3 * len(SUMS) and watch.trained == ONCE
    watch.check_one_set_each()


def test_no_budget_is_charged_again_and_a_spent_one_is_remembered(
    federate: Any, settings: Any, five: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Of three rounds the budget covers two. The claims of the second say so, from the journal
    too: nobody is asked for a third."""
    config = settings(PRIVATE)
    limit = federate(config, five).recorder.rows[1]["privacy"]["a"]["epsilon"] + 1e-9
    three = (PRIVATE + f"epsilon_limit = {limit}\n").replace("rounds = 2", "rounds = 3")
    killing(monkeypatch, Journal, "write", "after", lambda j, e, v: e.purpose == "train 2")
    forget_ledgers(tmp_path)
    watch = Watch()
    run = lives(federate, settings(three), five, watch)
    assert watch.deaths == 1 and watch.trained == ONCE
    assert "privacy budget" in run.directory.summary()["ended_early"]
    assert [row["privacy"]["a"]["epsilon"] <= limit for row in run.recorder.rows] == [True]


def test_a_sum_that_is_opened_twice_has_one_central_noise(
    federate: Any, settings: Any, five: Any, monkeypatch: Any
) -> None:
    """Two draws of a server's noise on one sum would tell twice what was paid for once: the models
    of a round that hospitals are asked to evaluate, before and after the crash, are one."""
    monkeypatch.setattr(NoiseSource, "seeded", lambda *parts: NoiseSource.system())
    config = settings(PRIVATE.replace("'distributed'", "'central'"))
    watch = Watch(lambda kind, name, count: (kind, count) == (m.EVALUATE, 3))
    run = lives(federate, config, five, watch)
    assert watch.deaths == 1 and watch.trained == ONCE and watch.count[m.EVALUATE] == 13
    assert [len(models) for models in watch.models.values()] == [1, 1]
    again = federate(config, five)
    assert again.weight() != run.weight(), "the noise is the operating system's"


# --- what can't be opened -------------------------------------------------------------------------
@pytest.mark.parametrize("damage", ["cut", "flipped head", "flipped sum", "of another round"])
def test_a_journal_that_is_torn_or_of_another_round_is_not_used(
    federate: Any, settings: Any, five: Any, damage: str
) -> None:
    config, watch = settings(FIVE), Watch()
    whole = federate(config, five)
    stopped, path = killed_in_round_2(federate, config, five, watch, 0)
    data = bytearray(path.read_bytes())
    if damage == "of another round":
        path.rename(path.with_name("train-3.journal"))
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        data[100 if damage == "flipped head" else -40] ^= 1
        path.write_bytes(data)
    run = federate(config, five, grid=stopped.grid, directory=stopped.directory)
    assert result(run.directory) == result(whole.directory)
    watch.check_one_set_each()
    assert {watch.trained[2, name] for name in "abcde"} == {2}, "afresh"
    assert len({group for group, _ in watch.asked}) == 2, "under other keys"
    assert watch.refused == []


@pytest.mark.parametrize("answered", [2, 3])
def test_who_gave_shares_for_a_lost_sum_takes_part_in_no_other(
    federate: Any, settings: Any, five: Any, answered: int
) -> None:
    """Its difference to the first would be one hospital's numbers. The others make the round
    without them; where they are too few it is lost, and the run goes on with the next."""
    config, watch = settings(FIVE), Watch()
    stopped, path = killed_in_round_2(federate, config, five, watch, answered)
    path.unlink()
    run = federate(config, five, grid=stopped.grid, directory=stopped.directory)
    (row,) = run.recorder.rows
    gave = "abcde"[:answered]
    reasons = {one["hospital"]: one["reason"] for one in row["refused"]}
    if answered == 2:
        assert row["accepted"] == list("cde") and set(reasons) == set(gave)
        assert all("takes part in no other one" in reason for reason in reasons.values())
    else:
        assert row["accepted"] == [] and "3 hospitals gave shares" in row["lost"]
        before = stopped.directory.rounds()[0]
        assert row["overall"] == before["overall"], "the model stays"
    watch.check_one_set_each()


def test_other_settings_or_another_roster(federate: Any, settings: Any, five: Any) -> None:
    """Nobody is even asked to open what was summed under the old ones."""
    watch, later = Watch(), Watch()
    stopped, _ = killed_in_round_2(federate, settings(FIVE), five, watch, 2)
    changed = settings(FIVE + "[training]\nlr = 0.2\n")
    federate(changed, five, wrap=later, directory=stopped.directory)
    assert later.trained[2, "a"] == 1 and not later.asked.keys() & watch.asked.keys()
    later.check_one_set_each()


@pytest.mark.parametrize("answered", [0, 2])
def test_who_left_the_roster_meanwhile_is_in_the_sum_all_the_same(
    federate: Any, settings: Any, five: Any, answered: int
) -> None:
    """What was uploaded outlives its owner's membership: the others open it without 'e'."""
    config, watch = settings(FIVE), Watch()
    stopped, _ = killed_in_round_2(federate, config, five, watch, answered)
    four = {name: shard for name, shard in five.items() if name != "e"}
    stopped.grid.clients.names = list(four)
    run = federate(config, four, grid=stopped.grid, directory=stopped.directory)
    assert run.directory.rounds()[1]["accepted"] == list("abcde")
    assert {watch.trained[2, name] for name in "abcde"} == {1}, "nobody trained it again"
    watch.check_one_set_each()


@pytest.mark.parametrize("answered", [0, 2])
def test_a_private_round_whose_roster_changed_meanwhile_is_done_afresh(
    federate: Any, settings: Any, five: Any, tmp_path: Path, answered: int
) -> None:
    """Its noise was for a cohort of five. Every hospital accounts for both, and says so."""
    config, watch, later = settings(PRIVATE), Watch(), Watch()
    stopped, _ = killed_in_round_2(federate, config, five, watch, answered)
    four = {name: shard for name, shard in five.items() if name != "e"}
    run = federate(config, four, wrap=later, directory=stopped.directory)
    row = run.directory.rounds()[1]
    assert row["accepted"] == list("abcd") and run.recorder.failures == []
    assert {later.trained[2, name] for name in "abcd"} == {1}
    assert not later.asked.keys() & watch.asked.keys()
    spent = [row["privacy"]["a"]["epsilon"] for row in run.directory.rounds()]
    forget_ledgers(tmp_path)
    whole = federate(config, four)
    assert spent[1] > whole.directory.rounds()[1]["privacy"]["a"]["epsilon"] > spent[0]


def test_hospitals_that_lost_their_memory(federate: Any, settings: Any, five: Any) -> None:
    config, watch, later = settings(FIVE), Watch(), Watch()
    whole = federate(config, five)
    stopped, _ = killed_in_round_2(federate, config, five, watch, 2)
    run = federate(config, five, wrap=later, directory=stopped.directory)
    assert run.outcome.model["weight"] == whole.outcome.model["weight"]
    assert later.trained[2, "a"] == 1 and run.recorder.failures == []
    assert len(later.refused) == 5 and "doesn't know that group" in later.refused[0]
    later.check_one_set_each()


@pytest.mark.parametrize("answered", [0, 2, 3])
def test_a_server_that_swaps_the_survivors_in_its_journal_learns_nothing(
    federate: Any, settings: Any, five: Any, answered: int
) -> None:
    """With a right checksum. Those who had answered refuse; what the others give opens no sum, for
    the masks of who was left out don't cancel. No other sum of the round is to be had."""
    config, watch = settings(FIVE), Watch()
    stopped, path = killed_in_round_2(federate, config, five, watch, answered)
    entry, vector = journals._read_head(path).entry, RingVector(32, 1, 6)
    journals._read_vector(path, vector)
    fewer = {}
    for name in "abcd":
        request = wire.UnmaskRequest.from_bytes(entry.requests[name])
        fewer[name] = replace(request, survivors=(0, 1, 2, 3)).to_bytes()
    lie = entry.model_copy(update={"requests": fewer}).model_dump_json().encode()
    journals._write(path, lie, vector.data())
    if not answered:
        with pytest.raises(RoundFailed, match="the masks don't cancel"):
            federate(config, five, grid=stopped.grid, directory=stopped.directory)
    else:
        run = federate(config, five, grid=stopped.grid, directory=stopped.directory)
        row = run.recorder.rows[0]
        assert row["accepted"] == [] and "take part in no other" in row["lost"]
        refused = {reason for reason in watch.refused if "another survivor set" in reason}
        assert len(refused) == 1 and len(watch.refused) >= answered
    assert {watch.trained[2, name] for name in "abcde"} == {1}
    watch.check_one_answer_each()


@pytest.mark.parametrize(("away", "attempts"), [("cde", 2), ("ae", 1)])
def test_some_survivors_come_back(
    federate: Any, settings: Any, five: Any, away: str, attempts: int
) -> None:
    """Three of five have to answer; all five are in the sum, also those who are gone. With fewer it
    is opened when the others are back."""
    config, watch = settings(FIVE), Watch()
    whole = federate(config, five)
    stopped, _ = killed_in_round_2(federate, config, five, watch, 1)
    watch.away = away
    run = federate(config, five, grid=stopped.grid, directory=stopped.directory)
    assert result(run.directory)[0] == result(whole.directory)[0]
    assert run.recorder.rows[0]["accepted"] == list("abcde")
    assert len(run.recorder.failures) == attempts - 1
    assert {watch.trained[2, name] for name in "abcde"} == {1}
    watch.check_one_set_each()
