"""A hospital's own ``.sql`` file: one statement that reads.

What can be told of a text is told here, in the words of whoever wrote it. That nothing is written
is held by the transaction, not by this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from wardround.common.durable.private import why
from wardround.common.errors import DataError

_MOST_BYTES = 2**20
_READS = ("select", "with", "values")
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*)
    |(?P<text>[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`[^`]*`)
    |(?P<dollar>\$(?:[A-Za-z_]\w*)?\$)
    |(?P<end>;)
    |(?P<open>['"`])
    |(?P<word>\w+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Query:
    """One statement.

    text : without the semicolon at its end
    path : of the file; None of one that is made by the program
    what : of such a one, what it asks for, for messages
    """

    text: str
    path: Path | None = None
    what: str = ""

    @property
    def name(self) -> str:
        """How messages call it; '' where it is nobody's."""
        return self.path.name if self.path is not None else self.what

    def place(self, position: int) -> str:
        """Of a character of the text, from 0: its line, and the word there if it is a name."""
        line = self.text.count("\n", 0, position) + 1
        word = re.compile(r'[A-Za-z_]\w{0,62}|"[^"\n]{1,63}"').match(self.text, position)
        where = f"{self.name}, line {line}" if self.name else f"line {line} of the query"
        return f"{where}, at {word[0]}" if word else where


def read_query(path: Path, who: str) -> Query:
    """The statement of a file. Raises DataError where it isn't one that reads."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({why(error, path)})", who=who) from None
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path}: has over 1 MiB, which is no query", who=who)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: isn't UTF-8; save it as UTF-8", who=who) from None
    if "\0" in text:
        raise DataError(f"{path}: has a NUL byte, which is no text", who=who)
    try:
        return Query(_one_statement(text), path)
    except ValueError as error:
        raise DataError(f"{path}{error}", who=who) from None


def _one_statement(text: str) -> str:
    """Without the semicolon at the end. Raises ValueError, whose text follows the file's name."""
    first, end, at = "", None, 0
    while found := _TOKEN.search(text, at):
        at, kind = found.end(), found.lastgroup
        line = f", line {text.count(chr(10), 0, found.start()) + 1}: "
        if found[0] == "/*":
            at = _end_of_comment(text, at)
            if at < 0:
                raise ValueError(f"{line}a comment (/*) has no end")
            continue
        if kind == "comment":
            continue
        if kind == "open":
            raise ValueError(f"{line}a quotation mark has no second one")
        if end is not None:
            if kind == "end":
                continue
            raise ValueError(f"{line}a second statement begins; a query is one SELECT")
        if kind == "end":
            end = found.start()
        elif kind == "dollar":
            at = text.find(found[0], at) + len(found[0])
            if at < len(found[0]):
                raise ValueError(f"{line}{found[0]} has no second one")
        elif kind == "word" and not first:
            first = found[0].lower()
            if first not in _READS:
                raise ValueError(f"{line}begins with {first[:40].upper()}; a query is one SELECT")
    if not first:
        raise ValueError(": has no statement; write one SELECT")
    return text if end is None else text[:end]


def _end_of_comment(text: str, at: int) -> int:
    """Behind the ``*/`` of a comment that may hold others; -1 if there is none."""
    depth = 1
    for found in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if not depth:
            return found.end()
    return -1
