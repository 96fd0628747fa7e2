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
STUDY = Value(
    RECORD,
    "study",
    data(),
    decided=keys(
        "signed by its researcher and by the server that the authority's description names; a "
        "study's settings are this hospital's once it has accepted the plan",
        "common.study.study.SignedStudy.read",
    ),
)
_NONE = "the request has no run manifest"
_REQUEST = Words(PolicyRefused, _NONE, _NONE)
_REPLY = Words(ReplyRefused, "its answer names no manifest", "its answer names no manifest")


@dataclass(frozen=True)
class ManifestRequest:
    """Shows a run manifest.

    manifest : signature and canonical JSON, of at most 64 MiB
    study : of a network's study, as ``SignedStudy`` is; b'' in a federation that is one
    """

    type: ClassVar = m.MANIFEST
    manifest: bytes
    study: bytes = b""

    def to_records(self) -> Content:
        pairs = ((MESSAGE, self.manifest), (STUDY, self.study or None))
        return Content({RECORD: ConfigRecord(values(*pairs))})

    @classmethod
    def from_records(cls, content: Content) -> ManifestRequest:
        """Raises PolicyRefused."""
        came = Came(content, _REQUEST)
        return cls(came.take(MESSAGE), came.find(STUDY) or b"")


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
