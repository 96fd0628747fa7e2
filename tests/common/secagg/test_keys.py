"""Keys: the primitives are those of their RFCs, purposes never meet, and a chain forgets."""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import keys
from wardround.common.secagg.keys import (
    SHARE_BYTES,
    ExchangeKey,
    KeyChain,
    check_exchange,
    commitment,
    derive,
    seal,
    to_bytes,
    to_number,
    unseal,
)
from wardround.common.secagg.ring import MaskSeeds
from wardround.common.secagg.shamir import PRIME, combine
from wardround.common.trust.identity import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    digest,
    encode_parts,
    roster_digest,
    verify,
)

VERSION = b"wardround secure aggregation 1"
modest = settings(deadline=None, max_examples=60)
part_lists = st.lists(st.binary(max_size=12), max_size=5)


def hkdf(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, section 2, from HMAC alone."""
    pseudorandom = hmac.digest(salt or bytes(32), key, "sha256")
    stream, block = b"", b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(pseudorandom, block + info + bytes([counter]), "sha256")
        stream += block
    return stream[:length]


def lengths_in_front(parts: list[bytes]) -> bytes:
    """``encode_parts`` as its docstring says it."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


# --- RFC 5869: derivation -------------------------------------------------------------------------
RFC_5869 = {
    "A.1": (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    "A.2": (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    "A.3": (
        b"\x0b" * 22,
        b"",
        b"",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
}


@pytest.mark.parametrize("case", RFC_5869)
def test_the_reference_and_the_library_give_the_vectors_of_rfc_5869(case) -> None:
    key, salt, info, expected = RFC_5869[case]
    length = len(expected) // 2
    assert hkdf(key, salt, info, length).hex() == expected
    assert HKDF(hashes.SHA256(), length, salt or None, info).derive(key).hex() == expected


@modest
@given(st.binary(min_size=1, max_size=64), st.text(max_size=8), part_lists, st.integers(1, 300))
def test_derive_is_hkdf_with_no_salt_and_the_version_and_purpose_in_the_info(
    key, purpose, info, length
) -> None:
    bound = lengths_in_front([VERSION, purpose.encode(), *info])
    assert derive(key, purpose, *info, length=length) == hkdf(key, b"", bound, length)


def test_derive_reaches_hkdfs_limit_and_not_beyond() -> None:
    bound = lengths_in_front([VERSION, b"p"])
    assert derive(b"k", "p", length=8160) == hkdf(b"k", b"", bound, 8160)  # 255 blocks of 32
    with pytest.raises(ValueError):
        derive(b"k", "p", length=8161)


# --- injective encoding ---------------------------------------------------------------------------
def decode_parts(data: bytes) -> list[bytes]:
    """The inverse of ``encode_parts``: that it exists is that no two lists collide."""
    parts = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


@modest
@given(part_lists)
def test_the_encoding_of_parts_has_an_inverse(parts) -> None:
    assert decode_parts(encode_parts(*parts)) == parts


@modest
@given(part_lists, part_lists)
def test_two_lists_of_parts_have_one_encoding_only_if_they_are_one(parts, others) -> None:
    assert (encode_parts(*parts) == encode_parts(*others)) == (parts == others)


def test_moving_bytes_between_parts_changes_every_digest_and_key() -> None:
    lists = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), (b"a", b"b")]
    assert len({encode_parts(*parts) for parts in lists}) == len(lists)
    assert len({digest("p", *parts) for parts in lists}) == len(lists)
    assert len({derive(b"key", "p", *parts) for parts in lists}) == len(lists)
    assert digest("p", b"q") != digest("q", b"p") and digest("p") != digest("", b"p")


@modest
@given(st.text(max_size=8), part_lists)
def test_a_digest_is_sha256_of_version_purpose_and_parts(purpose, parts) -> None:
    data = lengths_in_front([VERSION, purpose.encode(), *parts])
    assert digest(purpose, *parts) == hashlib.sha256(data).digest()


def test_the_digest_of_a_roster_ignores_order_and_nothing_else() -> None:
    roster = {"a": b"\1" * 32, "b": b"\2" * 32}
    same = dict(reversed(roster.items()))
    assert list(same) != list(roster) and roster_digest(same) == roster_digest(roster)
    others = [{"a": b"\2" * 32, "b": b"\1" * 32}, {"a": b"\1" * 32}, roster | {"c": b"\3" * 32}]
    assert len({roster_digest(one) for one in [roster, *others]}) == 4


# --- RFC 7748: key agreement ----------------------------------------------------------------------
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
RAW_SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")


def test_exchange_keys_are_those_of_rfc_7748() -> None:
    assert ExchangeKey(ALICE).public == ALICE_PUBLIC
    assert ExchangeKey(BOB).public == BOB_PUBLIC


def test_the_agreed_secret_is_derived_from_that_of_rfc_7748_and_both_public_keys() -> None:
    info = lengths_in_front([VERSION, b"agreement", ALICE_PUBLIC, BOB_PUBLIC])  # 85... < de...
    expected = hkdf(RAW_SHARED, b"", info, 32)
    assert ExchangeKey(ALICE).shared(BOB_PUBLIC) == expected
    assert ExchangeKey(BOB).shared(ALICE_PUBLIC) == expected


@modest
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_both_sides_agree_and_a_third_does_not(one, other) -> None:
    a, b, third = ExchangeKey(one), ExchangeKey(other), ExchangeKey(ALICE)
    assert a.shared(b.public) == b.shared(a.public)
    assume(third.public not in (a.public, b.public))
    assert third.shared(b.public) != a.shared(b.public) != third.shared(a.public)


def test_another_spelling_of_a_public_key_gives_another_secret() -> None:
    """RFC 7748 ignores the top bit: the raw secret is the same, the derived one must not be."""
    spelled = BOB_PUBLIC[:-1] + bytes([BOB_PUBLIC[-1] | 0x80])
    assert spelled != BOB_PUBLIC
    assert ExchangeKey(ALICE).shared(spelled) != ExchangeKey(ALICE).shared(BOB_PUBLIC)


P = 2**255 - 19
ORDER_EIGHT = [
    int.from_bytes(bytes.fromhex(point), "little")
    for point in (
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    )
]
# p and p + 1 are 0 and 1, spelled otherwise; so is every one of them with the ignored top bit.
SMALL_ORDER = [0, 1, P - 1, P, P + 1, *ORDER_EIGHT]


@pytest.mark.parametrize("top_bit", [0, 1 << 255])
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_point_of_small_order_is_refused(point, top_bit) -> None:
    with pytest.raises(ProtocolRefused, match="not a usable X25519 point"):
        ExchangeKey(ALICE).shared((point | top_bit).to_bytes(32, "little"))
    with pytest.raises(ProtocolRefused, match="its public key is not a usable X25519 point"):
        check_exchange((point | top_bit).to_bytes(32, "little"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_public_key_of_another_length_is_refused(size) -> None:
    with pytest.raises(ProtocolRefused, match="not a usable X25519 point"):
        ExchangeKey(ALICE).shared(b"\x09" * size)
    with pytest.raises(ProtocolRefused, match="not a usable X25519 point"):
        check_exchange(b"\x09" * size)


@modest
@given(st.binary(min_size=32, max_size=32))
def test_every_made_public_key_is_usable(secret) -> None:
    check_exchange(ExchangeKey(secret).public)


# --- RFC 8032: signatures -------------------------------------------------------------------------
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
    "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)


def test_an_identity_signs_as_in_the_first_test_of_rfc_8032() -> None:
    identity = Identity.from_bytes(SECRET)
    assert identity.public == PUBLIC and identity.secret_bytes() == SECRET
    assert identity.sign(b"") == SIGNATURE and len(SIGNATURE) == SIGNATURE_BYTES
    assert verify(PUBLIC, SIGNATURE, b"")


@modest
@given(st.integers(0, SIGNATURE_BYTES * 8 - 1))
def test_a_signature_with_any_bit_changed_does_not_verify(bit) -> None:
    changed = to_changed(SIGNATURE, bit)
    assert not verify(PUBLIC, changed, b"")


def to_changed(data: bytes, bit: int) -> bytes:
    """``data`` with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_signatures_of_another_message_key_or_length_do_not_verify() -> None:
    assert not verify(PUBLIC, SIGNATURE, b"x")
    assert not verify(Identity.generate().public, SIGNATURE, b"")
    for size in (0, 63, 65):
        assert not verify(PUBLIC, (SIGNATURE + b"\0")[:size], b"")
    for size in (0, 31, 33):
        assert not verify((PUBLIC + b"\0")[:size], SIGNATURE, b"")


def test_an_identity_needs_32_secret_bytes() -> None:
    with pytest.raises(ValueError):
        Identity.from_bytes(SECRET[:31])
    assert Identity.generate().public != Identity.generate().public


# --- sealed shares --------------------------------------------------------------------------------
KEY, BOUND = bytes(range(32)), b"group, sender, receiver"
PAIR = bytes(range(64))


def test_a_sealed_pair_is_aes_256_gcm_with_the_index_as_nonce() -> None:
    sealed = seal(KEY, 258, PAIR, BOUND)
    assert sealed == AESGCM(KEY).encrypt(bytes(10) + b"\x01\x02", PAIR, BOUND)
    assert len(sealed) == SHARE_BYTES and unseal(KEY, 258, sealed, BOUND) == PAIR


@modest
@given(st.integers(0, SHARE_BYTES * 8 - 1))
def test_a_sealed_pair_with_any_bit_changed_is_refused(bit) -> None:
    sealed = seal(KEY, 3, PAIR, BOUND)
    with pytest.raises(ProtocolRefused, match="not what its sender encrypted"):
        unseal(KEY, 3, to_changed(sealed, bit), BOUND)


@pytest.mark.parametrize(
    ("key", "index", "size", "bound"),
    [
        (KEY, 4, SHARE_BYTES, BOUND),
        (KEY, 3 + 2**32, SHARE_BYTES, BOUND),
        (KEY[::-1], 3, SHARE_BYTES, BOUND),
        (KEY, 3, SHARE_BYTES, BOUND + b"!"),
        (KEY, 3, SHARE_BYTES, b""),
        (KEY, 3, SHARE_BYTES - 1, BOUND),
        (KEY, 3, 15, BOUND),  # shorter than the tag alone
        (KEY, 3, 0, BOUND),
    ],
)
def test_a_sealed_pair_is_refused_elsewhere_than_it_was_made_for(key, index, size, bound) -> None:
    sealed = seal(KEY, 3, PAIR, BOUND)
    with pytest.raises(ProtocolRefused, match="not what its sender encrypted"):
        unseal(key, index, sealed[:size], bound)


# --- the chain ------------------------------------------------------------------------------------
LINK = bytes(range(100, 132))


def test_each_link_is_derived_from_the_one_before() -> None:
    chain, link = KeyChain(LINK, 5), LINK
    for index in range(6, 9):
        chain.advance(index)
        link = hkdf(link, b"", lengths_in_front([VERSION, b"next link"]), 32)
        assert (chain.link, chain.index) == (link, index)


@modest
@given(st.binary(min_size=32, max_size=32), st.lists(st.integers(0, 12), max_size=5))
def test_the_same_secrets_come_whichever_way_an_index_is_reached(link, stops) -> None:
    chain, direct = KeyChain(link, 0), KeyChain(link, 0)
    for stop in sorted(stops):
        chain.advance(stop)
        chain.advance(stop)  # where it already is
    chain.advance(12)
    direct.advance(12)
    assert chain.secrets() == direct.secrets() and chain.index == direct.index == 12


def test_a_chain_never_goes_back() -> None:
    chain = KeyChain(LINK, 0)
    chain.advance(4)
    link = chain.link
    with pytest.raises(ProtocolRefused, match="aggregation 3 is over: its keys are gone"):
        chain.advance(3)
    assert (chain.link, chain.index) == (link, 4)


def test_secrets_are_48_derived_bytes_modulo_the_prime() -> None:
    secrets = KeyChain(LINK, 0).secrets()
    for purpose, value in ((b"round key", secrets.round_key), (b"self mask", secrets.self_mask)):
        wide = hkdf(LINK, b"", lengths_in_front([VERSION, purpose]), 48)
        assert to_number(value) == int.from_bytes(wide, "big") % PRIME and len(value) == KEY_BYTES


def test_no_two_secrets_of_a_chain_are_equal() -> None:
    chain, seen = KeyChain(LINK, 0), []
    for index in range(20):
        chain.advance(index)
        own = chain.secrets()
        seen += [chain.link, own.round_key, own.self_mask, *own.shares(3, [1])]
    assert len(set(seen)) == len(seen) == 80


@pytest.mark.parametrize("threshold", [1, 2, 7, 101, 102, 150])  # 100 coefficients per derivation
def test_any_threshold_of_the_shares_opens_both_secrets(threshold) -> None:
    secrets = KeyChain(LINK, 0).secrets()
    points = list(range(1, threshold + 3))
    shares = secrets.shares(threshold, points)
    assert all(len(pair) == 2 * KEY_BYTES for pair in shares)
    for chosen in (points[:threshold], points[2:], points[::-1][:threshold]):
        for half, secret in ((0, secrets.round_key), (1, secrets.self_mask)):
            part = slice(half * KEY_BYTES, (half + 1) * KEY_BYTES)
            opened = combine({p: to_number(shares[p - 1][part]) for p in chosen})
            assert to_bytes(opened) == secret


def test_too_few_shares_open_something_else() -> None:
    secrets = KeyChain(LINK, 0).secrets()
    for threshold in (2, 7, 101, 102):
        few = list(range(1, threshold))
        shares = secrets.shares(threshold, few)
        for half, secret in ((0, secrets.round_key), (1, secrets.self_mask)):
            part = slice(half * KEY_BYTES, (half + 1) * KEY_BYTES)
            opened = combine({p: to_number(shares[p - 1][part]) for p in few})
            assert to_bytes(opened) != secret


def test_the_two_sharings_have_their_own_polynomials() -> None:
    """If they had the same, the difference of a pair of shares would be that of the secrets."""
    secrets = KeyChain(LINK, 0).secrets()
    differences = {
        (to_number(pair[:KEY_BYTES]) - to_number(pair[KEY_BYTES:])) % PRIME
        for pair in secrets.shares(3, [1, 2, 3])
    }
    assert len(differences) == 3


def test_a_share_for_one_point_is_that_of_the_whole_sharing() -> None:
    secrets = KeyChain(LINK, 0).secrets()
    together = secrets.shares(4, [1, 2, 3, 4, 5])
    assert [secrets.shares(4, [p])[0] for p in (1, 2, 3, 4, 5)] == together


def test_a_commitment_binds_every_part() -> None:
    base = (b"g" * 32, "a", 3, b"s" * 32)
    others = [(b"h" * 32, *base[1:]), (base[0], "b", 3, base[3]), (*base[:2], 4, base[3])]
    others.append((*base[:3], b"t" * 32))
    assert len({commitment(*one) for one in [base, *others]}) == 5
    parts = [VERSION, b"commitment", base[0], b"a", bytes(7) + b"\x03", base[3]]
    assert commitment(*base) == hashlib.sha256(lengths_in_front(parts)).digest()


# --- nothing secret is ever shown -----------------------------------------------------------------
def spellings(secret: bytes) -> list[str]:
    """How eight bytes of a secret could be written in a text."""
    piece = secret[:8]
    return [
        piece.hex(),
        repr(piece)[2:-1],
        ", ".join(map(str, piece)),
        str(to_number(secret)),
        str(int.from_bytes(secret, "little")),
    ]


def holders_of_secrets() -> dict[str, tuple[object, list[bytes]]]:
    secrets = KeyChain(LINK, 7).secrets()
    hidden = [
        secrets.round_key,
        secrets.self_mask,
        secrets._key_polynomial,
        secrets._self_polynomial,
    ]
    return {
        "identity": (Identity.from_bytes(SECRET), [SECRET]),
        "exchange": (ExchangeKey(ALICE), [ALICE]),
        "secrets": (secrets, hidden),
        "replaced": (replace(secrets, round_key=PAIR[:32]), [PAIR[:32], *hidden[1:]]),
        "chain": (KeyChain(LINK, 7), [LINK, *hidden]),
        "seeds": (MaskSeeds(ALICE, BOB), [ALICE, BOB]),
    }


@pytest.mark.parametrize("name", holders_of_secrets())
def test_a_repr_shows_no_secret(name) -> None:
    value, hidden = holders_of_secrets()[name]
    for text in (repr(value), str(value), f"{[value]}"):
        for secret in hidden:
            for spelling in spellings(secret):
                assert spelling not in text
    assert type(value).__name__ in repr(value)


def test_the_search_for_secrets_in_a_repr_finds_them() -> None:
    """The test above can fail: a plain dataclass or tuple of the same bytes is caught."""
    for shown in (repr((ALICE,)), ALICE.hex(), str(to_number(ALICE)), repr(list(ALICE))):
        assert any(spelling in shown for spelling in spellings(ALICE))


def test_numbers_and_bytes_are_big_endian() -> None:
    assert to_bytes(258) == bytes(30) + b"\x01\x02" and to_number(b"\x01\x02") == 258
    assert keys.KEY_BYTES == 32 and to_number(to_bytes(PRIME - 1)) == PRIME - 1
