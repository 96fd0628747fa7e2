"""``init --data`` of images: classes, size, colours, whose they are, and a file that runs.

Each decision stands beside its key with its reason. What doesn't fit between hospitals (a class
that one lacks, other spellings, flat images beside volumes) is told all at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

from rich.table import Table
from rich.text import Text

from wardround.common.errors import ConfigError, DataError
from wardround.common.names import names_of
from wardround.common.tasks.class_limits import MOST_CLASSES
from wardround.common.tasks.imaging.layouts import BIDS, CSV, NPZ
from wardround.common.text import code, near, one_line
from wardround.simulations.beginning.decide import Hospitals, dealt
from wardround.simulations.beginning.image_sets import (
    ImageSet,
    ImageSets,
    bids_suffix,
)
from wardround.simulations.beginning.image_shapes import Shapes, shapes_of
from wardround.simulations.beginning.text import (
    data_lines,
    federation_lines,
    head_lines,
    simulation_lines,
)
from wardround.simulations.beginning.words import DID_NOT, HAPPENED, NO, YES
from wardround.simulations.search.values import toml_text

_FLAT, _DEEP, _LEAST = 64, 32, 8
"""Most pixels of an axis of a picture, and of a volume, that a first run is given."""
_COMMON = 10
_USUAL = {"image": "file", "label": "label"}


@dataclass(frozen=True)
class Images:
    """What was decided. classes : in the order of the outputs; why : which is the positive one"""

    sets: ImageSets
    classes: tuple[str, ...]
    why: str
    size: tuple[int, ...]
    shapes: Shapes
    hospitals: Hospitals
    suffix: str = ""
    told: tuple[str, ...] = ()


def decide_images(sets: ImageSets, positive: Sequence[str]) -> Images:
    """All that there is to decide. Raises DataError with every problem, a line each; ConfigError
    where the researcher must say more."""
    if not sets.sets:
        raise DataError("\n".join(sets.problems))
    shapes = shapes_of(sets.sets)
    classes, why = _classes(sets.sets, positive)
    suffix, unlike = _suffix(sets.sets)
    problems = [*sets.problems, *_misspelt(sets.sets, classes), *shapes.problems, *unlike]
    problems += [*_unlike_tables(sets.sets), *_numbered(sets.sets)]
    if len(classes) < 2 or len(classes) > MOST_CLASSES:
        problems.append(
            f"images of {len(classes)} class{'es' * (len(classes) != 1)}: a model tells 2 to "
            f"{MOST_CLASSES:,} apart; a folder is a class by its name"
        )
    if problems:
        raise DataError("\n".join(problems))
    return Images(
        sets,
        classes,
        why,
        _size(shapes),
        shapes,
        _hospitals(sets),
        suffix,
        (*_lacking(sets.sets, classes), *shapes.told),
    )


# --- classes --------------------------------------------------------------------------------------
def _classes(sets: Sequence[ImageSet], positive: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The classes of all hospitals; of two the positive one is the second."""
    counts: Counter[str] = Counter()
    for one in sets:
        for name, count in one.counts.items():
            counts[code(name)] += count
    if all(name.isdecimal() for name in counts) and counts:  # numbers: each has its place
        most = max(1, min(max(map(int, counts)), MOST_CLASSES))
        if positive and (most > 1 or [code(one) for one in positive] != ["1"]):
            raise ConfigError(
                "--positive: classes that are numbers keep their places; leave it out"
            )
        return tuple(str(number) for number in range(most + 1)), ""
    names = sorted(counts)
    wanted = [code(one) for one in positive]
    if unknown := [one for one in wanted if one not in names]:
        raise ConfigError(
            f"--positive: no image is of class '{unknown[0]}'; there are {', '.join(names)}"
        )
    if len(names) != 2:
        if wanted:
            raise ConfigError(f"--positive is of two classes, and there are {len(names)}")
        return tuple(names), ""
    if len(wanted) > 1:
        raise ConfigError("--positive: both classes would be 1; name one")
    no, yes = NO | DID_NOT, YES | HAPPENED
    if wanted:
        last, why = wanted[0], "as --positive says"
    elif said := [one for one in names if one.casefold() in yes]:
        last, why = said[0], "by its name"
    elif denied := [one for one in names if one.casefold() in no]:
        last, why = next(one for one in names if one != denied[0]), "the other is what is usual"
    else:
        last = min(names, key=lambda one: (counts[one], one))
        why = "the rarer one; --positive says otherwise"
    return tuple(sorted(names, key=lambda one: one == last)), f"'{last}' is 1: {why}"


def _misspelt(sets: Sequence[ImageSet], classes: Sequence[str]) -> Iterator[str]:
    """Classes that two hospitals write in two ways."""
    for one, other in combinations(classes, 2):
        if one.casefold() == other.casefold():
            first, second = (next(s for s in sets if _has(s, name)) for name in (one, other))
            yield (
                f"{second.title}: class '{other}', and {first.title} has '{one}': the case of "
                "letters counts; rename it in one of them"
            )


def _has(one: ImageSet, name: str) -> bool:
    return any(code(written) == name for written in one.counts)


def _lacking(sets: Sequence[ImageSet], classes: Sequence[str]) -> Iterator[str]:
    """Classes that a hospital has no image of."""
    for one in sets:
        known = {code(name) for name in one.counts}
        missing = [name for name in classes if name not in known]
        if missing and len(missing) < len(classes):
            meant = near(missing[0], known - set(classes))
            more = f" (it has '{meant}')" if meant else ""
            yield (
                f"{one.title} has no image of {', '.join(missing[:_COMMON])}{more}: it trains on "
                "the others, and its own figures say nothing of these"
            )


def _numbered(sets: Sequence[ImageSet]) -> Iterator[str]:
    """Arrays whose labels are numbers beside hospitals that have names: nothing says which is
    which."""
    named = [one for one in sets if not all(code(name).isdecimal() for name in one.counts)]
    for one in sets if named else ():
        if one.layout is NPZ:
            yield (
                f"{one.title}: its labels are numbers, and those of {named[0].title} names: which "
                "is which stands nowhere; give it folders or a CSV with names, or write the file "
                "yourself, with task.classes in the order of its numbers (docs/imaging.md)"
            )


def _unlike_tables(sets: Sequence[ImageSet]) -> Iterator[str]:
    """Tables whose columns are called otherwise than the first one's."""
    listed = [one for one in sets if one.layout in (CSV, BIDS)]
    for one in listed[1:]:
        for key in sorted({*listed[0].columns, *one.columns}):
            ours, first = one.columns.get(key), listed[0].columns.get(key)
            if ours != first:
                yield (
                    f"{one.title}: its column for [task.files] {key} is "
                    f"{_quoted(ours)}, that of {listed[0].title} {_quoted(first)}; give both one "
                    "name"
                )


def _quoted(name: str | None) -> str:
    return "none" if name is None else f"'{name}'"


def _suffix(sets: Sequence[ImageSet]) -> tuple[str, list[str]]:
    """Of BIDS data sets, which images are meant, and who lacks them."""
    bids = [one for one in sets if one.layout is BIDS]
    if not bids:
        return "", []
    suffixes = sum((one.suffixes for one in bids), Counter[str]())
    if not suffixes:
        return "", [f"{bids[0].path}: no NIfTI file below its subjects"]
    chosen = bids_suffix(suffixes)
    return chosen, [
        f"{one.title}: no image whose name ends in _{chosen}; it has "
        f"{', '.join(sorted(one.suffixes)[:_COMMON]) or 'none'}"
        for one in bids
        if chosen not in one.suffixes
    ]


# --- size and hospitals ---------------------------------------------------------------------------
def _size(shapes: Shapes) -> tuple[int, ...]:
    most = _FLAT if shapes.axes == 2 else _DEEP
    middle = (median(sizes) for sizes in zip(*shapes.sizes, strict=True))
    return tuple(max(_LEAST, min(most, round(size))) for size in middle)


def _hospitals(sets: ImageSets) -> Hospitals:
    if not sets.one_set:
        return Hospitals("sites", len(sets.sets))
    (one,) = sets.sets
    images = one.patients or sum(one.counts.values())
    if images < 2:
        what = "images of one patient" if one.patients else "one image"
        raise DataError(f"{one.path}: {what}: no two hospitals can be made of it")
    return dealt(images, one.patients > 0)


# --- what is written ------------------------------------------------------------------------------
def images_text(found: Images, path: str) -> str:
    """The file's text. path : what ``data.path`` says"""
    sets = found.sets.sets
    name = f"{found.classes[-1]} in images" if found.why else "images"
    parts = [
        head_lines(found.told),
        federation_lines(name, found.hospitals.count),
        data_lines(found.hospitals.partition, path),
        _task(found),
        _files(found),
        ["[training]", "lr = 0.03", "batch_size = 16"],
        simulation_lines(found.hospitals, [one.title for one in sets]),
    ]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def _task(found: Images) -> Iterator[str]:
    shapes = found.shapes
    yield "[task]"
    yield 'name = "imaging"'
    yield f"classes = {toml_text(list(found.classes))}" + f"  # {found.why}" * bool(found.why)
    about = " x ".join(f"{round(median(one))}" for one in zip(*shapes.sizes, strict=True))
    axes = "depth, rows, columns" if shapes.axes == 3 else "rows, columns"
    yield f"size = {toml_text(list(found.size))}  # {axes}; images are about {about}"
    if shapes.colours:
        yield "channels = 3  # some are in colours"
    if shapes.modalities:
        yield f"# window = [low, high]  # {', '.join(sorted(shapes.modalities))}: values that"
        yield "#                         become 0 and 1; left out: each image's own extremes"


def _files(found: Images) -> list[str]:
    named: dict[str, str] = {}
    for one in found.sets.sets:
        named |= {k: v for k, v in one.columns.items() if _USUAL.get(k) != v}
    if found.suffix and found.suffix != "T1w":
        named["suffix"] = found.suffix
    return ["[task.files]", *(f"{k} = {toml_text(v)}" for k, v in named.items())] if named else []


def images_tables(found: Images) -> tuple[Table, Table]:
    """What lies where, and how many of each class; and what was decided."""
    table = Table()
    table.add_column("data set" if found.sets.one_set else "hospital")
    table.add_column("lies as")
    shown = found.classes[:_COMMON]
    for name in shown:
        table.add_column(Text(one_line(name)), justify="right")
    for one in found.sets.sets:
        counts: Counter[str] = Counter()
        for name, count in one.counts.items():
            counts[code(name)] += count
        cells = (f"{counts[name]:,}" for name in shown)
        table.add_row(Text(one_line(one.title)), one.layout.name, *cells)
    return table, _decided(found)


def _decided(found: Images) -> Table:
    table = Table()
    for name in ("key", "is", "because"):
        table.add_column(name)
    for line in [*_task(found), *_files(found)]:
        if line.startswith(("[", "#")):
            continue
        key, _, rest = line.partition(" = ")
        value, _, why = rest.partition("  # ")
        table.add_row(*map(Text, (key, value, why)))
    return table


def titles_of(sets: ImageSets) -> list[str]:
    """Hospitals' names. Raises DataError where two titles make one name."""
    return list(names_of(one.title for one in sets.sets))


def data_path(found: Images, given: Path) -> Path:
    """What ``data.path`` names: what was pointed to, or the one data set in it."""
    return found.sets.sets[0].path if found.sets.one_set and given.is_dir() else given
