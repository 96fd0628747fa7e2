"""Two parties' audit logs held against each other: what one side has and the other lacks.

Heads that one side countersigned must be in the other's log, however its own ``audit.heads`` looks.
What the server received must be in the hospital's log, with the same request and digest, because a
hospital writes ``sent`` before the first byte leaves. The reverse is a note and no problem: a
message may be lost on the way, and the server writes down what it sent once it has gone, which a
crash may prevent. Both logs should be copied while nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wardround.common.audit.chain import Problem, ReadLog
from wardround.common.audit.lines import COUNTERSIGNED, PEER_HEAD, Line, SignedHead
from wardround.common.audit.verify import Report, head_problems, history, stated_with_previous
from wardround.common.names import SERVER

_Message = tuple[str, str]
"""Request id and digest."""


def compare_logs(
    own: Report, other: Report, publics: Mapping[str, bytes] | None = None
) -> tuple[list[Problem], list[str]]:
    """Problems and notes of the pair, beyond those of each log by itself.

    publics : the parties' true Ed25519 keys; without them the keys in the logs are believed
    """
    problems: list[Problem] = []
    notes: list[str] = []
    if own.log.party is None or own.log.party == other.log.party:
        text = f"both logs say that they are of '{own.log.party}'; give two parties' logs"
        return [own.log.problem(1, "edited", text)], []
    for one, peer in ((own.log, other.log), (other.log, own.log)):
        problems += _heads(one, peer, publics or {})
        unsent, remarks = _unsent(one, peer)
        problems += unsent
        notes += [*remarks, *_unreceived(one, peer)]
    return problems, notes


def _events(log: ReadLog, *kinds: str) -> Iterator[tuple[ReadLog, int, Line]]:
    """Sound lines of these events in the log's history."""
    for file in history(log):
        for place, line in file.sound():
            if line.event in kinds:
                yield file, place, line


# --- heads -------------------------------------------------------------------------------------
def _heads(log: ReadLog, peer: ReadLog, publics: Mapping[str, bytes]) -> Iterator[Problem]:
    """What ``log`` lacks of what the peer countersigned, and the peer of what it is said to."""
    heads: list[SignedHead] = []
    for file, place, line in _events(peer, PEER_HEAD):
        try:
            head = SignedHead.from_row(line.values.get("head"))
            public = bytes.fromhex(str(line.values.get("public")))
        except ValueError:
            yield file.problem(place, "edited", "it tells of no readable head")
            continue
        if head.party != log.party:
            continue
        if not head.is_by(publics.get(head.party, public)):
            yield file.problem(place, "edited", f"the head in it is not signed by '{head.party}'")
            continue
        heads.append(head)
    by = peer.party or "the other side"
    stated = stated_with_previous(log)
    yield from head_problems(log, [(head, by) for head in heads])
    for head in heads:
        if head.seq < log.first and stated.get(head.seq) != head.hash:
            text = f"'{by}' countersigned number {head.seq}, from before it began, which isn't here"
            yield log.problem(1, "removed", text)
    known = {(head.seq, head.hash) for head in heads}
    for file, place, line in _events(log, COUNTERSIGNED):
        row = line.values.get("head")
        if line.values.get("peer") == peer.party and isinstance(row, dict):
            if (row.get("seq"), row.get("hash")) not in known:
                text = f"it lacks the countersigning that line {place} of {file.path} tells of"
                yield peer.problem(0, "removed", text)


# --- messages ----------------------------------------------------------------------------------
def _messages(log: ReadLog, event: str, peer: ReadLog) -> Iterator[tuple[ReadLog, int, Line]]:
    """Messages sent to the peer, or received from it; at a hospital they are all the server's."""
    for file, place, line in _events(log, event):
        if line.values.get("hospital", log.party) in (log.party, peer.party):
            yield file, place, line


def _key(line: Line) -> _Message:
    return str(line.values.get("request")), str(line.values.get("digest"))


def _unsent(log: ReadLog, peer: ReadLog) -> tuple[list[Problem], list[str]]:
    """What ``log`` received and the peer's log doesn't have as sent: problems and notes."""
    problems, notes = [], []
    sent = {_key(line) for _, _, line in _messages(peer, "sent", log)}
    requests = {request for request, _ in sent}
    refused = {_key(line)[0] for _, _, line in _messages(peer, "refused", log)}
    for file, place, line in _messages(log, "received", peer):
        request, _ = _key(line)
        is_error = line.values.get("error") is not None
        if _key(line) in sent or (is_error and request in refused | requests):
            continue
        lacks = "has other content for it" if request in requests else "doesn't have it sent"
        text = f"received {_words(line)} from '{peer.party}', whose log {lacks}"
        if is_error or (peer.party == SERVER and request not in requests):
            notes.append(f"{file.path}: line {place}: {text}")
        else:
            problems.append(file.problem(place, "unmatched", text))
    return problems, notes


def _unreceived(log: ReadLog, peer: ReadLog) -> Iterator[str]:
    """What ``log`` sent and the peer's log doesn't have as received."""
    received = {_key(line) for _, _, line in _messages(peer, "received", log)}
    for file, place, line in _messages(log, "sent", peer):
        if _key(line) not in received:
            yield (
                f"{file.path}: line {place}: sent {_words(line)} to '{peer.party}', whose log "
                "doesn't have it received: lost on the way, not needed any more when it came, or "
                "not written down there"
            )


def _words(line: Line) -> str:
    values = line.values
    if values.get("error") is not None:
        return f"an error in answer to '{values.get('kind')}'"
    number = f" of round {values['round']}" if values.get("round") else ""
    digest = str(values.get("digest"))[:12]
    return f"'{values.get('kind')}'{number}, {values.get('bytes')} bytes, digest {digest}"
