"""A study's results on their way to a researcher: signed list first, then file after file.

Nothing counts but what the server's key has signed; what came before a break isn't asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wardround.client.researcher.calls import Away, Calls
from wardround.common.errors import ResultsRefused
from wardround.common.results.package import FILES, MOST_LIST_BYTES
from wardround.common.results.pieces import Piece, take
from wardround.common.results.staging import Expected, Staging
from wardround.common.study import frames as f
from wardround.common.study.study import Study

_MOST_BYTES = 1 << 40
_MOST_TRIES, _PAUSE_S = 5, 2.0
"""Of a file that brings nothing."""
Progress = Callable[[str, int, int], object]
"""Is told of each file: its name, bytes that are here, bytes in all."""


def fetch(
    calls: Calls, study: Study, target: Path, progress: Progress = lambda name, here, size: None
) -> Path:
    """Bring a complete study's results to the folder ``target``, which is there when they are
    whole and hold what the server signed.

    Raises ResultsRefused, StudyRefused where there are none (yet), and what ``Calls`` raises; the
    same again goes on.
    """
    description = calls.kit.description
    expected = Expected(
        description.server, description.federation, study.id, study.run, _MOST_BYTES
    )
    take(_pieces(calls, study.id, Staging(target, expected), expected, progress), target, expected)
    return target


def _pieces(
    calls: Calls, id: str, staging: Staging, expected: Expected, progress: Progress
) -> Iterator[Piece]:
    """The signed list, and of each file what isn't here yet."""
    signed = b""
    for piece in _file(calls, id, FILES, 0, None):
        signed += piece.data
    package = expected.read(signed)
    yield Piece(FILES, 0, signed)
    for one in package.files:
        here = staging.have(one.name)
        if here < one.size or (one.size == 0 and not here):
            for piece in _file(calls, id, one.name, here, one.size):
                yield piece
                progress(one.name, piece.offset + len(piece.data), one.size)


def _file(calls: Calls, id: str, name: str, offset: int, size: int | None) -> Iterator[Piece]:
    """What comes of a file from a byte on, over any number of breaks that bring something.

    size : as the signed list says; None for the list itself
    """
    tries = 0
    while True:
        try:
            for piece, whole in _stream(calls, id, name, offset, size):
                yield piece
                offset, tries = offset + len(piece.data), 0
                if offset == whole:
                    return
            tries += 1
        except Away:
            tries += 1
            if tries > _MOST_TRIES:
                raise
            time.sleep(_PAUSE_S)
        if tries > _MOST_TRIES:
            raise ResultsRefused(f"'{name}' breaks off", mend="fetch again: it goes on from there")


def _stream(
    calls: Calls, id: str, name: str, offset: int, size: int | None
) -> Iterator[tuple[Piece, int]]:
    """Pieces of one stream, each with the size of the file."""
    with calls.stream(f.Fetch(study=id, name=name, offset=offset)) as messages:
        head = f.FileHead.read(next(messages, b""))
        fits = head.size <= MOST_LIST_BYTES if size is None else head.size == size
        if (head.name, head.offset) != (name, offset) or not fits:
            raise ResultsRefused(f"'{name}' comes as another file than the one that is listed")
        if head.size == offset:
            yield Piece(name, offset, b""), head.size
        for data in messages:
            if not data or offset + len(data) > head.size:
                raise ResultsRefused(f"'{name}' is longer than was said")
            yield Piece(name, offset, data), head.size
            offset += len(data)
