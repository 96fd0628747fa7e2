"""``files.json`` of a model folder: which files it is, of which run, for how long, signed.

    {"created":"2026-11-30","expires":"2028-11-29","files":[{"name":"card.md","sha256":"<hex>",
     "size":812},...],"format":"model folder","network":"...","round":12,"run":"...","signature":
     "<hex>","signer":"<hex>","study":"<hex>","version":1}

Canonical JSON, one byte sequence for each list. The signature (Ed25519) is over the same without
itself, for this purpose only; ``signer`` is the public key that made it, which means nothing before
it is held against keys that the reader knows. Both are '' in a simulation, whose server is nobody.
What is not listed is no part of the model and is never read as one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from wardround.common.durable.versioned import Format
from wardround.common.errors import ModelRefused
from wardround.common.results.package import (
    FILES,
    MOST_FILE_BYTES,
    RunName,
    Sha256,
    StudyId,
    check_places,
)
from wardround.common.results.package import file_digest as file_digest
from wardround.common.settings import Table
from wardround.common.trust.identity import Identity, digest, verify

FORMAT = Format("model folder", "have the model's folder made again")
MOST_FILES = 100_000
MOST_LIST_BYTES = 32 << 20
_PURPOSE = "files of a model"
_PART = r"[A-Za-z0-9][A-Za-z0-9 %._-]{0,250}"
_NAME = re.compile(rf"{_PART}(/{_PART})?")
_MANY = 3
_Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
_Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")]


class File(Table):
    """One file. ``size``: bytes; ``sha256``: of them, hexadecimal."""

    name: str
    sha256: Sha256
    size: int = Field(ge=0, le=MOST_FILE_BYTES)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or any(part.endswith((" ", ".")) for part in name.split("/")):
            raise ValueError("no plain relative name of at most two parts")
        if name.casefold() == FILES:
            raise ValueError("the list's own name")
        return name


class Listed(Table):
    """What a model folder is.

    files : ordered by name
    run, network, study, round : whose model it is; ``study`` '' outside of a network
    created, expires : days, UTC; it is good up to and with the last one
    signer : Ed25519 public key, hexadecimal; '' where nobody signed
    source : digest of the model folder that this one was made of; '' where it is the run's own
    """

    files: Annotated[tuple[File, ...], Field(min_length=1, max_length=MOST_FILES)]
    run: RunName
    network: Annotated[str, Field(max_length=64)] = ""
    study: StudyId = ""
    round: int = Field(0, ge=0, le=1_000_000)
    created: _Day
    expires: _Day
    signer: _Hex = ""
    source: _Hex = ""

    @field_validator("created", "expires")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        date.fromisoformat(text)
        return text

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_places([one.name for one in self.files])
        return self

    def signed(self, identity: Identity | None) -> bytes:
        """The content of ``files.json``, signed by this identity, or by nobody."""
        whose = identity.public.hex() if identity else ""
        values = FORMAT.seal(self.model_copy(update={"signer": whose}).model_dump(mode="json"))
        mark = identity.sign(digest(_PURPOSE, _canonical(values))).hex() if identity else ""
        return _canonical(values | {"signature": mark})

    @classmethod
    def read(cls, data: bytes, who: str) -> Self:
        """The list in a ``files.json``, which its ``signer`` has signed, if it names one.

        Raises ModelRefused for anything else than what ``signed`` makes.
        """
        if len(data) > MOST_LIST_BYTES:
            raise _refused(who, f"{FILES} is of an impossible size")
        try:
            stored = json.loads(data)
            signature = stored.pop("signature")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise _refused(who, f"{FILES} is no list of a model's files") from None
        values = FORMAT.read(stored, ModelRefused, who)
        try:
            found = cls.model_validate_json(_canonical(values))
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "as a whole"
            raise _refused(who, f"{FILES} can't be read ({key[:80]}: {first['msg']})") from None
        body = FORMAT.seal(found.model_dump(mode="json"))
        if not isinstance(signature, str) or _canonical(body | {"signature": signature}) != data:
            raise _refused(who, f"{FILES} is not in its one canonical form")
        if found.signer or signature:
            mark = bytes.fromhex(signature) if re.fullmatch(r"[0-9a-f]{128}", signature) else b""
            signer = bytes.fromhex(found.signer)
            if not verify(signer, mark, digest(_PURPOSE, _canonical(body))):
                raise _refused(who, f"{FILES} was altered: its signature isn't its signer's")
        return found

    def check(
        self,
        who: str,
        trusted: Collection[bytes] | None = None,
        today: date | None = None,
    ) -> None:
        """Raise ModelRefused unless one of these keys has signed it, and it isn't past its last
        day. None: whoever signed, or nobody; whatever day it is."""
        if trusted is not None:
            if not self.signer:
                raise _refused(who, "nobody has signed this model", _SIGNED)
            if bytes.fromhex(self.signer) not in trusted:
                mend = "name the one whose models are to be trusted"
                raise _refused(who, f"{self.signer[:16]}... signed it, whom nobody trusts", mend)
        if today is not None and today > date.fromisoformat(self.expires):
            mend = "train or judge a newer one"
            raise _refused(who, f"the model is good until {self.expires} only", mend)

    def problems(self, folder: Path) -> list[str]:
        """What is wrong with the listed files in a folder, a line for each."""
        found = []
        for one in self.files:
            path = folder / one.name
            try:
                if path.is_symlink() or not path.is_file():
                    found.append(f"'{one.name}' is missing")
                elif path.stat().st_size != one.size or file_digest(path) != one.sha256:
                    found.append(f"'{one.name}' was altered")
            except OSError as error:
                found.append(f"'{one.name}' can't be read ({error.strerror})")
        return found

    def check_files(self, folder: Path) -> None:
        """Raise ModelRefused unless every listed file is there with its digest."""
        if found := self.problems(folder):
            more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
            raise _refused(str(folder), "; ".join(found[:_MANY]) + more)


def list_files(folder: Path, names: Collection[str]) -> tuple[File, ...]:
    """The entries of files that lie in a folder, ordered. Raises OSError, and ValueError for a name
    that no list may have."""
    return tuple(
        File(
            name=name,
            sha256=file_digest(folder / name),
            size=(folder / name).stat().st_size,
        )
        for name in sorted(names)
    )


def digest_of(data: bytes) -> str:
    """What stands for a model everywhere: SHA-256 of its ``files.json``, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_list(folder: Path) -> bytes:
    """The bytes of a folder's ``files.json``. Raises ModelRefused."""
    try:
        with open(folder / FILES, "rb") as file:
            return file.read(MOST_LIST_BYTES + 1)
    except OSError as error:
        why = f"{FILES} can't be read ({error.strerror}): no model folder?"
        raise ModelRefused(why, who=str(folder), mend="name the folder 'model' of a run") from None


_SIGNED = "a simulation's isn't signed; use the model of a deployed run"


def _refused(who: str, what: str, mend: str = FORMAT.mend) -> ModelRefused:
    return ModelRefused(what, who=who, mend=mend)


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
