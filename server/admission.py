"""Whether a hospital's policy allows the run: asked of each one when it connects."""

from __future__ import annotations

import threading
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from wardround.common import messages as m
from wardround.common.config import Config
from wardround.common.tasks.base import Task
from wardround.server.diary import Diary
from wardround.server.provision import ServerFolder
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.links import Link

_AGAIN_S = 10.0


class Admission:
    """Shows the run manifest to hospitals, and lets those take part that accept it."""

    def __init__(
        self,
        grid: HospitalGrid,
        diary: Diary,
        config: Config,
        task: Task[Any],
        run_name: str,
        folder: ServerFolder,
    ) -> None:
        self._grid, self._diary = grid, diary

    def begin(self, link: Link) -> None:
        """A hospital has connected."""
        threading.Thread(target=self._ask, args=(link, link.instance), daemon=True).start()

    def _ask(self, link: Link, instance: str) -> None:
        content = RecordDict({"manifest": ConfigRecord({"manifest": b""})})
        message = Message(content, link.node_id, m.MANIFEST)
        for reply in self._grid.send_and_receive([message], timeout=60.0):
            with self._grid.changed:
                link.admitted = not reply.has_error()
                self._grid.changed.notify_all()
