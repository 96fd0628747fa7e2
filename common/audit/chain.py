"""An audit log as it stands on the disk, and which of its lines don't fit: by place and kind.

Kinds: edited, removed, reordered, inserted, duplicated; truncated for a last line without its end.
What a whole file rewritten or cut off at a line's end looks like is for ``verify.py``.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.common.audit.lines import (
    BEGAN,
    COUNTERSIGNED,
    NO_HASH,
    PEER_HEAD,
    Line,
    decode_line,
    raw_lines,
)
from wardround.common.durable.private import why
from wardround.common.errors import AuditError

KEPT = frozenset(
    {BEGAN, "identity", PEER_HEAD, COUNTERSIGNED, "sent", "received", "refused"}
    | {"manifest", "policy", "results"}
)
"""Events whose fields are needed; of the others only the chain is kept in memory."""
_MOST_COUNTED = 1_000_000


@dataclass(frozen=True)
class Problem:
    """One thing wrong. ``line`` is where the file first differs from what was written; 0 where
    no line can be named."""

    file: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.words()}"

    def words(self) -> str:
        """Without the file."""
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.kind}: {self.text}"


@dataclass
class ReadLog:
    """A log as it stands on the disk, sound or not.

    lines    : by place in the file, from 1; None for what isn't a line
    first    : the number of the first line, 1 but after a restart
    last     : the number of the last line
    previous : what the first line says of the file before a restart
    """

    path: Path
    lines: list[tuple[int, Line | None]] = field(default_factory=list)
    torn: bool = False
    first: int = 1
    last: int = 0
    party: str | None = None
    public: str | None = None
    previous: Mapping[str, Any] | None = None

    def problem(self, line: int, kind: str, text: str) -> Problem:
        """About this file."""
        return Problem(str(self.path), line, kind, text)

    def sound(self) -> Iterator[tuple[int, Line]]:
        """The lines whose hash is right, with their places."""
        return ((place, line) for place, line in self.lines if line and line.sound)

    def stated(self) -> dict[int, str]:
        """Number to hash, of sound lines."""
        return {line.seq: line.hash for _, line in self.sound()}


def read_log(path: Path) -> ReadLog:
    """The file as it stands. Raises AuditError if it can't be read."""
    log, begins = ReadLog(path), b""
    try:
        for place, raw in enumerate(raw_lines(path), 1):
            begins = begins or raw
            line = decode_line(raw)
            log.torn = not raw.endswith(b"\n")
            if line and line.event not in KEPT:
                line = Line(line.seq, line.prev, line.hash, line.sound, {})
            if not log.torn:
                log.lines.append((place, line))
    except OSError as error:
        raise AuditError(f"{path}: can't be read ({why(error, path)})") from None
    _read_beginning(log, begins)
    return log


def _read_beginning(log: ReadLog, raw: bytes) -> None:
    """What the first line says, wherever it is now; of a tampered one too, as far as it goes."""
    told = [line.values for _, line in log.sound() if line.event in (BEGAN, "identity")]
    begins = [values for values in told if values["event"] == BEGAN]
    values = begins[0] if begins else _lenient(raw)
    party, previous, seq = values.get("party"), values.get("previous"), values.get("seq")
    log.party = party if isinstance(party, str) else None
    if isinstance(previous, dict) and type(seq) is int and seq > 0:
        log.previous, log.first = previous, seq
    if told:
        log.public = told[-1].get("public")


def _lenient(raw: bytes) -> Mapping[str, Any]:
    """What a tampered first line still says."""
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) and values.get("event") == BEGAN else {}


# --- the chain ---------------------------------------------------------------------------------
def chain_problems(log: ReadLog) -> list[Problem]:
    """What doesn't fit in the file itself; sets ``log.last``.

    Of the sound lines the longest rising series of numbers is taken as the log; the other lines
    are extra, and numbers that it lacks are missing. So the fewest lines are called tampered with
    that can be: of a line moved to the front that line, and not all behind it.
    """
    if log.lines and not any(line for _, line in log.lines):
        return [log.problem(1, "edited", "this is not an audit log")]
    series = _longest_rising(_candidates(log))
    extra = list(_extra_lines(log, series))
    found = [_extra_problem(log, *one) for one in extra]
    moved = {line.seq for _, line, kind in extra if kind == "reordered"}
    expected, at = log.first, 0
    for place, line in series:
        unsound = [(p, x) for p, x in log.lines[at : place - 1] if not x or not x.sound]
        found += _gap(log, unsound, expected, line.seq, moved)
        expected, at = line.seq + 1, place
    rest = [place for place, line in log.lines[at:] if not line or not line.sound]
    found += [log.problem(place, "edited", "it is not what was written") for place in rest]
    log.last = max([expected - 1 + len(rest), *moved])
    found += _broken_links(log, series)
    if log.torn:
        text = "its end is missing: a crash while it was written, or truncation"
        found.append(log.problem(len(log.lines) + 1, "truncated", text))
    elif not log.lines:
        found.append(log.problem(1, "truncated", "the file is empty"))
    return found


_Placed = tuple[int, Line]


def _candidates(log: ReadLog) -> list[_Placed]:
    """Sound lines; of different ones with the same number those that chain with another line."""
    sound = list(log.sound())
    hashes: dict[int, set[str]] = {}
    chained: dict[int, set[str]] = {}
    followed = {line.prev for _, line in sound}
    present = {line.hash for _, line in sound}
    for _, line in sound:
        hashes.setdefault(line.seq, set()).add(line.hash)
        if line.hash in followed or line.prev in present:
            chained.setdefault(line.seq, set()).add(line.hash)
    return [
        (place, line)
        for place, line in sound
        if len(hashes[line.seq]) == 1 or line.hash in chained.get(line.seq, hashes[line.seq])
    ]


def _longest_rising(lines: list[_Placed]) -> list[_Placed]:
    """The longest series of lines, in the file's order, whose numbers rise (patience sorting)."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, (_, line) in enumerate(lines):
        pile = bisect_left(tails, line.seq)
        before.append(ends[pile - 1] if pile else -1)
        if pile == len(tails):
            tails.append(line.seq)
            ends.append(index)
        elif tails[pile] != line.seq:  # of equal lines the first stays
            tails[pile], ends[pile] = line.seq, index
    series, index = [], ends[-1] if ends else -1
    while index >= 0:
        series.append(lines[index])
        index = before[index]
    return series[::-1]


def _extra_lines(log: ReadLog, series: list[_Placed]) -> Iterator[tuple[int, Line, str]]:
    """The sound lines outside the series: place, line and what became of it.

    A line is of this log, and was moved, where another one chains to it or it chains to the one
    before its number; else somebody made it.
    """
    inside = {line.seq: line for _, line in series}
    places = {place for place, _ in series}
    followed = {line.prev for _, line in log.sound()}
    for place, line in log.sound():
        if place in places:
            continue
        if line.seq in inside:
            same = inside[line.seq].hash == line.hash
            yield place, line, "duplicated" if same else "inserted"
        else:
            before = inside.get(line.seq - 1)
            belongs = line.hash in followed or (before and before.hash == line.prev)
            yield place, line, "reordered" if belongs else "inserted"


def _extra_problem(log: ReadLog, place: int, line: Line, kind: str) -> Problem:
    if kind == "duplicated":
        return log.problem(place, kind, f"number {line.seq} stands here once more")
    if kind == "inserted":
        return log.problem(place, kind, f"its number {line.seq} is not of this log's chain")
    # where it is now, or where it belongs: from the earlier one on, the file isn't what was written
    first = max(1, min(place, line.seq - log.first + 1))
    return log.problem(first, kind, f"number {line.seq} stands on line {place}")


def _gap(
    log: ReadLog, unsound: list[tuple[int, Line | None]], start: int, end: int, moved: set[int]
) -> Iterator[Problem]:
    """Between two lines of the series: numbers from ``start`` to before ``end`` are due.

    An unsound line that claims one of them is that line, edited. Any other stands for a number that
    none claims, edited beyond its number, as long as there are such numbers; what is left over was
    inserted, and numbers for which no line is left were removed.
    """
    if end - start > _MOST_COUNTED:
        text = f"numbers {start} to {end - 1} are missing"
        yield log.problem(start - log.first + 1, "removed", text)
        return
    due = [number for number in range(start, end) if number not in moved]
    claims = {line.seq for _, line in unsound if line} & set(due)
    unclaimed = [number for number in due if number not in claims]
    free = [place for place, line in unsound if not line or line.seq not in claims]
    inserted = set(free[len(unclaimed) :])
    for place, _ in unsound:
        if place in inserted:
            yield log.problem(place, "inserted", "it is not a line of this log")
        else:
            yield log.problem(place, "edited", "it is not what was written")
    for low, high in _ranges(unclaimed[len(free) :]):
        text = f"number {low} is missing" if low == high else f"numbers {low} to {high} are missing"
        yield log.problem(low - log.first + 1, "removed", text)


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Rising numbers as ranges, both ends included."""
    low = high = None
    for number in numbers:
        if low is not None and high is not None and number != high + 1:
            yield low, high
            low = number
        low, high = low if low is not None else number, number
    if low is not None and high is not None:
        yield low, high


def _broken_links(log: ReadLog, series: list[_Placed]) -> Iterator[Problem]:
    """Sound neighbours that don't chain, and a first line that isn't one."""
    if series and series[0][1].seq == log.first:
        line = series[0][1]
        if line.event != BEGAN or (log.previous is None and line.prev != NO_HASH):
            yield log.problem(1, "edited", "a log doesn't begin so")
    for (place, line), (after, follower) in zip(series, series[1:], strict=False):
        if follower.seq == line.seq + 1 and follower.prev != line.hash:
            text = f"line {after} doesn't follow it: one of the two got another content and hash"
            yield log.problem(place, "edited", text)
