"""Invented sentences, so that the task runs without data. No patient ever was in them."""

from __future__ import annotations

from itertools import product

from wardround.common.tasks.text.iob import Sentence

_WITH = (
    "the patient was admitted with {} last night",
    "there is a long history of {} in the family",
    "findings are consistent with {}",
    "{} was confirmed by biopsy",
    "treatment for {} was started at once",
    "she has been followed for {} since spring",
    "he returned because of worsening {} and fatigue",
    "imaging shows signs of {} on the left",
)
_WITHOUT = (
    "the patient slept well and {} was not changed",
    "blood was drawn and {} is awaited",
    "discharge is planned once {} has been explained",
    "no complaints today , {} as before",
    "the family asked about {} and visiting hours",
    "vital signs are stable and {} continues",
    "she walked to the window while {} was prepared",
    "the form for {} was signed this morning",
)
_DISEASES = (
    "pneumonia",
    "acute renal failure",
    "atrial fibrillation",
    "breast cancer",
    "asthma",
    "type 2 diabetes",
    "sepsis",
    "chronic hepatitis",
    "migraine",
    "iron deficiency anaemia",
    "osteoporosis",
    "bacterial meningitis",
)
_OTHERS = (
    "the diet",
    "physiotherapy",
    "the new lamp",
    "a second opinion",
    "the dressing",
    "the evening meal",
    "blood pressure",
    "the transport",
    "the referral letter",
    "a follow-up call",
    "the room",
    "home care",
)


def example_sentences() -> list[Sentence]:
    """192 sentences; half name a disease, tagged B- (1) and I- (2)."""
    found: list[Sentence] = []
    for templates, fillers, kind in ((_WITH, _DISEASES, 1), (_WITHOUT, _OTHERS, 0)):
        for template, filler in product(templates, fillers):
            before, _, after = template.partition("{}")
            left, middle, right = before.split(), filler.split(), after.split()
            inner = [kind, *[2 * kind] * (len(middle) - 1)]
            tags = [0] * len(left) + inner + [0] * len(right)
            found.append(Sentence([*left, *middle, *right], tags, len(found) + 1, None))
    return found


def example_texts() -> tuple[list[str], list[int]]:
    """The same sentences as texts, and whether one names a disease: 0 or 1."""
    sentences = example_sentences()
    return [" ".join(one.words) for one in sentences], [int(any(one.tags)) for one in sentences]


_ASKED = (
    "what is done for {}",
    "where do i go with {}",
    "my doctor said {} , what happens now",
    "how long does {} take to heal",
)
_ANSWERS = ("ask for the {} clinic on the first floor", "the leaflet on {} says what to expect")


def example_pairs() -> tuple[list[str], list[str]]:
    """96 questions, and the answer of each: 24 answers, of which each has four."""
    asked, answers = list[str](), list[str]()
    for number, disease in enumerate(_DISEASES):
        for place, template in enumerate((*_ASKED, *reversed(_ASKED))):
            politely = "please , " if place >= len(_ASKED) else ""
            asked.append(politely + template.format(disease))
            answers.append(_ANSWERS[(place + number) % 2].format(disease))
    return asked, answers


def example_heads() -> tuple[list[str], list[list[int]]]:
    """The texts of ``example_texts`` and of two columns: whether a disease is named, and which of
    eight sentences it stands in."""
    texts, named = example_texts()
    length = len(_DISEASES)
    return texts, [[one, number // length % len(_WITH)] for number, one in enumerate(named)]
