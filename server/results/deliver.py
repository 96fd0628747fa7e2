"""The messages that bring a package to a hospital, in their order.

The same for every hospital; each is answered by ``StudyReply``. After an error, or a hospital's
absence, they are sent again from the first on: what it has already costs it nothing but reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wardround.common.protocol.results import MOST_REASON, PIECE_BYTES, StudyEnded, StudyFile
from wardround.common.results.package import Package, read_list
from wardround.common.results.pieces import pieces
from wardround.common.text import one_line

Delivery = StudyFile | StudyEnded
_LEAST_BYTES = 1 << 16
_COMPLETE = "complete"


def deliveries(folder: Path, package: Package, most_bytes: int) -> Iterator[Delivery]:
    """All messages of a complete study's package; files are read as they are asked for.

    most_bytes : of a message (``server.max_message_mb``)

    Raises ResultsRefused if a file isn't there as it was signed.
    """
    piece_bytes = max(_LEAST_BYTES, min(PIECE_BYTES, most_bytes // 2))
    for piece in pieces(folder, package, piece_bytes):
        yield StudyFile(package.study, *piece)
    yield StudyEnded(package.study, _COMPLETE, "", read_list(folder))


def ended(study: str, state: str, reason: str) -> StudyEnded:
    """The message that a study is over without results."""
    return StudyEnded(study, state, one_line(reason, MOST_REASON))
