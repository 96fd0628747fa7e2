"""Rules for free text: what looks like a date, a phone, a number, an address of any kind, or a name
after a title becomes a tag.

Rules find forms, not meanings. A name without a title, a place, a rare disease or a profession
stays as it is; ``suspects`` counts what looks like a name and was not found, so that nobody takes a
clean page for proof.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Finder = Callable[[list[str]], list[list[tuple[int, int, str]]]]
"""Finds more in texts: for each the spans (start, end, tag) that must go."""

_MONTH = (
    r"(?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|janv|févr|mars|avr|juin|"
    r"juil|août|déc|gen|mag|giu|lug|ago|set|ott|dic|ene|abr|fev|out)[a-zà-ÿ]*\.?"
)
_TITLE = (
    r"(?:mr|mrs|ms|miss|mx|dr|prof|pt|patient|patientin|herrn?|frau|hr|fr|m|mme|mlle|madame|monsieur|"
    r"sig|sig\.ra|sra|sr|don|doña|dra|nurse|sister|schwester|pfleger)"
)
_WORD = r"[A-ZÀ-ÖØ-ÞŁŚŻĆČŠŽ][\w'’-]+"
RULES: Mapping[str, re.Pattern[str]] = {
    "MAIL": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "URL": re.compile(r"\b(?:https?://|www\.)\S+", re.I),
    "IP": re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}\b", re.I),
    "DATE": re.compile(
        r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?)?\b"
        r"|\b\d{1,2}[./-]\s?\d{1,2}[./-]\s?(?:\d{4}|\d{2})\b"
        rf"|\b\d{{1,2}}(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+)?{_MONTH}(?:,?\s+(?:de\s+)?\d{{2,4}})?\b"
        rf"|\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?\b"
        r"|\b\d{1,2}\.\d{1,2}\.(?!\d)",
        re.I,
    ),
    "AGE": re.compile(
        r"\b(?:9\d|1[01]\d)(?=[\s-]*(?:years?|yrs?|y/?o\b|jahre?|jährig|ans\b|anni\b|años\b))", re.I
    ),
    "PHONE": re.compile(
        r"(?<![\w.])\+?\(?\d{1,4}\)?(?:[ ()/.-]{1,2}\d{2,}){2,}\b|\+\d{7,15}\b"
        r"|(?<![\w.,])0\d{1,4}[ /-]{1,2}\d{4,10}\b"  # an area and a number, in two parts
    ),
    "NUMBER": re.compile(
        r"\b(?=[A-Z-]{0,4}\d{5,})[A-Z]{0,3}-?\d{5,}[A-Z]{0,2}\b|\b\d{3}-\d{2}-\d{4}\b"
    ),
    "NAME": re.compile(
        rf"\b(?i:{_TITLE})\.?\s+(?:(?i:dr|prof|med|von|van|de|der|di|da|la|le)\.?\s+)*"
        rf"{_WORD}(?:\s+(?:(?i:von|van|de|der|di|da|la|le)\s+)?{_WORD})?"
    ),
}
"""In the order in which they are tried; what one has tagged no other sees."""
_SUSPECT = re.compile(rf"(?<![.!?:]\s)(?<!^)\b{_WORD}\s+{_WORD}\b")
_TAGGED = re.compile(r"\[[A-Z]+\]")


@dataclass
class Found:
    """What was tagged in texts, and what looks as if it should have been.

    tags : occurrences by tag
    suspects : texts in which two capitalised words still stand together within a sentence
    """

    texts: int = 0
    tags: dict[str, int] = field(default_factory=dict)
    suspects: int = 0

    def note(self, tag: str) -> None:
        """Count one more."""
        self.tags[tag] = self.tags.get(tag, 0) + 1


def scrub(texts: Iterable[str], found: Found, finder: Finder | None = None) -> list[str]:
    """The texts with tags.

    finder : a model that finds more, asked before the rules, in the texts as they are

    >>> found = Found()
    >>> scrub(["Mr. Ed Miller came on 3/4/2024, call +49 30 1234567."], found)
    ['[NAME] came on [DATE], call [PHONE].']
    """
    texts = list(texts)
    spans = finder(texts) if finder is not None else [[] for _ in texts]
    return [_scrubbed(text, more, found) for text, more in zip(texts, spans, strict=True)]


def _scrubbed(text: str, more: list[tuple[int, int, str]], found: Found) -> str:
    found.texts += 1
    for start, end, tag in sorted(more, reverse=True):
        found.note(tag)
        text = f"{text[:start]}[{tag}]{text[end:]}"
    for tag, rule in RULES.items():
        text = rule.sub(lambda _, tag=tag: _tagged(tag, found), text)  # type: ignore[misc]
    if _SUSPECT.search(_TAGGED.sub("", text)):
        found.suspects += 1
    return text


def _tagged(tag: str, found: Found) -> str:
    found.note(tag)
    return f"[{tag}]"
