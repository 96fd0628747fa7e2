"""``files.json``: which files a run's results are, signed by the server.

    {"files":[{"name":"config.toml","sha256":"<hex>","size":812},...],"format":1,
     "network":"trust-network","round":12,"run":"sepsis-0f3c...","signature":"<hex>","study":"<hex>"}

Canonical JSON, one byte sequence for each list; the signature (Ed25519) is over the same without
itself, for this purpose only. A name is relative, of plain letters and at most two parts, so that
no list can name a place outside its folder. What a hospital adds by itself has names that no list
may have (``OWN``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from wardround.common.errors import ResultsRefused
from wardround.common.names import HospitalName
from wardround.common.settings import Table
from wardround.common.text import one_line
from wardround.common.trust.identity import Identity, digest, verify

FORMAT: Literal[1] = 1
FILES = "files.json"
OWN = frozenset([FILES, "ended.json", "left.json", "own"])
"""Names, and first parts of names, that are not the server's to give."""
_OWN_ANYWHERE = "hospitals"
MOST_FILES = 64
MOST_LIST_BYTES = 1 << 16
MOST_FILE_BYTES = 1 << 40
_MOST_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}(/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
_PIECE_BYTES = 1 << 20

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
StudyId = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


class Listed(Table):
    """One file. ``size``: bytes; ``sha256``: of them, hexadecimal."""

    name: Annotated[str, Field(max_length=_MOST_NAME)]
    sha256: Sha256
    size: int = Field(ge=0, le=MOST_FILE_BYTES)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("no plain relative name of at most two parts")
        parts = name.casefold().split("/")
        if parts[0] in OWN or _OWN_ANYWHERE in parts:
            raise ValueError("a name that is the receiver's own")
        return name


def check_places(names: Sequence[str]) -> None:
    """Raise ValueError unless names of files are ordered, and each has a place of its own on any
    disk."""
    if list(names) != sorted(names):
        raise ValueError("the files are not ordered")
    # a disk may take small and capital letters for the same
    folded = [name.casefold() for name in names]
    folders = {name.partition("/")[0] for name in folded if "/" in name}
    if len(set(folded)) < len(folded) or folders & set(folded):
        raise ValueError("two files stand in one place")


class Package(Table):
    """What the results of a run are.

    network : the federation's name
    study : its id; '' in a federation that is one study
    run : the run directory's name
    round : whose model it is
    files : ordered by name
    """

    purpose: ClassVar[str] = "results of a run"
    """What its signature is for: no list of one purpose can stand for another's."""
    format: Literal[1] = FORMAT
    network: HospitalName
    study: StudyId
    run: RunName
    round: int = Field(ge=0, le=1_000_000)
    files: Annotated[tuple[Listed, ...], Field(min_length=1, max_length=MOST_FILES)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_places([one.name for one in self.files])
        return self

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(one.size for one in self.files)

    def file(self, name: str) -> Listed:
        """The entry of a file. Raises ResultsRefused if it isn't listed."""
        for one in self.files:
            if one.name == name:
                return one
        raise ResultsRefused(
            f"'{one_line(name, 80)}' is not in the signed list of this run's files"
        )

    def body(self) -> bytes:
        """The canonical JSON that is signed."""
        return _canonical(self.model_dump(mode="json"))

    def signed(self, identity: Identity) -> bytes:
        """The content of ``files.json``."""
        signature = identity.sign(digest(self.purpose, self.body())).hex()
        return _canonical(self.model_dump(mode="json") | {"signature": signature})

    @classmethod
    def read(cls, data: bytes, server_public: bytes) -> Self:
        """The list in a ``files.json``.

        Raises ResultsRefused unless that server signed exactly this, and every field is of its
        type, size and range.
        """
        if not isinstance(data, bytes) or len(data) > MOST_LIST_BYTES:
            raise ResultsRefused(f"{FILES} is of an impossible size")
        try:
            values = json.loads(data)
            signature = values.pop("signature")
            if not _SIGNATURE.fullmatch(signature):
                raise ValueError
            package = cls.model_validate_json(_canonical(values))
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "as a whole"
            line = one_line(f"{FILES} can't be read ({key}: {first['msg']})")
            raise ResultsRefused(line) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ResultsRefused(f"{FILES} is no signed list of files") from None
        if _canonical(package.model_dump(mode="json") | {"signature": signature}) != data:
            raise ResultsRefused(f"{FILES} is not in its one canonical form")
        if not verify(server_public, bytes.fromhex(signature), digest(cls.purpose, package.body())):
            raise ResultsRefused(f"{FILES} isn't signed by the server that federation.signed names")
        return package


def list_digest(signed: bytes) -> str:
    """What stands for a ``files.json`` in audit logs: SHA-256 of its bytes, hexadecimal."""
    return hashlib.sha256(signed).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal. Raises OSError."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE_BYTES):
            found.update(piece)
    return found.hexdigest()


def listed(folder: Path, name: str) -> Listed:
    """The entry of a file that lies in a folder. Raises OSError."""
    path = folder / name
    return Listed(name=name, sha256=file_digest(path), size=path.stat().st_size)


def verify_folder(folder: Path, server_public: bytes) -> Package:
    """The package in a folder, every file of it held against the signed list.

    Raises ResultsRefused, naming the file, if one is missing or altered, or the list isn't signed
    by this server.
    """
    package = Package.read(read_list(folder), server_public)
    if problem := next(problems(folder, package), ""):
        raise ResultsRefused(problem, who=str(folder), mend=_FETCH)
    return package


def read_list(folder: Path) -> bytes:
    """The bytes of a folder's ``files.json``. Raises ResultsRefused."""
    try:
        with open(folder / FILES, "rb") as file:
            return file.read(MOST_LIST_BYTES + 1)
    except OSError as error:
        why = f"{FILES} can't be read ({error.strerror})"
        raise ResultsRefused(why, who=str(folder), mend=_FETCH) from None


def problems(folder: Path, package: Package) -> Iterator[str]:
    """What is wrong with the files of a package, a line for each."""
    for one in package.files:
        path = folder / one.name
        try:
            if path.is_symlink() or not path.is_file():
                yield f"'{one.name}' is missing"
            elif path.stat().st_size != one.size or file_digest(path) != one.sha256:
                yield f"'{one.name}' was altered: it hasn't the digest that the server signed"
        except OSError as error:
            yield f"'{one.name}' can't be read ({error.strerror})"


_FETCH = "remove the folder, and have the results sent or fetched again"


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
