"""The files that ``init --data`` is pointed to, read and looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.names import names_of
from wardround.common.tasks.data.profile import Profile, profile
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.names import listed, looks_like_a_cell
from wardround.common.tasks.data.reading.read import Read, left_beside, read_file, without
from wardround.common.tasks.data.reading.together import together
from wardround.common.tasks.data.shards import shard_files, shard_sites, splits_of, visible
from wardround.common.tasks.data.tables import READABLE
from wardround.common.tasks.options import TabularOptions
from wardround.simulations.given.held import WHOLE, GivenData

_HEADER = 'add the line, or name the columns: --dialect \'header=["age", "died"]\''
MISSING = tuple(TabularOptions().missing_values)


@dataclass(frozen=True)
class Shard:
    """One hospital's rows, or those of one data set.

    title : the hospital's file or folder, without an ending
    place : 'file:line' of a row, from 0
    told : how its files are written, where that isn't the usual
    """

    title: str
    files: tuple[Path, ...]
    table: pa.Table
    profile: Profile
    place: Callable[[int], str]
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was read.

    path : that ``data.path`` will name
    one_set : it is one data set, not a folder of hospitals
    by_files : files' names say the split
    arrays : columns that a program's arrays have, whose values are numbers by their type
    problems : of files that can't be read, one line each
    """

    path: Path
    shards: list[Shard]
    one_set: bool
    by_files: bool = False
    arrays: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find(path: Path, dialect: Dialect) -> Found:
    """The hospitals of a folder, or one data set. Raises DataError where there is nothing."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check --data")
    if path.is_file():
        return _one_set(path, dialect)
    sites = shard_sites(path, READABLE)
    sites = {name: site for name, site in sites.items() if not site.is_dir() or _has_tables(site)}
    if not sites:
        texts = sum(entry.suffix.lower() == ".txt" for entry in visible(path))
        raise DataError(
            f"{path}: no table here; expected {', '.join(READABLE)}, or folders of such"
            + "; tables that end in .txt need the ending .csv" * bool(texts)
            + ", or images (docs/imaging.md), or texts (docs/text.md)"
        )
    if any(splits_of(sites).values()):
        return _one_set(path, dialect)
    if len(sites) == 1:
        (site,) = sites.values()
        return _one_set(site, dialect)
    found = Found(path, [], one_set=False)
    names_of(sites)  # raises what a simulation would
    for title, site in sites.items():
        try:
            found.shards.append(_read(title, site, dialect))
        except DataError as error:
            found.problems.extend(str(error).splitlines())
    found.problems.extend(_without_header(found.shards))
    if left := left_beside(entry for entry in visible(path) if entry not in sites.values()):
        found.notes.append(f"no hospital's data, so left out: {left}")
    return found


def found_in(given: GivenData, dialect: Dialect) -> Found:
    """The same of data that a program holds, or names by paths."""
    path = Path(WHOLE)
    found = Found(path, [], given.one_set, arrays=given.arrays, notes=list(given.notes))
    if not given.one_set:
        names_of(given.shards)  # raises what a simulation would
    for title, shard in given.shards.items():
        try:
            if isinstance(shard, Path):
                found.shards.append(_read(title, shard, dialect))
                continue
            table = without(shard, MISSING)
            place = partial(_row, given.called(title))
            found.shards.append(Shard(title, (), table, profile(table), place))
        except DataError as error:
            found.problems.extend(str(error).splitlines())
    return found


def _row(called: str, row: int) -> str:
    return f"{called}, row {row + 1}"


def _one_set(path: Path, dialect: Dialect) -> Found:
    found = Found(path, [], one_set=True, by_files=_splits(path))
    try:
        found.shards.append(_read(path.stem, path, dialect))
    except DataError as error:
        found.problems.extend(str(error).splitlines())
    found.problems.extend(_without_header(found.shards))
    return found


def _without_header(shards: Sequence[Shard]) -> list[str]:
    """Of hospitals whose first line seems to be a patient's: nothing of it may be shown."""
    names = [set(shard.profile.columns) for shard in shards]
    if not names:
        return []
    common = set.intersection(*names)
    if alone := _alone(shards, names):
        return alone
    if len(shards) > 1 and set.union(*names) > common and all(map(looks_like_a_cell, common)):
        return [f"the files have no column in common: do all begin with a header line? {_HEADER}"]
    known = common if len(shards) > 1 else set()
    found = []
    for shard, own in zip(shards, names, strict=True):
        cells = [name for name in own - known if looks_like_a_cell(name)]
        if cells and (known or 3 * len(cells) >= len(own)):
            found.append(f"{shard.files[0]}: no header line, it seems, but data there; {_HEADER}")
    return found


def _alone(shards: Sequence[Shard], names: Sequence[set[str]]) -> list[str]:
    """Of hospitals none of whose columns any other has, where the others have some in common."""
    others = [set().union(*names[:n], *names[n + 1 :]) for n in range(len(names))]
    alone = [not own & other for own, other in zip(names, others, strict=True)]
    rest = [own for own, odd in zip(names, alone, strict=True) if not odd]
    if not any(alone) or len(rest) < 2:
        return []
    return [
        f"{shard.files[0]}: no other file has any of its columns: does it begin with a header "
        f"line? {_HEADER}; of another table, move it elsewhere"
        for shard, odd in zip(shards, alone, strict=True)
        if odd
    ]


def _splits(path: Path) -> bool:
    return path.is_dir() and any(split for _, split in shard_files(path, READABLE).files)


def _has_tables(folder: Path) -> bool:
    return any(entry.suffix.lower() in READABLE for entry in visible(folder))


def _read(title: str, path: Path, dialect: Dialect) -> Shard:
    files = [file for file, _ in shard_files(path, READABLE).files]
    reads: list[Read] = []
    problems: list[str] = []
    for file in files:
        try:
            reads.append(read_file(file, dialect, MISSING))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    table = _joined(files, [one.table for one in reads])
    told = tuple(
        f"{file.name}: {one.told}" for file, one in zip(files, reads, strict=True) if one.told
    )
    place = partial(_place, files, reads)
    return Shard(title, tuple(files), table, profile(table), place, told)


def _place(files: Sequence[Path], reads: Sequence[Read], row: int) -> str:
    for file, one in zip(files, reads, strict=True):
        if row < one.table.num_rows:
            return f"{file}:{one.lines(row)}"
        row -= one.table.num_rows
    raise IndexError(row)


def _joined(files: Sequence[Path], tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all files; a column of different types becomes texts."""
    for file, table in zip(files, tables, strict=True):
        if odd := sorted(set(table.column_names) ^ set(tables[0].column_names)):
            raise DataError(
                f"{file}: its columns differ from those of {files[0]}: {listed(odd)}; give both "
                "the same, or make two hospitals of them"
            )
    return together(tables)
