"""Points of the curve P-256, by their x-coordinates: identifiers to points, points times a scalar.

A point and its negative have one x, and a scalar takes both to one x again, so 32 bytes are enough
and multiplication still commutes: this is ECDH, once for each party. The group has prime order:
whatever is the x of a point is one of full order, identity and small subgroups have none, and
OpenSSL holds each x against the curve as it reads it.

A row's identifiers become a point by try and increment: x = SHA-256(domain, c, digest) for c = 0,
1, ... until it is on the curve. Seen as a random oracle that is a uniform point, of unknown
logarithm. How often it tried shows in how long it took, which only the party itself can time row
by row.

Measured (docs/linkage.md): ristretto255 by ``rbcl`` takes two thirds of the time, and brings two
packages and a libsodium of its own into a hospital; X25519 needs a test of the curve in Python for
each row that takes longer than what it saves, or shows a bit of each hash.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from wardround.common.secagg.keys import derive

TOKEN_BYTES = SCALAR_BYTES = 32
_CURVE, _ECDH = ec.SECP256R1(), ec.ECDH()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_DOMAIN = b"wardround linkage point P-256 1"
_EVEN = b"\x02"  # which of the two points of an x: it doesn't matter


class NotOnCurve(ValueError):
    """Something isn't the x-coordinate of a point."""


def scalar_of(secret: bytes, session: bytes, use: str = "all") -> bytes:
    """A party's scalar of one run, 1 to order - 1, as 32 big-endian bytes.

    secret : 32 bytes of its own, of this run
    session : what stands for the run
    use : what it is for; another one for each
    """
    wide = derive(secret, "linkage scalar", session, use.encode(), length=48)
    number = int.from_bytes(wide, "big") % (_ORDER - 1) + 1  # of 128 bits more: no bias
    return number.to_bytes(SCALAR_BYTES, "big")


def instead(first: bytes, scalar: bytes) -> bytes:
    """The scalar that makes of a point times ``first`` one times ``scalar``."""
    inverse = pow(int.from_bytes(first, "big"), -1, _ORDER)
    number = int.from_bytes(scalar, "big") * inverse % _ORDER
    return number.to_bytes(SCALAR_BYTES, "big")


def hidden(digests: bytes, scalar: bytes) -> bytes:
    """The points of digests, times a scalar.

    digests : (n, 32) bytes, one after the other; returns as many tokens
    """
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVE)
    parts = range(0, len(digests), TOKEN_BYTES)
    return b"".join(key.exchange(_ECDH, _point(digests[at : at + TOKEN_BYTES])) for at in parts)


def raised(tokens: bytes, scalar: bytes) -> bytes:
    """Tokens times another scalar, in their order. Raises NotOnCurve for what is none."""
    key = ec.derive_private_key(int.from_bytes(scalar, "big"), _CURVE)
    read = ec.EllipticCurvePublicKey.from_encoded_point
    parts = range(0, len(tokens), TOKEN_BYTES)
    try:
        return b"".join(
            key.exchange(_ECDH, read(_CURVE, _EVEN + tokens[at : at + TOKEN_BYTES])) for at in parts
        )
    except ValueError:
        raise NotOnCurve("not the x-coordinate of a point of the curve") from None


def _point(digest: bytes) -> ec.EllipticCurvePublicKey:
    for count in range(256):
        x = hashlib.sha256(_DOMAIN + bytes([count]) + digest).digest()
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _EVEN + x)
        except ValueError:  # half of all x
            continue
    raise AssertionError("256 hashes off the curve: one in 2^256")
