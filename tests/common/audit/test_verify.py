"""Tampering with an audit log is found, and named by line and kind."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.audit.audit_runs import NORTH, OTHER, PUBLICS, exchange, remade, run, written
from wardround.common.audit.log import AuditLog
from wardround.common.audit.verify import check_log, verify_log
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
        f"{heads}: removed: the file is missing, and the log tells of 6 heads in it"
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
