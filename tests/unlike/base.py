"""What a consortium is: its files, and the settings that fit them."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.common.config.load import Config, parse_config
from wardround.common.names import names_of

SMALL = """
[federation]
name = "unlike"
rounds = 2
min_clients = 2
[training]
batch_size = 16
lr = 0.05
[simulation]
baselines = false
executor = "sequential"
"""
"""Short runs; what a test is about it sets itself."""


@dataclass(frozen=True)
class Consortium:
    """Hospitals on disk.

    folder : where a ``federation.toml`` would stand; the hospitals are in ``hospitals`` below it
    task : the ``[task]`` tables that fit the files
    stems : what the hospitals' files or folders are called, without suffix, sorted
    rows : rows, images or texts that a hospital's files hold, by stem; empty where a row of the
        files may become several
    """

    folder: Path
    task: str
    stems: tuple[str, ...]
    rows: Mapping[str, int]

    @property
    def text(self) -> str:
        """A whole configuration, for short runs."""
        return f'{SMALL}[data]\npath = "hospitals"\n{self.task}'

    def names(self) -> dict[str, str]:
        """What the federation calls each hospital, by stem."""
        return {title: name for name, title in names_of(self.stems).items()}

    def pooled(self) -> None:
        """Write ``all.csv`` beside the hospitals, of their CSV files: their rows with a column
        ``hospital`` more."""
        path = self.folder / "all.csv"
        if path.exists():
            return
        head: list[str] = []
        rows: list[list[str]] = []
        for file in sorted((self.folder / "hospitals").glob("*.csv")):
            lines = list(csv.reader(file.read_text("utf-8").splitlines()))
            head = [unicodedata.normalize("NFC", name) for name in lines[0]]
            rows += [[file.stem, *line] for line in lines[1:]]
        write_csv(path, ["hospital", *head], rows)

    def config(self, *overrides: str, runs: Path | None = None) -> Config:
        """The configuration with 'table.key=value' overrides; runs go to ``runs``, or beside."""
        place = f"federation.runs={runs or self.folder / 'runs'}"
        return parse_config(self.text, [place, *overrides], self.folder / "federation.toml")


def consortium(folder: Path, task: str, rows: Mapping[str, int] | None = None) -> Consortium:
    """What was written into ``folder/hospitals``."""
    stems = [x.name if x.is_dir() else x.stem for x in (folder / "hospitals").iterdir()]
    return Consortium(folder, task, tuple(sorted(stems)), rows or {})


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A comma-separated file; None is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(header)]
    lines += [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
