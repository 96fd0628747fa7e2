"""The coordinator's record: what can't be written down is told, but not after its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common.audit.lines import SignedHead
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, WardroundError
from wardround.common.transport.frames import Heads
from wardround.common.transport.mailbox import Mailbox
from wardround.common.trust.identity import Identity
from wardround.server.display.board import Board
from wardround.server.reception.diary import Diary
from wardround.server.transport.events import ServerEvents


def test_a_late_thread_of_a_good_run_is_no_error(tmp_path: Path, caplog) -> None:
    told: list[WardroundError] = []
    audit = AuditLog.open(tmp_path / "audit.jsonl", "server", Identity.generate())
    head = audit.signed_head().to_bytes().decode()
    diary = Diary(audit, Board(), {}, told.append)
    diary.disconnected("north", "gone")
    audit.close()
    with pytest.raises(AuditError, match="is closed"):
        diary.disconnected("south", "gone")
    assert len(told) == 1
    diary.end()
    diary.disconnected("south", "gone")
    mailbox = Mailbox(_Quiet(), 1, tmp_path)  # type: ignore[arg-type]
    diary.heads("north", Heads(head=head), mailbox)
    assert len(told) == 1 and "closed" not in caplog.text


def test_a_hospital_is_told_at_each_connection_what_was_countersigned_of_its_log(
    tmp_path: Path,
) -> None:
    """So a log that was removed or put back there shows at once."""
    north = Identity.generate()
    audit = AuditLog.open(tmp_path / "audit.jsonl", "server", Identity.generate())
    diary = Diary(audit, Board(), {"north": north.public}, lambda error: None)
    log = AuditLog.open(tmp_path / "north.jsonl", "north", north)

    def tell(head: SignedHead) -> list[tuple[str, bool]]:
        """What the server sends: the head that it signed, whether with one of its own."""
        mailbox = _Sent()
        diary.heads("north", Heads(head=head.to_bytes().decode()), mailbox)  # type: ignore[arg-type]
        return [(frame.countersigned, bool(frame.head)) for frame in mailbox.frames]

    one, two, three = (log.append("started") and log.signed_head() for _ in range(3))
    text = {head.seq: head.to_bytes().decode() for head in (one, two, three)}
    diary.connected("north", "address", "1")
    assert tell(two) == [(text[two.seq], True)]  # nothing to remember yet
    assert tell(three) == [(text[three.seq], True)]  # once for each connection
    diary.connected("north", "address", "1")
    assert tell(one) == [(text[three.seq], False)]  # and an older one isn't signed
    log.close()
    audit.close()


class _Quiet(ServerEvents):
    pass


class _Sent:
    """A mailbox that keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[Heads] = []

    def put_control(self, frame: Heads) -> None:
        self.frames.append(frame)
