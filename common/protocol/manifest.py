"""``query.manifest``: what the run is, to be accepted before anything else is asked.

Answered by a hospital's process, not by its app.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from flwr.app import ConfigRecord

from wardround.common.decided import keys
from wardround.common.errors import PolicyRefused, ReplyRefused
from wardround.common.protocol import names as m
from wardround.common.protocol.message import Came, Content, Value, Words, data, values

RECORD = "manifest"
MESSAGE = Value(
    RECORD,
    m.MESSAGE,
    data(),
    decided=keys(
        "signed by the server that the authority's description names; its fields: a table below",
        "common.manifest.manifest.Manifest.read",
    ),
)
_NONE = "the request has no run manifest"
_REQUEST = Words(PolicyRefused, _NONE, _NONE)
_REPLY = Words(ReplyRefused, "its answer names no manifest", "its answer names no manifest")


@dataclass(frozen=True)
class ManifestRequest:
    """Shows a run manifest. ``manifest``: signature and canonical JSON, of at most 64 MiB."""

    type: ClassVar = m.MANIFEST
    manifest: bytes

    def to_records(self) -> Content:
        return Content({RECORD: ConfigRecord(values((MESSAGE, self.manifest)))})

    @classmethod
    def from_records(cls, content: Content) -> ManifestRequest:
        """Raises PolicyRefused."""
        return cls(Came(content, _REQUEST).take(MESSAGE))


@dataclass(frozen=True)
class ManifestReply:
    """The hospital accepts. ``digest``: 32 bytes, of the manifest that it has accepted."""

    type: ClassVar = m.MANIFEST
    digest: bytes

    def to_records(self) -> Content:
        return Content({RECORD: ConfigRecord(values((MESSAGE, self.digest)))})

    @classmethod
    def from_records(cls, content: Content) -> ManifestReply:
        """Raises ReplyRefused."""
        return cls(Came(content, _REPLY).take(MESSAGE))
