"""What may be told of a text that leaves a hospital: one line without a place on its machine.

Errors name files, so that a hospital can mend them. The server gets of each path the last part; of
what lies in a data folder not even that, for a file may be called after a patient. The hospital's
own log keeps the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from wardround.common.messages import one_line

_ABSOLUTE = re.compile(
    r"(?<![\w./\\~-])(?:file://)?(?:~|[A-Za-z]:(?=[\\/]))?(?:[/\\](?=[^\s/\\])[^\s/\\'\"`:;,()<>|]*)+"
)
_REST = r"[/\\].*?(?=: |:\d|[,;'\")]| \(|$)"
"""The rest of a path: errors say 'path: what', or 'path:line'; its folders may have blanks."""


class Outward:
    """Makes of a text what may leave.

    Parameters
    ----------
    data : the hospital's shard; of what lies below it nothing is named
    folders : others of its folders, as its user wrote them
    """

    def __init__(self, data: Path | None = None, folders: Iterable[Path] = ()) -> None:
        self._forms: list[tuple[re.Pattern[str], str]] = []
        for form in _forms([data] if data is not None else []):
            name = data.resolve().name if data is not None else ""
            self._add(re.escape(form) + _REST, f"{name}/...")
            self._add(re.escape(form) + r"(?![\w/\\])", name)
        for form in _forms(folders):
            self._add(re.escape(form) + r"[/\\]", "")

    def __call__(self, text: str) -> str:
        for pattern, instead in self._forms:
            text = pattern.sub(instead.replace("\\", r"\\"), text)
        return one_line(_ABSOLUTE.sub(lambda found: _last(found[0]), text))

    def _add(self, pattern: str, instead: str) -> None:
        self._forms.append((re.compile(r"(?<![\w./\\-])" + pattern), instead))


def _forms(places: Iterable[Path]) -> list[str]:
    """How a path may be written, the longest first."""
    forms = {str(form) for one in places for form in (one, one.absolute(), one.resolve())}
    return sorted(forms - {".", "/"}, key=len, reverse=True)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
