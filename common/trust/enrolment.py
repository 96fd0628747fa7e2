"""A member that makes its own keys: its signing request, and the coordinator's answer.

Both are JSON files without any secret. The request proves that its maker holds both private keys:
the certificate signing request (PKCS #10) is signed with the TLS key, and the identity signs the
member's role and name with the TLS public key. Whose they are is for two people to compare by
phone: the request's fingerprint at both ends.

    {"csr": PEM, "signature": hex}                              NAME.request
    {"ca.pem": PEM, "client.pem": PEM, "federation.signed": text}  NAME.answer
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.common.errors import ProvisionError
from wardround.common.names import HOSPITAL_NAME, ROLES, RULE, Role, is_name
from wardround.common.trust import pki
from wardround.common.trust.identity import Identity, digest, verify

_MOST_REQUEST_BYTES = 16_384
_MOST_ANSWER_BYTES = 10 * 2**20
_URI = re.compile(
    rf"wardround://request/({'|'.join(ROLES)})/({HOSPITAL_NAME.pattern})/([0-9a-f]{{64}})"
)
_ANSWER = ("ca.pem", "client.pem", "federation.signed")


def check_name(name: str, role: Role = "hospital") -> None:
    """Raise ProvisionError for what no member can be called."""
    if not is_name(name):
        raise ProvisionError(f"{name[:80]!r} can't be a {role}'s name; {RULE}")


@dataclass(frozen=True)
class SigningRequest:
    """Who asks for a certificate: its TLS key and its Ed25519 public key."""

    name: str
    public_key: pki.PublicKey
    identity: bytes
    role: Role = "hospital"

    @classmethod
    def make(
        cls, name: str, key: pki.PrivateKey, identity: Identity, role: Role = "hospital"
    ) -> bytes:
        """The file that asks for a certificate. Raises ProvisionError for an impossible name."""
        check_name(name, role)
        uri = f"wardround://request/{role}/{name}/{identity.public.hex()}"
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        text = csr.public_bytes(serialization.Encoding.PEM).decode()
        signature = identity.sign(_proof(name, key.public_key(), role))
        return json.dumps({"csr": text, "signature": signature.hex()}, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, data: bytes, file: str) -> SigningRequest:
        """The request in a file. Raises ProvisionError unless both proofs hold."""
        values = _texts(data, ("csr", "signature"), _MOST_REQUEST_BYTES, file, "a signing request")
        try:
            csr = x509.load_pem_x509_csr(values["csr"].encode())
            names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            (common,) = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
            match, key = _URI.fullmatch(uri), csr.public_key()
            signature = bytes.fromhex(values["signature"])
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound):
            match = None
        if match is None or common.value != match[2]:
            raise ProvisionError(f"{file}: not a signing request of a member; make it again")
        role = next(one for one in ROLES if one == match[1])
        name, identity = match[2], bytes.fromhex(match[3])
        check_name(name, role)
        if not isinstance(key, pki.PublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ProvisionError(f"{file}: not for an ECDSA P-256 key; make it again")
        if not csr.is_signature_valid:
            raise ProvisionError(f"{file}: not signed with the key that it names; refuse it")
        if not verify(identity, signature, _proof(name, key, role)):
            raise ProvisionError(f"{file}: not signed by the identity that it names; refuse it")
        return cls(name, key, identity, role)

    @property
    def fingerprint(self) -> str:
        """128 bits of SHA-256 over name and keys, for two people to read to each other."""
        parts = (self.name.encode(), pki.key_bytes(self.public_key), self.identity)
        return digest(_purpose("enrolment fingerprint", self.role), *parts)[:16].hex(" ", 2).upper()


@dataclass(frozen=True)
class Answer:
    """What the coordinator gives back: PEM of authority and certificate, ``federation.signed``."""

    ca_pem: bytes
    certificate_pem: bytes
    description: bytes

    def to_bytes(self) -> bytes:
        """The file."""
        texts = (self.ca_pem.decode(), self.certificate_pem.decode(), self.description.decode())
        return json.dumps(dict(zip(_ANSWER, texts, strict=True)), indent=1).encode() + b"\n"

    @classmethod
    def read(cls, data: bytes, file: str) -> Answer:
        """The answer in a file; nothing in it is checked yet. Raises ProvisionError."""
        values = _texts(data, _ANSWER, _MOST_ANSWER_BYTES, file, "an answer to a signing request")
        return cls(*(values[key].encode() for key in _ANSWER))


def _proof(name: str, key: pki.PublicKey, role: Role = "hospital") -> bytes:
    return digest(_purpose("enrolment", role), name.encode(), pki.key_bytes(key))


def _purpose(purpose: str, role: Role) -> str:
    """Hospitals' are as they were before there were other roles."""
    return purpose if role == "hospital" else f"{purpose} of a {role}"


def _texts(data: bytes, keys: tuple[str, ...], most: int, file: str, what: str) -> dict[str, str]:
    """A JSON object of exactly these keys, each a text."""
    try:
        if len(data) > most:
            raise ValueError
        values = json.loads(data)
        if not isinstance(values, dict) or sorted(values) != sorted(keys):
            raise ValueError
        if not all(isinstance(text, str) and text.isascii() for text in values.values()):
            raise ValueError
    except (ValueError, RecursionError):
        raise ProvisionError(f"{file}: not {what}; use the file as it was written") from None
    return values
