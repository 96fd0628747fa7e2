"""The wire format of secure aggregation.

Every message is a tag, its fields in order, and nothing else: numbers big-endian, bytes and lists
with their length in front and a limit, text as UTF-8. What is signed or hashed is exactly what is
sent. ``from_bytes`` refuses another tag, a length beyond its limit, a truncated field and trailing
bytes, each by name.

| message        | from   | says                                                                  |
|----------------|--------|-----------------------------------------------------------------------|
| HelloRequest   | server | which session begins                                                  |
| Hello          | client | signed: my key for encrypting shares in this session                   |
| GroupRequest   | server | these hospitals, this graph and threshold, for these aggregations      |
| Bundle         | client | signed: a public key for each aggregation, and shares for each holder  |
| KeysRequest    | server | everyone's bundles (without the shares), as digests and in full        |
| Accepted       | client | I hold the same keys as everyone                                       |
| SumsLayout     | both   | names, shapes and words of sums: a client's own, then what is added    |
| TaskRequest    | server | add up this, under these parameters                                    |
| Upload         | client | whose masked vector follows                                            |
| UnmaskRequest  | server | who uploaded; the shares that were encrypted for you                   |
| Shares         | client | for each holder's client one share                                     |
| DealRequest    | server | draw a key for these hospitals, and seal it to each                    |
| Deal           | client | signed: the sealed key, which the server carries to each               |
| Dealt          | client | signed: which key I hold                                               |
| Held           | client | which model I have                                                     |
| Blind          | server | whose sum the model is to be worked out from, and under which mask     |
"""

from __future__ import annotations

from collections.abc import Sequence

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.encoding import WORDS, Encoding
from wardround.common.secagg.fields import Message as Message
from wardround.common.secagg.fields import bounded, fixed, list_of, nested, number, text
from wardround.common.secagg.keys import SHARE_BYTES
from wardround.common.trust.identity import KEY_BYTES, SIGNATURE_BYTES, digest

MOST_CLIENTS = 65_535
MOST_AGGREGATIONS = 64
"""Aggregations that one bundle of keys covers at most."""
OPEN_GROUPS = 4
"""Groups that a hospital knows keys of: those that it used last. A server counts on no other."""
_MOST_KEYS = MOST_AGGREGATIONS * KEY_BYTES
_MOST_SHARES = MOST_AGGREGATIONS * SHARE_BYTES
_U8, _U16, _U32, _U64, _F64 = map(number, "BHIQd")
_KEY = fixed(KEY_BYTES)
_SIGNATURE = fixed(SIGNATURE_BYTES)
_NAME, _KEY_OF_SUM = text(256), text(1024)


class HelloRequest(Message):
    """``nonce``: fresh for every session; ``session``: what the server makes of it."""

    nonce: bytes
    session: bytes
    TAG = 1
    _SPEC = {"nonce": _KEY, "session": _KEY}


class Hello(Message):
    """``exchange``: X25519 public key; the signature is over ``signed``."""

    session: bytes
    name: str
    exchange: bytes
    signature: bytes
    TAG = 2
    _SPEC = {"session": _KEY, "name": _NAME, "exchange": _KEY, "signature": _SIGNATURE}

    @staticmethod
    def signed(session: bytes, name: str, exchange: bytes) -> bytes:
        """The bytes under the signature."""
        return digest("hello", session, name.encode(), exchange)


class GroupRequest(Message):
    """Aggregations ``first`` to ``first + count - 1`` of the members, whose order is theirs;
    ``degree`` to ``window``: as in ``Thresholds``."""

    session: bytes
    first: int
    count: int
    degree: int
    threshold: int
    survivors: int
    window: int
    members: tuple[Hello, ...]
    TAG = 3
    _SPEC = {
        "session": _KEY,
        "first": _U32,
        "count": _U16,
        "degree": _U16,
        "threshold": _U16,
        "survivors": _U16,
        "window": _U16,
        "members": list_of(nested(Hello, 512), MOST_CLIENTS),
    }


class BundleKeys(Message):
    """The public half of a bundle: 32 bytes per aggregation in each of the two blocks."""

    group: bytes
    name: str
    public_keys: bytes
    commitments: bytes
    ciphertexts: bytes
    signature: bytes
    TAG = 4
    _SPEC = {
        "group": _KEY,
        "name": _NAME,
        "public_keys": bounded(_MOST_KEYS),
        "commitments": bounded(_MOST_KEYS),
        "ciphertexts": _KEY,
        "signature": _SIGNATURE,
    }

    @staticmethod
    def signed(
        group: bytes, name: str, public_keys: bytes, commitments: bytes, ciphertexts: bytes
    ) -> bytes:
        """The bytes under the signature; ``ciphertexts`` is the digest of all of them."""
        return digest("bundle", group, name.encode(), public_keys, commitments, ciphertexts)

    def body(self) -> bytes:
        """The bytes under this bundle's signature."""
        return self.signed(
            self.group, self.name, self.public_keys, self.commitments, self.ciphertexts
        )

    def digest(self) -> bytes:
        """What stands for this bundle in the group's transcript."""
        return digest("bundle keys", self.to_bytes())


class Bundle(Message):
    """A bundle: for each neighbour, in the group's order, 80 bytes per aggregation."""

    keys: BundleKeys
    ciphertexts: tuple[bytes, ...]
    TAG = 5
    _SPEC = {
        "keys": nested(BundleKeys, 8192),
        "ciphertexts": list_of(bounded(_MOST_SHARES), MOST_CLIENTS),
    }

    @staticmethod
    def digest_of(ciphertexts: Sequence[bytes]) -> bytes:
        """The digest that the keys' signature covers."""
        return digest("ciphertexts", *ciphertexts)


class KeysRequest(Message):
    """``digests``: one per member, in order; ``bundles``: those of the receiver's neighbours."""

    group: bytes
    digests: tuple[bytes, ...]
    bundles: tuple[BundleKeys, ...]
    TAG = 6
    _SPEC = {
        "group": _KEY,
        "digests": list_of(_KEY, MOST_CLIENTS),
        "bundles": list_of(nested(BundleKeys, 8192), MOST_CLIENTS),
    }


class Accepted(Message):
    """``transcript``: the digest of the group with all its keys."""

    group: bytes
    name: str
    transcript: bytes
    TAG = 7
    _SPEC = {"group": _KEY, "name": _NAME, "transcript": _KEY}


class TaskRequest(Message):
    """One aggregation. ``purpose`` says what is summed, e.g. 'train 3'; ``fine`` is 1 for whole
    numbers that carry noise, 2 for words of named sums, else 0."""

    group: bytes
    index: int
    purpose: str
    bits: int
    clip: float
    largest_weight: int
    fine: int
    TAG = 8
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "purpose": _NAME,
        "bits": _U8,
        "clip": _F64,
        "largest_weight": _U64,
        "fine": _U8,
    }

    def encoding(self, clients: int) -> Encoding:
        """How the numbers are written. Raises ProtocolRefused for parameters out of range."""
        if self.fine not in (0, 1, WORDS):
            raise ProtocolRefused("the task's encoding is unknown")
        how = self.fine == 1, self.fine == WORDS
        return Encoding(self.bits, self.clip, clients, self.largest_weight, *how)


class Upload(Message):
    """Goes with a masked vector, which travels beside it."""

    group: bytes
    index: int
    name: str
    TAG = 9
    _SPEC = {"group": _KEY, "index": _U32, "name": _NAME}


class UnmaskRequest(Message):
    """``survivors``: positions of who uploaded, ascending; ``ciphertexts``: the pair of shares of
    each neighbour that was encrypted for the receiver, in the group's order."""

    group: bytes
    index: int
    survivors: tuple[int, ...]
    ciphertexts: tuple[bytes, ...]
    TAG = 10
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "survivors": list_of(_U16, MOST_CLIENTS),
        "ciphertexts": list_of(fixed(SHARE_BYTES), MOST_CLIENTS),
    }


class Shares(Message):
    """For each holder's client (the neighbours and the sender, in the group's order) 32 bytes:
    a share of the self mask of a survivor, or of the round key of another. Nothing stands for a
    share that its owner had not encrypted properly."""

    group: bytes
    index: int
    name: str
    shares: tuple[bytes, ...]
    TAG = 11
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "name": _NAME,
        "shares": list_of(bounded(KEY_BYTES), MOST_CLIENTS),
    }


class SumsLayout(Message):
    """Names and shapes of arrays of sums; no value of them. ``words``: names of those that are
    added as words of ``bits`` bits (0 where none are), in their order; all others are exact."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    bits: int
    words: tuple[str, ...]
    TAG = 12
    _SPEC = {
        "names": list_of(_KEY_OF_SUM, 100_000),
        "shapes": list_of(list_of(_U32, 8), 100_000),
        "bits": _U8,
        "words": list_of(_KEY_OF_SUM, 100_000),
    }


class DealRequest(Message):
    """``members``: everyone's Hello, in the order of names; the first of them is asked."""

    session: bytes
    members: tuple[Hello, ...]
    TAG = 13
    _SPEC = {"session": _KEY, "members": list_of(nested(Hello, 512), MOST_CLIENTS)}


class Deal(Message):
    """A key of the members, which the first of them drew. ``sealed``: for each, in their order, 32
    bytes and a tag, under a key of the two that ``salt`` makes this deal's own."""

    session: bytes
    members: tuple[Hello, ...]
    salt: bytes
    sealed: tuple[bytes, ...]
    signature: bytes
    TAG = 14
    _SPEC = {
        "session": _KEY,
        "members": list_of(nested(Hello, 512), MOST_CLIENTS),
        "salt": _KEY,
        "sealed": list_of(fixed(KEY_BYTES + 16), MOST_CLIENTS),
        "signature": _SIGNATURE,
    }

    def signed(self, run: str) -> bytes:
        """The bytes under the signature, of a deal in this run."""
        members = digest("deal members", *(one.to_bytes() for one in self.members))
        sealed = digest("deal sealed", *self.sealed)
        return digest("deal", self.session, run.encode(), members, self.salt, sealed)


class Dealt(Message):
    """``key``: the name of the key that this hospital now holds."""

    key: bytes
    name: str
    signature: bytes
    TAG = 15
    _SPEC = {"key": _KEY, "name": _NAME, "signature": _SIGNATURE}

    @staticmethod
    def signed(key: bytes, name: str) -> bytes:
        """The bytes under the signature."""
        return digest("dealt", key, name.encode())


class Blind(Message):
    """Goes with a request whose model the server can't read: the opened sum of round ``round``, as
    which the arrays came, still has the mask of the hospitals in ``survivors`` under the group key
    ``key`` on it, bound to ``context`` and ``clients``. The model is that of round ``base``, with
    the step of this sum. Where ``round`` is 0 the arrays are the first model's.

    ``largest``: what a hospital counted for at most in it. ``best``: whose model is kept besides.
    """

    round: int
    base: int
    key: bytes
    context: bytes
    clients: int
    survivors: tuple[str, ...]
    largest: int
    best: int
    TAG = 16
    _SPEC = {
        "round": _U32,
        "base": _U32,
        "key": _KEY,
        "context": _KEY,
        "clients": _U32,
        "survivors": list_of(_NAME, MOST_CLIENTS),
        "largest": _U64,
        "best": _U32,
    }


class Held(Message):
    """The sender has the model of round ``round``; ``digest`` is of it, and of a key that the
    server doesn't have: who has another model says another one."""

    name: str
    round: int
    digest: bytes
    TAG = 17
    _SPEC = {"name": _NAME, "round": _U32, "digest": _KEY}


FIRST = Blind(0, 0, bytes(KEY_BYTES), bytes(KEY_BYTES), 0, (), 1, 0)
"""Goes with the first model."""
