"""The number of each text that a cell of a category may say, in every spelling that is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wardround.common.tasks.data.reading.texts import missing_codes
from wardround.common.tasks.options import TabularOptions

GAP, UNSEEN = -1, -2
"""Of an empty cell, and of a text that is no category."""
_WHOLE = re.compile(r"[+-]?[0-9]+")


def category_numbers(name: str, words: Sequence[str], options: TabularOptions) -> dict[str, int]:
    """By text: categories from 0 in the order of ``words``, what ``task.columns.codes`` calls so,
    and texts that mean missing; any other is ``UNSEEN``. A whole number is there with '.0', too.
    """
    known = {word: number for number, word in enumerate(words)}
    spellings = options.columns.spellings(name)
    found = {text: known.get(word, UNSEEN) for text, word in spellings.items()}
    found |= {word: number for word, number in known.items() if word not in spellings}
    found |= dict.fromkeys(sorted(missing_codes(options.missing_values)), GAP)
    whole = {f"{text}.0": number for text, number in found.items() if _WHOLE.fullmatch(text)}
    return whole | found
