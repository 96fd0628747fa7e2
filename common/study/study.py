"""The study: its settings, of whom it is asked, why and until when; signed by who asks.

Canonical JSON under two Ed25519 signatures: the researcher's, over all of it, and the server's,
when it accepts it. Its digest is its ``id``: another setting, hospital, date or purpose is another
study.
The keys are those of the network's signed description, so that a researcher who was revoked asks
nothing any more.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Protocol, Self

import tomli_w
from pydantic import Field, ValidationError, model_validator

from wardround.common.config.load import Config, parse_config
from wardround.common.errors import StudyRefused, WardroundError
from wardround.common.names import HospitalName, name_of
from wardround.common.settings import Table
from wardround.common.settings.network import MOST_PURPOSE, MOST_STUDY_DAYS, end_of, in_utc
from wardround.common.text import one_line
from wardround.common.trust.description import study_tables
from wardround.common.trust.identity import SIGNATURE_BYTES, Identity, digest, verify

FORMAT: Literal[1] = 1
MOST_BYTES = 2 * 2**20
_DEFAULT_DAYS = 90
_PURPOSE, _ACCEPTED = "study", "study accepted"

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class Members(Protocol):
    """What a study is read by: the network's signed description."""

    @property
    def federation(self) -> str:
        """The network's name."""

    @property
    def server(self) -> bytes:
        """Ed25519 public key."""

    @property
    def hospitals(self) -> Mapping[str, bytes]:
        """Public keys by name."""

    @property
    def researchers(self) -> Mapping[str, bytes]:
        """Public keys by name."""

    @property
    def config_toml(self) -> str:
        """What all parties of the network share."""


class Study(Table):
    """What a researcher asks.

    network : its name
    hospitals : of whom it is asked, ordered
    ends : ISO 8601, UTC, to the second: nothing is computed after it
    repeat : 0, and one more each time that the same is asked again
    wait_s : how long to wait for hospitals that haven't decided, once the fewest have accepted
    task_sha256 : of the file that the task is from, hexadecimal; '' for a built-in task
    settings : TOML, as ``study_toml`` writes it
    """

    format: Literal[1] = FORMAT
    network: HospitalName
    name: HospitalName
    purpose: Annotated[str, Field(min_length=1, max_length=MOST_PURPOSE)]
    researcher: HospitalName
    hospitals: Annotated[tuple[HospitalName, ...], Field(min_length=1, max_length=10_000)]
    ends: Annotated[str, Field(max_length=40)]
    repeat: int = Field(ge=0, lt=2**31)
    wait_s: float = Field(ge=0, le=366 * 86_400.0, allow_inf_nan=False)
    task_sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
    settings: Annotated[str, Field(max_length=2**20)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if list(self.hospitals) != sorted(set(self.hospitals)):
            raise ValueError("the hospitals are not distinct and ordered")
        if self.end.isoformat(timespec="seconds") != self.ends:
            raise ValueError("ends: not UTC, to the second")
        if not self.purpose.strip() or not self.purpose.replace("\n", " ").isprintable():
            raise ValueError("purpose: no text that can be shown")
        return self

    @classmethod
    def of(
        cls,
        config: Config,
        members: Members,
        researcher: str,
        *,
        now: datetime,
        task_sha256: str = "",
        repeat: int = 0,
    ) -> Self:
        """The study that a researcher's file asks for.

        Parameters
        ----------
        now : UTC; an end that is left out is counted from its day

        Raises StudyRefused, naming the key, for what can't be asked of this network.
        """
        table = config.study
        if table is None:
            raise StudyRefused("the file has no [study] table", mend="write name and purpose there")
        end = end_of(table.ends) if table.ends else _days_on(now, _DEFAULT_DAYS)
        hospitals = [name_of(title) for title in table.hospitals] or list(members.hospitals)
        study = cls(
            network=members.federation,
            name=table.name,
            purpose=table.purpose,
            researcher=researcher,
            hospitals=tuple(sorted(hospitals)),
            ends=end.isoformat(timespec="seconds"),
            wait_s=table.wait_s,
            settings=study_toml(config),
            task_sha256=task_sha256,
            repeat=repeat,
        )
        study.check(members, now)
        return study

    # --- what it is called ----------------------------------------------------------------------
    def body(self) -> bytes:
        """The canonical JSON that is signed."""
        values = self.model_dump(mode="json")
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    def digest(self) -> bytes:
        """32 bytes that stand for this study."""
        return digest(_PURPOSE, self.body())

    @property
    def id(self) -> str:
        """Its digest, hexadecimal; people are shown its first 12 digits."""
        return self.digest().hex()

    @property
    def run(self) -> str:
        """Its run, in directories, manifests and ledgers."""
        return f"{self.name}-{self.id[:16]}"

    @property
    def end(self) -> datetime:
        """When it ends, UTC. Raises ValueError."""
        return in_utc(datetime.fromisoformat(self.ends))

    @property
    def until(self) -> str:
        """When it ends, for people. Raises ValueError."""
        return f"{self.end:%Y-%m-%d %H:%M} UTC"

    # --- what it says --------------------------------------------------------------------------
    def config(self, members: Members) -> Config:
        """The settings that all parties compute with: its own, under the network's name, and what
        the network's parties share of ``[server]``.

        Raises StudyRefused unless they are in the one form that ``study_toml`` writes.
        """
        try:
            tables = tomllib.loads(self.settings)
            shared = tomllib.loads(members.config_toml)
            tables["federation"] = tables.get("federation", {}) | {"name": self.network}
            tables["server"] = shared["server"]
            config = parse_config(tomli_w.dumps(tables))
        except (ValueError, TypeError, KeyError, RecursionError, WardroundError) as error:
            raise StudyRefused(f"its settings can't be used: {one_line(str(error))}") from None
        if config.network is not None or study_toml(config) != self.settings:
            raise StudyRefused("its settings are not in the form that they are signed in")
        return config

    def check(self, members: Members, now: datetime) -> None:
        """Raise StudyRefused, naming the key, unless it can be asked of this network now."""
        if self.network != members.federation:
            raise StudyRefused(f"is of network '{self.network}', not of '{members.federation}'")
        if unknown := [name for name in self.hospitals if name not in members.hospitals]:
            raise StudyRefused(
                f"study.hospitals: '{unknown[0]}' is no hospital of this network",
                mend=f"it has {', '.join(sorted(members.hospitals)) or 'none yet'}",
            )
        if self.researcher not in members.researchers:
            raise StudyRefused(f"'{self.researcher}' is no researcher of this network (any more)")
        if self.end <= now:
            raise StudyRefused(f"study.ends: it ended at {self.ends}")
        if self.end > now + timedelta(days=MOST_STUDY_DAYS):
            raise StudyRefused(f"study.ends: {self.ends} is over {MOST_STUDY_DAYS} days away")
        fewest = self.config(members).federation.min_clients
        if fewest > len(self.hospitals):
            raise StudyRefused(
                f"federation.min_clients is {fewest}, and {len(self.hospitals)} hospitals are asked"
            )

    def signed(self, identity: Identity) -> Submission:
        """What a researcher sends."""
        return Submission(self, identity.sign(self.digest()))

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """The study that this canonical JSON is. Raises StudyRefused."""
        try:
            study = cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "as a whole"
            raise StudyRefused(one_line(f"can't be read ({key}: {first['msg']})")) from None
        if study.body() != body:
            raise StudyRefused("is not in its one canonical form")
        return study


@dataclass(frozen=True)
class Submission:
    """A study under its researcher's signature."""

    study: Study
    signature: bytes

    def to_bytes(self) -> bytes:
        """As it travels."""
        return self.signature + self.study.body()

    @classmethod
    def read(cls, data: bytes, members: Members) -> Submission:
        """Raises StudyRefused unless one of the network's researchers signed it; what it asks is
        another matter (``Study.check``)."""
        if not SIGNATURE_BYTES < len(data) <= MOST_BYTES:
            raise StudyRefused(f"is of an impossible size ({len(data)} bytes)")
        signature, study = data[:SIGNATURE_BYTES], Study.from_body(data[SIGNATURE_BYTES:])
        if study.researcher not in members.researchers:
            raise StudyRefused(f"'{study.researcher}' is no researcher of this network (any more)")
        if not verify(members.researchers[study.researcher], signature, study.digest()):
            raise StudyRefused(f"isn't signed by '{study.researcher}', whose it says it is")
        return cls(study, signature)

    def accepted(self, identity: Identity, now: datetime) -> SignedStudy:
        """The server accepts it."""
        when = now.astimezone(UTC).isoformat(timespec="seconds")
        signature = identity.sign(digest(_ACCEPTED, self.study.digest(), when.encode()))
        return SignedStudy(self, when, signature)


@dataclass(frozen=True)
class SignedStudy:
    """A study that the server has accepted: what hospitals are shown.

    accepted : ISO 8601, UTC
    """

    submission: Submission
    accepted: str
    signature: bytes

    @property
    def study(self) -> Study:
        """What is asked."""
        return self.submission.study

    def to_bytes(self) -> bytes:
        """As it travels and is stored."""
        values = {
            "accepted": self.accepted,
            "server": self.signature.hex(),
            "researcher": self.submission.signature.hex(),
            "study": self.study.body().decode(),
        }
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def read(cls, data: bytes, members: Members) -> SignedStudy:
        """Raises StudyRefused unless both have signed it and it is in its one form; whether it can
        be asked now is another matter (``Study.check``)."""
        if not 0 < len(data) <= 2 * MOST_BYTES:
            raise StudyRefused(f"is of an impossible size ({len(data)} bytes)")
        outer = _Outer.of(data)
        signature = bytes.fromhex(outer.researcher)
        submission = Submission.read(signature + outer.study.encode(), members)
        one = cls(submission, outer.accepted, bytes.fromhex(outer.server))
        said = digest(_ACCEPTED, one.study.digest(), one.accepted.encode())
        if not verify(members.server, one.signature, said):
            raise StudyRefused("isn't signed by the server that federation.signed names")
        if one.to_bytes() != data:
            raise StudyRefused("is not in its one canonical form")
        return one

    @staticmethod
    def known(data: bytes) -> Study:
        """The study in bytes that were held against its signatures when they came: for people, also
        when its researcher is no member any more. Raises StudyRefused."""
        return Study.from_body(_Outer.of(data).study.encode())


class _Outer(Table):
    accepted: Annotated[str, Field(max_length=40)]
    server: Hex
    researcher: Hex
    study: Annotated[str, Field(max_length=MOST_BYTES)]

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Raises StudyRefused."""
        try:
            outer = cls.model_validate_json(data)
            datetime.fromisoformat(outer.accepted)
        except ValueError:
            raise StudyRefused("is no accepted study") from None
        return outer


def study_toml(config: Config) -> str:
    """A study's settings: what all its parties share, but for names and places of the network.

    Equal settings give equal text.
    """
    tables = study_tables(config)
    del tables["federation"]["name"]
    name = config.strategy.name
    if ":" in name:  # a file of the researcher's: the server has its own copy
        tables["strategy"]["name"] = name.replace("\\", "/").rpartition("/")[2]
    return tomli_w.dumps(tables)


def _days_on(now: datetime, days: int) -> datetime:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=days)
