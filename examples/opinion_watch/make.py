"""What patients write, made up: each text has a topic and a sentiment, of four hospitals.

Each hospital's people write in half of the turns of phrase, its smallest one has no praise at all;
in the test, and on the stream, all turns come up everywhere.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random

TOPICS = {
    "food": (
        "the soup", "breakfast", "my lunch", "the vegetarian menu", "dinner on the ward",
        "the coffee", "the bread", "the diet meal",
    ),
    "staff": (
        "the night nurse", "my surgeon", "the young doctor", "the physiotherapist", "the porter",
        "the woman at the desk", "the ward sister", "the whole team",
    ),
    "waiting": (
        "the wait in the emergency room", "the queue for x-ray", "the time until my scan",
        "getting an appointment", "the hours before surgery", "the delay at discharge",
        "the line at the counter", "waiting for results",
    ),
    "rooms": (
        "the bathroom", "my bed", "the room", "the air on the ward", "the noise at night",
        "the heating", "the shower", "the curtain between us",
    ),
}  # fmt: skip
SAID = {
    "negative": (
        "was a disgrace", "left me in tears", "was awful", "was one complete mess",
        "made everything worse", "was not acceptable", "frightened my mother", "was a bad joke",
    ),
    "neutral": (
        "was as expected", "was like last year", "is described in the leaflet",
        "changed on tuesday", "was what the form said", "was neither good nor bad",
        "is being surveyed", "was ordinary",
    ),
    "positive": (
        "was wonderful", "could not have been better", "made my day", "was a great help",
        "exceeded all hopes", "deserves praise", "was excellent", "made my family smile",
    ),
}  # fmt: skip
AROUND = ("", "honestly , ", "during my stay ", "last week ", "to be frank , ", "this time ")
QUIET = {"negative": 0.2, "neutral": 0.4, "positive": 0.4}
FIRST_DAY = date(2026, 1, 5)


@dataclass(frozen=True)
class Opinion:
    """A text, what it is about, and how."""

    text: str
    topic: str
    sentiment: str


def opinion(topic: str, sentiment: str, draw: Random, turns: Sequence[int] = range(8)) -> Opinion:
    """One of the texts in these turns of phrase."""
    subject = TOPICS[topic][draw.choice(turns)]
    said = SAID[sentiment][draw.choice(turns)]
    return Opinion(f"{draw.choice(AROUND)}{subject} {said}", topic, sentiment)


def mixed(count: int, draw: Random, turns: Sequence[int] = range(8)) -> list[Opinion]:
    """Texts of all topics and sentiments, as many of each."""
    return [
        opinion(draw.choice([*TOPICS]), draw.choice([*SAID]), draw, turns) for _ in range(count)
    ]


def hospitals(seed: int = 1) -> dict[str, dict[str, list[Opinion]]]:
    """By hospital and split."""
    found = {}
    for number, name in enumerate(("north", "south", "east", "west")):
        draw = Random(f"{seed} {name}")
        turns = [(2 * number + step) % 8 for step in range(4)]
        rows = mixed(33 if name == "west" else 120, draw, turns)
        if name == "west":
            rows = [one for one in rows if one.sentiment != "positive"]
        found[name] = {"train": rows, "test": mixed(60, draw)}
    return found


def week(draw: Random, rows: int, surging: str = "", share: float = 0.0) -> list[Opinion]:
    """Texts of one week, ``rows`` of each topic; of the surging one a share is negative."""
    found = []
    for topic in TOPICS:
        for _ in range(rows):
            calm = draw.choices([*QUIET], [*QUIET.values()])[0]
            angry = topic == surging and draw.random() < share
            calm = "negative" if angry else calm if topic != surging else _not_negative(draw)
            found.append(opinion(topic, calm, draw))
    return found


def _not_negative(draw: Random) -> str:
    return draw.choice(["neutral", "positive"])


def write(folder: Path) -> None:
    """A CSV file for each hospital, with columns text, topic, sentiment and split."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, splits in hospitals().items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["text", "topic", "sentiment", "split"])
            for split, found in splits.items():
                rows.writerows([one.text, one.topic, one.sentiment, split] for one in found)


def write_stream(path: Path, weeks: Sequence[Sequence[Opinion]]) -> None:
    """Texts with the date that they came on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["date", "text"])
        for number, texts in enumerate(weeks):
            for place, one in enumerate(texts):
                day = FIRST_DAY + timedelta(days=7 * number + place % 7)
                rows.writerow([day.isoformat(), one.text])


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
    print("data: four hospitals' texts")
