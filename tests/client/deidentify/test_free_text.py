"""Rules for free text: forms are found, in several languages; what isn't a form stays."""

from __future__ import annotations

import random

import pytest

from wardround.client.deidentify.free_text import Found, scrub


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("seen on 3/4/2024 and 2024-01-31.", "seen on [DATE] and [DATE]."),
        ("am 03.04.2024, Kontrolle 5.6.", "am [DATE], Kontrolle [DATE]"),
        ("on 3rd of March 2024, le 12 février 2023", "on [DATE], le [DATE]"),
        ("call +49 30 1234567 or (212) 555-0199", "call [PHONE] or [PHONE]"),
        ("Tel 0151 23456789, 0761/100000", "Tel [PHONE], [PHONE]"),
        ("MRN: 1234567, case AB-99887", "MRN: [NUMBER], case [NUMBER]"),
        ("ssn 123-45-6789", "ssn [PHONE]"),
        ("mail a.b@example.org, www.example.org/x", "mail [MAIL], [URL]"),
        ("host 10.1.2.3 down", "host [IP] down"),
        ("Mr. Ed Miller and Frau Dr. von Berg left", "[NAME] and [NAME] left"),
        ("Mme Dupont, prof. Rossi", "[NAME], [NAME]"),
        ("a 93-year-old, 45 years", "a [AGE]-year-old, 45 years"),
        ("creatinine 88.4 umol/L, 120/80 mmHg, 37.5", "creatinine 88.4 umol/L, 120/80 mmHg, 37.5"),
        ("dr said the patient was well", "dr said the patient was well"),
    ],
)
def test_forms_become_tags(text: str, clean: str) -> None:
    assert scrub([text], Found()) == [clean]


def test_names_without_a_title_are_counted_and_stay() -> None:
    """Of made-up notes half have the name after a title: these are found, the others are told."""
    draw = random.Random(1)
    first, last = ("Anna", "Bert", "Elena", "Fatima"), ("Miller", "Okafor", "Nguyen", "Novak")
    names = [f"{draw.choice(first)} {draw.choice(last)}" for _ in range(400)]
    notes = [f"Dr. {n} saw the film" if i % 2 else f"then {n} left" for i, n in enumerate(names)]
    found = Found()
    cleaned = scrub(notes, found)
    gone = sum(name not in text for name, text in zip(names, cleaned, strict=True))
    assert (gone, found.suspects, found.tags) == (200, 200, {"NAME": 200})


def test_a_model_finds_more() -> None:
    found = Found()
    finder = lambda texts: [[(5, 15, "PERSON")] for _ in texts]  # noqa: E731
    assert scrub(["then Ed Miller7 left on 3/4/2024"], found, finder) == [
        "then [PERSON] left on [DATE]"
    ]
    assert found.tags == {"PERSON": 1, "DATE": 1} and found.suspects == 0
