"""Ring vectors: masks are AES-128's key stream, cut and threaded without a trace, and cancel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import ring
from wardround.common.secagg.ring import (
    EXACT_BYTES,
    LIMBS,
    MaskSeeds,
    RingVector,
    add_key_streams,
    add_limbs,
    key_stream,
    negated,
    word_type,
)

modest = settings(deadline=None, max_examples=60)
seeds = st.binary(min_size=32, max_size=32)
bit_widths = st.sampled_from([8, 16, 32, 64])
WHOLE = 2**192
# Where carries run: around each limb's edge, and anywhere.
edges = st.sampled_from([1 << 64, 1 << 128, 1 << 191, WHOLE]).flatmap(
    lambda edge: st.integers(-2, 2).map(lambda near: (edge + near) % WHOLE)
)
exact_numbers = st.one_of(edges, st.integers(0, WHOLE - 1), st.integers(0, 3))


def to_limbs(values: list[int]) -> np.ndarray:
    rows = [[value >> 64 * limb & 2**64 - 1 for limb in range(LIMBS)] for value in values]
    return np.array(rows, np.uint64).reshape(-1, LIMBS)


def to_integers(limbs: np.ndarray) -> list[int]:
    return [sum(int(limb) << 64 * place for place, limb in enumerate(row)) for row in limbs]


@contextmanager
def pieces_of(size_bytes: int, worth_a_thread: int = 0) -> Iterator[None]:
    """Masks are made in pieces of so many bytes, and the shortest vector is worth threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ring, "_PIECE_BYTES", size_bytes)
        patch.setattr(ring, "_ZEROS", memoryview(bytes(size_bytes)))
        patch.setattr(ring, "_WORTH_A_THREAD", worth_a_thread)
        yield


# --- NIST SP 800-38A ------------------------------------------------------------------------------
NIST_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
NIST_COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
NIST_PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
NIST_CIPHER = bytes.fromhex(
    "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
    "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
)


def test_a_key_stream_is_that_of_nist_sp_800_38a_f_5_1() -> None:
    stream = key_stream(NIST_KEY + NIST_COUNTER, 64)
    assert (stream ^ np.frombuffer(NIST_PLAIN, np.uint8)).tobytes() == NIST_CIPHER


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_added_key_streams_are_that_of_nist_too_in_pieces_of_any_size(bits) -> None:
    """Words are little-endian: byte for byte the stream is that of the standard."""
    expected = bytes(a ^ b for a, b in zip(NIST_PLAIN, NIST_CIPHER, strict=True))
    for size in (16, 32, 48, 64, 80):
        words = np.zeros(512 // bits, word_type(bits))
        with pieces_of(size):
            add_key_streams(words, [(NIST_KEY + NIST_COUNTER, 1)])
        assert words.tobytes() == expected


def test_the_counter_goes_on_at_zero_after_its_last_value() -> None:
    """A seed's counter is random: the last block's successor is block 0 of the same key."""
    last = key_stream(NIST_KEY + b"\xff" * 16, 48)
    first = key_stream(NIST_KEY + bytes(16), 32)
    assert last[16:].tobytes() == first.tobytes()
    words = np.zeros(24, np.uint16)
    with pieces_of(16):
        add_key_streams(words, [(NIST_KEY + b"\xff" * 16, 1)], threads=3)
    assert words.tobytes() == last.tobytes()


@modest
@given(seeds, st.integers(0, 100), st.integers(0, 100))
def test_a_shorter_key_stream_is_the_start_of_a_longer_one(seed, size, more) -> None:
    assert key_stream(seed, size + more)[:size].tobytes() == key_stream(seed, size).tobytes()


# --- adding key streams ---------------------------------------------------------------------------
@st.composite
def additions(draw: st.DrawFn):
    """Word size, length (often at a piece's edge), seeds with signs, threads, piece size."""
    bits, piece = draw(bit_widths), draw(st.sampled_from([16, 48, 64, 256]))
    per_piece = piece * 8 // bits
    near_edge = st.builds(
        lambda k, off: max(0, k * per_piece + off), st.integers(0, 5), st.integers(-2, 2)
    )
    length = draw(st.one_of(near_edge, st.integers(0, 5 * per_piece)))
    signed = draw(st.lists(st.tuples(seeds, st.sampled_from([1, -1])), max_size=4))
    return bits, length, signed, draw(st.integers(1, 5)), piece


@modest
@given(additions(), st.integers(0, 2**32 - 1))
def test_adding_key_streams_adds_each_one_with_its_sign(addition, start) -> None:
    bits, length, signed, threads, piece = addition
    words = np.random.default_rng(start).integers(0, 2**bits, length, word_type(bits))
    expected = words.astype(object)  # Python integers, reduced only at the end
    for seed, sign in signed:
        stream = key_stream(seed, words.nbytes).view(words.dtype)
        expected = expected + sign * stream.astype(object)
    with pieces_of(piece):
        add_key_streams(words, signed, threads)
    assert words.tolist() == [int(value) % 2**bits for value in expected]


@modest
@given(additions())
def test_adding_and_subtracting_the_same_masks_leaves_nothing(addition) -> None:
    bits, length, signed, threads, piece = addition
    words = np.zeros(length, word_type(bits))
    with pieces_of(piece):
        add_key_streams(words, signed, threads)
        add_key_streams(words, [(seed, -sign) for seed, sign in reversed(signed)])
    assert not words.any()


@pytest.mark.parametrize("bits", [8, 64])
@pytest.mark.parametrize("off", [-1, 0, 1, 9])
def test_the_real_pieces_and_threads_join_without_a_seam(bits, off) -> None:
    """Nothing patched: five pieces and a little, above the size at which threads begin."""
    seed = NIST_KEY + NIST_COUNTER
    length = 5 * ring._PIECE_BYTES * 8 // bits + off
    words = np.zeros(length, word_type(bits))
    assert words.nbytes >= ring._WORTH_A_THREAD
    add_key_streams(words, [(seed, 1)], threads=2)
    assert words.tobytes() == key_stream(seed, words.nbytes).tobytes()
    add_key_streams(words, [(seed, -1)])
    assert not words.any()


def test_threads_share_a_vector_that_is_worth_them(monkeypatch) -> None:
    used: list[int] = []
    add_range = ring._add_range

    def watched(words, signed, start):
        used.append(start)
        add_range(words, signed, start)

    monkeypatch.setattr(ring, "_add_range", watched)
    signed = [(bytes(32), 1)]
    with pieces_of(16):
        add_key_streams(np.zeros(100, np.uint16), signed, 3)  # 13 pieces of 8: 5, 5 and 3
    assert sorted(used) == [0, 40, 80]
    used.clear()
    with pieces_of(16, worth_a_thread=201):
        add_key_streams(np.zeros(100, np.uint16), signed, 3)
    assert used == [0]


def test_a_ring_of_another_size_is_unknown() -> None:
    assert [word_type(bits) for bits in (8, 16, 32, 64)] == ["u1", "u2", "u4", "u8"]
    for bits in (0, 7, 24, 128):
        with pytest.raises(ValueError, match=f"a ring of {bits} bits; known are 8, 16, 32 and 64"):
            word_type(bits)


# --- numbers modulo 2^192 -------------------------------------------------------------------------
@modest
@given(st.lists(st.tuples(exact_numbers, exact_numbers), max_size=6))
def test_limbs_add_like_integers_modulo_2_to_the_192(pairs) -> None:
    total, other = to_limbs([a for a, _ in pairs]), to_limbs([b for _, b in pairs])
    before = other.copy()
    add_limbs(total, other)
    assert to_integers(total) == [(a + b) % WHOLE for a, b in pairs]
    np.testing.assert_array_equal(other, before)


@modest
@given(st.lists(exact_numbers, max_size=6))
def test_limbs_are_negated_like_integers_modulo_2_to_the_192(values) -> None:
    limbs = to_limbs(values)
    assert to_integers(negated(limbs)) == [-value % WHOLE for value in values]
    assert to_integers(limbs) == values  # not changed
    add_limbs(limbs, negated(limbs))
    assert not limbs.any()


def test_a_carry_runs_through_all_limbs() -> None:
    total = to_limbs([WHOLE - 1, 2**128 - 1, 2**64 - 1])
    add_limbs(total, to_limbs([1, 1, 1]))
    assert to_integers(total) == [0, 2**128, 2**64]
    # A limb that is full and gets both its neighbour's carry and an addend of 2^64 - 1.
    total = to_limbs([2**128 - 1])
    add_limbs(total, to_limbs([2**128 - 1]))
    assert to_integers(total) == [2**129 - 2]


# --- whole vectors --------------------------------------------------------------------------------
@st.composite
def vectors(draw: st.DrawFn) -> RingVector:
    vector = RingVector(draw(bit_widths), draw(st.integers(0, 9)), draw(st.integers(0, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vector.update[:] = rng.integers(0, 2**16, len(vector.update)).astype(vector.update.dtype)
    vector.exact[:] = rng.integers(0, 2**64, vector.exact.shape, np.uint64)
    return vector


def same_shape(vector: RingVector) -> RingVector:
    """Zeros."""
    return RingVector(vector.update.itemsize * 8, len(vector.update), len(vector.exact))


@modest
@given(vectors())
def test_the_bytes_of_a_vector_arrive_where_they_were(vector) -> None:
    """Also with an odd number of 16-bit words, which leaves the exact section unaligned."""
    other = same_shape(vector)
    other.add_bytes(bytes(vector.data()))
    np.testing.assert_array_equal(other.update, vector.update)
    np.testing.assert_array_equal(other.exact, vector.exact)
    other.add_bytes(bytes(vector.data()))
    size = 2 ** (vector.update.itemsize * 8)
    assert other.update.tolist() == [2 * int(word) % size for word in vector.update]
    assert to_integers(other.exact) == [2 * n % WHOLE for n in to_integers(vector.exact)]


def test_the_wire_format_is_little_endian_update_first() -> None:
    vector = RingVector(16, 2, 1)
    vector.update[:] = [0x0102, 0xFFFE]
    vector.exact[:] = to_limbs([2**128 + 3])
    expected = "0201feff" + "0300000000000000" + "0000000000000000" + "0100000000000000"
    assert bytes(vector.data()).hex() == expected


@modest
@given(vectors())
def test_bytes_of_every_other_length_are_refused_and_add_nothing(vector) -> None:
    expected = len(vector.update) * vector.update.itemsize + EXACT_BYTES * len(vector.exact)
    before = bytes(vector.data())
    for length in {*range(2 * expected + 30)} - {expected}:
        with pytest.raises(ProtocolRefused) as refusal:
            vector.add_bytes(b"\1" * length)
        reason = f"the masked vector has {length} bytes, expected {expected}"
        assert str(refusal.value) == reason
    assert bytes(vector.data()) == before


@modest
@given(vectors(), st.lists(st.tuples(seeds, seeds, st.sampled_from([1, -1])), max_size=4))
def test_masks_cover_both_sections_and_cancel(vector, drawn) -> None:
    masks = [(MaskSeeds(update, exact), sign) for update, exact, sign in drawn]
    plain = bytes(vector.data())
    expected = to_integers(vector.exact)
    for seed, sign in masks:
        stream = key_stream(seed.exact, vector.exact.nbytes).tobytes()
        for i in range(len(expected)):
            number = int.from_bytes(stream[EXACT_BYTES * i : EXACT_BYTES * (i + 1)], "little")
            expected[i] = (expected[i] + sign * number) % WHOLE
    update = vector.update.copy()
    add_key_streams(update, [(seed.update, sign) for seed, sign in masks])
    vector.add_masks(masks, threads=2)
    assert to_integers(vector.exact) == expected
    np.testing.assert_array_equal(vector.update, update)
    vector.add_masks([(seed, -sign) for seed, sign in masks])
    assert bytes(vector.data()) == plain


def test_pair_masks_of_three_cancel_in_their_sum() -> None:
    """y = x + sum of +-mask(pair): the sum of the three is the sum of their numbers."""
    pairs = {
        (i, j): MaskSeeds(bytes([i, j]) * 16, bytes([j, i]) * 16)
        for i in range(3)
        for j in range(i + 1, 3)
    }
    total = RingVector(32, 11, 2)
    for own in range(3):
        vector = RingVector(32, 11, 2)
        vector.update += np.uint32(own + 1)
        add_limbs(vector.exact, to_limbs([10**own, WHOLE - own]))
        masks = [
            (pairs[min(own, j), max(own, j)], 1 if own < j else -1) for j in range(3) if j != own
        ]
        vector.add_masks(masks)
        assert set(vector.update.tolist()) != {own + 1}
        total.add_bytes(bytes(vector.data()))
    assert total.update.tolist() == [6] * 11
    assert to_integers(total.exact) == [111, WHOLE - 3]
