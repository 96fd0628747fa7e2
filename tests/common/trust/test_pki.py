"""The authority and its certificates, checked by two other programs; every mistake has a line."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardround.common.errors import ProvisionError
from wardround.common.trust import pki
from wardround.common.trust.identity import Identity

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
IDENTITY = Identity.generate().public
KEY = pki.generate_key()
PUBLIC = KEY.public_key()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> pki.Authority:
    return pki.Authority.create(tmp_path_factory.mktemp("pki") / "authority", "heart_1.x", NOW)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- what is issued --------------------------------------------------------------------------
def test_a_hospitals_certificate_says_who_it_is(authority: pki.Authority) -> None:
    pem = authority.issue_member("hospital", "north.2", PUBLIC, IDENTITY, NOW)
    info = pki.read_certificate(pem)
    assert (info.kind, info.federation, info.name) == ("hospital", "heart_1.x", "north.2")
    assert info.identity == IDENTITY and info.hosts == ()
    assert info.not_before == NOW - timedelta(minutes=5)
    assert info.not_after == NOW + timedelta(days=365)
    certificate = x509.load_pem_x509_certificate(pem)
    assert certificate.serial_number == info.serial
    assert pki.key_bytes(pki.certificate_key(pem)) == pki.key_bytes(PUBLIC)
    other = pki.read_certificate(
        authority.issue_member("hospital", "north.2", PUBLIC, IDENTITY, NOW)
    )
    assert other.serial != info.serial


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        ("fl.example.org", {"fl.example.org"}),
        ("10.1.2.3", {"10.1.2.3"}),
        ("localhost", {"localhost", "127.0.0.1", "::1"}),
        ("127.0.0.1", {"localhost", "127.0.0.1", "::1"}),
    ],
)
def test_the_servers_certificate_is_for_its_host(
    authority: pki.Authority, host: str, hosts: set[str]
) -> None:
    info = pki.read_certificate(authority.issue_server(host, PUBLIC, IDENTITY, NOW))
    assert (info.kind, info.name, set(info.hosts)) == ("server", "server", hosts)


def test_usages_are_the_narrowest(authority: pki.Authority) -> None:
    ca = x509.load_pem_x509_certificate(authority.ca_pem)
    hospital = x509.load_pem_x509_certificate(
        authority.issue_member("hospital", "a", PUBLIC, IDENTITY, NOW)
    )
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(True, 0)
    assert ca.not_valid_after_utc - NOW == timedelta(days=3652)
    constraints = hospital.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    usage = hospital.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not usage.key_cert_sign and not usage.key_encipherment


def test_openssl_accepts_the_chain_for_its_purpose_only(
    authority: pki.Authority, tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine")
    ca, leaf = tmp_path / "ca.pem", tmp_path / "leaf.pem"
    ca.write_bytes(authority.ca_pem)
    other = tmp_path / "other.pem"
    other.write_bytes(pki.Authority.create(tmp_path / "other", "heart_1.x", NOW).ca_pem)
    hospital = authority.issue_member("hospital", "heart_1.x", PUBLIC, IDENTITY, NOW)
    server = authority.issue_server("localhost", PUBLIC, IDENTITY, NOW)

    def accepts(pem: bytes, purpose: str, root: Path = ca, late: int = 0) -> bool:
        leaf.write_bytes(pem)
        at = str(int(NOW.timestamp()) + late)
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", at]
        done = subprocess.run([*command, "-CAfile", root, leaf], capture_output=True, check=False)
        return done.returncode == 0

    assert accepts(hospital, "sslclient") and accepts(server, "sslserver")
    assert not accepts(hospital, "sslserver") and not accepts(server, "sslclient")
    assert not accepts(hospital, "sslclient", other)
    assert not accepts(hospital, "sslclient", late=366 * 86400)


def test_another_verifier_accepts_the_chain(authority: pki.Authority) -> None:
    store = verification.Store([x509.load_pem_x509_certificate(authority.ca_pem)])
    builder = verification.PolicyBuilder().store(store).time(NOW)
    hospital = x509.load_pem_x509_certificate(
        authority.issue_member("hospital", "a", PUBLIC, IDENTITY, NOW)
    )
    server = x509.load_pem_x509_certificate(
        authority.issue_server("fl.example.org", PUBLIC, IDENTITY, NOW)
    )
    assert builder.build_client_verifier().verify(hospital, []).chain[0] == hospital
    good = builder.build_server_verifier(x509.DNSName("fl.example.org"))
    assert len(good.verify(server, [])) == 2
    for wrong in (
        lambda: builder.build_server_verifier(x509.DNSName("evil.example.org")).verify(server, []),
        lambda: good.verify(hospital, []),
        lambda: builder.build_client_verifier().verify(server, []),
    ):
        with pytest.raises(verification.VerificationError):
            wrong()


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes | None:
    """The client's certificate as the server saw it, DER. Raises SSLError at either end."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=host),
    ]
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert ends[0].version() == "TLSv1.3"
    return ends[0].getpeercert(binary_form=True)


def test_both_ends_of_tls_know_each_other(tmp_path: Path) -> None:
    authority = pki.Authority.create(tmp_path / "authority", "heart")
    twin = pki.Authority.create(tmp_path / "twin", "heart")
    (tmp_path / "key").write_bytes(pki.key_to_pem(KEY))

    def context(protocol: int, pem: bytes) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(cadata=authority.ca_pem.decode())
        (tmp_path / "pem").write_bytes(pem)
        made.load_cert_chain(tmp_path / "pem", tmp_path / "key")
        return made

    server_pem = authority.issue_server("fl.example.org", PUBLIC, IDENTITY)
    hospital_pem = authority.issue_member("hospital", "north", PUBLIC, IDENTITY)
    server = context(ssl.PROTOCOL_TLS_SERVER, server_pem)
    client = context(ssl.PROTOCOL_TLS_CLIENT, hospital_pem)
    seen = handshake(server, client, "fl.example.org")
    assert seen == ssl.PEM_cert_to_DER_cert(hospital_pem.decode())
    for one, other, host in [
        (server, client, "evil.example.org"),
        (server, context(ssl.PROTOCOL_TLS_CLIENT, server_pem), "fl.example.org"),
        (context(ssl.PROTOCOL_TLS_SERVER, hospital_pem), client, "north"),
        (
            server,
            context(
                ssl.PROTOCOL_TLS_CLIENT, twin.issue_member("hospital", "north", PUBLIC, IDENTITY)
            ),
            "fl.example.org",
        ),
    ]:
        with pytest.raises(ssl.SSLError):
            handshake(one, other, host)


def test_no_certificate_outlives_the_authority(authority: pki.Authority) -> None:
    late = NOW + timedelta(days=3652 - 10)
    info = pki.read_certificate(authority.issue_member("hospital", "a", PUBLIC, IDENTITY, late))
    assert info.not_after == NOW + timedelta(days=3652)


@pytest.mark.parametrize("name", ["", "server", "a/b", "../x", "ä", "-a", "a" * 65, "a\n"])
def test_a_name_that_is_none_gets_no_certificate(authority: pki.Authority, name: str) -> None:
    with pytest.raises(ProvisionError, match="can't be a hospital's name"):
        authority.issue_member("hospital", name, PUBLIC, IDENTITY, NOW)


def test_other_keys_get_no_certificate(authority: pki.Authority) -> None:
    with pytest.raises(ProvisionError, match="needs a P-256 key"):
        authority.issue_member("hospital", "a", PUBLIC, IDENTITY[:31], NOW)
    with pytest.raises(ProvisionError, match="needs a P-256 key"):
        wrong = ec.generate_private_key(ec.SECP384R1()).public_key()
        authority.issue_member("hospital", "a", wrong, IDENTITY, NOW)


# --- what is refused -------------------------------------------------------------------------
def forged(**change: object) -> bytes:
    """A self-made certificate like a hospital's, but for the change."""
    uri = f"wardround://f/hospital/a/{'0' * 64}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(change.get("name", "a")))])
    uris = change.get("uris", [uri])
    assert isinstance(uris, list)
    key = change.get("key", KEY)
    assert isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey)
    usage = change.get("usage", [ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(bool(change.get("ca", False)), None), True)
    )
    if uris:
        names = [x509.UniformResourceIdentifier(text) for text in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)  # type: ignore[arg-type]
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


GOOD_URI = f"wardround://f/hospital/a/{'0' * 64}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uris": []}, "not a certificate of a wardround federation"),
        ({"uris": [GOOD_URI, GOOD_URI]}, "not a certificate of a wardround federation"),
        ({"uris": [GOOD_URI + "0"]}, "not a certificate of a wardround federation"),
        ({"uris": [GOOD_URI.replace("/a/", "/a/b/")]}, "not a certificate of a wardround"),
        ({"uris": [GOOD_URI.replace("0" * 64, "A" * 64)]}, "not a certificate of a wardround"),
        ({"ca": True}, "not a certificate of a wardround federation"),
        ({"usage": []}, "not a certificate of a wardround federation"),
        ({"name": "b"}, "contradicts itself"),
        ({"usage": [ExtendedKeyUsageOID.SERVER_AUTH]}, "contradicts itself"),
        (
            {"usage": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]},
            "contradicts itself",
        ),
    ],
)
def test_a_certificate_of_another_form_is_refused(change: dict[str, object], message: str) -> None:
    assert pki.read_certificate(forged()).name == "a"
    with pytest.raises(ProvisionError, match=f"^x.pem: .*{message}"):
        pki.read_certificate(forged(**change), "x.pem")


@pytest.mark.parametrize("data", [b"", b"x" * 100, forged() * 2, pki.key_to_pem(KEY)])
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(ProvisionError, match="x.pem: not one certificate"):
        pki.read_certificate(data, "x.pem")


def test_a_certificate_of_another_kind_of_key_is_refused() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ProvisionError, match="not the certificate of an ECDSA P-256 key"):
            pki.certificate_key(forged(key=key))


def test_the_clock_decides_in_a_sentence_with_its_mend(authority: pki.Authority) -> None:
    info = pki.read_certificate(authority.issue_member("hospital", "north", PUBLIC, IDENTITY, NOW))
    for now in (info.not_before, NOW, info.not_after):
        pki.check_validity(info, now)
    with pytest.raises(ProvisionError, match=r"^c: .*not valid before 2026-03-04 11:55 UTC.*clock"):
        pki.check_validity(info, info.not_before - timedelta(seconds=1), "c")
    with pytest.raises(ProvisionError, match=r"^c: .*expired on 2027-03-04.*--renew north$"):
        pki.check_validity(info, info.not_after + timedelta(seconds=1), "c")


def test_another_authoritys_certificate_is_refused(
    authority: pki.Authority, tmp_path: Path
) -> None:
    pem = authority.issue_member("hospital", "a", PUBLIC, IDENTITY, NOW)
    pki.check_issued(pem, authority.ca_pem, "c.pem")
    twin = pki.Authority.create(tmp_path / "twin", "heart_1.x", NOW)  # the same names
    for wrong in (twin.issue_member("hospital", "a", PUBLIC, IDENTITY, NOW), forged()):
        with pytest.raises(ProvisionError, match="c.pem: not signed by the authority"):
            pki.check_issued(wrong, authority.ca_pem, "c.pem")
    assert pki.fingerprint(twin.ca_pem) != pki.fingerprint(authority.ca_pem)


# --- the authority's folder ------------------------------------------------------------------
def test_the_authority_is_kept_privately_and_never_replaced(tmp_path: Path) -> None:
    folder, mask = tmp_path / "authority", os.umask(0)
    try:
        made = pki.Authority.create(folder, "heart", NOW)
    finally:
        os.umask(mask)
    assert mode(folder) == 0o700 and mode(folder / "ca.key") == 0o600
    before = (folder / "ca.pem").read_bytes()
    with pytest.raises(ProvisionError, match="never replaced"):
        pki.Authority.create(folder, "heart", NOW)
    opened = pki.Authority.open(folder, "heart", NOW)
    assert (folder / "ca.pem").read_bytes() == before == opened.ca_pem == made.ca_pem
    assert pki.verify_signature(before, b"x", opened.sign(b"x"))
    assert "heart" in repr(opened) and len(repr(opened)) < 40


def test_a_half_made_authority_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".authority.new").mkdir()
    (tmp_path / ".authority.new" / "ca.key").write_text("torn")
    pki.Authority.create(tmp_path / "authority", "heart", NOW)
    assert pki.Authority.open(tmp_path / "authority", "heart", NOW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authority"]


def test_what_is_wrong_with_an_authority_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    pki.Authority.create(folder, "heart", NOW)
    key = folder / "ca.key"

    def refused(message: str, federation: str = "heart", now: datetime = NOW) -> None:
        with pytest.raises(ProvisionError, match=message) as caught:
            pki.Authority.open(folder, federation, now)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)

    refused("federation 'heart', not of 'lung'.*server.folder", federation="lung")
    refused("clock says", now=NOW + timedelta(days=4000))
    refused("clock says", now=NOW - timedelta(days=1))
    key.chmod(0o640)
    refused("others on this machine.*chmod 600")
    key.chmod(0o600)
    secret = key.read_bytes()
    key.write_bytes(pki.key_to_pem(pki.generate_key()))
    refused("not the key of .*ca.pem; restore")
    key.write_bytes(b"garbage")
    refused("not a private key")
    key.unlink()
    refused("ca.key: no such file; restore it from the backup")
    key.write_bytes(secret)
    key.chmod(0o600)
    (folder / "ca.pem").write_bytes(forged())
    refused("not the certificate of a federation's authority")


def test_a_signature_is_of_the_authority_and_of_descriptions_only(
    authority: pki.Authority, tmp_path: Path
) -> None:
    signature = authority.sign(b"body")
    assert pki.verify_signature(authority.ca_pem, b"body", signature)
    twin = pki.Authority.create(tmp_path / "twin", "heart_1.x", NOW)
    assert not pki.verify_signature(twin.ca_pem, b"body", signature)
    for body, wrong in ((b"bodY", signature), (b"body", signature[:-1]), (b"body", b"")):
        assert not pki.verify_signature(authority.ca_pem, body, wrong)
    certificate = x509.load_pem_x509_certificate(
        authority.issue_member("hospital", "a", PUBLIC, IDENTITY, NOW)
    )
    signed = certificate.tbs_certificate_bytes
    assert not pki.verify_signature(authority.ca_pem, signed, certificate.signature)
