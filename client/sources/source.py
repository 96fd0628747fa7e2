"""What a source is asked for, and what it gives.

A source of rows gives typed record batches, one of images fills a folder. Both may raise DataError
with all that helps at home: what is told to others is decided where it is caught (``kept.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from wardround.common.config.load import Config
from wardround.common.errors import DataError
from wardround.common.settings.cohort import CohortTable
from wardround.common.tasks.data.left_out import LeftOut


@dataclass(frozen=True)
class Asked:
    """What a source is read for.

    config : the settings that the study computes with: its task, its ``[cohort]``
    base : the folder of ``site.toml``, which paths are meant from
    name : of ``[data.NAME]``
    columns : patterns of the columns that the study may have
    modalities : patterns of the kinds of DICOM images that it may have
    say : takes lines for the hospital's own log: progress, what was left out where
    """

    config: Config
    base: Path
    name: str
    say: Callable[[str], None]
    columns: tuple[str, ...] = ("*",)
    modalities: tuple[str, ...] = ("*",)

    @property
    def called(self) -> str:
        """How messages name the source."""
        return called(self.name)

    @property
    def cohort(self) -> CohortTable:
        """What records are asked for. Raises DataError where the study asks for none."""
        if self.config.cohort is None:
            raise DataError(
                f"{self.called}: the study has no [cohort], which says what to make of clinical "
                "records; ask for one, or take a source of rows"
            )
        return self.config.cohort


class TableSource(Protocol):
    """Rows."""

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        """All rows, typed; every batch has the first one's schema. Raises DataError."""

    def left_out(self) -> tuple[LeftOut, ...]:
        """What it left out, once all batches were read."""


@runtime_checkable
class Placed(Protocol):
    """Rows that stand somewhere."""

    def place(self, row: int, column: str) -> str:
        """'file:line: column 'name'' of a row of all batches, from 0."""


class FolderSource(Protocol):
    """Files."""

    def fill(self, asked: Asked, folder: Path) -> tuple[LeftOut, ...]:
        """Bring all files, ready for the task to load, into an empty folder, or into one that an
        earlier try has left. Gives what was left out. Raises DataError."""


def called(name: str) -> str:
    """How messages name a source of ``site.toml``."""
    return f"[data.{name}]"
