"""What may leave a hospital of an error: what was asked, on one line, without a path.

Errors name files, lines, columns, so that a hospital can mend them; its own log keeps them whole.
What leaves are the words that the error has for the outside (``outside_words``). That no path is
in them is made sure of once more, whoever wrote them: of each the last part leaves; of what lies in
a data folder not even that, for a file may be called after a patient.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from wardround.common.errors import outside_words
from wardround.common.text import one_line

_ABSOLUTE = re.compile(
    r"(?<![\w./\\~-])(?:file://|\\(?=\\))?(?:~|[A-Za-z]:(?=[\\/]))?(?:[/\\](?=[^\s/\\])[^\s/\\'\"`:;,()<>|]*)+"
)
_REST = re.compile(r"[/\\].*?(?=: |:\d|[,;'\")]| \(|$)")
"""The rest of a path that isn't there: errors say 'path: what', or 'path:line'."""


class Outward:
    """Makes of an error what may leave.

    Parameters
    ----------
    data : the hospital's shards, None among them where there is none; of what lies below one
        nothing is named
    folders : others of its folders, as its user wrote them
    """

    def __init__(self, *data: Path | None, folders: Iterable[Path] = ()) -> None:
        given = [one for one in data if one is not None]
        self._names = {form: one.resolve().name for one in given for form in _forms([one])}
        self._data = sorted(self._names, key=len, reverse=True)
        self._folders = [(_pattern(form, r"[/\\]"), "") for form in _forms(folders)]
        self._folders += [
            (_pattern(form, r"(?![\w/\\])"), self._names[form]) for form in self._data
        ]

    def __call__(self, error: Exception) -> str:
        return self.without_places(outside_words(error))

    def without_places(self, text: str) -> str:
        """The text on one line, without paths."""
        for form in self._data:
            text = self._without_files(text, form)
        for pattern, instead in self._folders:
            text = pattern.sub(instead.replace("\\", r"\\"), text)
        return one_line(_ABSOLUTE.sub(lambda found: _last(found[0]), text))

    def _without_files(self, text: str, form: str) -> str:
        """The text without what it names below the data folder."""
        pattern, kept, at = _pattern(form, r"(?=[/\\])"), "", 0
        while found := pattern.search(text, at):
            kept += f"{text[at : found.start()]}{self._names[form]}/..."
            at = found.end() + _inside(form, text[found.end() :])
        return kept + text[at:]


def _pattern(form: str, after: str) -> re.Pattern[str]:
    return re.compile(r"(?<![\w./\\-])" + re.escape(form) + after)


def _inside(folder: str, rest: str) -> int:
    """How long the path is that a text goes on with below a folder: a file's name may hold whatever
    ends one in a sentence ('Doe, Jane (2).dcm'), so the longest that is there counts."""
    found = _REST.match(rest)
    usual = found.end() if found else 0
    for end in range(len(rest), usual, -1):
        if rest[end - 1] not in "/\\" and os.path.lexists(folder + rest[:end]):
            return end
    return usual


def _forms(places: Iterable[Path]) -> list[str]:
    """How a path may be written, the longest first."""
    forms = {str(form) for one in places for form in (one, one.absolute(), one.resolve())}
    return sorted(forms - {".", "/"}, key=len, reverse=True)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
