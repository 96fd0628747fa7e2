"""The names of a file's columns: in normal form, each once, and told apart by more than case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wardround.common.errors import DataError
from wardround.common.tasks.data.problems import Problems
from wardround.common.text import normal_text

_JOINERS = "\u200c\u200d"
"""Unseen letters that names of some languages need."""
A_LOOK = 1000
"""Records that are looked at for what is usual."""
_MEND = "without a header line, name the columns in task.dialect.header"


def checked_names(path: Path, names: Sequence[str], hide: bool) -> list[str]:
    """The names in normal form. Raises DataError with all that are empty or stand there twice.

    hide : whether no message may quote one: the first record may be a patient's
    """
    known = [normal_text(name) for name in names]
    found = Problems(path)
    for position, name in enumerate(known, start=1):
        first = known.index(name) + 1
        alike = [one.casefold() for one in known[: position - 1]]
        if not name:
            found.add(f"{path}: column {position} has no name in the header; name it, or drop it")
        elif any(not letter.isprintable() and letter not in _JOINERS for letter in name):
            found.add(f"{path}: the name of column {position} has an unseen letter; write it anew")
        elif name not in known[: position - 1] and name.casefold() in alike:
            found.add(
                f"{path}: the names of columns {alike.index(name.casefold()) + 1} and {position} "
                "differ in the case of letters alone; rename one"
            )
        elif first < position:
            what = "a name" if hide or looks_like_a_cell(name) else f"column '{name}'"
            same = "" if names[first - 1] == names[position - 1] else ", but for blanks or form"
            mend = "is the first line a header?" if hide else f"rename one; {_MEND}"
            found.add(
                f"{path}: {what} stands twice in the header{same}, as columns {first} and "
                f"{position}; {mend}"
            )
    found.check()
    return known


def check_title(path: Path, filled: Sequence[tuple[int, int]], what: str) -> None:
    """Raise DataError where the first record has a title, not the columns' names. It is looked for
    before all else, as each row below it would be a problem of its own.

    filled : (row or line, filled cells) of the first records; what : 'row' or 'line'
    """
    first, cells = filled[0]
    usual = int(np.median([many for _, many in filled[1:]])) if len(filled) > 1 else 0
    if 2 * cells >= usual:
        return
    header = next(number for number, many in filled if many >= usual)
    raise DataError(
        f"{path}: {what} {first} has {cells or 'no'} filled cell{'s' * (cells != 1)}, most have "
        f"{usual}; if it is a title, delete all above the header ({what} {header}, it seems), else "
        "name each column"
    )


def listed(names: Sequence[str]) -> str:
    """Names for a message, unless they look like a patient's row in a file without a header."""
    names = sorted(names)
    if any(looks_like_a_cell(name) for name in names):
        return "no header line, it seems, but data there (name the columns in task.dialect.header)"
    shown = ", ".join(names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def looks_like_a_cell(name: str) -> bool:
    """Whether a header's name rather is a patient's value."""
    try:
        float(name)
    except ValueError:
        return name in ("", "?")
    return True
