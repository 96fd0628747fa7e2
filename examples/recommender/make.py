"""A ward library's data, made up after MovieLens: patients choose films, each from what they like.

A film has one or two of eight themes, a quality that nobody sees, and words. A patient likes some
themes; the chance of a choice grows with both. Films from ``WARM`` on came when the training
choices were made already: nobody has chosen them, and only their words say what they are.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import exp
from pathlib import Path
from random import Random

THEMES = {
    "sea": ("a lighthouse keeper", "a storm over the harbour", "sailors and a lost ship"),
    "mountain": ("climbers on an icy wall", "a hut above the clouds", "an avalanche at dawn"),
    "court": ("a lawyer with one last case", "a jury that can't agree", "a judge under threat"),
    "kitchen": ("a cook and his first restaurant", "a baker's secret recipe", "a dinner for forty"),
    "space": ("a crew bound for mars", "a signal from a far star", "repairs on a dying station"),
    "music": ("a pianist who lost her hearing", "a band's final tour", "an old violin's song"),
    "farm": ("a drought in the valley", "a horse nobody could ride", "the harvest of a widow"),
    "spies": ("an agent with two passports", "a code hidden in a newspaper", "a defector at night"),
}
TONES = ("A quiet film about", "A funny story of", "A tense tale of", "A true account of")
WARM, COLD, EARLIER, LEAST = 96, 24, 12, 3
USERS = {"north": 40, "south": 40, "east": 33, "west": 6}


@dataclass(frozen=True)
class Item:
    """A film: its words, and what the made-up choices follow."""

    title: str
    description: str
    themes: tuple[str, ...]
    quality: float

    @property
    def words(self) -> str:
        """What an encoder reads."""
        return f"{self.title}. {self.description}"


@dataclass(frozen=True)
class Choice:
    """A user's choice of an item, in the order in which they were made."""

    user: str
    item: int
    split: str


def items(seed: int = 1) -> list[Item]:
    """The films; those from ``WARM`` on are new."""
    draw, found = Random(f"{seed} items"), []
    for number in range(WARM + COLD):
        themes = draw.sample([*THEMES], draw.choice((1, 1, 2)))
        about = " and ".join(draw.choice(THEMES[theme]) for theme in themes)
        title = f"Film {number + 1}"
        found.append(
            Item(title, f"{draw.choice(TONES)} {about}", tuple(themes), draw.gauss(0, 0.7))
        )
    return found


def choices(seed: int = 1) -> dict[str, list[Choice]]:
    """By hospital: of each user twelve films for training, then one to choose the ranking by, and
    four for the test, of which two are new."""
    films, found = items(seed), {}
    for name, users in USERS.items():
        draw, rows = Random(f"{seed} {name}"), list[Choice]()
        for number in range(users):
            likes = draw.sample([*THEMES], 2)
            left = _chosen(films, range(WARM), likes, EARLIER + 3, draw)
            new = _chosen(films, range(WARM, WARM + COLD), likes, 3, draw)
            user = f"{name}-{number + 1}"
            rows += [Choice(user, item, "train") for item in left[:EARLIER]]
            rows += [Choice(user, item, "validation") for item in (left[EARLIER], new[0])]
            rows += [Choice(user, item, "test") for item in (*left[EARLIER + 1 :], *new[1:])]
        found[name] = rows
    return found


def _chosen(
    films: list[Item], among: range, likes: list[str], count: int, draw: Random
) -> list[int]:
    """Different films, each drawn by how it fits and how good it is."""
    left, found = [*among], list[int]()
    for _ in range(count):
        weights = [
            exp(films[n].quality + 2.5 * len({*films[n].themes} & {*likes}) / len(films[n].themes))
            for n in left
        ]
        found.append(draw.choices(left, weights)[0])
        left.remove(found[-1])
    return found


def history(rows: list[Choice]) -> dict[str, list[int]]:
    """What each user chose for training, in order."""
    found: dict[str, list[int]] = {}
    for one in rows:
        if one.split == "train":
            found.setdefault(one.user, []).append(one.item)
    return found


def said(earlier: list[int], films: list[Item]) -> str:
    """A user's words: what the last films that were chosen are about."""
    return " ; ".join(films[item].description for item in earlier[-LEAST:])


def write(folder: Path) -> None:
    """``choices/HOSPITAL.csv`` with user, item and split, and ``words/HOSPITAL.csv`` with what a
    user chose before and what came next, as texts."""
    films = items()
    for name, rows in choices().items():
        _write(
            folder / "choices" / f"{name}.csv",
            ["user", "item", "split"],
            [[one.user, one.item, one.split] for one in rows],
        )
        pairs = []
        for user, earlier in history(rows).items():
            for place in range(LEAST, len(earlier), 4):
                words = films[earlier[place]].words
                pairs.append([said(earlier[:place], films), words, user, "train"])
        tests = [one for one in rows if one.split == "test" and one.item >= WARM][::2]
        own = history(rows)
        pairs += [
            [said(own[one.user], films), films[one.item].words, one.user, "test"] for one in tests
        ]
        _write(folder / "words" / f"{name}.csv", ["text", "answer", "user", "split"], pairs)


def _write(path: Path, head: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
    print("data: four hospitals' choices, and the same in words")
