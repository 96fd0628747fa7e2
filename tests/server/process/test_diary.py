"""The coordinator's record: what can't be written down is told, but not after its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, WardroundError
from wardround.common.transport.frames import Heads
from wardround.common.transport.mailbox import Mailbox
from wardround.common.trust.identity import Identity
from wardround.server.display.board import Board
from wardround.server.process.diary import Diary
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


class _Quiet(ServerEvents):
    pass
