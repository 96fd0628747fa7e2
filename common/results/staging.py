"""Files of a package on their way into a folder: piece by piece, over any number of breaks.

    RESULTS/.<run>.coming/     what has come so far; first the signed list
    RESULTS/<run>/             all of it, each file of the digest that the server signed

The list comes first, so nothing is taken that it doesn't name, and no more than it says. The folder
gets its name when it is whole, in one step; what is torn or altered on the way is thrown away and
comes again. A disk that has no room for all of it gets nothing: an audit log may lie on it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wardround.common.durable.files import hand_over, sync, write_atomically
from wardround.common.errors import ResultsRefused
from wardround.common.results.package import (
    FILES,
    Listed,
    Package,
    file_digest,
    read_list,
    verify_folder,
)

SPARE_BYTES = 64 * 2**20
"""What must be free on a disk after the results lie on it."""
_AGAIN = "make room there; they are sent again later"


@dataclass(frozen=True)
class Expected:
    """Whose results are taken.

    server : Ed25519 public key of who signs them
    study, run : as in ``Package``
    most_bytes : of all files together
    """

    server: bytes
    network: str
    study: str
    run: str
    most_bytes: int

    def read(self, signed: bytes) -> Package:
        """The package of a ``files.json``. Raises ResultsRefused if it is another run's, or more
        than is taken."""
        package = Package.read(signed, self.server)
        theirs = (package.network, package.study, package.run)
        if theirs != (self.network, self.study, self.run):
            raise ResultsRefused(
                f"the signed list of files is of run '{package.run}', not of '{self.run}'"
            )
        if package.size_bytes > self.most_bytes:
            raise ResultsRefused(
                f"the results have {package.size_bytes} bytes, and at most {self.most_bytes} are "
                "taken (see server.max_message_mb)"
            )
        return package


class Staging:
    """What has come of a run's results, and where it goes.

    Parameters
    ----------
    target : the folder that is to be; results are in it, or nothing
    private : files and folders are their owner's only

    All methods raise ResultsRefused, in a line without a path, also where the disk is full or can't
    be written; what was whole before stays, and can be gone on with.
    """

    def __init__(self, target: Path, expected: Expected, private: bool = False) -> None:
        self.target, self._expected, self._private = target, expected, private
        self._folder = target.with_name(f".{target.name}.coming")
        self._package: Package | None = None

    def begin(self, signed: bytes) -> Package:
        """Take the signed list. Another one than there was begins anew; if the folder is there
        already, it is to be of this list."""
        package = self._expected.read(signed)
        if self.is_there:
            if read_list(self.target) != signed:
                raise ResultsRefused("other results of this run lie here already")
            return package
        with _writing():
            if self._known() != signed:
                self.discard()
                free = shutil.disk_usage(_there(self._folder)).free
                if free < package.size_bytes + SPARE_BYTES:
                    raise ResultsRefused(
                        f"its disk has no room for {package.size_bytes} bytes of results and "
                        f"{SPARE_BYTES >> 20} MiB that stay free",
                        mend=_AGAIN,
                    )
                self._make(self._folder)
                write_atomically(self._folder / FILES, signed, private=self._private)
        self._package = package
        return package

    def put(self, name: str, offset: int, data: bytes) -> None:
        """Take a piece of a file, from this byte on. What has come already comes to the same."""
        if self.is_there:
            self._expected.read(read_list(self.target)).file(name)
            return
        one = self._begun().file(name)
        path = self._folder / one.name
        if offset + len(data) > one.size:
            raise ResultsRefused(f"'{name}' is to have {one.size} bytes, and more came")
        with _writing():
            if path.exists():
                return
            self._make(path.parent)
            part = path.with_name(f".{path.name}.part")
            here = part.stat().st_size if part.exists() else 0
            if offset > here:
                raise ResultsRefused(f"'{name}' has {here} bytes here, and byte {offset} came next")
            try:
                self._write(part, offset, data)
            except OSError:
                part.unlink(missing_ok=True)  # of a full disk it would hold what others need
                raise
            if offset + len(data) == one.size:
                self._whole(one, part, path)

    def have(self, name: str) -> int:
        """How many bytes of a file are here, from its beginning: none is to come before these."""
        folder = self.target if self.is_there else self._folder
        path = folder / name
        for one in (path, path.with_name(f".{path.name}.part")):
            if one.is_file():
                return one.stat().st_size
        return 0

    def finish(self) -> Package:
        """Give the folder its name; again does nothing. Raises ResultsRefused if a file has not
        come, or isn't what came any more."""
        if self.is_there:
            return verify_folder(self.target, self._expected.server)
        self._begun()
        for one in self._begun().files:
            if not (self._folder / one.name).is_file():
                raise ResultsRefused(f"'{one.name}' has not come")
        try:
            package = verify_folder(self._folder, self._expected.server)
        except ResultsRefused as error:
            self.discard()
            raise ResultsRefused(f"{error.what}: all of it is to come again") from None
        with _writing():
            for left in self._folder.rglob(".*"):
                left.unlink()
            for folder in {(self._folder / one.name).parent for one in package.files}:
                sync(folder)
            os.rename(self._folder, self.target)
            sync(self.target.parent)
        return package

    def discard(self) -> None:
        """Forget what has come so far."""
        self._package = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def is_there(self) -> bool:
        """Whether the results lie in their folder."""
        return self.target.is_dir()

    # --- inside -----------------------------------------------------------------------------------
    def _begun(self) -> Package:
        """The package that is coming; after a restart, by its list. Raises ResultsRefused."""
        if self._package is None:
            if (signed := self._known()) is None:
                raise ResultsRefused("files of results came before their signed list")
            self._package = self._expected.read(signed)
        return self._package

    def _known(self) -> bytes | None:
        return read_list(self._folder) if (self._folder / FILES).is_file() else None

    def _whole(self, one: Listed, part: Path, path: Path) -> None:
        if file_digest(part) != one.sha256:
            part.unlink()
            raise ResultsRefused(f"'{one.name}' hasn't the digest that the server signed")
        os.replace(part, path)
        if self._private:
            hand_over(path)

    def _make(self, folder: Path) -> None:
        """A folder and those above it, of which only the last two may be ours."""
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(mode=0o700 if self._private else 0o777)
            if self._private:
                hand_over(folder)

    def _write(self, part: Path, offset: int, data: bytes) -> None:
        mode = 0o600 if self._private else 0o666
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data)
            file.flush()
            os.fsync(descriptor)


def _there(path: Path) -> Path:
    """The nearest folder above that exists."""
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def _writing() -> Iterator[None]:
    """Say what a disk says, without its paths."""
    try:
        yield
    except OSError as error:
        why = f"results can't be written here ({error.strerror})"
        raise ResultsRefused(why, mend=_AGAIN) from error
