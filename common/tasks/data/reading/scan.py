"""One pass over a CSV's bytes before it is parsed: what the parser would read in silence.

pyarrow takes 0x10 for 16, 007 for 7, a quote within a cell for a part of it, and an unclosed one
for the rest of the file. Each needs another way of reading, or is an error by its line.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import MEND, Content

LONGEST_LINE_BYTES = 16 << 20
"""No row of a table is as long: a file of one endless line isn't read."""
_NEWLINE, _RETURN, _POINT, _ZERO, _NINE = 10, 13, 46, 48, 57


@dataclass
class Seen:
    """What there is in a file's bytes.

    quotes : whether there are any
    tidy : whether each quote is at its cell's edge, or doubled
    zeros : whether a cell may begin with 0 and a digit, after a sign too
    hexadecimal : whether 0x stands somewhere
    utf8 : whether all of it is UTF-8
    """

    quotes: bool = False
    tidy: bool = True
    zeros: bool = False
    hexadecimal: bool = False
    utf8: bool = True
    size: int = 0


def endless_line(path: Path, line: int) -> DataError:
    """The error of a line that no row has."""
    most = f"{LONGEST_LINE_BYTES >> 20} MiB"
    return DataError(
        f"{path}:{line}: a line of more than {most}; is this a CSV, with its ends of lines?"
    )


def scan(content: Content, delimiter: str, quote: str, zeros: bool) -> Seen:
    """Look at every byte once; for leading zeros where ``zeros``. Raises DataError by the line of
    a NUL, and for an endless line."""
    seen, state = Seen(), _Quotes(ord(quote), ord(delimiter) if delimiter.isascii() else -1)
    decoder = codecs.getincrementaldecoder("utf-8")()
    last_end, last_byte = 0, b""
    for piece in content.pieces():
        if (nul := piece.find(b"\0")) >= 0:
            line = content.line_at(seen.size + nul)
            raise DataError(
                f"{content.path}:{line}: a NUL byte, which no text has; is it a CSV? In UTF-16, "
                "set task.dialect.encoding = 'utf-16'"
            )
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r"))
        if end >= 0:
            last_end = seen.size + end
        elif seen.size + len(piece) - last_end > LONGEST_LINE_BYTES:
            raise endless_line(content.path, content.line_at(last_end + 1))
        if seen.utf8 and (not piece.isascii() or decoder.getstate()[0]):
            seen.utf8 = _decodes(decoder, piece)
        data = np.frombuffer(piece, dtype=np.uint8)
        across = last_byte + piece[:1]
        seen.hexadecimal = seen.hexadecimal or any(
            mark in piece and (b"0" + mark in piece or across == b"0" + mark)
            for mark in (b"x", b"X")
        )
        last_byte = piece[-1:]
        if zeros and not seen.zeros:
            seen.zeros = _leading_zeros(data)
        if quote.encode() in piece:
            seen.quotes = True
        if seen.quotes and seen.tidy:
            seen.tidy = state.follow(data)
        seen.size += len(piece)
    seen.utf8 = seen.utf8 and _decodes(decoder, b"", final=True)
    seen.tidy = seen.tidy and state.closed()
    if not seen.utf8 and not content.guessed:
        raise DataError(f"{content.path}:{_wrong_line(content)}: not UTF-8 text; {MEND}")
    return seen


def _decodes(decoder: codecs.IncrementalDecoder, piece: bytes, final: bool = False) -> bool:
    try:
        decoder.decode(piece, final)
    except UnicodeDecodeError:
        return False
    return True


def _wrong_line(content: Content) -> int:
    """The line of the first byte that isn't UTF-8."""
    with content.open() as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _leading_zeros(data: NDArray[np.uint8]) -> bool:
    """Whether 0 and a digit begin a number; at a piece's edge, they may."""
    zeros = np.flatnonzero(data == _ZERO)
    zeros = zeros[zeros < len(data) - 1]
    after = data[zeros + 1]
    zeros = zeros[(after >= _ZERO) & (after <= _NINE)]
    before = data[np.maximum(zeros - 1, 0)]
    inside = ((before >= _ZERO) & (before <= _NINE)) | (before == _POINT)
    return bool((~inside | (zeros == 0)).any())


class _Quotes:
    """Follows the quotes of a file: the first opens a cell, the next closes it, and so on; a
    doubled one closes and opens at once."""

    def __init__(self, quote: int, delimiter: int) -> None:
        self._quote, self._edges = quote, (delimiter, _NEWLINE, _RETURN)
        self._before = _NEWLINE
        self._open = False
        self._waits = False  # the last byte closed a cell: what follows must be an edge or a quote

    def closed(self) -> bool:
        """Whether the last cell is."""
        return not self._open

    def follow(self, data: NDArray[np.uint8]) -> bool:
        """Whether all quotes of the next piece stand where they may."""
        if self._waits and data[0] != self._quote and data[0] not in self._edges:
            return False
        at = np.flatnonzero(data == self._quote)
        opens = np.zeros(len(at), dtype=np.bool_)
        opens[int(self._open) :: 2] = True
        opening, closing = at[opens], at[~opens]
        before = np.where(opening > 0, data[np.maximum(opening - 1, 0)], self._before)
        inner = closing[closing < len(data) - 1]
        after = data[inner + 1]
        fits = self._fits(before).all() and self._fits(after).all()
        self._open ^= len(at) % 2 == 1
        self._before = int(data[-1])
        self._waits = self._before == self._quote and not self._open
        return bool(fits)

    def _fits(self, beside: NDArray[np.uint8]) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = beside == self._quote
        for edge in self._edges:
            mask |= beside == edge
        return mask
