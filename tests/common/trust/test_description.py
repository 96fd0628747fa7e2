"""The signed description: exactly what the authority signed, or a sentence why not."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.config.load import load_config, parse_config
from wardround.common.errors import ConfigError, ProvisionError
from wardround.common.names import is_name
from wardround.common.secagg.content import descriptor
from wardround.common.trust import pki
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity


def identity() -> bytes:
    return Identity.generate().public


CONFIG = parse_config("[federation]\nname = 'heart'\n[training]\nlr = 0.1\n")
ONE = Description(
    "heart",
    3,
    "fl.example.org:8443",
    shared_toml(CONFIG),
    identity(),
    {"north": identity(), "south.2": identity()},
    (5, 2**160 - 1),
    "2026-03-04T12:00:00+00:00",
    "2026-04-03T12:00:00+00:00",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pki.Authority:
    return pki.Authority.create(tmp_path_factory.mktemp("pki") / "a", "heart")


@pytest.fixture(scope="module")
def signed(authority: pki.Authority) -> bytes:
    return ONE.signed(authority)


def wrapped(authority: pki.Authority, body: bytes) -> bytes:
    """A well signed file around any body."""
    values = {"body": body.decode(), "signature": authority.sign(body).hex()}
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()


def refuse(data: bytes, ca_pem: bytes, message: str) -> None:
    with pytest.raises(ProvisionError, match=message) as caught:
        Description.read(data, ca_pem, "f.signed")
    assert str(caught.value).startswith("f.signed: ") and "\n" not in str(caught.value)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(is_name)
KEYS = st.lists(st.binary(min_size=32, max_size=32), min_size=7, max_size=7, unique=True)


@given(
    names=st.lists(NAMES, max_size=6, unique_by=str.casefold),
    keys=KEYS,
    version=st.integers(1, 2**31 - 1),
    parts=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    revoked=st.sets(st.integers(1, 2**160 - 1), max_size=5),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
)
def test_it_is_read_as_it_was_signed(
    authority: pki.Authority,
    names: list[str],
    keys: list[bytes],
    version: int,
    parts: tuple[int, int],
    revoked: set[int],
    text: str,
) -> None:
    members, (first, second) = list(zip(names, keys, strict=False)), sorted(parts)
    one = replace(
        ONE,
        version=version,
        config_toml=text,
        hospitals=dict(members[:first]),
        researchers=dict(members[first:second]),
        coordinators=dict(members[second:]),
        revoked=tuple(sorted(revoked)),
    )
    read = Description.read(one.signed(authority), authority.ca_pem)
    assert read == one and read.digest() == one.digest() and read.roster == one.hospitals


def test_the_digest_tells_apart_what_plans_rest_on() -> None:
    changes: dict[str, Any] = {
        "federation": "lung",
        "version": 4,
        "address": "fl.example.org:8444",
        "config_toml": "",
        "server": identity(),
        "hospitals": {"north": ONE.hospitals["north"]},
        "revoked": (5,),
    }
    dates: dict[str, Any] = {
        "issued": "2026-03-04T12:00:01+00:00",
        "valid_until": "2026-04-03T12:00:01+00:00",
        "researchers": {"anna": identity()},
        "coordinators": {"office": identity()},
    }
    assert set(changes | dates) == {field.name for field in fields(Description)}
    assert replace(ONE, **dates).digest() == ONE.digest()
    assert replace(ONE, **dates).body() != ONE.body()
    digests = {replace(ONE, **{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {ONE.digest()}) == len(changes) + 1


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_means_the_same(
    authority: pki.Authority, signed: bytes, place: int, change: int
) -> None:
    data = bytearray(signed)
    data[place % len(data)] ^= change
    with pytest.raises(ProvisionError):
        Description.read(bytes(data), authority.ca_pem)


@given(data=st.data())
def test_cut_repeated_or_inserted_bytes_are_refused(
    authority: pki.Authority, signed: bytes, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(signed) - 1))
    end = data.draw(st.integers(start, len(signed)))
    piece = data.draw(st.sampled_from([b"", b" ", b"\n", b"0", signed[start:end] * 2]))
    changed = signed[:start] + piece + signed[end:]
    if changed != signed:
        with pytest.raises(ProvisionError):
            Description.read(changed, authority.ca_pem)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)))
def test_garbage_is_refused_in_a_sentence(authority: pki.Authority, data: bytes) -> None:
    refuse(data, authority.ca_pem, "f.signed")


def test_another_authoritys_signature_is_refused(
    authority: pki.Authority, signed: bytes, tmp_path: Path
) -> None:
    other = pki.Authority.create(tmp_path / "other", "heart")
    refuse(ONE.signed(other), authority.ca_pem, "not signed by the authority.*ask the coordinator")
    refuse(signed, other.ca_pem, "not signed by the authority")


def test_it_stands_alone_in_its_file(authority: pki.Authority, signed: bytes) -> None:
    ca = authority.ca_pem
    for data in (signed + b"\n", signed + b"x", signed[:-1], b" " + signed, signed + signed, b"[]"):
        refuse(data, ca, "not a signed description")
    outer = json.loads(signed)
    refuse(canonical(outer | {"more": ""}) + b"\n", ca, "not a signed description")
    refuse(canonical(outer | {"signature": outer["signature"].upper()}) + b"\n", ca, "not a signed")
    twice = signed.replace(b'"signature"', b'"signature":"00","signature"')
    refuse(twice, ca, "not a signed description")
    refuse(b"[" * 100_000, ca, "not a signed description")
    refuse(b"{" + b" " * (9 * 2**20), ca, "over 8 MiB")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 4}, "of format 4.*same version of wardround"),
        ({"federation": "a/b"}, "'federation'"),
        ({"federation": 5}, "impossible form"),
        ({"version": 0}, "'version'"),
        ({"version": True}, "'version'"),
        ({"version": 1.0}, "'version'"),
        ({"version": 2**31}, "'version'"),
        ({"address": "host"}, "'address'"),
        ({"address": "host:0"}, "'address'"),
        ({"address": "host:65536"}, "'address'"),
        ({"address": "a" * 254 + ":1"}, "'address'"),
        ({"config": "x" * (2**20 + 1)}, "'config': over 1 MiB"),
        ({"config": None}, "impossible form"),
        ({"server": "00" * 31}, "32 bytes"),
        ({"server": "zz"}, "impossible form"),
        ({"server": ONE.hospitals["north"].hex()}, "two parties have one key"),
        ({"hospitals": {"a": "11" * 32, "b": "11" * 32}}, "two parties have one key"),
        ({"hospitals": {"../a": "11" * 32}}, "can't be a name"),
        ({"hospitals": {"server": "11" * 32}}, "can't be a name"),
        ({"hospitals": {"a": "AA" * 32}}, "impossible form"),
        ({"hospitals": {f"h{n}": f"{n:064x}" for n in range(10_001)}}, "over 10000"),
        ({"hospitals": []}, "impossible form"),
        ({"revoked": ["5", "5"]}, "not ascending"),
        ({"revoked": ["6", "5"]}, "not ascending"),
        ({"revoked": ["05"]}, "impossible form"),
        ({"revoked": ["0"]}, "impossible form"),
        ({"revoked": ["f" * 41]}, "impossible form"),
        ({"revoked": [5]}, "impossible form"),
        ({"revoked": [f"{n:x}" for n in range(1, 50_002)]}, "over 50000"),
        ({"issued": "yesterday"}, "impossible form"),
        ({"issued": "2026-03-04T12:00:00"}, "not UTC"),
        ({"issued": "2026-03-04T12:00:00+01:00"}, "not UTC"),
        ({"issued": "2026-03-04T12:00:00Z"}, "not UTC, to the second"),
        ({"issued": "2026-03-04 12:00:00+00:00"}, "not UTC, to the second"),
        ({"issued": "2026-03-04T12:00:00.5+00:00"}, "not UTC, to the second"),
        ({"valid_until": ""}, "impossible form"),
        ({"valid_until": "never"}, "impossible form"),
        ({"valid_until": "2026-04-03T12:00:00"}, "'valid_until': not UTC"),
        ({"valid_until": ONE.issued}, "'valid_until': not after it was signed"),
        ({"valid_until": "2027-03-05T12:00:01+00:00"}, "'valid_until': over 366 days"),
        ({"format": 1}, "impossible form"),
        ({"more": 1}, "impossible form"),
    ],
)
def test_a_well_signed_description_that_makes_no_sense_is_refused(
    authority: pki.Authority, change: dict[str, Any], message: str
) -> None:
    body = canonical(json.loads(ONE.body()) | change)
    refuse(wrapped(authority, body), authority.ca_pem, message)


def test_a_well_signed_body_is_written_in_one_way_only(authority: pki.Authority) -> None:
    body = ONE.body()
    assert Description.read(wrapped(authority, body), authority.ca_pem) == ONE
    north = f'"north":"{ONE.hospitals["north"].hex()}"'.encode()
    for other in (
        body.replace(north, north + b"," + north),  # a name twice
        body.replace(b'"version":3', b'"version": 3'),
        body.replace(b"heart", b"h\\u0065art"),
        json.dumps(json.loads(body)).encode(),
        body + b" ",
        canonical({key: value for key, value in json.loads(body).items() if key != "issued"}),
        b"null",
        b"[" * 100_000,
    ):
        assert other != body
        refuse(wrapped(authority, other), authority.ca_pem, "impossible form")


def test_what_nobody_could_read_is_not_signed(authority: pki.Authority) -> None:
    for wrong in (
        replace(ONE, version=0),
        replace(ONE, hospitals={"server": identity()}),
        replace(ONE, revoked=(2, 1)),
    ):
        with pytest.raises(ProvisionError):
            wrong.signed(authority)


def test_the_settings_are_everyones_and_nobodys_paths(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(
        "[federation]\nname = 'heart'\nruns = 'secret-runs'\ninitial = 'secret/first.safetensors'\n"
        "[data]\npath = 'secret-data'\n[task]\nname = 'code/own.py:Mine'\ndepth = 3\n"
        "[training]\nlr = 0.25\ndevice = 'cuda:secret'\n"
        "[server]\nlisten = '10.0.0.1:1'\nfolder = 'secret-keys'\nhospitals = ['secret-name']\n"
        "heartbeat_s = 2.0\n[simulation]\nclients = 7\n"
    )
    config = load_config(path)
    text = shared_toml(config)
    for hidden in ("secret", str(tmp_path), "10.0.0.1", "[simulation]", "code/"):
        assert hidden not in text
    shared = replace(ONE, config_toml=text).config(["training.device='cpu'"])
    assert shared.task.name == "own.py:Mine" and shared.task.options == {"depth": 3}
    assert shared.server.heartbeat_s == 2.0 and shared.training.lr == 0.25
    assert shared.federation.initial == "first.safetensors"
    assert descriptor(shared) == descriptor(config)
    assert shared_toml(shared) == text


def test_of_an_encoder_the_folders_name_is_shared_and_of_an_own_task_all_options() -> None:
    kinds = {}
    for written in ("bert", "models/bert", "models/bert/", "models\\\\bert\\\\/"):
        text = f'[task]\nname = "{{}}"\nencoder = "{written}"\n'
        built_in, own = (parse_config(text.format(name)) for name in ("text", "a/own.py:Mine"))
        shared = parse_config(shared_toml(built_in))
        assert shared.task.options == {"encoder": "bert"}
        assert descriptor(shared) == descriptor(built_in)
        shared = parse_config(shared_toml(own))
        assert shared.task.options == own.task.options and shared.task.name == "own.py:Mine"
        kinds.setdefault(descriptor(built_in), []).append(descriptor(own))
    ((_, digests),) = kinds.items()
    assert len(set(digests)) == 4


def test_settings_of_another_federation_are_refused() -> None:
    other = parse_config("[federation]\nname = 'lung'\n")
    with pytest.raises(ProvisionError, match="'lung'.*'heart'"):
        replace(ONE, config_toml=shared_toml(other)).config()
    with pytest.raises(ConfigError, match="--set training.lr"):
        ONE.config(["training.lr=-1"])
    assert datetime.fromisoformat(ONE.issued).tzinfo == UTC


# --- members that are no hospitals ----------------------------------------------------------------
ROLES = replace(ONE, researchers={"anna": identity()}, coordinators={"office": identity()})


def test_without_other_members_it_is_what_earlier_versions_read(authority: pki.Authority) -> None:
    assert json.loads(ONE.body())["format"] == 2 and "researchers" not in ONE.body().decode()
    assert json.loads(ROLES.body())["format"] == 3
    assert Description.read(ONE.signed(authority), authority.ca_pem).researchers == {}
    values = json.loads(ONE.body())  # one byte sequence for each description
    values |= {"format": 3, "researchers": {}, "coordinators": {}}
    refuse(wrapped(authority, canonical(values)), authority.ca_pem, "impossible form")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"researchers": {"north": identity()}}, "'researchers': 'north' is another party's name"),
        ({"researchers": {"North": identity()}}, "'researchers': 'North' is another party's name"),
        ({"coordinators": {"ANNA": identity()}}, "'coordinators': 'ANNA' is another party's name"),
        ({"coordinators": {"server": identity()}}, "'server' can't be a name"),
        ({"coordinators": {"Overall": identity()}}, "'Overall' can't be a name"),
        ({"researchers": {"anna": ONE.server}}, "two parties have one key"),
        ({"coordinators": {"b": ROLES.researchers["anna"]}}, "two parties have one key"),
        ({"researchers": {"anna": b"short"}}, "a key has not 32 bytes"),
        ({"valid_until": ""}, "read back as itself"),  # no such format ever was
    ],
)
def test_a_name_or_a_key_is_one_partys(
    authority: pki.Authority, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProvisionError, match=message):
        replace(ROLES, **changes).signed(authority)


def test_who_has_which_key() -> None:
    keys = {role: ROLES.members(role) for role in ("hospital", "researcher", "coordinator")}  # type: ignore[arg-type]
    assert [sorted(one) for one in keys.values()] == [["north", "south.2"], ["anna"], ["office"]]
    assert ROLES.key_of("researcher", "anna") == ROLES.researchers["anna"]
    assert ROLES.key_of("hospital", "anna") is ROLES.key_of("coordinator", "anna") is None
    assert ROLES.key_of("server", "server") == ROLES.server
