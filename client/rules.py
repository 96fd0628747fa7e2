"""The hospital's last word, as its process asks for it: its policy, the accepted plan, the gate."""

from __future__ import annotations

from flwr.app import ConfigRecord, RecordDict

from wardround.client.kit import Kit
from wardround.common.audit import AuditLog
from wardround.common.config import Config
from wardround.common.versions import own_version


class Rules:
    def __init__(self, kit: Kit, audit: AuditLog, device: str | None) -> None:
        self._kit, self._audit, self._device = kit, audit, device
        self.version = own_version()

    def config(self) -> Config:
        sets = [f'training.device="{self._device}"'] if self._device else []
        return self._kit.description.config(sets)

    def described(self, kit: Kit) -> None:
        self._kit = kit

    def admit(self, content: RecordDict) -> RecordDict:
        return RecordDict({"manifest": ConfigRecord({"accepted": True})})

    def may_begin(self, message_type: str) -> None:
        pass

    def may_leave(self, message_type: str, content: RecordDict) -> str:
        return "none"
