"""``init --data`` of tagged words (IOB): the types of entities that stand in the files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.content import read_text
from wardround.common.tasks.data.shards import shard_files, shard_sites, splits_of, visible
from wardround.common.tasks.text.iob import READABLE, read_words
from wardround.common.text import near, normal_text
from wardround.simulations.beginning.decide import Hospitals, dealt
from wardround.simulations.beginning.texts import TextStudy
from wardround.simulations.search.values import toml_text

_SURE = tuple(suffix for suffix in READABLE if suffix != ".tsv")
_LOOKED_AT = 200
_MOSTLY = 0.9
_SENTENCES = "sentences"


def find_tags(path: Path) -> TextStudy | None:
    """The study of a file or folder of such files; None where there is none.

    Raises DataError with every problem, a line each.
    """
    sites = _sites(path)
    if not sites:
        return None
    found: dict[str, Counter[str]] = {}
    problems: list[str] = []
    for title, place in sites.items():
        try:
            found[title] = _counted(place)
        except DataError as error:
            problems.extend(str(error).splitlines())
    types = sorted({name for counts in found.values() for name in counts} - {_SENTENCES})
    if not types and not problems:
        problems.append(f"{path}: no entity is tagged in any file: every tag is O")
    if problems:
        raise DataError("\n".join(problems))
    if len(sites) > 1:
        hospitals, where = Hospitals("sites", len(sites)), path
    else:
        ((title, where),) = sites.items()
        hospitals = dealt(found[title][_SENTENCES], False)
    return TextStudy(
        "entities",
        where,
        hospitals,
        ['kind = "tokens"', f"entities = {toml_text(types)}  # the types of the files' tags"],
        (),
        found,
        tuple(_lacking(found, types)),
    )


def _lacking(found: dict[str, Counter[str]], types: list[str]) -> list[str]:
    lines = []
    for title, counts in found.items():
        missing = [name for name in types if not counts[name]]
        if missing:
            others = [name for name in types if name not in missing]
            meant = [(name, near(name, others)) for name in missing]
            same = [f"is its '{one}' the same as '{name}'?" for name, one in meant if one]
            lines.append("; ".join([f"{title} has no entity of type {', '.join(missing)}", *same]))
    return lines


def _sites(path: Path) -> dict[str, Path]:
    """Hospitals, or the one data set, by title."""
    if path.is_file():
        return {path.stem: path} if is_tagged(path) else {}
    entries = visible(path)
    files = [one for one in entries if one.is_file() and is_tagged(one)]
    if files and any(splits_of(one.stem for one in files).values()):
        return {path.name: path}
    inside = {
        name: place
        for name, place in shard_sites(path, READABLE).items()
        if (any(is_tagged(one) for one in visible(place)) if place.is_dir() else place in files)
    }
    return inside


def is_tagged(path: Path) -> bool:
    """Whether a file is of words and tags: by its ending, or as a .tsv by its first lines."""
    suffix = path.suffix.lower()
    if suffix in _SURE or suffix != ".tsv" or not path.is_file():
        return suffix in _SURE and path.is_file()
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.split() for _, line in zip(range(_LOOKED_AT), file, strict=False)]
    except (OSError, UnicodeDecodeError):
        return False
    words = [line for line in lines if len(line) > 1]
    tags = sum(line[-1] == "O" or line[-1][:2] in ("B-", "I-") for line in words)
    return bool(words) and tags >= _MOSTLY * len(words)


def _counted(place: Path) -> Counter[str]:
    """Sentences, and entities by type. Raises DataError with file and line."""
    counts: Counter[str] = Counter()
    for file, _ in shard_files(place, READABLE).files:
        counts[_SENTENCES] += len(read_words(file))
        for text in read_text(file).split("\n"):
            tag = normal_text(text.split()[-1]) if len(text.split()) > 1 else ""
            if tag.startswith("B-"):
                counts[tag[2:]] += 1
            elif tag.startswith("I-"):
                counts[tag[2:]] += 0  # a type that only goes on still needs its output
    return counts
