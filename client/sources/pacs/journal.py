"""What is to be fetched and what has come, on disk, so that whoever starts again goes on.

    taken-1-quarantine/wanted.json    what is fetched, by the archive's identifiers
    taken-1-quarantine/done.jsonl     a line for each item that is in the folder, or left out
    taken-1-quarantine/series/        de-identified objects of a series that isn't whole yet
    taken-1/.fetched.json             all is there, with counts of what was left out

The quarantine goes at the end, and with it every identifier.

An item is in the folder before its line is written: a crash between the two fetches it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wardround.client.sources.pacs.wanted import Item
from wardround.common.durable.files import append_lines
from wardround.common.durable.private import private_folder, read_public, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError, ProvisionError
from wardround.common.tasks.data.left_out import LeftOut

_MEND = "remove the folder: it is fetched again"
_WANTED = Format("list of images to be fetched", _MEND)
_LINE = Format("line of what was fetched", _MEND)
_WHOLE = Format("mark of images that were fetched", _MEND)
_MARK = ".fetched.json"


@dataclass(frozen=True)
class Came:
    """What became of an item.

    number : of the item, from 0; files : images in the folder, below it; patient : a digest
    bytes, digest : of them, together; left : why it was left out, '' where it wasn't
    fault : whether that counts against ``left_out_share``
    """

    number: int
    files: list[str] = field(default_factory=list)
    patient: str = ""
    bytes: int = 0
    digest: str = ""
    left: str = ""
    fault: bool = True


class Journal:
    """One fetch into one folder.

    mark : of everything that shapes what comes; of another one nothing is gone on with
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder, self._mark = folder, mark
        self.quarantine = folder.with_name(f"{folder.name}-quarantine")
        self._wanted, self._done = self.quarantine / "wanted.json", self.quarantine / "done.jsonl"

    def whole(self) -> tuple[LeftOut, ...] | None:
        """What was left out of a fetch that is over; None of one that isn't. Raises
        ProvisionError."""
        path = self.folder / _MARK
        if not path.exists():
            return None
        values = _WHOLE.read(json.loads(read_public(path, _MEND)), ProvisionError, str(path))
        if values.get("mark") != self._mark:
            return None
        shutil.rmtree(self.quarantine, ignore_errors=True)  # what a crash left of it
        return tuple(LeftOut(int(one[0]), str(one[1]), str(one[2])) for one in values["left_out"])

    def begun(self) -> list[Item] | None:
        """The items of an earlier try, whose images stay; None where there is none, and then the
        folder is empty."""
        if self._wanted.exists():
            try:
                stored = json.loads(self._wanted.read_bytes())
                values = _WANTED.read(stored, ProvisionError, str(self._wanted))
                if values["mark"] == self._mark:
                    return [Item(**one) for one in values["items"]]
            except (ValueError, KeyError, TypeError):
                pass  # torn, or of another form: fetched anew
        for path in (self.quarantine, self.folder):
            shutil.rmtree(path, ignore_errors=True)
            private_folder(path)
        return None

    def begin(self, items: Iterable[Item]) -> None:
        """Write down what is fetched."""
        values = {"mark": self._mark, "items": [asdict(item) for item in items]}
        write_private(self._wanted, json.dumps(_WANTED.seal(values)).encode())

    def came(self) -> dict[int, Came]:
        """The items that are in the folder, by number, their files whole: an image isn't flushed
        before its line, so a power cut may tear it. Those that were left out are tried again."""
        if not self._done.exists():
            return {}
        found: dict[int, Came] = {}
        for line in self._done.read_bytes().splitlines():
            try:
                one = _LINE.make(Came, json.loads(line), ProvisionError, str(self._done))
            except ValueError:  # a line that a crash tore
                continue
            if not one.left:
                found[one.number] = one
        return {
            n: one
            for n, one in found.items()
            if content_of(self.folder, one.files)[1] == one.digest
        }

    def note(self, came: Came) -> None:
        """Write down what became of an item."""
        line = json.dumps(_LINE.seal(asdict(came)))
        append_lines(self._done, line.encode() + b"\n", private=True)

    def end(self, left_out: tuple[LeftOut, ...]) -> None:
        """All is there, on the disk: the mark says so, then the archive's identifiers go."""
        os.sync()
        left = [[one.count, one.what, one.reason] for one in left_out]
        values = _WHOLE.seal({"mark": self._mark, "left_out": left})
        write_private(self.folder / _MARK, json.dumps(values).encode())
        try:
            shutil.rmtree(self.quarantine)
        except OSError as error:
            raise DataError(
                f"{self.quarantine}: can't be removed ({error.strerror}), and holds identifiers; "
                "remove it"
            ) from None


def content_of(folder: Path, files: Iterable[str]) -> tuple[int, str]:
    """The size in bytes of files together, and their SHA-256; ``(0, '')`` where one is gone."""
    total, size = hashlib.sha256(), 0
    for name in files:
        try:
            data = (folder / name).read_bytes()
        except OSError:
            return 0, ""
        total.update(data)
        size += len(data)
    return size, total.hexdigest()
