"""Results come to a hospital: whole, once, with what left it beside them, and nothing goes back."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.common.results.test_staging import CONTENT, EXPECTED, SERVER, found, written
from wardround.client.results import receiver as module
from wardround.client.results.left import read_left
from wardround.client.results.listing import list_results, verify_results
from wardround.client.results.receiver import Receiver
from wardround.common.audit.chain import read_log
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, RequestRefused, ResultsRefused
from wardround.common.protocol.results import StudyEnded, StudyFile, StudyReply
from wardround.common.results.package import FILES, list_digest
from wardround.common.results.staging import Expected
from wardround.common.trust.identity import Identity
from wardround.server.results.deliver import deliveries

Messages = list[StudyFile | StudyEnded]


@pytest.fixture(scope="module", autouse=True)
def nothing_reaches_the_disk() -> Iterator[None]:
    """No power is cut here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def messages(tmp_path: Path) -> Messages:
    package = written(tmp_path / "server")
    return list(deliveries(tmp_path / "server", package, 1 << 20))


class Kit:
    """A hospital's kit, as far as results go."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        self.audit = AuditLog.open(folder / "state" / "audit.jsonl", "north", None)
        self.expected = EXPECTED
        self.figures: Callable[[Path], None] = self.write
        for run, request in (("run-0", "a"), ("run-1", "b"), ("run-1", "c"), ("run-2", "d")):
            self.audit.append("received", kind="train", request=request, told={"run": run})
            self.audit.append(
                "sent",
                kind="train",
                round=1,
                bytes=len(run) * 20,
                digest=request * 64,
                request=request,
                protection="masked",
                epsilon=None if request == "b" else 0.5,
            )
        self.audit.append("sent", kind="train", bytes=7, digest="e", request="b", again=True)

    def write(self, folder: Path) -> None:
        """In place of the own figures."""
        assert read_left(folder).messages  # they are beside them
        (folder / "own").mkdir(exist_ok=True)
        (folder / "own" / "figures.json").write_text("{}")

    def receiver(self) -> Receiver:
        return Receiver(
            self.results, self.audit, lambda: self.expected, lambda folder: self.figures(folder)
        )

    def take(self, messages: Messages) -> None:
        """All of them, of a process that has just begun."""
        receiver = self.receiver()
        for message in messages:
            reply = receiver.answer(message.type, message.to_records())
            assert reply == StudyReply().to_records()

    def lines(self) -> list[dict[str, Any]]:
        return [
            dict(x.values) for _, x in read_log(self.audit.path).sound() if x.event == "results"
        ]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    kit = Kit(tmp_path / "kit")
    with kit.audit:
        yield kit


def test_results_lie_in_the_kit_with_what_left_and_are_in_the_audit_log(
    kit: Kit, messages: Messages
) -> None:
    kit.take(messages)
    folder = kit.results / "run-1"
    here = found(folder)
    assert {name: here[name] for name in CONTENT} == CONTENT
    assert sorted(set(here) - set(CONTENT)) == [
        *("ended.json", "files.json", "left.json", "own/figures.json"),
    ]
    assert [path.name for path in kit.results.iterdir()] == ["run-1"]
    left = read_left(folder)
    assert [(x["digest"][0], x["bytes"]) for x in left.messages] == [
        ("b", 100),
        ("c", 100),
        ("e", 7),
    ]
    assert left.by_protection == {"masked": 200, "as before": 7} and left.epsilon == 0.5
    (line,) = kit.lines()
    assert line["digest"] == list_digest(here[FILES]) and line["state"] == "complete"
    assert (line["run"], line["files"], line["bytes"]) == ("run-1", 4, 1288)
    kit.take(messages)  # the answer was lost
    assert found(folder) == here and len(kit.lines()) == 1
    assert list_results(kit.folder)[0] == "run-1  complete; 207 B left"
    assert verify_results(kit.folder)[0].startswith("run-1: 4 files as the server")


@pytest.mark.parametrize("state", ["aborted", "failed", "expired"])
def test_a_study_without_results_leaves_why_and_what_left(
    kit: Kit, messages: Messages, state: str
) -> None:
    kit.take(messages[:4])
    kit.take([StudyEnded("", state, "<why> it is so")])
    here = found(kit.results / "run-1")
    assert sorted(here) == ["ended.json", "left.json"]
    assert not (kit.results / ".run-1.coming").exists()
    assert (kit.lines()[0]["state"], kit.lines()[0]["digest"]) == (state, "")
    assert f"{state}: <why> it is so" in list_results(kit.folder)[0]
    assert verify_results(kit.folder) == [f"run-1: {state}, so there are no results"]


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("call", ["replace", "rename", "fsync"])
def test_killed_at_any_point_and_sent_again_they_are_whole_and_told_of(
    tmp_path: Path, messages: Messages, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, whole = getattr(os, call), dict[str, bytes]()
    for step in range(100):
        kit, left = Kit(tmp_path / f"kit-{step}"), [step]

        def dying(*given: Any, left: list[int] = left) -> Any:
            left[0] -= 1
            if left[0] == -1:
                raise Killed
            return real(*given)

        monkeypatch.setattr(os, call, dying)
        try:
            kit.take(messages)
        except Killed:
            folder = kit.results / "run-1"
            assert not folder.exists() or CONTENT.keys() <= found(folder).keys()
        monkeypatch.setattr(os, call, real)
        kit.take(messages)
        here = found(kit.results / "run-1")
        whole = whole or here
        assert {name: data for name, data in here.items() if name != "left.json"} == {
            name: data for name, data in whole.items() if name != "left.json"
        }
        lines = kit.lines()
        assert 1 <= len(lines) <= 2 and len({line["digest"] for line in lines}) == 1
        kit.audit.close()
        if left[0] >= 0:
            return
    raise AssertionError("it never ended")


def test_a_hospital_that_took_no_part_takes_no_results_and_has_no_folder(
    kit: Kit, messages: Messages, tmp_path: Path
) -> None:
    """It rejected the study, say: it is told how that ended all the same."""
    kit.expected = replace(EXPECTED, run="run-9")
    with pytest.raises(RequestRefused, match="took no part"):
        kit.take(messages)
    for state in ("complete", "aborted"):
        kit.take([StudyEnded("", state)])
    assert not kit.results.exists() and kit.lines() == []
    kit.expected = EXPECTED  # one that took part, and isn't sent any
    kit.take([StudyEnded("", "complete")])
    assert sorted(found(kit.results / "run-1")) == ["ended.json", "left.json"]


def test_a_full_disk_is_an_answer_and_they_are_taken_when_there_is_room(
    kit: Kit, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(kit.folder))

    with monkeypatch.context() as patched:
        patched.setattr(module, "write_left", full)
        with pytest.raises(
            ResultsRefused, match=r"\(No space left on device\); they are sent"
        ) as told:
            kit.take(messages)
    assert str(kit.folder) not in str(told.value) and kit.lines() == []
    kit.take(messages)
    assert len(kit.lines()) == 1 and (kit.results / "run-1" / "ended.json").is_file()


def test_that_own_figures_fail_is_nothing_that_the_server_learns(
    kit: Kit, messages: Messages
) -> None:
    def fails(folder: Path) -> None:
        raise ValueError("patient 17 is 43")

    kit.figures = fails
    kit.take(messages)  # each answer is as ever
    assert len(kit.lines()) == 1 and not (kit.results / "run-1" / "own").exists()


def test_what_cant_be_written_down_isnt_done(kit: Kit, messages: Messages) -> None:
    def closed(folder: Path) -> None:
        raise AuditError("the log can't be written")

    kit.figures = closed
    with pytest.raises(AuditError):
        kit.take(messages)
    assert not (kit.results / "run-1" / "ended.json").exists()


def test_another_studys_another_servers_or_an_unknown_end_is_refused(
    kit: Kit, messages: Messages
) -> None:
    head = messages[0]
    assert isinstance(head, StudyFile)
    for message, why in (
        (replace(head, study="cd" * 32), "of another study"),
        (StudyEnded("cd" * 32, "aborted"), "of another study"),
        (StudyEnded("", "running"), "doesn't end as 'running'"),
        (StudyEnded("", "complete", "", b"{}"), "no signed list"),
        (replace(head, data=b"[]"), "no signed list"),
    ):
        with pytest.raises((RequestRefused, ResultsRefused), match=why):
            kit.take([message])
    kit.expected = Expected(Identity.generate().public, "net", "", "run-1", 10_000)
    with pytest.raises(ResultsRefused, match="isn't signed by the server"):
        kit.take(messages)
    assert list(kit.results.iterdir()) == [] and kit.lines() == []


def test_an_end_before_all_files_have_come_is_refused_and_they_come_again(
    kit: Kit, messages: Messages
) -> None:
    with pytest.raises(ResultsRefused, match="'model/m' has not come"):
        kit.take([messages[0], messages[-1]])
    kit.take(messages)


def test_files_that_were_altered_since_are_found(kit: Kit, messages: Messages) -> None:
    kit.take(messages)
    folder = kit.results / "run-1"
    (folder / "plan.json").write_bytes(b"[]")
    with pytest.raises(ResultsRefused, match="'plan.json' was altered"):
        verify_results(kit.folder)
    # another list that the server signed, in the place of the one that the audit log knows
    (folder / "plan.json").write_bytes(b"{}")
    other = written(folder.parent.parent / "other", {"a": b"x"})
    (folder / "a").write_bytes(b"x")
    (folder / FILES).write_bytes(other.signed(SERVER))
    with pytest.raises(ResultsRefused, match="isn't the list that the audit log has"):
        verify_results(kit.folder)
    with pytest.raises(ResultsRefused, match="no results of 'nothing'; there are those of run-1"):
        list_results(kit.folder, "nothing")
    (folder / "ended.json").write_text(json.dumps({"format": "study's end", "version": 9}))
    assert "can't be read" in list_results(kit.folder)[0]
