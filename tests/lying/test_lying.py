"""A server that lies, drawn at random, against hospitals as they are: what can it solve for?

Each of the holes that were found with real processes has a test of its own name:

| hole | its test |
|---|---|
| 1 weights and clips of the server's | here, ``test_each_field_is_held``, the controls |
| 2 a threshold below the signed one | here, ``FALSE``; tests/common/secagg/test_graph.py |
| 3 failures that answer questions | tests/secagg/test_failures.py |
| 4 persons counted by evaluations | here, ``test_a_second_question_about_a_round`` |
| 5 epsilon without delta, unit and place | tests/client/site/test_policy.py |
| 6 personal layers that the server names | tests/secagg/test_own_layers.py |
| 7 settings of an earlier plan | tests/deployment/test_settings.py |
| 8 two ledgers of one patient | tests/client/privacy/test_shared_ledger.py |
| 9 colluding hospitals in a large group | tests/common/secagg/test_graph.py |
| 10 rows in one opened sum | here, the first model is the plan's: ``FALSE`` |
| 11 bytes on a disk | tests/client/transport/test_connection.py |
| 12 a class that one patient has | tests/common/tasks/test_rare.py |
| 13 gradients that aren't per unit | tests/client/gradients/test_probes.py |
| 14 descriptions that don't expire | tests/client/site/test_kit.py |
| 15 a log without its end | tests/common/audit/test_verify.py |
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, find, given, note, settings
from hypothesis import strategies as st

from docs import sent
from tests.lying.hospitals import study
from tests.lying.server import Ask, LyingServer
from tests.lying.solving import solutions

FEWEST = 3
"""``min_cohort`` of the study."""
ROOT = Path(__file__).parents[2]
THREAT_MODEL = (ROOT / "docs" / "threat_model.md").read_text("utf-8")
CAMPAIGNS = int(os.environ.get("LYING_CAMPAIGNS", "6"))
HONEST = [Ask("statistics", 0), Ask("train", 1), Ask("evaluate", 1), Ask("train", 2)]
HONEST += [Ask("evaluate", 2), Ask("train", 3), Ask("evaluate", 3)]


def played(asked: Sequence[Ask], count: int = 5) -> LyingServer:
    server = LyingServer(study(count))
    for ask in asked:
        server.play(ask)
    return server


def told(server: LyingServer) -> list[str]:
    """What breaks the promise: fewer than ``FEWEST`` hospitals' numbers of one run's question, or
    of the same question in several runs and rounds, asked of everyone each time."""
    found = list(server.leaks)
    by_question = [(one.question, one) for one in server.equations]
    everyone = len(server.study.sites)
    # a run, and a round, are names: asked with the same arrays it is the same question
    by_content = [
        ((*_parts(one.question), one.shown), one)
        for one in server.equations
        if len(one.coefficients) == everyone
    ]
    for named in (by_question, by_content):
        renamed = [replace(one, question=question) for question, one in named]
        for question, names, _ in solutions(renamed, FEWEST):
            found.append(f"{question}: the numbers of {', '.join(sorted(names))}")
    return found


def _parts(question: Hashable) -> tuple[Any, ...]:
    """A question without its run and its number."""
    assert isinstance(question, tuple)
    return (question[1], *question[3:])


def test_the_table_of_holes_names_files_that_are_there() -> None:
    found = re.findall(r"tests/[\w/]+\.py", __doc__ or "")
    assert len(found) > 10 and all((ROOT / name).is_file() for name in found), found


# --- the campaign -----------------------------------------------------------------------------
FALSE: dict[str, tuple[str, Sequence[Any]]] = {
    "TaskRequest purpose": ("task", ["train 9", "statistics 9", "anything", ""]),
    "TaskRequest bits": ("task", [16]),
    "TaskRequest clip": ("task", [1e-9, 0.5, 1e6]),
    "TaskRequest largest_weight": ("task", [1, 8, 21, 26, 43, 66, 2**40]),
    "TaskRequest fine": ("task", [1]),
    "GroupRequest threshold": ("limits", [2, 3]),
    "GroupRequest survivors": ("limits", [1, 2, 3]),
    "GroupRequest degree": ("limits", [2, 3]),
    "GroupRequest window": ("limits", [1, 2]),
    "train config/algorithm": ("config", ["scaffold", "fednova", "unknown"]),
    "train config/proximal-mu": ("config", [0.5, 1e6]),
    "train config/feddyn-alpha": ("config", [0.5]),
    "train config/weighting": ("config", ["uniform"]),
    "train config/*": ("config", [1.0]),
    "train, evaluate config/clients": ("config", [[1, 2]]),
    "train, evaluate config/local-keys": ("config", [["weight"]]),
    "train, evaluate config/frozen": ("config", ["ab"]),
    "train, evaluate config/server-round": ("config", [0, 4, 1000]),
    "evaluate config/best-round": ("config", [9]),
    "evaluate config/judge": ("config", [1, 2]),
    "train config/run": ("config", ["another"]),
    "train config/kept": ("config", [1, 2]),
}
"""False values of fields, by how they are declared: each must be refused."""
OTHERWISE = {
    "keys": "proved by signature or transcript: tests/secagg/test_mutations.py changes every byte",
    "data": "crafted models, totals and arrays: drawn below",
    "position": "questions again, in another order, group, session or run: drawn below",
    "train config/planned-rounds": "of private runs: tests/client/site/test_gate.py",
    "train config/cohort": "of private runs: tests/client/site/test_gate.py",
    "train config/sampling-rate": "of private runs: tests/client/requests/test_settings.py",
    "train config/expected-units": "of private runs: tests/client/requests/test_settings.py",
    "train config/clipping-norm": "of private runs: tests/client/requests/test_settings.py",
    "train scales/*": "with [compression]: tests/client/requests/test_compressed.py",
    "query.describe config/protocol": "tests/common/protocol/test_messages.py",
    "with secure aggregation secagg/layout": "sums that are left out: drawn below",
    "HelloRequest session": "tests/secagg/test_attacks.py",
    "Hello name": "tests/secagg/test_attacks.py",
    "GroupRequest count": "tests/secagg/test_attacks.py",
    "GroupRequest members": "groups of some: drawn below",
    "BundleKeys name": "tests/secagg/test_mutations.py",
    "UnmaskRequest survivors": "two sets for one sum: drawn below, and asked after every sum",
    "SumsLayout names": "sums that are left out: drawn below",
    "SumsLayout shapes": "tests/secagg/test_alone.py",
    "Blind largest": "tests/secagg/test_blind.py",
    "SumsLayout bits": "tests/secagg/test_words.py",
    "SumsLayout words": "tests/secagg/test_words.py",
}


def test_every_declared_field_has_a_lie_or_a_test_elsewhere() -> None:
    fields = {f"{one.message} {one.field}": one for one in (*sent.requests(), *sent.masked())}
    assert set(FALSE) <= set(fields)
    for name, one in fields.items():
        assert name in FALSE or name in OTHERWISE or one.decided.sort in OTHERWISE, name


def _false(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    where, values = FALSE[name]
    key = name.split()[-1].rpartition("/")[2].replace("*", "mystery")
    return st.sampled_from(list(values)).map(lambda value: (where, {key: value}))


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """One question, with up to two lies in it; a third of them are honest."""
    step, number = draw(st.sampled_from(["train", "train", "train", "evaluate", "statistics"])), 0
    if step != "statistics":
        number = draw(st.sampled_from([1, 1, 1, 2, 3]))
    values: dict[str, Any] = {}
    for lie in draw(st.sampled_from([(), (1,), (1,), (1, 2)])) and draw(
        st.lists(st.sampled_from(LIES), min_size=1, max_size=2, unique=True)
    ):
        if lie == "field":
            names = [name for name in FALSE if _fits(name, step)]
            where, false = draw(st.sampled_from(names).flatmap(_false))
            values[where] = {**values.get(where, {}), **false}
        else:
            values[lie] = draw(OF_LIES[lie])
    return Ask(step, number, **values)


def _fits(name: str, step: str) -> bool:
    message = name.split(" config/")[0]
    return "Request" in message or step in message.split(", ")


_some = st.sets(st.sampled_from("abcdef"), max_size=1).map("".join)
OF_LIES: dict[str, st.SearchStrategy[Any]] = {
    "members": st.sets(st.sampled_from("abcdef"), min_size=3, max_size=5).map("".join),
    "cut": _some,
    "silent": _some,
    "halves": st.sets(st.sampled_from("abcdef"), min_size=2, max_size=4).map("".join),
    "apart": _some,
    "model": st.sampled_from(["crafted", "first"]),
    "totals": st.just("crafted"),
    "sums": st.sampled_from(["rows", "test/loss"]),
    "run": st.sampled_from(["run-2", "run-3"]),
    "plan": st.sampled_from([{"largest_weight": n} for n in (1, 8, 21, 26, 43, 66)]),
    "session": st.just(True),
    "plain": st.just(True),
}
LIES = [*OF_LIES, "run", "plan", "members", "field", "field"]
WEIGHTS = [1, 8, 12, 21, 26, 43, 66]


@st.composite
def repeated(draw: st.DrawFn) -> list[Ask]:
    """One question several times, each time with another value of the same lie."""
    question = Ask("train", draw(st.sampled_from([1, 1, 2])))
    ways: dict[str, Callable[[int], dict[str, Any]]] = {
        "in other runs": lambda i: {"run": f"run-{i + 1}"},
        "to others": lambda i: {"members": draw(OF_LIES["members"])},
        "to others, in a new session": lambda i: (
            {"members": draw(OF_LIES["members"])} | {"session": True}
        ),
        "with another weight": lambda i: {"task": {"largest_weight": WEIGHTS[-i - 1]}},
        "with another plan": lambda i: (
            {"run": f"run-{i + 1}"} | {"plan": {"largest_weight": draw(st.sampled_from(WEIGHTS))}}
        ),
        "without one": lambda i: {"cut": draw(st.sampled_from("abcdef"))},
        "as rounds": lambda i: {"number": i % 3 + 1, "model": "first", "cut": draw(_some)},
    }
    way = ways[draw(st.sampled_from(sorted(ways)))]
    return [replace(question, **way(i)) for i in range(draw(st.integers(2, 5)))]


PARTS = st.one_of(asks().map(lambda one: [one]), repeated())
CAMPAIGN = st.tuples(st.integers(3, 6), st.lists(PARTS, min_size=1, max_size=4))


def campaign(drawn: tuple[int, list[list[Ask]]]) -> list[str]:
    """What a server could tell after these questions; nothing, it is hoped."""
    count, parts = drawn
    asked = [HONEST[0], *(ask for part in parts for ask in part)]
    note(f"{count} hospitals: {asked!r}")
    server = played(asked, count)
    event(f"{sum(one.question[1] == 'train' for one in server.equations)} updates opened")  # type: ignore[index]
    return told(server)


@settings(
    max_examples=CAMPAIGNS,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to make one smaller takes minutes
)
@given(CAMPAIGN)
def test_whatever_is_drawn_nothing_is_solved_for(drawn: tuple[int, list[list[Ask]]]) -> None:
    assert campaign(drawn) == []


# --- one lie by itself ----------------------------------------------------------------------------
def test_an_honest_server_is_refused_nothing() -> None:
    server = played(HONEST)
    assert len({one.question for one in server.equations}) >= 7 and told(server) == []
    other_set = "was already opened, for another survivor set"
    assert all(other_set in why for _, why in server.refusals), server.refusals


def test_each_field_is_held() -> None:
    """By every hospital, for each false value, in the first round, where nothing else is in the
    way. What is refused changes nothing: then an honest round is."""
    server = played(HONEST[:1])
    for name, (where, values) in FALSE.items():
        key = name.split()[-1].rpartition("/")[2].replace("*", "mystery")
        step = "evaluate" if name.startswith("evaluate ") else "train"
        for value in values:
            before = len(server.refusals)
            opened = server.play(Ask(step, 1, **{where: {key: value}}))
            assert opened is None and server.leaks == [], (name, value)
            refusals = server.refusals[before:]
            assert {who for who, _ in refusals} == {*"abcde", "server"}, (name, value)
    assert server.play(Ask("train", 1)) is not None and told(server) == []


# --- that it would be found: the same server where a check is missing -----------------------------
Unchecked = Callable[..., None]
CHECKS = {
    "terms": ["wardround.client.secagg.asked.Terms.check"],
    "once": [
        "wardround.client.secagg.contributions.Contributions.check",
        "wardround.client.secagg.contributions.Contributions.open",
    ],
    "weight": ["wardround.client.requests.job.check_weight"],
}


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Unchecked:
    """Takes checks away from every hospital."""

    def take(*names: str) -> None:
        for name in names:
            for path in CHECKS[name]:
                monkeypatch.setattr(path, lambda *args: None)

    return take


def solved(server: LyingServer, question: Hashable) -> dict[str, np.ndarray]:
    """Single hospitals' numbers, as the server works them out."""
    here = [replace(x, question="it") for x in server.equations if _parts(x.question) == question]
    return {next(iter(names)): value for _, names, value in solutions(here, 2)}


def test_one_round_with_several_weights(unchecked: Unchecked) -> None:
    """The issue's attack: three equations for three hospitals, and everyone's update comes out."""
    unchecked("terms", "once")
    asked = [Ask("train", 1, task={"largest_weight": n}) for n in (7, 12, 21)]
    server = played([HONEST[0], *asked], count=3)
    found = solved(server, ("train",))
    assert sorted(found) == ["a", "b", "c"] and len(told(server)) > 3
    for name, value in found.items():
        assert value == pytest.approx(server.truth(asked[0], name), abs=2e-4)


def test_three_runs_with_three_weights(unchecked: Unchecked) -> None:
    """A new run is a new question, but not with another weight: that was the next attack."""
    runs = [Ask("train", 1, run=f"run-{n}", plan={"largest_weight": n}) for n in (7, 12, 21)]
    server = played([HONEST[0], *runs], count=3)
    assert told(server) == [] and server.told("largest weight")
    unchecked("weight")
    assert len(solved(played([HONEST[0], *runs], count=3), ("train",))) == 3


def test_one_round_over_two_groups(unchecked: Unchecked) -> None:
    asked = [HONEST[0], Ask("train", 1), Ask("train", 1, members="abcd")]
    assert told(played(asked)) == []
    unchecked("once")
    server = played(asked)
    assert solved(server, ("train",))["e"] == pytest.approx(server.truth(asked[1], "e"), abs=2e-4)


def test_a_small_clip_gives_signs(unchecked: Unchecked) -> None:
    asked = [HONEST[0], Ask("train", 1, task={"clip": 1e-9})]
    assert told(played(asked)) == []
    unchecked("terms")
    assert told(played(asked)) == ["train 1 was opened with {'clip': 1e-09}"]


def test_a_second_question_about_a_round(unchecked: Unchecked) -> None:
    """Two crafted models for one evaluation count who is in it: one is all that there is."""
    asked = [HONEST[0], Ask("evaluate", 1, model="crafted"), Ask("evaluate", 1, model="first")]
    assert len({one.shown for one in played(asked).equations[2:]}) == 1
    unchecked("once")
    assert len({one.shown for one in played(asked).equations[2:]}) == 1  # the digest is pinned


def test_the_campaign_finds_a_missing_check(unchecked: Unchecked) -> None:
    unchecked("terms", "once", "weight")
    limits = settings(max_examples=60, phases=[Phase.generate], database=None, derandomize=True)
    find(CAMPAIGN, lambda drawn: campaign(drawn) != [], settings=limits)


# --- what does not hold ---------------------------------------------------------------------------
def test_another_run_over_others_is_in_the_list() -> None:
    """With the same first model, at the server's will, one hospital fewer is that hospital."""
    server = played([HONEST[0], Ask("train", 1), Ask("train", 1, members="abcd", run="run-2")])
    assert list(solved(server, ("train",))) == ["e"]
    assert "begin another run" in THREAT_MODEL
