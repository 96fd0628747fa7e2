"""Tampering with an audit log is found, and named by line and kind."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.audit.audit_runs import (
    NORTH,
    OTHER,
    PUBLICS,
    exchange,
    remade,
    renumbered,
    run,
    run_files,
    written,
)
from wardround.common.audit.against import compare_logs
from wardround.common.audit.lines import read_records
from wardround.common.audit.log import AuditLog
from wardround.common.audit.verify import check_log, proof_words, verify_log
from wardround.common.errors import AuditError


# --- random tampering ----------------------------------------------------------------------------
def edit_byte(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    data = bytearray(b"".join(lines))
    place = draw(0, len(b"".join(lines[:last])) - 1)
    data[place] ^= draw(1, 255)
    return bytes(data)


def delete(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    start = draw(0, last - 1)
    del lines[start : start + draw(1, 3)]
    return b"".join(lines)


def swap(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    one, other = draw(0, last - 1), draw(0, last - 1)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def duplicate(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    lines.insert(draw(0, last), lines[draw(0, last - 1)])
    return b"".join(lines)


def insert(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    foreign = written(2, len(lines) - 2)[0]
    new = [b"{}\n", b"\n", b"\xff\x00 no line\n", *foreign[:last]]
    lines.insert(draw(0, last - 1), new[draw(0, len(new) - 1)])
    return b"".join(lines)


def truncate(lines: list[bytes], last: int, draw: Callable[..., int]) -> bytes:
    return b"".join(lines)[: draw(0, len(b"".join(lines[:last])) - 1)]


@pytest.mark.parametrize("tamper", [edit_byte, delete, swap, duplicate, insert, truncate])
@settings(deadline=None)
@given(st.data())
def test_a_tampered_line_is_found_and_named(tamper, data: st.DataObject) -> None:
    lines, heads, last = written(1, data.draw(st.integers(1, 7)))
    found = tamper(list(lines), last, lambda low, high: data.draw(st.integers(low, high)))
    if found == b"".join(lines):
        return
    after = found.splitlines(keepends=True)
    pairs = [*zip(lines, after, strict=False), (b"", b"x")]  # where one ends, the other goes on
    first = next(place for place, (old, new) in enumerate(pairs, 1) if old != new)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        path.write_bytes(found)
        path.with_suffix(".heads").write_bytes(heads)
        problems = check_log(path).problems
        assert problems and problems[0].line == first, [str(problem) for problem in problems]
        with pytest.raises(AuditError, match="audit.jsonl: .*wardround audit restart"):
            AuditLog.open(path, "north", NORTH)
        assert path.read_bytes() == found or not found.endswith(b"\n")  # only a torn end is cut


TAMPERS = st.sampled_from([edit_byte, delete, swap, duplicate, insert])


@settings(deadline=None)
@given(st.lists(TAMPERS, max_size=4), st.data())
def test_several_tamperings_at_once_are_found(tampers, data: st.DataObject) -> None:
    lines, heads, last = written(1, 6)
    found = list(lines)
    for tamper in tampers:
        limit = min(last, len(found))
        changed = tamper(
            found, limit, lambda low, high: data.draw(st.integers(low, max(low, high)))
        )
        found = changed.splitlines(keepends=True) or [b"\n"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.jsonl"
        path.write_bytes(b"".join(found))
        path.with_suffix(".heads").write_bytes(heads)
        assert verify_log(path) or found[:last] == list(lines[:last])


# --- what who has the disk, and the party's key, can do -------------------------------------------
Both = tuple[list[bytes], list[bytes] | None]


def cut_off(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    return log[: max(1, len(log) - number)], heads


def change_one(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    place = number % len(log)
    return [*log[:place], log[place].replace(b"1", b"2", 1), *log[place + 1 :]], heads


def move_one(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    place = number % len(log)
    return [*log[:place], *log[place + 1 :], log[place]], heads


def rewrite_from(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    """Each line from there on another, in a chain that holds."""
    return remade(log, 2 + number % len(log)) if len(log) > 1 else log, heads


def rewrite_without(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    """Without the lines that tell of heads from there on, in a chain that holds."""
    start = 1 + number % len(log)
    kept = [*log[:start], *(raw for raw in log[start:] if b'"head":' not in raw)]
    return renumbered(kept, start), heads


def take_heads_back(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    return log, heads and heads[: max(0, len(heads) - number)]


def empty_heads(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    return log, []


def remove_heads(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    return log, None


def sign_oneself(log: list[bytes], heads: list[bytes] | None, number: int) -> Both:
    """All of it anew, with a key of one's own for the server."""
    (log_files, head_files), _ = run_files(OTHER)
    return list(log_files), list(head_files)


FORGERIES = [
    cut_off, change_one, move_one, rewrite_from, rewrite_without, take_heads_back, empty_heads,
    remove_heads, sign_oneself,
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(FORGERIES), st.integers(1, 12)), min_size=1, max_size=4))
def test_a_log_is_damaged_or_what_it_says_is_proved_is_true(forgeries) -> None:
    """And what the file alone can't know, the other side's log does."""
    (lines, heads), (peer_lines, peer_heads) = run_files()
    log, kept = list(lines), list(heads)
    for forge, number in forgeries:
        log, kept = forge(log, kept, number)
    with tempfile.TemporaryDirectory() as folder:
        path, peer = Path(folder) / "audit.jsonl", Path(folder) / "peer.jsonl"
        path.write_bytes(b"".join(log))
        if kept is not None:
            path.with_suffix(".heads").write_bytes(b"".join(kept))
        peer.write_bytes(b"".join(peer_lines))
        peer.with_suffix(".heads").write_bytes(b"".join(peer_heads))
        report = check_log(path, publics=PUBLICS)
        if report.problems:
            return
        assert kept is not None, "a heads file that is missing is damage"
        assert report.proved == max(0, *own_numbers(kept)), "no more than the heads say"
        assert log[: report.proved] == list(lines[: report.proved]), "what is proved is true"
        if report.proved:
            assert f"up to number {report.proved}" in proof_words(report)
        else:
            assert "no countersigned head" in proof_words(report)
        if log[:11] != list(lines[:11]):  # the last line of it that the server countersigned
            other = check_log(peer, publics=PUBLICS)
            assert compare_logs(report, other, PUBLICS)[0]


def own_numbers(heads: list[bytes]) -> list[int]:
    """Numbers of north's lines that the server countersigned; with a 0 for none."""
    records = [one.head for _, one in read_records(b"".join(heads))[0]]
    return [0, *(head.seq for head in records if head.party == "north")]


def test_an_emptied_heads_file_under_a_log_made_anew_is_damage(tmp_path: Path) -> None:
    """It tells of messages that came after a first head, which it doesn't have."""
    path, _ = run(tmp_path)
    log, _ = rewrite_without(path.read_bytes().splitlines(keepends=True), None, 1)
    path.write_bytes(b"".join(log))
    path.with_suffix(".heads").write_bytes(b"")
    (problem,) = check_log(path).problems
    assert problem.kind == "unproved" and problem.line == len(log) + 1


def test_a_crash_between_a_head_and_its_line_is_mended_by_the_next_start(tmp_path: Path) -> None:
    path, _ = run(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"peer head"' in lines[12] and b'"countersigned"' in lines[11]
    for kept, who in ((12, "server"), (11, "north")):  # the second: as if both were lost
        path.write_bytes(b"".join(lines[:kept]))
        (problem,) = check_log(path).problems
        assert problem.kind == "truncated"
        assert f"no line tells of the countersigned head of '{who}'" in problem.text
        AuditLog.open(path, "north", NORTH).close()
        assert check_log(path).problems == [] and check_log(path).proved == 11
        events = [json.loads(raw)["event"] for raw in path.read_bytes().splitlines()]
        assert events[-2:] == ["countersigned", "peer head"]
    AuditLog.open(path, "north", NORTH).close()
    assert len(path.read_bytes().splitlines()) == 13, "once"


# --- each kind by name ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: [*x[:2], x[2].replace(b"1000", b"1001"), *x[3:]], "line 3: edited: it is not"),
        (lambda x: [*x[:2], x[2].replace(b'"}\n', b'" }\n'), *x[3:]], "line 3: edited: it is not"),
        (lambda x: [*x[:2], *x[5:]], "line 3: removed: numbers 3 to 5 are missing"),
        (lambda x: [*x[:2], *x[3:]], "line 3: removed: number 3 is missing"),
        (lambda x: [*x[:2], *x[3:5], x[2], *x[5:]], "line 3: reordered: number 3 stands on line 5"),
        (lambda x: [*x[:2], x[4], *x[2:4], *x[5:]], "line 3: reordered: number 5 stands on line 3"),
        (lambda x: [*x[:4], x[2], *x[4:]], "line 5: duplicated: number 3 stands here once more"),
        (lambda x: [*x[:2], b"{}\n", *x[2:]], "line 3: inserted: it is not a line of this log"),
        (lambda x: [*x[:2], written(2, 5)[0][4], *x[2:]], "line 3: inserted: its number 5 is not"),
        (lambda x: [*x[:2], written(2, 99)[0][98], *x[2:]], "line 3: inserted: its number 99"),
        (lambda x: [*x[:2], remade(x[:3], 3)[2], *x[3:]], "line 3: edited: line 4 doesn't follow"),
        (lambda x: x[:6], "line 7: truncated: 'server' countersigned number 7, and the file ends"),
        (lambda x: [*x[:6], x[6][:50]], "line 7: truncated: its end is missing"),
        (lambda x: remade(x, 2), "line 1: rewritten: 'server' countersigned another number 3"),
        (lambda x: remade(x, 6), "line 4: rewritten: .* numbers 4 to 7 may have changed"),
        (lambda x: [], "line 1: truncated: the file is empty"),
        (lambda x: [b"name,age\n", b"x,1\n"], "line 1: edited: this is not an audit log"),
    ],
)  # fmt: skip
def test_each_kind_is_named(tmp_path: Path, change, expected: str) -> None:
    path, _ = run(tmp_path)
    assert verify_log(path, publics=PUBLICS) == []
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    problems = verify_log(path)
    assert any(re.match(f"{path}: {expected}", problem) for problem in problems), problems
    assert len(problems) <= 2, problems


def test_tampered_heads_are_named(tmp_path: Path) -> None:
    path, _ = run(tmp_path)
    heads = path.with_suffix(".heads")
    lines = heads.read_bytes().splitlines(keepends=True)

    def problems(*kept: bytes) -> str:
        heads.write_bytes(b"".join(kept))
        return "\n".join(verify_log(path))

    assert problems(*lines) == ""
    edited = lines[1].replace(b'"seq":4', b'"seq":5').replace(b'"seq":3', b'"seq":4')
    found = problems(lines[0], edited, *lines[2:])
    assert "audit.heads: line 2: edited: it is not a head that both sides signed" in found
    assert "the head of which line 4 of the log tells is not here" in problems(*lines[1:])
    assert "audit.heads: line 7: truncated" in problems(*lines, b'{"head":')
    heads.unlink()
    assert verify_log(path) == [
        f"{heads}: removed: the file is missing, which a log has from the start, with 6 heads in "
        "this one"
    ]
    assert check_log(path, alone=True).problems == []


def test_a_log_and_heads_made_anew_with_other_keys_are_found_by_the_true_keys(tmp_path) -> None:
    with (
        AuditLog.open(tmp_path / "audit.jsonl", "north", OTHER) as north,
        AuditLog.open(tmp_path / "peer" / "audit.jsonl", "server", NORTH) as server,
    ):
        exchange(north, server, OTHER, NORTH.public)
    assert verify_log(north.path) == []
    found = "\n".join(verify_log(north.path, publics=PUBLICS))
    assert "its key is not that of 'north'" in found
    assert "signed by another key than that of 'server'" in found


def test_heads_of_other_parties_do_not_pass_for_one_s_own(tmp_path: Path) -> None:
    """A log made anew under another name would else have no heads to answer for."""
    path, _ = run(tmp_path)
    with AuditLog.open(tmp_path / "new" / "audit.jsonl", "south", OTHER) as south:
        shutil.copy(south.path, path)
    assert any("no head of 'south' or for it" in one for one in verify_log(path))
