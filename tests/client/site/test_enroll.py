"""A hospital's own keys: they never leave it, and nobody is enrolled without them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from tests.provisioning import NOW, Site, federation, handed_over, signed_file
from wardround.client.site import enroll
from wardround.client.site.kit import Kit
from wardround.common.errors import ProvisionError
from wardround.common.trust import enrolment, pki
from wardround.common.trust.enrolment import SigningRequest
from wardround.common.trust.identity import Identity
from wardround.server.provision import kits as provision

LATER = NOW + timedelta(days=300)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return handed_over(tmp_path)


def enrolled(site: Site, tmp_path: Path) -> Path:
    folder = tmp_path / "east"
    _, done = provision.enroll(site.config, enroll.request("east", folder), now=NOW)
    enroll.accept(done.answers[0], folder, NOW)
    return folder


def test_a_hospital_enrolls_with_keys_of_its_own(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "east"
    mask = os.umask(0)
    try:
        path = enroll.request("east", folder)
    finally:
        os.umask(mask)
    assert path == folder / "east.request" and stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("client.key", "identity.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    handed = tmp_path / "handed.request"  # only this file travels
    shutil.copy(path, handed)
    request, done = provision.enroll(site.config, handed, now=NOW)
    assert request.fingerprint == enroll.fingerprint(path)
    assert done.description.version == 2 and not done.kits
    kit = enroll.accept(done.answers[0], folder, NOW)
    assert kit.info == Kit.open(folder, NOW).info and kit.name == "east"
    assert kit.description.roster["east"] == kit.identity.public == request.identity
    assert kit.authority_fingerprint == done.authority_fingerprint
    assert 'federations = ["heart"]' in kit.site_path.read_text()


def test_no_secret_leaves_the_hospital(site: Site, tmp_path: Path) -> None:
    folder = enrolled(site, tmp_path)
    provision.renew(site.config, "east", now=LATER)
    kit = Kit.open(folder, NOW)
    number = pki.read_key(kit.key_pem).private_numbers().private_value
    secrets = [kit.identity.secret_bytes(), number.to_bytes(32, "big")]
    lines = kit.key_pem.decode().splitlines()[1:-1]
    wanted = [part for s in secrets for part in (s, s.hex().encode(), s.hex().upper().encode())]
    wanted += [line.encode() for line in lines[:2]]
    outside = [p for p in site.config.folder.rglob("*") if p.is_file()] + [folder / "east.request"]
    assert len(outside) > 15
    for path in outside:
        assert not [1 for secret in wanted if secret in path.read_bytes()], path
    inside = b"".join(path.read_bytes() for path in folder.glob("*.key"))
    assert wanted[1] in inside and wanted[-1] in inside  # the search finds what is there


def test_a_repeated_request_keeps_the_keys(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "east"
    first = enroll.fingerprint(enroll.request("east", folder))
    keys = [(folder / name).read_bytes() for name in ("client.key", "identity.key")]
    path = enroll.request("east", folder)
    assert enroll.fingerprint(path) == first
    assert keys == [(folder / name).read_bytes() for name in ("client.key", "identity.key")]
    answers = [provision.enroll(site.config, path, now=NOW)[1] for _ in range(2)]
    assert [done.changed for done in answers] == [True, False]
    enroll.accept(answers[0].answers[0], folder, NOW)
    enroll.accept(answers[0].answers[0], folder, NOW)


def test_a_folder_is_of_one_hospital(site: Site, tmp_path: Path) -> None:
    folder = enrolled(site, tmp_path)
    with pytest.raises(ProvisionError, match="has the keys of hospital 'east', not of 'west'"):
        enroll.request("west", folder)
    (folder / "east.request").unlink()
    with pytest.raises(ProvisionError, match="has the keys of hospital 'east', not of 'west'"):
        enroll.request("west", folder)
    for name in ("server", "a/b", "", "ä"):
        with pytest.raises(ProvisionError, match="can't be a hospital's name"):
            enroll.request(name, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def forge(change: str, tmp_path: Path) -> bytes:
    """A request that doesn't prove what it says."""
    key, identity = pki.generate_key(), Identity.generate()
    good = json.loads(SigningRequest.make("east", key, identity))
    other = json.loads(SigningRequest.make("east", pki.generate_key(), Identity.generate()))
    same_identity = json.loads(SigningRequest.make("east", pki.generate_key(), identity))
    renamed = json.loads(SigningRequest.make("west", key, identity))
    if change == "identity":
        good["signature"] = other["signature"]
    elif change == "key":  # an identity's proof with another's key does not fit
        good["csr"] = same_identity["csr"]
    elif change == "name":
        good["csr"] = renamed["csr"]
    elif change == "csr":
        body = good["csr"].splitlines()
        body[-2] = body[-2][:4] + ("B" if body[-2][4] != "B" else "C") + body[-2][5:]
        good["csr"] = "\n".join(body) + "\n"
    elif change == "more":
        good["key"] = "x"
    elif change == "long":
        good["csr"] += "\n" * 20_000
    else:
        good = {"good": None, "list": [], "text": "x"}.get(change, good)
    return json.dumps(good).encode()


@pytest.mark.parametrize(
    "change", ["identity", "key", "name", "csr", "more", "long", "list", "text"]
)
def test_a_request_without_its_proofs_is_refused(site: Site, tmp_path: Path, change: str) -> None:
    path, before = tmp_path / "forged.request", signed_file(site.config).read_bytes()
    path.write_bytes(forge(change, tmp_path))
    with pytest.raises(ProvisionError, match="^.*forged.request: not") as caught:
        provision.enroll(site.config, path, now=NOW)
    assert "\n" not in str(caught.value)
    assert signed_file(site.config).read_bytes() == before


def test_a_request_names_one_hospital(site: Site, tmp_path: Path) -> None:
    key, identity = pki.generate_key(), Identity.generate()
    uri = f"wardround://request/hospital/east/{identity.public.hex()}"
    signature = identity.sign(enrolment._proof("east", key.public_key())).hex()
    path = tmp_path / "two.request"
    for name, uris in (("east", [uri]), ("west", [uri]), ("east", [uri, uri]), ("east", [])):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris])
        builder = x509.CertificateSigningRequestBuilder(subject).add_extension(names, False)
        csr = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        path.write_text(json.dumps({"csr": csr.decode(), "signature": signature}))
        if (name, uris) == ("east", [uri]):
            assert SigningRequest.read(path.read_bytes(), "x").name == "east"
            continue
        with pytest.raises(ProvisionError, match="not a signing request of a member"):
            provision.enroll(site.config, path, now=NOW)


def test_an_answer_is_believed_as_far_as_it_fits(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "east"
    request = enroll.request("east", folder)
    before = sorted(path.name for path in folder.iterdir())
    (tmp_path / "x").mkdir()
    other = provision.enroll(site.config, enroll.request("other", tmp_path / "o"), now=NOW)[1]
    good = provision.enroll(site.config, request, now=NOW)[1].answers[0]
    values = json.loads(good.read_bytes())
    alien = json.loads(
        provision.enroll(federation(tmp_path / "alien"), request, now=NOW)[1]
        .answers[0]
        .read_bytes()
    )
    revoked = provision.revoke(site.config, "other", NOW).folder / "server" / "federation.signed"
    gone = replace(Kit.open(site.kit, NOW).description, version=9).signed(site.authority).decode()
    cases: list[tuple[object, str]] = [
        (json.loads(other.answers[0].read_bytes()), "'other' is not for the keys in"),
        (values | {"ca.pem": alien["ca.pem"]}, "not signed by the authority"),
        (values | {"federation.signed": alien["federation.signed"]}, "not signed by the authority"),
        (alien | {"client.pem": values["client.pem"]}, "not signed by the authority"),
        (values | {"federation.signed": gone}, "'east' is not in the roster"),
        (values | {"more": ""}, "not an answer"),
        ({}, "not an answer"),
        (values | {"ca.pem": ""}, "not one certificate"),
    ]
    for number, (value, message) in enumerate(cases):
        path = tmp_path / f"{number}.answer"
        path.write_text(json.dumps(value))
        with pytest.raises(ProvisionError, match=message) as caught:
            enroll.accept(path, folder, NOW)
        assert "\n" not in str(caught.value)
        assert sorted(path.name for path in folder.iterdir()) == before
    with pytest.raises(ProvisionError, match="expired"):
        enroll.accept(good, folder, NOW + timedelta(days=400))
    with pytest.raises(ProvisionError, match="client.key: no such file; .*enroll NAME FOLDER"):
        enroll.accept(good, tmp_path / "x", NOW)
    assert revoked.exists() and enroll.accept(good, folder, NOW).name == "east"
    (tmp_path / "alien.answer").write_text(json.dumps(alien))
    with pytest.raises(ProvisionError, match="comes from another authority than .*ca.pem"):
        enroll.accept(tmp_path / "alien.answer", folder, NOW)


def test_a_renewed_certificate_is_taken_and_an_older_one_is_not(site: Site, tmp_path: Path) -> None:
    folder = enrolled(site, tmp_path)
    first = tmp_path / "first.answer"
    shutil.copy(site.config.folder / "provision" / "kits" / "east.answer", first)
    (folder / "site.toml").write_text("# mine\n")
    far = NOW + timedelta(days=500)  # long expired
    done = provision.renew(site.config, "east", now=far)
    kit = enroll.accept(done.answers[0], folder, far)
    assert kit.info.not_after == far + timedelta(days=365)
    assert kit.site_path.read_text() == "# mine\n"
    with pytest.raises(ProvisionError, match="older than .*client.pem"):
        enroll.accept(first, folder, NOW)


def test_a_renewal_does_not_bring_an_older_description(site: Site, tmp_path: Path) -> None:
    folder = enrolled(site, tmp_path)
    answer = provision.renew(site.config, "east", now=LATER).answers[0].read_bytes()
    provision.add(site.config, "west", LATER)
    Kit.open(folder, LATER).update_description(signed_file(site.config).read_bytes(), LATER)
    (tmp_path / "late.answer").write_bytes(answer)
    kit = enroll.accept(tmp_path / "late.answer", folder, LATER)
    assert kit.description.version == 3 and kit.info.not_before > NOW


def test_keys_are_written_without_a_moment_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    replace_file: Callable[..., None] = os.replace

    def look(source: Path, target: Path) -> None:
        if str(target).endswith(".key"):
            seen.append(stat.S_IMODE(os.stat(source).st_mode))
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", look)
    mask = os.umask(0)
    try:
        enroll.request("east", tmp_path / "east")
    finally:
        os.umask(mask)
    assert seen == [0o600, 0o600]
