"""The federation's description: who belongs to it, where it is, and its settings, all signed.

The file ``federation.signed`` is JSON with the description's canonical JSON and the authority's
signature over it (``common/trust/pki.py``), so the authority's certificate alone decides whether
it is true. There is one byte sequence for each description: anything else is refused, whoever
signed it. ``version`` only grows, with what plans rest on (hospitals, address, settings,
revocations); within one it is signed anew with later dates, and with other researchers and
coordinators, whose coming and going disturbs no run. A hospital never goes back to a lower version
or an earlier date (``common/trust/lifetime.py``: how long it counts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import tomli_w

from wardround.common.address import ADDRESS, split_address
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ProvisionError
from wardround.common.names import HOSPITAL_NAME, SERVER, Kind, is_name
from wardround.common.settings import without_folders, without_pace
from wardround.common.trust.identity import KEY_BYTES, Roster, digest
from wardround.common.trust.pki import verify_signature

FORMAT = 3
_ONLY_HOSPITALS = 2  # without other members; written where there are none
_UNDATED = 1  # without ``valid_until`` too: it is read, and nothing is done by it
MOST_DAYS = 366
"""No description is valid for longer."""
MOST_HOSPITALS = 10_000
MOST_OTHERS = 10_000
"""Researchers, and coordinators."""
MOST_REVOKED = 50_000
_MOST_BYTES = 8 * 2**20
_MOST_CONFIG_BYTES = 2**20
_ADDRESS = re.compile(ADDRESS)
_SERIAL = re.compile(r"[1-9a-f][0-9a-f]{0,39}")
_HEX = re.compile(r"[0-9a-f]*")
_SHARED_SERVER = ("address", "heartbeat_s", "lease_s", "max_message_mb")
_WHOLE = "ask the coordinator for federation.signed again"


class Signer(Protocol):
    """Who can sign a description: an ``Authority``."""

    def sign(self, body: bytes) -> bytes:
        """The signature over a body."""


@dataclass(frozen=True)
class Description:
    """What a federation is.

    address : host:port that hospitals dial
    config_toml : the settings that all parties share
    server, hospitals : Ed25519 public keys; hospitals by name
    revoked : serial numbers of hospitals' and servers' certificates that are not accepted any more,
        ascending; others are not once their keys are in no list
    issued, valid_until : ISO 8601 times, UTC, to the second; ``valid_until`` is '' in one that was
        signed before there was such a date
    researchers, coordinators : Ed25519 public keys by name, as hospitals; the former submit
        studies, the latter look after all of them
    """

    federation: str
    version: int
    address: str
    config_toml: str
    server: bytes
    hospitals: dict[str, bytes]
    revoked: tuple[int, ...]
    issued: str
    valid_until: str
    researchers: dict[str, bytes] = field(default_factory=dict)
    coordinators: dict[str, bytes] = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, str]:
        """The larger, the newer."""
        return (self.version, self.issued)

    @property
    def roster(self) -> Roster:
        """Every hospital's Ed25519 public key."""
        return self.hospitals

    def key_of(self, kind: Kind, name: str) -> bytes | None:
        """The Ed25519 public key of the party of that role and name; None if there is none."""
        if kind == "server":
            return self.server
        return self.members(kind).get(name)

    def members(self, role: Kind) -> dict[str, bytes]:
        """Name and key of all members of a role; none of the server's."""
        of_role = {
            "hospital": self.hospitals,
            "researcher": self.researchers,
            "coordinator": self.coordinators,
        }
        return of_role.get(role, {})

    def body(self) -> bytes:
        """The canonical JSON that is signed, in the oldest format that can say it: so a federation
        of hospitals alone is read by hospitals of earlier versions."""
        if not self.valid_until:
            return _canonical({"format": _UNDATED, **self._says(), "issued": self.issued})
        dates = {"issued": self.issued, "valid_until": self.valid_until}
        number = FORMAT if self.researchers or self.coordinators else _ONLY_HOSPITALS
        return _canonical({"format": number, **self._says(), **self._others(), **dates})

    def digest(self) -> bytes:
        """What stands for this description in manifests and logs: all that a plan rests on, so
        that it stays the plan when dates, researchers or coordinators are others."""
        return digest("federation description", _canonical(self._says()))

    def _says(self) -> dict[str, Any]:
        return {
            "federation": self.federation,
            "version": self.version,
            "address": self.address,
            "config": self.config_toml,
            "server": self.server.hex(),
            "hospitals": _hexed(self.hospitals),
            "revoked": [f"{serial:x}" for serial in self.revoked],
        }

    def _others(self) -> dict[str, Any]:
        if not self.researchers and not self.coordinators:
            return {}
        return {
            "researchers": _hexed(self.researchers),
            "coordinators": _hexed(self.coordinators),
        }

    def signed(self, authority: Signer) -> bytes:
        """The file ``federation.signed``. Raises ProvisionError if no one could read it."""
        body = self.body()
        if _parse(body) != self:
            raise ProvisionError("a description that doesn't read back as itself is not signed")
        signature = authority.sign(body).hex()
        return _canonical({"body": body.decode(), "signature": signature}) + b"\n"

    @classmethod
    def read(cls, data: bytes, ca_pem: bytes, file: str = "federation.signed") -> Description:
        """The description in a signed file.

        Raises ProvisionError unless the authority of ``ca_pem`` signed exactly this, and every
        field is of its type, size and range.
        """
        try:
            body, signature = _open(data)
            if not verify_signature(ca_pem, body, signature):
                raise ProvisionError(
                    "not signed by the authority of ca.pem: altered, or another federation's"
                )
            return _parse(body)
        except ProvisionError as error:
            raise ProvisionError(f"{file}: {error}; {_WHOLE}") from None

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """The shared settings, with a party's own 'table.key=value' over them.

        Raises ConfigError, and ProvisionError if they are another federation's.
        """
        config = parse_config(self.config_toml, overrides)
        if config.federation.name != self.federation:
            raise ProvisionError(
                f"the settings are of federation '{config.federation.name}', the description of "
                f"'{self.federation}'"
            )
        return config


def is_signed_description(data: bytes) -> bool:
    """Whether a file looks like ``federation.signed``; ``Description.read`` says if it is one."""
    try:
        outer = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(outer, dict) and set(outer) == {"body", "signature"}


def shared_toml(config: Config) -> str:
    """The settings that every party gets: nothing that only one party needs, no path of one's.

    Equal settings give equal text, and another text a new version of the description: so a path of
    the coordinator's machine in it would be a version for nothing, and told to all.
    """
    server = config.model_dump(mode="json")["server"]
    shared = {"server": {key: server[key] for key in _SHARED_SERVER}}
    if config.network is not None:  # it has no settings but these: each study has its own
        named: dict[str, Any] = {"federation": {"name": config.federation.name}, "network": {}}
        return tomli_w.dumps(named | shared)
    return tomli_w.dumps(study_tables(config) | shared)


def study_tables(config: Config) -> dict[str, Any]:
    """The settings of a study that every party gets: all tables but ``[server]``."""
    tables = config.model_dump(mode="json", exclude_none=True)
    for name in ("simulation", "server", "study", "tracking"):
        tables.pop(name, None)
    if config.procedure.trains:
        del tables["procedure"]
    else:
        tables["procedure"] = config.procedure.shared()
    if config.teacher is not None:
        tables["teacher"] = config.teacher.shared()
    if not config.card.model_fields_set:
        del tables["card"]
    if not config.compression.enabled:
        del tables["compression"]
    without_pace(tables, config.federation)
    del tables["data"]["path"]
    del tables["federation"]["runs"]
    # that the first model is from a file is everybody's affair, where the file lies is not
    tables["federation"]["initial"] = re.split(r"[/\\]", config.federation.initial)[-1]
    del tables["training"]["device"]
    name = re.split(r"[/\\]", config.task.name)[-1]  # each has its own folder
    tables["task"] = without_folders(config.task.name, config.task.options) | {"name": name}
    return tables


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _open(data: bytes) -> tuple[bytes, bytes]:
    """Body and signature of a file, which must be written in the one way there is."""
    if len(data) > _MOST_BYTES:
        raise ProvisionError(f"has over {_MOST_BYTES >> 20} MiB")
    try:
        outer = json.loads(data)
        if set(outer) != {"body", "signature"}:
            raise ValueError
        body, signature = outer["body"].encode("ascii"), _unhex(outer["signature"])
        if _canonical(outer) + b"\n" != data:
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ProvisionError("not a signed description") from None
    return body, signature


def _parse(body: bytes) -> Description:
    try:
        values = json.loads(body)
        number = values["format"]
        if number not in (FORMAT, _ONLY_HOSPITALS, _UNDATED):
            raise ProvisionError(
                f"of format {number!r:.20}, and this program reads {FORMAT}; install "
                "the same version of wardround on both sides"
            )
        description = Description(
            values["federation"],
            values["version"],
            values["address"],
            values["config"],
            _unhex(values["server"]),
            _unhexed(values["hospitals"]),
            tuple(_serial(text) for text in values["revoked"]),
            values["issued"],
            "" if number == _UNDATED else values["valid_until"],
            _unhexed(values["researchers"]) if number == FORMAT else {},
            _unhexed(values["coordinators"]) if number == FORMAT else {},
        )
        _check(description)
        if description.body() != body:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ProvisionError("a field is missing, unknown or of an impossible form") from None
    return description


def _check(one: Description) -> None:
    """Types, ranges and sizes. Raises ProvisionError."""
    _need(_is_name(one.federation), "federation", "no name")
    _need(type(one.version) is int and 1 <= one.version < 2**31, "version", "not 1, 2, ...")
    _need(_is_address(one.address), "address", "not host:port")
    _need(len(one.config_toml.encode()) <= _MOST_CONFIG_BYTES, "config", "over 1 MiB")
    _need(len(one.hospitals) <= MOST_HOSPITALS, "hospitals", f"over {MOST_HOSPITALS}")
    names = [name for name in one.hospitals if not _is_name(name) or name == SERVER]
    _need(not names, "hospitals", f"{names[:1]!r:.80} can't be a name")
    _check_others(one)
    everyone = (one.hospitals, one.researchers, one.coordinators)
    keys = [one.server, *(key for members in everyone for key in members.values())]
    _need(all(len(key) == KEY_BYTES for key in keys), "hospitals", "a key has not 32 bytes")
    _need(len(set(keys)) == len(keys), "hospitals", "two parties have one key")
    _need(len(one.revoked) <= MOST_REVOKED, "revoked", f"over {MOST_REVOKED}")
    _need(list(one.revoked) == sorted(set(one.revoked)), "revoked", "not ascending")
    issued = _when(one.issued, "issued")
    if one.valid_until:
        life = _when(one.valid_until, "valid_until") - issued
        _need(life > timedelta(0), "valid_until", "not after it was signed")
        _need(life <= timedelta(days=MOST_DAYS), "valid_until", f"over {MOST_DAYS} days")


def _check_others(one: Description) -> None:
    """Members that are no hospitals: their names are nobody else's, in whatever case."""
    taken = {name.casefold() for name in one.hospitals}
    for title, members in (("researchers", one.researchers), ("coordinators", one.coordinators)):
        _need(len(members) <= MOST_OTHERS, title, f"over {MOST_OTHERS}")
        for name in members:
            _need(is_name(name), title, f"{name!r:.80} can't be a name")
            _need(name.casefold() not in taken, title, f"'{name}' is another party's name")
            taken.add(name.casefold())


def _when(text: str, field: str) -> datetime:
    """A time that is written in the one way there is, so that texts are ordered as times are."""
    when = datetime.fromisoformat(text)
    utc = when.utcoffset() == timedelta(0)
    _need(utc and when.isoformat(timespec="seconds") == text, field, "not UTC, to the second")
    return when


def _is_address(text: str) -> bool:
    try:
        return _ADDRESS.fullmatch(text) is not None and split_address(text)[1] >= 1
    except ValueError:
        return False


def _need(holds: bool, field: str, what: str) -> None:
    if not holds:
        raise ProvisionError(f"'{field}': {what}")


def _is_name(value: Any) -> bool:
    return HOSPITAL_NAME.fullmatch(value) is not None


def _hexed(members: dict[str, bytes]) -> dict[str, str]:
    return {name: key.hex() for name, key in members.items()}


def _unhexed(members: dict[str, Any]) -> dict[str, bytes]:
    return {name: _unhex(key) for name, key in members.items()}


def _unhex(text: Any) -> bytes:
    if not _HEX.fullmatch(text):  # bytes.fromhex takes blanks and capitals
        raise ValueError("not hexadecimal")
    return bytes.fromhex(text)


def _serial(text: Any) -> int:
    if not _SERIAL.fullmatch(text):
        raise ValueError("not a serial number")
    return int(text, 16)
