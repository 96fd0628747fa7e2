"""Keys of secure aggregation: identities, key agreement, derivation, and the chain of a bundle.

Ed25519 signatures (RFC 8032), X25519 key agreement (RFC 7748), HKDF-SHA-256 (RFC 5869) and
AES-256-GCM (NIST SP 800-38D), all from the ``cryptography`` library. Every derivation names its
purpose and encodes its inputs injectively, so no two purposes can share a key.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.shamir import PRIME, split
from wardround.common.trust.identity import KEY_BYTES, VERSION, digest, encode_parts

SHARE_BYTES = 2 * KEY_BYTES + 16
"""An encrypted pair of shares: round key and self mask, and GCM's tag."""

_UNIFORM_BYTES = 48
"""Reduced modulo the 256-bit prime, 384 random bits are uniform up to 2^-128."""


def derive(key: bytes, purpose: str, *info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA-256 of ``key`` for one purpose; ``length`` bytes, at most 8,160.

    info : what the result is bound to besides; parts are encoded with their lengths, so that no two
        lists of them are the same bytes
    """
    bound = encode_parts(VERSION, purpose.encode(), *info)
    return HKDF(hashes.SHA256(), length, salt=None, info=bound).derive(key)


class ExchangeKey:
    """An X25519 key made from 32 secret bytes; its repr shows the public half only."""

    def __init__(self, secret: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(secret)
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, public: bytes) -> bytes:
        """The secret that both sides compute, bound to both public keys (in either order).

        Raises ProtocolRefused for a point of small order, whose secret everyone knows.
        """
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise ProtocolRefused("a public key is not a usable X25519 point") from None
        return derive(secret, "agreement", *sorted((self.public, public)))

    def __repr__(self) -> str:
        return f"ExchangeKey(public={self.public.hex()[:16]}...)"


_PROBE = X25519PrivateKey.from_private_bytes(b"\x01" * KEY_BYTES)


def check_exchange(public: bytes) -> None:
    """Raise ProtocolRefused for an X25519 public key of small order, which keeps nothing secret."""
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise ProtocolRefused("its public key is not a usable X25519 point") from None


def seal(key: bytes, index: int, plaintext: bytes, bound: bytes) -> bytes:
    """AES-256-GCM. The key is of one direction of one pair of one group, so the aggregation's
    index is a nonce that never repeats under it. ``bound``: authenticated, not encrypted. Returns
    the plaintext's length and 16 bytes of tag."""
    return AESGCM(key).encrypt(struct.pack(">Q", index).rjust(12, b"\0"), plaintext, bound)


def unseal(key: bytes, index: int, ciphertext: bytes, bound: bytes) -> bytes:
    """The reverse of ``seal``. Raises ProtocolRefused if anything of it was altered."""
    try:
        return AESGCM(key).decrypt(struct.pack(">Q", index).rjust(12, b"\0"), ciphertext, bound)
    except InvalidTag:
        raise ProtocolRefused("an encrypted share is not what its sender encrypted") from None


@dataclass(frozen=True)
class RoundSecrets:
    """What one client needs for one aggregation: the round key and the self mask's secret.

    Both are numbers below the prime of ``shamir``, as 32 big-endian bytes.
    """

    round_key: bytes = field(repr=False)
    self_mask: bytes = field(repr=False)
    _key_polynomial: bytes = field(repr=False)
    _self_polynomial: bytes = field(repr=False)

    def exchange_key(self) -> ExchangeKey:
        """The round key as a key for agreement with each neighbour: 32 uniform bytes are an X25519
        secret as they stand (RFC 7748 clamps them)."""
        return ExchangeKey(self.round_key)

    def shares(self, threshold: int, points: list[int]) -> list[bytes]:
        """For each point, 64 bytes: its share of the round key, then of the self mask."""
        key = split(to_number(self.round_key), _polynomial(self._key_polynomial, threshold), points)
        self_mask = to_number(self.self_mask)
        own = split(self_mask, _polynomial(self._self_polynomial, threshold), points)
        return [to_bytes(a) + to_bytes(b) for a, b in zip(key, own, strict=True)]


class KeyChain:
    """Secrets of successive aggregations from one random start; what was passed is forgotten.

    link(0) comes from the operating system; link(i+1) = HKDF(link(i)), so someone who learns the
    present link learns no earlier secret. One link of 32 bytes stands for all that a bundle of 64
    aggregations needs: keys, self masks and the polynomials of their shares, made again when asked.
    """

    def __init__(self, link: bytes, index: int) -> None:
        self.link, self.index = link, index

    def advance(self, index: int) -> None:
        """Forget everything before ``index``. Raises ProtocolRefused if it is already forgotten."""
        if index < self.index:
            raise ProtocolRefused(f"aggregation {index} is over: its keys are gone")
        while self.index < index:
            self.link, self.index = derive(self.link, "next link"), self.index + 1

    def secrets(self) -> RoundSecrets:
        """The secrets of the present index."""
        return RoundSecrets(
            round_key=_secret(self.link, "round key"),
            self_mask=_secret(self.link, "self mask"),
            _key_polynomial=derive(self.link, "round key polynomial"),
            _self_polynomial=derive(self.link, "self mask polynomial"),
        )

    def __repr__(self) -> str:
        return f"KeyChain(index={self.index})"


def commitment(group: bytes, name: str, index: int, self_mask: bytes) -> bytes:
    """Binds a client to its self mask's secret, which has 256 bits of entropy and stays hidden.

    A hash without a further random number is enough for that reason. The server checks what shares
    gave against it, and so finds false ones.
    """
    return digest("commitment", group, name.encode(), struct.pack(">Q", index), self_mask)


def to_number(value: bytes) -> int:
    """Big-endian bytes as a number."""
    return int.from_bytes(value, "big")


def to_bytes(value: int) -> bytes:
    """A number below 2^256 as 32 big-endian bytes."""
    return value.to_bytes(KEY_BYTES, "big")


def _secret(link: bytes, purpose: str) -> bytes:
    return to_bytes(to_number(derive(link, purpose, length=_UNIFORM_BYTES)) % PRIME)


def _polynomial(seed: bytes, threshold: int) -> list[int]:
    """The threshold - 1 random coefficients of a sharing: from a seed, so that shares can be made
    again without keeping the polynomial."""
    count = threshold - 1
    if count == 0:
        return []
    stream = b"".join(
        derive(seed, "coefficients", struct.pack(">I", part), length=_UNIFORM_BYTES * 100)
        for part in range(-(-count // 100))
    )
    pieces = [stream[i * _UNIFORM_BYTES : (i + 1) * _UNIFORM_BYTES] for i in range(count)]
    return [to_number(piece) % PRIME for piece in pieces]
