"""What ``init --data`` decides of texts, whichever kind, as a file and as tables for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from wardround.common.text import one_line
from wardround.simulations.beginning.decide import Hospitals
from wardround.simulations.beginning.text import (
    data_lines,
    federation_lines,
    head_lines,
    simulation_lines,
)

_SHOWN = 8
_TRAINING = ('optimizer = "adamw"', "lr = 0.003", "batch_size = 16")
LONGEST = 256
"""Tokens of a text that a first run is given; longer ones are cut, and told."""
_STEP = 32


@dataclass(frozen=True)
class TextStudy:
    """name : what is learnt; path : that ``data.path`` names

    task : lines of ``[task]`` after its name, with reasons; more : tables below it
    counts : at each hospital, by its title, rows by what is counted of them
    """

    name: str
    path: Path
    hospitals: Hospitals
    task: Sequence[str]
    more: Sequence[str]
    counts: Mapping[str, Counter[str]]
    told: tuple[str, ...] = ()
    rounds: int = 10
    training: Sequence[str] = _TRAINING

    @property
    def one_set(self) -> bool:
        """Whether it is one data set, not a folder of hospitals."""
        return self.hospitals.partition != "sites"


def study_file(study: TextStudy, path: str) -> str:
    """The file's text. path : what ``data.path`` says"""
    first, name, *rest = federation_lines(study.name, study.hospitals.count, rounds=False)
    parts: tuple[Iterable[str], ...] = (
        head_lines(study.told),
        [first, name, f"rounds = {study.rounds}", *rest],
        data_lines(study.hospitals.partition, path),
        ["[task]", 'name = "text"', *study.task],
        study.more,
        ["[training]", *study.training],
        simulation_lines(study.hospitals, list(study.counts)),
    )
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def study_tables(study: TextStudy) -> tuple[Table, Table]:
    """How many of what are where; and what was decided."""
    names = [name for name, _ in sum(study.counts.values(), Counter[str]()).most_common(_SHOWN)]
    where = Table()
    where.add_column("data set" if study.one_set else "hospital")
    for name in names:
        where.add_column(Text(one_line(name)), justify="right")
    for title, counts in study.counts.items():
        where.add_row(Text(one_line(title)), *(f"{counts[name]:,}" for name in names))
    decided = Table()
    for name in ("key", "is", "because"):
        decided.add_column(name)
    for line in (*study.task, *study.more):
        if not line or line.startswith(("[", "#")):
            continue
        key, _, rest = line.partition(" = ")
        value, _, why = rest.partition("  # ")
        decided.add_row(*map(Text, (key, value, why)))
    return where, decided


def room(tokens: int, most: int = LONGEST) -> int:
    """``task.max_length`` for rows of at most so many tokens."""
    return min(most, -(-max(tokens, 1) // _STEP) * _STEP)
