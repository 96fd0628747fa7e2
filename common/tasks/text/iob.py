"""Sentences with a tag on each word: IOB files, one word and its tag a line.

A line is the word, perhaps other columns, and last the tag (tabs or blanks between); an empty line
ends a sentence. ``O`` is no entity, ``B-TYPE`` begins one, ``I-TYPE`` goes on. ``-DOCSTART-`` lines
are skipped. A line ``# patient = ...`` without a tab says whose the sentences after it are.

No message quotes a word or a tag: only files and lines are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import read_text
from wardround.common.text import code, composed, normal_text

READABLE = (".tsv", ".iob", ".iob2", ".bio", ".conll")
_PATIENT = re.compile(r"#\s*patient\s*=\s*(\S[^\t]*)")


@dataclass(frozen=True)
class Sentence:
    """tags : numbers as ``tag_numbers`` gives them; line : of its first word"""

    words: list[str]
    tags: list[int]
    line: int
    patient: str | None


def tag_names(entities: list[str]) -> list[str]:
    """O, then B- and I- of each type, in the order of the head's outputs."""
    return ["O", *(f"{prefix}-{name}" for name in entities for prefix in "BI")]


def read_iob(path: Path, entities: list[str]) -> list[Sentence]:
    """The sentences of one file. Raises DataError naming file and line."""
    sentences = list(_sentences(path, entities))
    if not sentences:
        raise DataError(f"{path}: there are no sentences; check that this is the right file")
    known = [sentence.patient is not None for sentence in sentences]
    if any(known) and not all(known):
        line = sentences[known.index(False)].line
        raise DataError(
            f"{path}:{line}: a sentence before the first '# patient = ' line, so without a patient"
        )
    return sentences


def read_words(path: Path) -> list[Sentence]:
    """The sentences of one file whose words need no tags; those that are there aren't looked at,
    and all are 0. Raises DataError naming file and line."""
    return list(_sentences(path, None))


def _sentences(path: Path, entities: list[str] | None) -> Iterator[Sentence]:
    """entities : None where tags don't matter"""
    numbers = {name: number for number, name in enumerate(tag_names(entities or []))}
    words: list[str] = []
    tags: list[int] = []
    patient: str | None = None
    begin = 0
    for line, text in enumerate([*read_text(path).split("\n"), ""], start=1):
        text = text.strip("\r")
        note = _PATIENT.fullmatch(text.rstrip()) if text.startswith("#") else None
        if not text.strip() or note:
            if words:
                yield Sentence(words, tags, begin, patient)
                words, tags = [], []
            patient = code(note[1]) if note else patient
            continue
        cells = [c.strip() for c in text.split("\t")] if "\t" in text else text.split()
        if cells[0] == "-DOCSTART-":
            continue
        if not cells[0] or (entities is not None and len(cells) < 2):
            raise DataError(f"{path}:{line}: not a word, a tab and a tag")
        tag = "O" if entities is None else normal_text(cells[-1])
        if entities is not None and tag not in numbers:
            raise DataError(
                f"{path}:{line}: the tag is not O, B-TYPE or I-TYPE with a type of task.entities "
                f"({', '.join(entities)})"
            )
        begin = begin if words else line
        words.append(composed(cells[0]))
        tags.append(numbers[tag])
