"""A package as pieces, in the order in which they are to come: the signed list, then each file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wardround.common.errors import ResultsRefused
from wardround.common.results.package import FILES, Package, read_list
from wardround.common.results.staging import Expected, Staging


class Piece(NamedTuple):
    """Some bytes of a file. ``offset``: of the first one."""

    name: str
    offset: int
    data: bytes


def pieces(folder: Path, package: Package, piece_bytes: int) -> Iterator[Piece]:
    """A folder's files, each read as it is asked for; an empty file is one empty piece.

    Raises ResultsRefused if a file isn't there as it is listed.
    """
    yield Piece(FILES, 0, read_list(folder))
    for one in package.files:
        try:
            with open(folder / one.name, "rb") as file:
                offset, data = 0, file.read(piece_bytes)
                while True:
                    yield Piece(one.name, offset, data)
                    offset += len(data)
                    if not (data := file.read(piece_bytes)):
                        break
        except OSError as error:
            why = f"'{one.name}' can't be read ({error.strerror})"
            raise ResultsRefused(why, who=str(folder)) from None
        if offset != one.size:
            raise ResultsRefused(f"'{one.name}' was altered", who=str(folder))


def take(coming: Iterable[Piece], target: Path, expected: Expected) -> Package:
    """Write a run's results to ``target``, which is there when they are whole: what a researcher
    fetches. What an earlier try has brought is not lost.

    Raises ResultsRefused.
    """
    staging = Staging(target, expected)
    for piece in coming:
        if piece.name == FILES:
            staging.begin(piece.data)
        else:
            staging.put(*piece)
    return staging.finish()
