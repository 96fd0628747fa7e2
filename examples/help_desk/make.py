"""A help desk's data, made up: four hospitals share a handbook and have their own words for it.

The handbook calls things by their names ("discharge letter"); people ask by nicknames ("the pink
slip") that no encoder has met. Each hospital has questions in two of four nicknames, the smallest
one of half the things only; in the test everybody uses all of them, in sentences nobody trained on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

THINGS = {
    "patient portal": ("blue page", "health window", "my drawer online", "login corner"),
    "discharge letter": ("pink slip", "going-home paper", "swan note", "farewell sheet"),
    "visitor car park": ("frog lot", "mole hill", "deck c", "rubber garage"),
    "radiotherapy": ("bunker", "basement suns", "minus two", "cellar lamps"),
    "pneumatic mail": ("tube", "swallow", "capsule line", "whoosh"),
    "blood donation": ("red room", "pint stop", "drip bar", "the tap"),
    "interpreter service": ("voice bridge", "parrots", "talk line", "tongue desk"),
    "chaplaincy": ("quiet team", "candle room", "listening corner", "room of stones"),
    "lost property office": ("left box", "finder shelf", "orphan drawer", "sock museum"),
    "outpatient pharmacy": ("green counter", "pill window", "corner of boxes", "hatch"),
}
"""By the name in the handbook, what people call it: a nickname for each pair of hospitals."""
NEW = ("dental clinic", "sleep laboratory", "bicycle shed", "fever ambulance", "toy library")
"""Stand in the handbook, and nobody has asked about them yet."""
ASKED = {
    "where": ("where do i find the {}", "how do i get to the {}", "which floor is the {} on"),
    "when": ("when is the {} open", "until when can i use the {}", "is the {} open on sundays"),
    "who": ("who do i call about the {}", "is there a number for the {}", "who runs the {}"),
    "how": ("how do i book the {}", "what form do i need for the {}", "how do i use the {}"),
}
TESTED = {
    "where": ("please tell me the way to the {}", "in which building is the {}"),
    "when": ("how late can i still come to the {}", "at what hours does the {} work"),
    "who": ("whose extension is it for the {}", "whom can i phone because of the {}"),
    "how": ("what must i fill in to get the {}", "i want to apply for the {}"),
}
ANSWERS = {
    "where": "The {} is in building {a}, floor {b}.",
    "when": "The {} is open from {b} to {c} o'clock on weekdays.",
    "who": "For the {} call extension {c}{b}{a}.",
    "how": "To use the {} hand in form {a}{c} two days before.",
}
OTHERS = (
    "who won the match last night",
    "what is the capital of peru",
    "how do i bake bread without yeast",
    "will it rain in the mountains",
    "how much is a flight to lisbon",
    "write me a poem about autumn",
    "which film got the prize this year",
    "how do i repair a bicycle chain",
    "what does the word serendipity mean",
    "is my tax return due in june",
    "how tall is the eiffel tower",
    "can i grow tomatoes on a balcony",
)
"""Nothing in the handbook answers them."""


@dataclass(frozen=True)
class Passage:
    """source : where it stands; text : what it says; thing : what it is about"""

    source: str
    text: str
    thing: str


@dataclass(frozen=True)
class Question:
    """answer : the passage's text; '' where none answers it"""

    text: str
    answer: str


def handbook() -> dict[tuple[str, str], Passage]:
    """By thing and what is asked: 60 passages, each a section."""
    found = {}
    for number, thing in enumerate((*THINGS, *NEW), 1):
        for place, (intent, text) in enumerate(ANSWERS.items(), 1):
            words = text.format(thing, a="ABCDEF"[number % 6], b=number % 5 + 6, c=number + 14)
            found[thing, intent] = Passage(f"handbook {number}.{place}", words, thing)
    return found


def questions(
    things: Sequence[str], nicknames: Sequence[int], forms: dict[str, tuple[str, ...]], draw: Random
) -> Iterator[Question]:
    """One for each thing, intent and nickname, in a form that is drawn."""
    book = handbook()
    for thing in things:
        for intent, asked in forms.items():
            for place in nicknames:
                text = draw.choice(asked).format(THINGS[thing][place])
                yield Question(text, book[thing, intent].text)


def hospitals(seed: int = 1) -> dict[str, dict[str, list[Question]]]:
    """By hospital and split. The last one has no question about half of the things."""
    found = {}
    for number, name in enumerate(("north", "south", "east", "west")):
        draw = Random(f"{seed} {name}")
        things = [*THINGS][5:] if name == "west" else [*THINGS]
        own = [number % 4, (number + 1) % 4]
        rows = list(questions(things, own, ASKED, draw))
        if name == "west":
            rows = draw.sample(rows, 33)
        else:
            book = handbook()
            plain = [
                Question(draw.choice(asked).format(thing), book[thing, intent].text)
                for thing in things
                for intent, asked in ASKED.items()
            ]
            rows += draw.sample(plain, 12)
        test = list(questions([*THINGS], [(number + 2) % 4, own[0]], TESTED, draw))
        validation = list(questions([*THINGS], [draw.randrange(4)], TESTED, draw))
        draw.shuffle(rows)
        first = draw.sample(validation, 20)
        found[name] = {
            "train": rows,
            "validation": first + [one for one in validation if one not in first],
            "test": draw.sample(test, 40),
        }
    return found


def asked_anew(seed: int = 1) -> dict[str, list[Question]]:
    """What comes to the desk: about known things, about new ones, and about nothing it knows."""
    draw, book = Random(f"{seed} desk"), handbook()
    new = [
        Question(draw.choice(forms).format(thing), book[thing, intent].text)
        for thing in NEW
        for intent, forms in TESTED.items()
    ]
    known = draw.sample(list(questions([*THINGS], range(4), TESTED, draw)), 60)
    return {"known": known, "new": new, "other": [Question(text, "") for text in OTHERS]}


def write(folder: Path) -> None:
    """A CSV file for each hospital, with columns text, answer and split."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, splits in hospitals().items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["text", "answer", "split"])
            for split, found in splits.items():
                rows.writerows([one.text, one.answer, split] for one in found)


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
    print("data: four hospitals' questions and answers")
