"""Kept answers: the same bytes again, or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, RecordDict

from wardround.client.process.answers import Answers
from wardround.common.flower.content import Body, encode_content
from wardround.common.transport.frames import Start


def answer(number: int) -> tuple[str, Start, Body]:
    body = encode_content(RecordDict({"c": ConfigRecord({"k": os.urandom(3000), "n": number})}))
    request = f"{number:064x}"
    start = Start(
        number=0,
        id="a" * 64,
        kind="reply",
        type="train",
        reply_to=request,
        size_bytes=body.size_bytes,
        digest=body.digest(),
    )
    return request, start, body


def whole(body: object) -> bytes:
    return body.read(0, body.size_bytes)  # type: ignore[attr-defined, no-any-return]


def test_the_same_bytes_again_also_after_a_restart(tmp_path: Path) -> None:
    request, start, body = answer(1)
    kept = Answers(tmp_path).keep("run", request, start, body)
    assert whole(kept) == whole(body) and kept.read(10, 5) == body.read(10, 5)
    found = Answers(tmp_path).find("run", request)
    assert found is not None and found[0] == start and whole(found[1]) == whole(body)
    assert Answers(tmp_path).find("another run", request) is None
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir())


def test_a_damaged_answer_is_none(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    request, start, body = answer(1)
    answers.keep("run", request, start, body)
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for bad in (good[:-1], good + b"x", good[:-9] + b"y" + good[-8:], b"", b"{}\n", good[300:]):
        path.write_bytes(bad)
        assert answers.find("run", request) is None
    path.write_bytes(good)
    os.rename(path, path.with_name(path.name.replace(request, "b" * 64)))
    assert answers.find("run", "b" * 64) is None, "an answer to another request"
    assert answers.find("run", request) is None


def test_old_ones_are_forgotten_but_one_that_is_being_sent_stays_whole(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    request, start, body = answer(0)
    being_sent = answers.keep("run", request, start, body)
    for number in range(1, 9):
        answers.keep("run", *answer(number))
    assert answers.find("run", request) is None and len(list(tmp_path.iterdir())) == 4
    assert whole(being_sent) == whole(body)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        answers.find("run", f"{8:064x}")
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(tmp_path)
    request, start, body = answer(1)

    def full(offset: int, count: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(body, "read", full)
    with pytest.raises(OSError, match="No space"):
        answers.keep("run", request, start, body)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{1:064x}.tmp").write_bytes(b"torn")
    Answers(tmp_path)
    assert list(tmp_path.iterdir()) == []
