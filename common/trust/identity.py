"""Who a party is: an Ed25519 key (RFC 8032), what it signed, and digests that two parties compare.

Digests name their purpose and encode their parts injectively, so that no two of them can stand for
each other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
_length = struct.Struct(">I").pack
SIGNATURE_BYTES = 64
VERSION = b"wardround secure aggregation 1"
"""In every digest and derived key: another version's are others."""

Roster = Mapping[str, bytes]
"""Hospital name to its Ed25519 public key, 32 bytes: who may take part, agreed beforehand."""


def encode_parts(*parts: bytes) -> bytes:
    """The parts with their lengths in front (uint32, big-endian), so that no two lists collide.

    >>> encode_parts(b"ab", b"c") == encode_parts(b"a", b"bc")
    False
    """
    return b"".join([piece for part in parts for piece in (_length(len(part)), part)])


def digest(purpose: str, *parts: bytes) -> bytes:
    """SHA-256 over version, purpose and parts, each with its length in front: 32 bytes. The same
    parts for another purpose give another digest, so no signature of one can serve as the other's.
    """
    return hashlib.sha256(encode_parts(VERSION, purpose.encode(), *parts)).digest()


def roster_digest(roster: Roster) -> bytes:
    """A digest of all names and keys, whatever their order."""
    return digest("roster", *(part for name in sorted(roster) for part in _entry(name, roster)))


def _entry(name: str, roster: Roster) -> tuple[bytes, bytes]:
    return name.encode(), roster[name]


class Identity:
    """A hospital's long-term Ed25519 key. Its repr shows the public half only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Identity:
        """The identity whose 32-byte secret this is. Raises ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    def secret_bytes(self) -> bytes:
        """The 32 bytes to keep in a file that only the hospital can read."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """64 bytes that ``verify`` accepts with this identity's public key."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:16]}...)"


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the signature (64 bytes) is that key's (32), of that message; False for anything
    malformed, so an unknown name may be looked up as b""."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
