"""What a study computes on at this hospital: a file or folder as it lies, or what was taken of a
source, which is kept for as long as the run lives.

    data/taken.json       what was taken, for which run
    data/taken-N[.parquet]
    data/prepared/        of them, what the task keeps that doesn't fit into memory

A new run takes anew; one that goes on has the rows that it began with; a person's rejection removes
them. What a source says in an error is for the hospital's own log: whoever asked is told
that its data can't be had, and no more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from wardround.client.sources.settings import FilesTable, RowsTable, SourceTable
from wardround.client.sources.snapshot import Taken, fill_folder, take_rows
from wardround.client.sources.source import Asked, called
from wardround.common.config.load import Config
from wardround.common.durable.private import private_folder, read_public, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError, ProvisionError, WardroundError
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.data.left_out import LeftOut

log = logging.getLogger("wardround.client")
Raw = TypeVar("Raw")
FOLDER = "data"
"""In a study's state: removed when the study is over."""
_STATE, _PREPARED = "taken.json", "prepared"
_FORMAT = Format("snapshot of a source", "remove the folder: it is taken again")


class SourceFailed(DataError):
    """A source gave nothing; its text may be told."""


@dataclass(frozen=True)
class Located:
    """Where the data of a study are.

    path : file or folder, loaded as it lies; None where it is taken from a source, and for the
        task's own example data
    name, source : of ``[data.NAME]``
    base : the folder of ``site.toml``
    """

    path: Path | None = None
    name: str = ""
    source: SourceTable | None = None
    base: Path = Path()

    @classmethod
    def of(cls, name: str, source: SourceTable, base: Path) -> Located:
        """A table of ``site.toml``."""
        return cls(source.in_place(base), name, source, base)

    @property
    def is_taken(self) -> bool:
        """Whether there is a snapshot."""
        return self.source is not None and self.path is None

    @property
    def left_out_share(self) -> float | None:
        """What may be left out because it can't be read; None: as the task has it."""
        return self.source.left_out_share if self.source is not None else None

    @property
    def words(self) -> str:
        """For people at this hospital, and to tell apart what a ledger counts."""
        if self.path is not None:
            return str(self.path.absolute())
        return called(self.name) if self.source is not None else ""

    def own_words(self, text: str) -> str:
        """A message of a reader or a task, with the mend that is this hospital's: settings of the
        study (``task.dialect``) are not its to change, those of ``[data.NAME]`` are."""
        own = f"[data.{self.name or 'NAME'}"
        text = text.replace("task.dialect.", f"{own}.dialect] ")
        text = text.replace("task.dialect", f"{own}.dialect]")
        text = text.replace("task.missing_values", f"{own}.map.missing]")
        text = text.replace("check data.path", f"check path of {own}]")
        if "task.columns.positive" in text:
            end = "\n" if "\n" in text else "; "
            text += f"{end}here codes of {own}.map] can make 1 and 0 of a column's texts"
        return text


@dataclass(frozen=True)
class May:
    """What a study may have of the data: patterns of columns, of kinds of DICOM images."""

    columns: tuple[str, ...] = ("*",)
    modalities: tuple[str, ...] = ("*",)


ALL = May()


@dataclass(frozen=True)
class _Kept:
    """mark : of the settings it was taken by; run : that computes on it, '' for none yet"""

    mark: str
    run: str
    file: str
    digest: str
    rows: int
    left_out: list[list[int | str]]


class KeptData:
    """The data of one study.

    folder : the study's state
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._located, self._config, self._may = Located(), Config(), May()
        self._kept: _Kept | None = None

    def take_up(self, located: Located, config: Config, may: May = ALL) -> None:
        """These are the data from now on; what a run has begun with stays.

        Raises SourceFailed, ProvisionError.
        """
        self._located, self._config, self._may, self._kept = located, config, may, None
        if not located.is_taken:
            return
        kept = self._read()
        if kept is not None and kept.run and kept.mark == self._mark():
            self._kept = kept
        else:
            self._take()

    def begin(self, run: str) -> None:
        """A run begins or goes on. Raises SourceFailed, ProvisionError."""
        if not self._located.is_taken:
            return
        kept = self._kept
        gone = kept is not None and not (self._folder / kept.file).exists()  # a person's rejection
        if kept is None or gone or kept.run not in ("", run):
            self._take()
        assert self._kept is not None
        if self._kept.run != run:
            self._keep(replace(self._kept, run=run))

    @property
    def path(self) -> Path | None:
        """What the task loads; None for its own example data. Raises SourceFailed while there is
        none."""
        if not self._located.is_taken:
            return self._located.path
        if self._kept is None:
            raise SourceFailed(_public(self._located.name))
        return self._folder / self._kept.file

    def loaded(self, load: Callable[[Path | None, Path], Raw]) -> Raw:
        """What a task's ``load_large`` makes of them, without what the hospital lets be left out.
        What it keeps on the disk goes when other data are taken, and with the rest when the study
        is over. Raises SourceFailed, and what ``load`` raises."""
        try:
            with allowing(self._located.left_out_share):
                return load(self.path, self._folder / _PREPARED)
        except DataError as error:
            raise DataError(self._located.own_words(str(error)), told=error.told) from None

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What the source left out."""
        found = self._kept.left_out if self._kept is not None else []
        return tuple(LeftOut(int(count), str(what), str(why)) for count, what, why in found)

    # --- taking -----------------------------------------------------------------------------------
    def _take(self) -> None:
        located, source = self._located, self._located.source
        assert source is not None
        before, self._kept = self._read(), None
        say: Callable[[str], None] = lambda line: log.info("%s: %s", called(located.name), line)  # noqa: E731
        asked = Asked(
            self._config, located.base, located.name, say, self._may.columns, self._may.modalities
        )
        number = int(before.file.partition("-")[2].partition(".")[0]) + 1 if before else 1
        private_folder(self._folder)
        try:
            file, taken = self._taken(source, asked, number)
        except OSError as error:
            log.error("%s: can't be kept (%s)", self._folder, error.strerror)
            raise SourceFailed(_public(located.name)) from None
        except WardroundError as error:
            log.error("%s", located.own_words(str(error)))
            raise SourceFailed(_public(located.name)) from None
        except Exception as error:  # of a library: its text may quote a cell, its kind tell of one
            at = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(at.filename).name}:{at.lineno}"
            log.error("%s: %s at %s", called(located.name), type(error).__name__, place)
            raise SourceFailed(_public(located.name)) from None
        left = [list(asdict(one).values()) for one in taken.left_out]
        self._keep(_Kept(self._mark(), "", file, taken.digest, taken.rows, left))
        self._sweep(file)
        say(f"taken: {taken.rows} rows" if taken.rows else "taken")

    def _taken(self, source: SourceTable, asked: Asked, number: int) -> tuple[str, Taken]:
        """Its name in the folder, and what it is."""
        if isinstance(source, RowsTable):
            file = f"taken-{number}.parquet"
            return file, take_rows(source, asked, self._folder / file)
        assert isinstance(source, FilesTable)
        file = f"taken-{number}"
        return file, fill_folder(source, asked, private_folder(self._folder / file))

    def _keep(self, kept: _Kept) -> None:
        values = json.dumps(_FORMAT.seal(asdict(kept)))
        write_private(self._folder / _STATE, values.encode())
        self._kept = kept

    def _read(self) -> _Kept | None:
        path = self._folder / _STATE
        if not path.exists():
            return None
        try:
            kept = _FORMAT.make(
                _Kept, json.loads(read_public(path, _FORMAT.mend)), ProvisionError, str(path)
            )
        except ValueError:
            raise ProvisionError(f"{path}: is damaged; {_FORMAT.mend}") from None
        return kept if (self._folder / kept.file).exists() else None

    def _sweep(self, file: str) -> None:
        """Remove what was taken before."""
        for one in self._folder.iterdir():
            if one.name not in (file, _STATE):
                shutil.rmtree(one) if one.is_dir() else one.unlink(missing_ok=True)

    def _mark(self) -> str:
        """Stands for the settings that shape what is taken."""
        located = self._located
        assert located.source is not None
        config = self._config.model_dump(mode="json")
        files = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in located.source.files(located.base)
        }
        asked = {key: config[key] for key in ("task", "cohort") if key in config}
        table = located.source.model_dump(mode="json")
        said = [located.name, table, asked, files, list(self._may.columns), self._may.modalities]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _public(name: str) -> str:
    """What may be told of a source that gave nothing."""
    return f"{called(name)}: its rows or images can't be had; this hospital's own log says why"
