"""Hospitals' logs held against each other: what an honest server may do, and what it may not."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.common.audit.audit_runs import SERVER, exchange
from wardround.common.audit.chain import ReadLog
from wardround.common.audit.compare import Compared, compare_told
from wardround.common.audit.lines import Line
from wardround.common.audit.log import AuditLog
from wardround.common.audit.verify import Report
from wardround.common.errors import ConfigError
from wardround.common.process.main import app
from wardround.common.trust.identity import Identity

KEYS = {name: Identity.from_bytes(name.encode() * 32) for name in "abcd"}
GROUP, OTHER_GROUP, MODEL, OTHER_MODEL, KEYS_OF = (
    "12" * 32,
    "34" * 32,
    "56" * 32,
    "78" * 32,
    "9" * 64,
)


class Log:
    """A hospital's log, a line for each thing that it is told."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name, self.path, self._server = name, folder / name / "audit.jsonl", folder / "server"
        self.asked = 0
        self.plan()

    def write(self, event: str, **fields: Any) -> None:
        with AuditLog.open(self.path, self.name, KEYS[self.name]) as log:
            with AuditLog.open(self._server / "audit.jsonl", "server", SERVER) as server:
                if log.head.seq == 1:
                    exchange(log, server, KEYS[self.name], SERVER.public)
                    exchange(server, log, SERVER, KEYS[self.name].public)
                log.append(event, **fields)
                if event == "received":  # the server's own log has what it sent
                    words = {key: fields[key] for key in ("kind", "bytes", "digest", "request")}
                    server.append("sent", hospital=self.name, **words)

    def plan(self, digest: str = "ab" * 32, **changes: Any) -> None:
        words = {"run": "trial", "stage": 1, "version": 1, "rounds": 4} | changes
        self.write("manifest", manifest=digest, descriptor="cd" * 32, accepted=True, **words)

    def told(self, kind: str, number: int = 0, **words: Any) -> None:
        self.asked += 1
        self.write(
            "received", kind=kind, round=number, bytes=1, digest=f"{self.asked:064}",
            request=f"{self.name}-{self.asked}", told={"run": "trial", **words},
        )  # fmt: skip

    def group(self, *members: str, group: str = GROUP, first: int = 0) -> None:
        words = {"session": "0" * 64, "group": group, "first": first, "count": 8, "threshold": 3}
        self.told("query.group", **words, members=list(members))
        self.told("query.keys", group=group, transcript=KEYS_OF)

    def train(self, number: int, **changes: Any) -> None:
        words = {"group": GROUP, "aggregation": number, "purpose": f"train {number}"}
        words |= {"model": MODEL, "totals": "f" * 64, "settings": "e" * 64, "clip": 0.5}
        self.told("train", number, **words | changes)

    def opened(self, number: int, *survivors: str, group: str = GROUP) -> None:
        words = {"group": group, "aggregation": number, "survivors": list(survivors)}
        self.told("query.unmask", number, **words)


def logs(folder: Path, names: str = "abc") -> list[Log]:
    return [Log(folder, name) for name in names]


def honest(folder: Path, names: str = "abc") -> list[Log]:
    """Everyone in one round."""
    made = logs(folder, names)
    for log in made:
        log.group(*names)
        log.train(1)
        log.opened(1, *names)
    return made


def compare(*paths: Log | Path) -> Result:
    files = [str(one.path if isinstance(one, Log) else one) for one in paths]
    return CliRunner().invoke(app, ["audit", "compare", *files])


def test_logs_of_an_honest_server_agree(tmp_path: Path) -> None:
    a, b, c = honest(tmp_path)
    result = compare(a, b, c, tmp_path / "server" / "audit.jsonl")
    assert result.exit_code == 0, result.output
    # the plan, the group, its keys, the sum, the step, whose sum was opened and for what
    assert "'a', 'b', 'c': the same in 7 things that two or more were told of" in result.stdout


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (lambda x: x.train(2, model=OTHER_MODEL), "'train 2' of round 2 (aggregation 2 of group "
         "121212121212): model is 565656565656 for 'a' and 787878787878 for 'c'"),
        (lambda x: x.train(2, clip=1e-9), "train 2' of round 2 (aggregation 2 of group "
         "121212121212): clip is 0.5 for 'a' and 1e-09 for 'c'"),
        (lambda x: x.train(2, group=OTHER_GROUP, totals="0" * 64),
         "'train 2' of round 2: totals is ffffffffffff for 'a' and 000000000000 for 'c'"),
    ],
)  # fmt: skip
def test_another_model_or_setting_in_the_same_round(tmp_path: Path, lie, said: str) -> None:
    a, b, c = honest(tmp_path)
    for log in (a, b):
        log.train(2)
    lie(c)
    result = compare(a, b, c)
    assert result.exit_code == 1
    line = result.stdout.splitlines()[-1]
    assert f"{a.path} (line 9) and {c.path} (line 9) differ in " in line and said in line, line
    assert compare(a, b).exit_code == 0


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"a": "abc", "b": "abd"}, "members is with c for 'a' and with d for 'b'"),
        ({"a": "abc", "b": "abcd"}, "members is without for 'a' and with d for 'b'"),
    ],
)
def test_another_cohort(tmp_path: Path, told: Mapping[str, str], said: str) -> None:
    a, b = logs(tmp_path, "ab")
    a.group(*told["a"])
    b.group(*told["b"], group=OTHER_GROUP)
    result = compare(a, b)
    assert result.exit_code == 1
    assert f"differ in the group of aggregations 0 to 7: {said}" in result.stdout
    assert "in groups with these hospitals, and without a log here: 'c'" in result.stdout


def test_another_survivor_set_and_other_keys(tmp_path: Path) -> None:
    a, b, c = honest(tmp_path)
    for log, survivors in ((a, "abc"), (b, "ab")):
        log.train(2)
        log.opened(2, *survivors)
    c.told("query.keys", group=GROUP, transcript="0" * 64)
    result = compare(a, b)
    assert result.exit_code == 1
    assert (
        "opening aggregation 2 of group 121212121212 of round 2: survivors is with c for 'a'"
        in (result.stdout)
    )
    result = compare(a, c)
    assert result.exit_code == 1
    assert f"{c.path}: line 9: 'c' was told two things of the keys of group" in result.stdout
    assert "transcript is 999999999999, and then 000000000000" in result.stdout


def test_one_hospital_s_log_alone_shows_two_survivor_sets(tmp_path: Path) -> None:
    a, b, _ = honest(tmp_path)
    a.opened(1, "a", "b")
    result = compare(a, b)
    assert result.exit_code == 1
    assert "'a' was told two things of opening aggregation 1" in result.stdout
    assert "survivors is with c, and then without" in result.stdout


def test_two_sums_for_one_purpose_that_different_hospitals_opened(tmp_path: Path) -> None:
    """Two worlds, of which each hospital sees one: the same round, the same model."""
    a, b = logs(tmp_path, "ab")
    for log, group, first in ((a, GROUP, 0), (b, OTHER_GROUP, 8)):
        log.group(log.name, "c", "d", group=group, first=first)
        log.train(1, group=group)
        log.opened(1, log.name, "c", "d", group=group)
    result = compare(a, b)
    assert result.exit_code == 1
    assert "the sum that is opened for 'train 1': aggregation is 1 of group 1212" in result.stdout


def test_another_plan(tmp_path: Path) -> None:
    a, b = logs(tmp_path, "ab")
    a.plan("0" * 64, stage=2)
    b.plan("1" * 64, stage=2)
    result = compare(a, b)
    assert result.exit_code == 1
    assert "differ in the plan of run trial, stage 2, of description 1: manifest is 000" in (
        result.stdout
    )


# --- what an honest server may do --------------------------------------------------------------
def test_an_attempt_with_others_is_no_difference_and_what_one_missed_is_said(
    tmp_path: Path,
) -> None:
    """Round 2 is tried twice, of other groups, with the same model; 'c' misses round 3, and gets
    another plan than before when the description changes."""
    a, b, c = honest(tmp_path)
    for log in (b, c):
        log.train(2)
    for log in (a, b):
        log.group("a", "b", "d", group=OTHER_GROUP, first=8)
        log.train(2, group=OTHER_GROUP, aggregation=8)
        log.opened(8, "a", "b", "d", group=OTHER_GROUP)
        log.train(3, group=OTHER_GROUP, aggregation=9, model=OTHER_MODEL)
    c.plan("1" * 64, version=2)
    result = compare(a, b, c)
    assert result.exit_code == 0, result.output
    assert "note: 'c' was not asked 'train 3' of round 3 (run trial), which others" in result.stdout
    assert "without a log here: 'd'" in result.stdout


def test_a_server_that_is_started_again_may_show_a_plan_of_other_attempts_and_versions(
    tmp_path: Path,
) -> None:
    """Seen in a life of weeks: federation.round_attempts was changed between two starts, and each
    of two hospitals was shown the plan of one of them. What else differs is still found."""
    a, b, c = logs(tmp_path, "abc")
    a.plan("0" * 64, stage=2, lasting="2" * 64)
    b.plan("1" * 64, stage=2, lasting="2" * 64)
    assert compare(a, b).exit_code == 0
    c.plan("1" * 64, stage=2, lasting="3" * 64)
    result = compare(a, b, c)
    assert "stage 2, of description 1: manifest is 222222222222 for 'a'" in result.stdout


def test_a_preparation_that_is_made_anew_of_others(tmp_path: Path) -> None:
    """Its totals follow from who was asked. 'a' was asked both times, and leads from 'b' to 'c';
    without its log, or where it was asked once, there is a difference."""
    a, b, c, d = logs(tmp_path, "abcd")
    first, second = ({"totals": x * 64, "settings": x * 64, "phase": 1} for x in "12")
    for log, told in ((a, first), (a, second), (b, first), (c, second), (d, first)):
        log.told("query.statistics", 0, **told)
    assert compare(a, b, c, d).exit_code == 0
    without = compare(b, c, d)
    assert without.exit_code == 1
    assert "'query.statistics', phase 1: totals is 111111111111 for 'b'" in without.stdout
    d.told("query.statistics", 0, phase=2, totals="3" * 64, settings="3" * 64)
    a.told("query.statistics", 0, phase=2, totals="4" * 64, settings="4" * 64)
    assert "phase 2: totals is" in compare(a, b, c, d).stdout


def test_two_models_of_one_round_are_found_though_a_third_hospital_was_told_both(
    tmp_path: Path,
) -> None:
    """A round's attempts have their model in common: a server that gave 'b' one and 'c' another
    isn't made honest by having given 'a' both."""
    a, b, c = logs(tmp_path, "abc")
    first, second = ({name: x * 64 for name in ("model", "totals", "settings")} for x in "12")
    for log, told in ((a, first), (a, second), (b, first), (c, second)):
        log.told("train", 1, **told)
    result = compare(a, b, c)
    assert result.exit_code == 1
    assert any("for 'b'" in line and "for 'c'" in line for line in result.stdout.splitlines())


def test_a_run_of_others_is_one_note(tmp_path: Path) -> None:
    a, b, c = honest(tmp_path)
    for log in (a, b):
        for number in (1, 2):
            log.train(number, run="later")
    result = compare(a, b, c)
    assert result.exit_code == 0, result.output
    assert "note: 'c' was asked nothing of later, which others were" in result.stdout
    assert "was not asked" not in result.stdout


def test_a_server_that_evaluates_two_models_in_a_round_shows_both_to_all(tmp_path: Path) -> None:
    a, b = logs(tmp_path, "ab")
    for log, models in ((a, (MODEL, OTHER_MODEL)), (b, (OTHER_MODEL, MODEL))):
        for model in models:
            log.told("evaluate", 1, model=model, settings="e" * 64)
    assert compare(a, b).exit_code == 0
    b.told("evaluate", 2, model=MODEL, settings="e" * 64)
    a.told("evaluate", 2, model=OTHER_MODEL, settings="e" * 64)
    assert "differ in 'evaluate' of round 2: model is 787878" in compare(a, b).stdout


# --- what can't be compared ------------------------------------------------------------------
def test_logs_of_before_the_words_were_written_down(tmp_path: Path) -> None:
    made = honest(tmp_path, "ab")
    made[0].write("received", kind="train", round=2, bytes=1, digest="d" * 64, request="old")
    made[1].told("train", 2, unreadable=True)
    result = compare(*made)
    assert result.exit_code == 0
    assert f"note: {made[1].path}: 1 requests could not be read" in result.stdout
    assert f"note: {made[0].path}: 1 requests are from before such words were" in result.stdout


def test_nothing_in_common_is_no_agreement(tmp_path: Path) -> None:
    (a,) = logs(tmp_path, "a")
    with AuditLog.open(tmp_path / "c" / "audit.jsonl", "c", KEYS["c"]) as c:
        pass
    result = compare(a, c.path)
    assert result.exit_code == 1 and "nothing to compare" in result.stdout


def test_what_is_no_pair_of_logs_is_refused_and_a_damaged_one_is_13(tmp_path: Path) -> None:
    a, b, _ = honest(tmp_path)
    server = tmp_path / "server" / "audit.jsonl"
    for pair, said in (((a, a), "give each log once"), ((a, server), "at least two hospitals")):
        error = compare(*pair).exception
        assert isinstance(error, ConfigError) and said in str(error)
    b.path.write_bytes(b.path.read_bytes().replace(MODEL.encode(), OTHER_MODEL.encode()))
    result = compare(a, b)
    assert result.exit_code == 13 and "edited: it is not what was written" in result.stdout


def test_the_server_s_own_log_is_held_against_each_hospital_s(tmp_path: Path) -> None:
    a, b, _ = honest(tmp_path)
    server = tmp_path / "server" / "audit.jsonl"
    with AuditLog.open(a.path, "a", KEYS["a"]) as log:
        log.append("received", kind="train", round=1, bytes=1, digest="e" * 64, request="a-3",
                   told={"run": "trial"})  # fmt: skip
    result = compare(a, b, server)
    assert result.exit_code == 13 and "unproved" not in result.stdout
    assert "unmatched: received 'train' of round 1" in result.stdout
    assert "from 'server', whose log has other content for it" in result.stdout


# --- any honest run, and any one lie in it --------------------------------------------------------
Told = dict[str, list[dict[str, Any]]]
"""The requests that each hospital was asked, as its log has them."""


@st.composite
def honest_runs(draw: st.DrawFn) -> Told:
    """Rounds of several attempts, each of a group of its own; the last one's sum is opened."""
    told: Told = {name: [] for name in "abcde"[: draw(st.integers(2, 5))]}
    cohorts = st.lists(st.sampled_from(sorted(told)), min_size=2, unique=True).map(sorted)
    first = 0
    for number in range(1, draw(st.integers(1, 3)) + 1):
        for attempt in range(attempts := draw(st.integers(1, 3))):
            cohort, group = draw(cohorts), f"{first + 1:064}"
            made = {"session": "0" * 64, "group": group, "first": first, "count": 1}
            task = {"group": group, "aggregation": first, "purpose": f"train {number}"}
            asked = [
                ("query.group", {**made, "members": cohort}),
                ("query.keys", {"group": group, "transcript": f"{first:064}"}),
                ("train", {**task, "model": f"{number:064}", "settings": "e" * 64, "clip": 0.5}),
            ]
            last = {"group": group, "aggregation": first, "survivors": cohort}
            asked += [("query.unmask", last)] if attempt == attempts - 1 else []
            for name, (kind, words) in itertools.product(cohort, asked):
                words = {"run": "trial", **words}
                told[name].append({"kind": kind, "round": number, "told": words})
            first += 1
    return told


def compared(told: Told) -> Compared:
    reports = []
    for name, requests in told.items():
        log = ReadLog(Path(f"{name}.jsonl"), party=name, last=len(requests))
        for seq, values in enumerate(requests, 1):
            values = {"event": "received", "time": f"2026-01-01T00:00:{seq:02}.000Z", **values}
            log.lines.append((seq, Line(seq, "", f"{seq:064}", True, values)))
        reports.append(Report(log))
    return compare_told(reports)


@given(honest_runs(), st.data())
def test_an_honest_run_has_no_difference_and_any_lie_is_one(
    told: Told, data: st.DataObject
) -> None:
    assert compared(told).differences == []
    name = data.draw(st.sampled_from(sorted(name for name in told if told[name])))
    place = data.draw(st.integers(0, len(told[name]) - 1))
    request = told[name][place]
    words = sorted(set(request["told"]) & {"members", "transcript", "model", "clip", "survivors"})
    word = data.draw(st.sampled_from(words))
    before = request["told"][word]
    lie = [*before, "x"] if isinstance(before, list) else 1.5 if word == "clip" else "f" * 64
    lied = dict(told)
    lied[name] = [*told[name]]
    lied[name][place] = {**request, "told": {**request["told"], word: lie}}
    first, *_ = compared(lied).differences
    assert f"{word} is" in first and f"'{name}'" in first
