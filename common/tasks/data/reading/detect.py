"""Which delimiter and quote a text file uses, found in its beginning."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wardround.common.errors import DataError

_DELIMITERS = (",", ";", "\t", "|")
_ROWS = 200
_LONE_COMMA = re.compile(r"(?<![0-9]),|,(?![0-9])")
NAMED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}


def records(text: str, delimiter: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """(lines up to its end, cells) of the records that aren't empty, as far as they can be read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error:
        return


def find_quote(sample: str) -> str:
    """The single quote where cells are in such and none in double ones."""
    if '"' not in sample:
        cells = re.findall(r"(?:^|[,;\t|])'[^'\n]*'(?=[,;\t|\r\n]|$)", sample, re.M)
        if len(cells) > 1:
            return "'"
    return '"'


def find_delimiter(path: Path, sample: str, quote: str, columns: int | None) -> str:
    """What parts most lines into as many cells as the first has, two or more.

    columns : how many there are, where the settings name them. Raises DataError where two marks do
    it equally well.
    """
    scores: dict[str, tuple[float, int]] = {}
    below: dict[str, tuple[float, int]] = {}
    for mark in _DELIMITERS:
        found_rows = islice(records(sample, mark, quote), _ROWS)
        widths = [len(row) for _, row in found_rows]
        for width, kept in ((columns or (widths or [0])[0], scores), (_usual(widths), below)):
            if width > 1 and (share := Counter(widths)[width] / len(widths)) > 0.5:
                kept[mark] = (share, width)
    if not scores and below:  # the first line is a title, which is told when names are looked for
        return max(below, key=lambda mark: below[mark])
    if not scores:
        return "\t" if path.suffix.lower() == ".tsv" else ","
    best = max(share for share, _ in scores.values())
    found = [mark for mark, (share, _) in scores.items() if share == best]
    if len(found) > 1 and "," in found and not _LONE_COMMA.search(sample):
        found.remove(",")  # each comma is within a number
    if len(found) > 1:
        wide = max(scores[mark][1] for mark in found)
        several = [mark for mark in found if scores[mark][1] == wide]
        if len(several) > 1 or wide < 2 * min(scores[mark][1] for mark in found):
            known = " and ".join(NAMED[mark] for mark in found)
            raise DataError(
                f"{path}: {known} both part every line into columns; say which in "
                "task.dialect.delimiter"
            )
        found = several
    return found[0]


def _usual(widths: list[int]) -> int:
    return Counter(widths).most_common(1)[0][0] if widths else 0
