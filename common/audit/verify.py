"""Whether an audit log is what its party wrote: each tampered line by number and kind.

Found in the file alone: a line edited, removed from the middle, reordered, inserted or duplicated.
Found through ``audit.heads``, up to the last countersigned head: truncation, and the whole file
rewritten. Found through the lines that tell of these heads: ``audit.heads`` missing, emptied or
older than the log, and a log cut off before the line that tells of its last one. Found with the
other side's log (``common/audit/against.py``): the same when both files were cut to fit each other,
and messages that one side has and the other lacks.

What can't be found here: lines changed or cut off after the last head that the peer countersigned,
by who has the disk, who may also take back the newest heads with the lines that tell of them.
``proof_words`` says up to which number a log is proved, and no more. Nor can be found: both sides
rewriting their logs together; an event that its party never wrote down; and, where the signers'
true keys aren't given (``publics``), a log and its heads made anew with other keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wardround.common.audit.chain import Problem, ReadLog, chain_problems, read_log
from wardround.common.audit.lines import (
    Countersigned,
    Line,
    SignedHead,
    Told,
    heads_path,
    read_records,
    told_head,
    untold,
)
from wardround.common.durable.private import why
from wardround.common.errors import AuditError


@dataclass
class Report:
    """What ``check_log`` found.

    heads  : how many heads of this party were countersigned
    proved : the number of the last line that one of them vouches for, 0 without any: what follows
        it, and whether anything followed, the file can't prove
    signers : who countersigned, and the key (hexadecimal) that did
    notes  : what a reader should know and what isn't tampering
    """

    log: ReadLog
    heads: int = 0
    proved: int = 0
    signers: set[tuple[str, str]] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_log(
    path: Path, heads: Path | None = None, publics: Mapping[str, bytes] | None = None
) -> list[str]:
    """What is wrong with the log at ``path``, a line for each; empty if it is intact.

    heads   : default is ``audit.heads`` beside it
    publics : the parties' true Ed25519 keys, e.g. of ``federation.signed``

    Raises AuditError if there is no such file.
    """
    return [str(problem) for problem in check_log(path, heads, publics).problems]


def check_log(
    path: Path,
    heads: Path | None = None,
    publics: Mapping[str, bytes] | None = None,
    alone: bool = False,
) -> Report:
    """As ``verify_log``, with what else is known. ``alone``: a log that was handed over without
    its heads is no problem. A log that is being written may be read at the same time."""
    heads, publics = heads or heads_path(path), publics or {}
    data = _read(heads) if heads.exists() else None  # before the log, which is ahead of it
    log = read_log(path)
    report = Report(log)
    report.problems += chain_problems(log)
    report.problems += _key_problems(log, publics)
    _check_previous(report)
    if data is None and alone:
        report.notes.append(f"{path}: given without {heads.name}")
    else:
        _check_records(report, str(heads), data, publics)
    report.problems.sort(key=lambda problem: (problem.file != str(path), problem.line))
    return report


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditError(f"{path}: can't be read ({why(error, path)})") from None


def proof_words(report: Report) -> str:
    """Up to which number a log without problems is proved by countersigned heads, and what of it
    only the other side can prove."""
    log = report.log
    cut = f"whether any followed number {log.last}, only the other side's log can prove"
    if not report.proved:
        return f"no countersigned head proves any of its lines: they, and {cut}"
    proved = f"countersigned heads prove it up to number {report.proved}"
    rest = log.last - report.proved
    if rest <= 0:
        return f"{proved}; {cut}"
    lines = f"the last {rest} lines" if rest > 1 else "the last line"
    return f"{proved}; {lines} after it, and {cut}"


# --- heads, keys, the files before ---------------------------------------------------------------
def head_problems(log: ReadLog, heads: Iterable[tuple[SignedHead, str]]) -> Iterator[Problem]:
    """Heads of this log, with who countersigned each, against its lines.

    A head that agrees vouches for every line up to it, since each holds the hash of the one before.
    So the first one that doesn't agree says between which numbers something changed, and later ones
    could say no more.
    """
    stated, good = stated_with_previous(log), log.first - 1
    for head, by in sorted(heads, key=lambda pair: pair[0].seq):
        if head.seq > log.last:
            text = f"'{by}' countersigned number {head.seq}, and the file ends with {log.last}"
            yield log.problem(log.last - log.first + 2, "truncated", text)
            return
        if stated.get(head.seq, head.hash) != head.hash:
            text = f"'{by}' countersigned another number {head.seq} than is here"
            if head.seq > good + 1:
                text += f"; numbers {good + 1} to {head.seq} may have changed"
            yield log.problem(max(1, good - log.first + 2), "rewritten", text)
            return
        good = max(good, head.seq)


def history(log: ReadLog) -> list[ReadLog]:
    """The log, after the damaged files that it goes on from, as far as they are beside it."""
    name = (log.previous or {}).get("file")
    if not isinstance(name, str) or Path(name).name != name:
        return [log]
    path = log.path.with_name(name)
    earlier = read_log(path) if path.is_file() else None
    if earlier is None or earlier.first >= log.first:  # no circle of files
        return [log]
    return [*history(earlier), log]


def stated_with_previous(log: ReadLog) -> dict[int, str]:
    """Number to hash of every sound line of the log's history."""
    return {seq: hashed for one in history(log) for seq, hashed in one.stated().items()}


def _check_previous(report: Report) -> None:
    log = report.log
    if log.previous is None:
        return
    name, reason = log.previous.get("file"), log.previous.get("reason")
    report.notes.append(f"{log.path}: begins with number {log.first} after {name}: {reason}")
    if name is None:
        return
    if len(history(log)) == 1:
        text = f"{name}, which this log goes on from, isn't beside it"
        report.problems.append(log.problem(1, "removed", text))
    elif hashlib.sha256(_read(log.path.with_name(name))).hexdigest() != log.previous.get("sha256"):
        text = f"{name}, which this log goes on from, changed since"
        report.problems.append(log.problem(1, "edited", text))


def _check_records(
    report: Report, name: str, data: bytes | None, publics: Mapping[str, bytes]
) -> None:
    """Hold the log and its ``audit.heads`` against each other."""
    log, problems = report.log, report.problems
    if data is None:
        told = sum(1 for _ in _told(log))
        text = f"the file is missing, which a log has from the start, with {told} heads in this one"
        problems.append(Problem(name, 0, "removed", text))
        return
    good, bad = read_records(data)
    for number in bad:
        problems.append(Problem(name, number, "edited", "it is not a head that both sides signed"))
    if data and not data.endswith(b"\n"):
        text = "its end is missing: a crash while it was written, or truncation"
        problems.append(Problem(name, data.count(b"\n") + 1, "truncated", text))
    problems += _foreign(log, name, good, publics)
    own = [(record.head, record.by) for _, record in good if record.head.party == log.party]
    report.heads = len({head.seq for head, _ in own})
    report.proved = max((head.seq for head, _ in own), default=0)
    report.signers = {
        (record.by, record.by_public.hex()) for _, record in good if record.by != log.party
    }
    problems += head_problems(log, own)
    problems += _gone(log, name, good)
    if not problems:  # what else is wrong says it better
        problems += _cut_or_made_anew(log, [record for _, record in good])


_REKEYED = "(unless it was given new keys since: its earlier heads are by the old one)"


def _foreign(
    log: ReadLog,
    name: str,
    records: Iterable[tuple[int, Countersigned]],
    publics: Mapping[str, bytes],
) -> Iterator[Problem]:
    """Records of other parties than the log's, or signed by other keys than theirs."""
    for number, record in records:
        if log.party not in (None, record.head.party, record.by):
            yield Problem(name, number, "inserted", f"no head of '{log.party}' or for it")
        for party, public in ((record.head.party, record.public), (record.by, record.by_public)):
            if publics.get(party, public) != public:
                text = f"signed by another key than that of '{party}' {_REKEYED}"
                yield Problem(name, number, "edited", text)


def _gone(
    log: ReadLog, name: str, records: Iterable[tuple[int, Countersigned]]
) -> Iterator[Problem]:
    """Records that the log's lines tell of and that aren't there."""
    kept = {record.told() for _, record in records}
    for place, told in _told(log):
        if told not in kept:
            text = f"the head of which line {place} of the log tells is not here"
            yield Problem(name, 0, "removed", text)


def _cut_or_made_anew(log: ReadLog, records: Sequence[Countersigned]) -> Iterator[Problem]:
    """Heads that the log should tell of and doesn't: its end was cut off, or all of it written
    anew."""
    files, end = history(log), log.last - log.first + 2
    told = {key for one in files for _, key in _told(one)}
    left = untold(records, told) if told or log.previous is None else []
    if left:
        head = left[0].head
        text = (
            f"no line tells of the countersigned head of '{head.party}', number {head.seq}: lines "
            "were cut off; or a crash came between, and the party's next start writes the line"
        )
        yield log.problem(end, "truncated", text)
    elif not any(record.head.party == log.party for record in records):
        if any(_works(line) for one in files for _, line in one.sound()):
            text = (
                "it tells of messages and of no countersigned head, and one comes before the first "
                "of them: it was made anew, or the other side refuses to countersign it"
            )
            yield log.problem(end, "unproved", text)


def _works(line: Line) -> bool:
    """Whether the line is of a message beyond a run's manifest, which comes first of all."""
    return line.event in ("sent", "received") and line.values.get("kind") != "query.manifest"


def _told(log: ReadLog) -> Iterator[tuple[int, Told]]:
    """The countersigned heads that the log tells of, with their places."""
    for place, line in log.sound():
        if (told := told_head(line, log.party)) is not None:
            yield place, told


def _key_problems(log: ReadLog, publics: Mapping[str, bytes]) -> Iterator[Problem]:
    true = publics.get(log.party or "")
    if true is not None and log.public is not None and log.public != true.hex():
        text = f"its key is not that of '{log.party}' (renewed? give the description of that time)"
        yield log.problem(1, "edited", text)
