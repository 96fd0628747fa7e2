"""The one normal form of a text, when two texts are the same, and texts that are safe to pass on.

Headers, names in settings, declared lists, cells and identifiers pass through ``normal_text``, and
codes through ``code``, before anything compares them: an export's composed and decomposed letters,
blanks around or doubled within a text, and 1 beside 1.0 are differences of form, never of meaning.
Case is a difference of meaning unless a rule says otherwise (yes and Yes); ``near`` finds texts
that differ in case, blanks or form only, to suggest them.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_ZERO_TAIL = re.compile(r"^([+-]?\d+)\.0*$", re.ASCII)
_UNSEEN = str.maketrans("", "", "\ufeff\u200b\u2060\u00ad")
"""Byte-order mark, zero-width space, word joiner, soft hyphen: no reader sees them."""


def composed(text: str) -> str:
    """NFC (Unicode Standard Annex 15): letters and accents in one; else as it is."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def normal_text(text: str) -> str:
    """Composed, blanks of any kind stripped and collapsed to one each, unseen letters out."""
    if not text.isascii():
        text = composed(text.translate(_UNSEEN))
    elif " " not in text and text.isprintable():
        return text  # as most cells are
    return " ".join(text.split())


def code(text: str) -> str:
    """The normal form of a category, class or identifier: '2.0' is '2', as one export's number is
    another's text. '02' is another code, as in ICD, postcodes and record numbers."""
    text = normal_text(text)
    return _ZERO_TAIL.sub(r"\1", text) if text.endswith(("0", ".")) else text


def near(text: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``text`` is meant to be: but for case, blanks, punctuation or
    compatible letters the same, or a slip of the keyboard away; None if there is none."""
    known = list(known)
    alike = {_loose(name): name for name in reversed(known)}
    if (found := alike.get(_loose(text))) is not None:
        return found
    close = difflib.get_close_matches(_loose(text), list(alike), 1, cutoff=0.8)
    return alike[close[0]] if close else None


def one_line(text: str | None, limit: int = 300) -> str:
    """A text from outside as one harmless line: control characters out, length bounded."""
    printable = "".join(c if c.isprintable() else " " for c in (text or "no reason given"))
    line = re.sub(r" +", " ", printable).strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text that any reader accepts: NaN and infinity become null, keys keep their order."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a number that JSON has no word for
        return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _loose(text: str) -> str:
    folded = unicodedata.normalize("NFKD", code(text)).casefold()
    kept = "".join(letter for letter in folded if letter.isalnum())
    return kept or folded
