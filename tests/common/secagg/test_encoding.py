"""Numbers in the ring: exact ones come back exactly, rounded ones never wrap and have no bias."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import ArraySpec
from wardround.common.secagg.encoding import (
    FEWEST_LEVELS,
    MOST_LEVELS,
    OWN_NAMES,
    Encoding,
    VectorLayout,
    decode_exact,
    dequantise,
    encode_exact,
)
from wardround.common.secagg.ring import add_limbs, word_type
from wardround.common.secagg.rounding import quantise

modest = settings(deadline=None, max_examples=60)
KEY = bytes(range(16))
MOST_CLIENTS = {16: (2**15 - 1) // FEWEST_LEVELS, 32: (2**31 - 1) // FEWEST_LEVELS}


def integers(limbs: np.ndarray) -> list[int]:
    """The signed numbers modulo 2^192 that limbs stand for."""
    values = [sum(int(limb) << 64 * place for place, limb in enumerate(row)) for row in limbs]
    return [value - 2**192 if value >> 191 else value for value in values]


# --- exact coordinates ----------------------------------------------------------------------------
def magnitudes(least: int, most: int) -> st.SearchStrategy[float]:
    """Floats of either sign from 2^least to below 2^most, all exponents alike."""
    return st.builds(
        lambda fraction, exponent, sign: sign * math.ldexp(fraction, exponent),
        st.integers(2**52, 2**53 - 1).map(lambda bits: bits / 2**53),
        st.integers(least + 1, most),
        st.sampled_from([1.0, -1.0]),
    )


@modest
@given(st.lists(magnitudes(-44, 94), max_size=8))
def test_a_float_of_at_least_2_to_the_minus_44_comes_back_exactly(values) -> None:
    limbs = encode_exact(np.array(values), 1)
    assert integers(limbs) == [Fraction(value) * 2**96 for value in values]
    assert decode_exact(limbs).tolist() == values


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        1.0,
        -1.0,
        1 / 3,
        2.0**94,
        -(2.0**94),
        math.nextafter(2.0**94, 0),
        2.0**32,
        math.nextafter(2.0**32, 0),  # the limbs' edges
        2.0**-32,
        math.nextafter(2.0**-32, 0),
        2.0**-44,
        -math.nextafter(2.0**-44, 1),
        2.0**53 + 2,
        2.0**-96,
    ],
)
def test_the_edges_of_the_limbs_are_exact(value) -> None:
    limbs = encode_exact(np.array([value]), 1)
    assert integers(limbs) == [Fraction(value) * 2**96]
    assert decode_exact(limbs).tolist() == [value]


def test_the_encoding_done_by_hand() -> None:
    """1 is 2^96: bit 32 of the middle limb. -2^-96 is all ones. 2^32 + 2^-32 is a 1 in two."""
    limbs = encode_exact(np.array([1.0, -(2.0**-96), 2.0**20 + 2.0**-32]), 3)
    full = 2**64 - 1
    assert limbs.tolist() == [[0, 2**32, 0], [full] * 3, [0, 2**52 + 1, 0]]


@modest
@given(st.lists(magnitudes(-120, -44), min_size=1, max_size=8))
def test_a_smaller_float_is_off_by_at_most_2_to_the_minus_97(values) -> None:
    for value, number in zip(values, integers(encode_exact(np.array(values), 1)), strict=True):
        assert abs(Fraction(number, 2**96) - Fraction(value)) <= Fraction(1, 2**97)


@pytest.mark.parametrize("value", [5e-324, -5e-324, 2.0**-98, 1e-300])
def test_what_is_below_half_a_unit_is_zero(value) -> None:
    assert encode_exact(np.array([value]), 1).tolist() == [[0, 0, 0]]


@st.composite
def addends(draw: st.DrawFn) -> list[float]:
    """A few numbers of very different sizes that may nearly cancel; each below 2^94 / n."""
    count = draw(st.integers(1, 8))
    top = 94 - math.ceil(math.log2(count))
    some = st.one_of(magnitudes(-44, top), st.floats(-1e6, 1e6), st.integers(-9, 9).map(float))
    values = draw(st.lists(some, min_size=count, max_size=count))
    if count > 1 and draw(st.booleans()):
        values[-1] = -values[0]
    return values


@modest
@given(addends())
def test_a_sum_of_encodings_is_the_exact_sum_to_one_rounding(values) -> None:
    """Bit for bit Python's exact sum where every number is a multiple of 2^-96; decoding then
    rounds the parts and their sum, 2^-52 of it at most. fsum is that sum rounded once."""
    total = np.zeros((1, 3), np.uint64)
    for value in values:
        add_limbs(total, encode_exact(np.array([value]), len(values)))
    exact = sum(map(Fraction, values), Fraction())
    small = sum(0 < abs(value) < 2.0**-44 for value in values)
    slack = Fraction(small, 2**97)
    assert abs(Fraction(integers(total)[0], 2**96) - exact) <= slack
    decoded = Fraction(float(decode_exact(total)[0]))
    assert abs(decoded - exact) <= slack + (abs(exact) + slack) * Fraction(1, 2**52)
    if not small:
        assert float(decoded) == pytest.approx(math.fsum(values), rel=2.0**-51, abs=0)


@pytest.mark.parametrize("clients", [1, 2, 3, 1000])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_of_all_clients_do_not_wrap(clients, sign) -> None:
    largest = 2.0**94 / clients
    limbs = encode_exact(np.array([sign * largest]), clients)
    assert integers(limbs)[0] == sign * Fraction(largest) * 2**96
    assert clients * abs(integers(limbs)[0]) < 2**191
    with pytest.raises(ProtocolRefused, match="not finite or beyond"):
        encode_exact(np.array([0.0, sign * math.nextafter(largest, math.inf)]), clients)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -1e29])
def test_nan_infinity_and_numbers_that_could_overflow_are_refused(value) -> None:
    with pytest.raises(ProtocolRefused, match="not finite or beyond 1.98e"):
        encode_exact(np.array([1.0, value]), 1)


# --- update coordinates: the encoding -------------------------------------------------------------
def signed_sum(words: np.ndarray) -> list[int]:
    return words.view(np.dtype(f"i{words.itemsize}")).tolist()


def quantised(values, encoding: Encoding, share: float = 1.0, key: bytes = KEY) -> list[int]:
    """Each coordinate as a signed number of levels."""
    values = np.asarray(values, np.float32)
    words = np.zeros(len(values), word_type(encoding.bits))
    quantise(values, share, encoding, key, words)
    return signed_sum(words)


@st.composite
def encodings(draw: st.DrawFn) -> Encoding:
    bits = draw(st.sampled_from([16, 32]))
    few = st.integers(1, 10)
    near = st.integers(MOST_CLIENTS[bits] - 3, MOST_CLIENTS[bits])
    clients = draw(st.one_of(few, st.integers(1, MOST_CLIENTS[bits]), near))
    clip = draw(st.one_of(st.floats(1e-3, 1e4), st.sampled_from([8.0, 1e-9, 1e9])))
    return Encoding(bits, clip, clients, draw(st.integers(1, 10**6)))


@modest
@given(encodings())
def test_levels_are_the_most_that_cannot_wrap(encoding) -> None:
    room = 2 ** (encoding.bits - 1) - 1
    assert encoding.levels * encoding.clients <= room
    assert encoding.levels == MOST_LEVELS or (encoding.levels + 1) * encoding.clients > room
    assert FEWEST_LEVELS <= encoding.levels <= MOST_LEVELS == 2**22
    assert encoding.step * (encoding.levels - 1) == pytest.approx(encoding.clip, rel=1e-15)


def test_levels_done_by_hand() -> None:
    """floor(32767 / 10) = 3276; floor(2147483647 / 1000) = 2147483; at most 2^22."""
    assert Encoding(16, 1.0, 10, 1).levels == 3276
    assert Encoding(32, 1.0, 1000, 1).levels == 2147483
    assert Encoding(32, 1.0, 3, 1).levels == 4194304
    assert Encoding(16, 8.0, 10, 1).step == 8.0 / 3275


@pytest.mark.parametrize("bits", [16, 32])
def test_a_ring_too_small_for_the_clients_is_refused_with_the_setting_to_change(bits) -> None:
    most = MOST_CLIENTS[bits]
    assert Encoding(bits, 1.0, most, 1).levels == FEWEST_LEVELS
    with pytest.raises(ProtocolRefused, match="set secure_aggregation.bits = 32") as refusal:
        Encoding(bits, 1.0, most + 1, 1)
    assert f"{most + 1} hospitals leave 31 levels in a ring of {bits} bits" in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 4},
        {"bits": 64},
        {"clip": 0.0},
        {"clip": -1.0},
        {"clip": 9e-10},
        {"clip": 1.1e9},
        {"clip": math.nan},
        {"clip": math.inf},
        {"largest_weight": 0},
        {"largest_weight": -1},
    ],
)
def test_parameters_out_of_range_are_refused(change) -> None:
    with pytest.raises(ProtocolRefused, match="parameters are out of range"):
        replace(Encoding(32, 1.0, 10, 100), **change)


@pytest.mark.parametrize(
    "clients",
    [
        -1,
        0,
    ],
)
def test_a_sum_of_nobody_is_refused(clients) -> None:
    with pytest.raises(ProtocolRefused):
        Encoding(32, 1.0, clients, 1)


def test_every_parameter_enters_the_bytes_of_the_context() -> None:
    base = Encoding(32, 8.0, 10, 100)
    changes = [{"bits": 16}, {"clip": 8.5}, {"clients": 11}, {"largest_weight": 101}]
    changes.append({"fine": True})
    written = [one.to_bytes() for one in [base, *(replace(base, **c) for c in changes)]]
    assert len(set(written)) == 6
    assert written[0].hex() == "20" + "4020000000000000" + "0000000a" + "0000000000000064" + "00"


# --- update coordinates: never a wrap -------------------------------------------------------------
@st.composite
def extremes(draw: st.DrawFn) -> tuple[Encoding, float, bytes, float]:
    encoding = draw(encodings())
    near = st.floats(1 - 2e-7, 1 + 2e-7)
    factor = draw(st.one_of(st.just(1.0), near, st.sampled_from([2.0, 1e6]), st.floats(0.9, 1.1)))
    share = draw(st.one_of(st.just(1.0), st.floats(0.99, 1.0), st.floats(1e-9, 1.0)))
    key = draw(st.binary(min_size=16, max_size=16))
    return encoding, draw(st.sampled_from([1.0, -1.0])) * factor * encoding.clip, key, share


@modest
@given(extremes())
def test_no_coordinate_is_beyond_the_levels_and_the_sum_of_all_clients_does_not_wrap(case) -> None:
    encoding, value, key, share = case
    levels = quantised([value] * 500, encoding, share, key)
    assert max(map(abs, levels)) <= encoding.levels
    worst = encoding.clients * max(map(abs, levels))
    assert worst <= 2 ** (encoding.bits - 1) - 1
    # And what is there is the number: its sign, and its size to a level and float32's rounding.
    expected = share * min(abs(value) / encoding.clip, 1.0) * (encoding.levels - 1)
    assert all(abs(abs(q) - expected) < 1 + expected * 2.0**-21 for q in levels)
    if expected > 2:
        assert {q > 0 for q in levels} == {value > 0}


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_full_ring_of_clients_at_the_clip_adds_up_without_a_wrap(bits, sign) -> None:
    """As many clients as a 16-bit ring takes, all at the edge, each with its own rounding."""
    clients = 1023
    encoding = Encoding(bits, 2.5, clients, 1)
    target = np.zeros(40, word_type(bits))
    values = np.full(40, sign * 2.5, np.float32)
    for client in range(clients):
        quantise(values, 1.0, encoding, client.to_bytes(16, "big"), target)
    total = np.array(signed_sum(target))
    top = encoding.levels - 1
    assert (total * sign > 0).all()
    # Every client is within a level (and float32's rounding of its value) of the edge.
    assert (np.abs(total - sign * clients * top) <= clients * (1 + top * 2.0**-22)).all()
    assert abs(dequantise(target, encoding.step / clients) - sign * 2.5).max() <= 1.1 * (
        encoding.step + 2.5 * 2.0**-22
    )


@pytest.mark.parametrize("clients", [1, 3, 5, 10, 42, 63])
def test_a_ring_of_8_bits_uses_every_level(clients) -> None:
    """At the clip a client's number is L whatever is drawn, and the sum of all n L, below 128:
    nothing is lost to rounding, so that no level stands aside for it."""
    encoding = Encoding(8, 2.5, clients, 1)
    assert encoding.span == encoding.levels == 127 // clients
    for sign in (1, -1):
        levels = quantised([sign * 2.5] * 5000, encoding)
        assert set(levels) == {sign * encoding.levels}
        # an ulp of float32 within: with u = 1 - 2^-16 the sum is rounded to below the next level
        near = quantised([sign * float(np.float32(2.5) * np.float32(1 - 2**-23))] * 5000, encoding)
        assert max(map(abs, near)) <= encoding.levels


def test_a_ring_of_8_bits_takes_63_hospitals() -> None:
    with pytest.raises(
        ProtocolRefused, match=r"64 hospitals leave 1 levels .* compression.bits = 16"
    ):
        Encoding(8, 1.0, 64, 1)


def test_quantised_numbers_are_added_to_what_is_there() -> None:
    """Onto a mask: the target is not overwritten, and it wraps as the ring does."""
    encoding = Encoding(16, 1.0, 10, 1)
    plain = np.array(quantised([0.5, -0.5, 1.0], encoding))
    mask = np.array([65_000, 10, 65_535], np.uint16)
    target = mask.copy()
    quantise(np.array([0.5, -0.5, 1.0]), 1.0, encoding, KEY, target)
    assert target.tolist() == [(m + q) % 2**16 for m, q in zip(mask.tolist(), plain, strict=True)]


# --- update coordinates: error and bias -----------------------------------------------------------
@modest
@given(
    encodings(),
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50),
    st.one_of(st.just(1.0), st.floats(1e-6, 1)),
    st.binary(min_size=16, max_size=16),
)
def test_the_error_of_a_coordinate_is_below_one_level(encoding, parts, share, key) -> None:
    """Plus float32's rounding: of the value, of the scale, of their product and of v + u."""
    values = np.array(parts, np.float32) * np.float32(encoding.clip)
    assume(np.isfinite(values).all())
    words = np.zeros(len(values), word_type(encoding.bits))
    quantise(values, share, encoding, key, words)
    factor = encoding.clip / (share * (encoding.levels - 1))
    for value, q in zip(values.tolist(), signed_sum(words), strict=True):
        clipped = max(-encoding.clip, min(encoding.clip, value))
        assert abs(q * factor - clipped) < factor * (1 + 2.0**-23) + abs(clipped) * 2.0**-21


@pytest.mark.parametrize("bits", [16, 32])
def test_dequantise_reads_a_signed_sum(bits) -> None:
    words = np.array([0, 1, 2**bits - 1, 2 ** (bits - 1), 2 ** (bits - 1) - 1], word_type(bits))
    half = 2.0 ** (bits - 1)
    expected = np.float32([0, 0.25, -0.25, -half / 4, (half - 1) / 4])
    got = dequantise(words, 0.25)
    assert got.dtype == np.float32 and got.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("bits", "share", "level"),
    [(16, 1.0, 10.25), (16, 1.0, -10.25), (16, 0.5, 0.5), (32, 1.0, -0.01), (32, 0.25, 99.9)],
)
def test_rounding_is_unbiased(bits, share, level) -> None:
    """q is floor(v) or one more, with p = v - floor(v): mean v and variance p (1 - p). The mean
    of N independent ones is within 5 standard errors, but once in 1.7 million tries (fixed keys:
    no try after the first). u has a grain of 2^-16, which moves p by less than that."""
    encoding = Encoding(bits, 4.0, 10, 1)
    value = level * encoding.clip / (share * (encoding.levels - 1))
    keys, size = 40, 5000
    rounds = [
        quantised(np.full(size, value), encoding, share, bytes([k]) * 16) for k in range(keys)
    ]
    drawn = np.array(rounds)
    p = level - math.floor(level)
    assert set(drawn.ravel()) == {math.floor(level), math.floor(level) + 1}
    standard_error = math.sqrt(p * (1 - p) / drawn.size)
    grain = 2.0**-16 + abs(level) * 2.0**-21  # of u, and of float32's v
    assert abs(drawn.mean() - level) < 5 * standard_error + grain
    # The variance too: had all coordinates of a client one u, the means by client would spread.
    by_client = drawn.mean(axis=1)
    assert np.abs(by_client - level).max() < 6 * math.sqrt(p * (1 - p) / size) + grain
    assert by_client.std() > 0


@pytest.mark.parametrize("level", [0.0, 5.0, -5.0, 100.0])
def test_a_whole_number_of_levels_is_not_rounded(level) -> None:
    encoding = Encoding(16, 32766.0, 1, 1)  # a step of 1
    assert encoding.step == 1.0
    assert set(quantised([level] * 1000, encoding)) == {level}


def test_rounding_takes_two_bytes_of_the_key_stream_each() -> None:
    """u = word / 2^16: recomputed from AES-128-CTR for more coordinates than one piece holds."""
    size = (1 << 15) + 777
    stream = Cipher(algorithms.AES(KEY), modes.CTR(bytes(16))).encryptor().update(bytes(2 * size))
    u = np.frombuffer(stream, "<u2").astype(np.float64) / 2**16
    encoding = Encoding(16, 32766.0, 1, 1)
    v = np.random.default_rng(0).integers(-900, 900, size) / 8  # v + u takes 23 bits: exact
    expected = np.floor(v + u).astype(int).tolist()
    assert quantised(v, encoding) == expected


def test_another_rounding_key_rounds_otherwise() -> None:
    encoding = Encoding(32, 1.0, 10, 1)
    values = np.linspace(-0.9, 0.9, 200)
    assert quantised(values, encoding) == quantised(values, encoding)
    assert quantised(values, encoding) != quantised(values, encoding, key=bytes(16))


def test_the_values_to_quantise_are_not_changed_and_may_be_of_any_float_type() -> None:
    encoding = Encoding(32, 1.0, 10, 1)
    results = []
    for dtype in (np.float16, np.float32, np.float64):
        values = np.array([0.5, -0.25, 4.0, -4.0], dtype)
        before = values.copy()
        target = np.zeros(4, np.uint32)
        assert quantise(values, 1.0, encoding, KEY, target) == 2
        np.testing.assert_array_equal(values, before)
        results.append(target.tolist())
    assert results[0] == results[1] == results[2]


# --- clipping and refusals ------------------------------------------------------------------------
@modest
@given(
    encodings(),
    st.lists(st.floats(-3, 3), max_size=40),
    st.one_of(st.just(1.0), st.floats(1e-6, 1)),
)
def test_the_clipped_coordinates_are_counted(encoding, factors, share) -> None:
    """Whoever is within float32's rounding of the clip may be counted or not; nobody else."""
    assume(all(not 1 - 1e-6 < abs(f) < 1 + 1e-6 for f in factors))
    values = np.array(factors) * encoding.clip
    words = np.zeros(len(values), word_type(encoding.bits))
    clipped = quantise(values, share, encoding, KEY, words)
    assert clipped == sum(abs(f) > 1 for f in factors)


def test_clipped_coordinates_of_every_piece_are_counted() -> None:
    encoding = Encoding(16, 1.0, 10, 1)
    values = np.zeros(3 * (1 << 15) + 5, np.float32)
    values[[0, 1 << 15, (1 << 16) + 1, -1]] = [2.0, -2.0, 1.5, -9.0]
    assert quantise(values, 0.5, encoding, KEY, np.zeros(len(values), np.uint16)) == 4


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, 1 << 15, -1])
def test_nan_and_infinity_are_refused_wherever_they_are(dtype, value, place) -> None:
    values = np.zeros((1 << 15) + 9, dtype)
    values[place] = value
    for others in (0.0, 1e4):  # also among values that are clipped
        values[5] = others
        with pytest.raises(ProtocolRefused, match="holds NaN, infinity or an absurd number"):
            quantise(values, 1.0, Encoding(32, 1.0, 2, 1), KEY, np.zeros(len(values), np.uint32))


@pytest.mark.parametrize(("value", "dtype"), [(1e35, np.float32), (1e300, np.float64)])
def test_a_number_beyond_float32_is_refused_without_a_warning(value, dtype) -> None:
    """It has no size in levels: as a float32, value * scale is an infinity."""
    for sign in (1, -1):
        with pytest.raises(ProtocolRefused, match="holds NaN, infinity or an absurd number"):
            words = np.zeros(2, np.uint32)
            values = np.array([0.0, sign * value], dtype)
            quantise(values, 1.0, Encoding(32, 0.1, 2, 1), KEY, words)


@pytest.mark.parametrize("share", [0.0, -0.5, math.nextafter(1.0, 2.0), 2.0, math.nan, math.inf])
def test_a_share_out_of_range_is_refused(share) -> None:
    with pytest.raises(ProtocolRefused, match="a weight must be positive and at most"):
        quantise(np.zeros(3), share, Encoding(32, 1.0, 2, 1), KEY, np.zeros(3, np.uint32))


def test_a_vector_without_coordinates_is_nothing_to_do() -> None:
    assert quantise(np.zeros(0), 1.0, Encoding(16, 1.0, 2, 1), KEY, np.zeros(0, np.uint16)) == 0


# --- layout ---------------------------------------------------------------------------------------
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
specs = st.builds(ArraySpec, shapes, st.sampled_from(["float32", "float64", "float16"]))
names = st.text(min_size=1, max_size=6).filter(lambda name: name not in OWN_NAMES)
layouts = st.dictionaries(names, specs, max_size=4)


@st.composite
def vector_layouts(draw: st.DrawFn) -> VectorLayout:
    update = draw(layouts)
    weighted = draw(st.sets(st.sampled_from(sorted(update)))) if update else set()
    return VectorLayout.of(update, draw(layouts), frozenset(weighted))


@modest
@given(vector_layouts(), st.integers(0, 2**32 - 1))
def test_exact_arrays_come_back_as_they_were(layout, seed) -> None:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=spec.shape) for name, spec in layout.exact.items()}
    values = layout.exact_values(arrays)
    assert values.shape == (layout.exact_size,) and values.dtype == np.float64
    back = layout.exact_arrays(values)
    assert list(back) == list(layout.exact)
    for name, array in arrays.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


def test_a_missing_exact_array_counts_as_zero_in_its_place() -> None:
    layout = VectorLayout.of({}, {"a": ArraySpec((2,), "float64"), "b": ArraySpec((), "float64")})
    values = layout.exact_values({"count": np.ones(1), "b": np.array(7.0)})
    assert list(layout.exact) == ["count", "weight", "clipped", "failed", "a", "b"]
    assert values.tolist() == [1, 0, 0, 0, 0, 0, 7]


@modest
@given(vector_layouts())
def test_update_words_are_cut_in_the_layouts_order(layout) -> None:
    words = np.arange(layout.update_size, dtype=np.uint32)
    cut = layout.update_words(words)
    assert list(cut) == list(layout.update)
    assert [w for part in cut.values() for w in part.tolist()] == words.tolist()
    assert {name: len(part) for name, part in cut.items()} == {
        name: math.prod(spec.shape) for name, spec in layout.update.items()
    }


@pytest.mark.parametrize("name", OWN_NAMES)
def test_reserved_names_are_refused_among_the_sums(name) -> None:
    spec = {name: ArraySpec((1,), "float64")}
    with pytest.raises(ProtocolRefused, match=f"'{name}' can't be the name of a sum"):
        VectorLayout.of({}, spec)
    assert VectorLayout.of(spec, {}).update_size == 1  # a parameter may be called so


def key(layout: VectorLayout) -> object:
    """All that a layout says, in order."""
    return (
        list(layout.update.items()),
        list(layout.exact.items()),
        # Who else is named in ``weighted`` has no place in the vector.
        layout.weighted & ({*layout.update} | {*layout.exact}),
    )


@modest
@given(vector_layouts(), vector_layouts())
def test_layouts_have_one_digest_only_if_they_are_one(one, other) -> None:
    assert (one.digest() == other.digest()) == (key(one) == key(other))


def test_the_digest_tells_every_single_change_apart() -> None:
    a, b = ArraySpec((2, 3), "float32"), ArraySpec((4,), "float32")
    exact = {"loss": ArraySpec((2,), "float64")}
    layouts = [
        VectorLayout.of({"a": a, "b": b}, exact),
        VectorLayout.of({"a": a, "b": b}, exact, frozenset("a")),
        VectorLayout.of({"a": a, "b": b}, exact, frozenset("b")),
        VectorLayout.of({"a": a, "b": b}, exact, frozenset("ab")),
        VectorLayout.of({"b": b, "a": a}, exact),  # order
        VectorLayout.of({"a": a, "c": b}, exact),  # a name
        VectorLayout.of({"ab": a, "": b}, exact),
        VectorLayout.of({"a": b, "b": a}, exact),  # shapes of the same arrays
        VectorLayout.of({"a": ArraySpec((3, 2), "float32"), "b": b}, exact),
        VectorLayout.of({"a": ArraySpec((6,), "float32"), "b": b}, exact),
        VectorLayout.of({"a": ArraySpec((2, 3, 1), "float32"), "b": b}, exact),
        VectorLayout.of({"a": ArraySpec((2, 3), "float64"), "b": b}, exact),  # a type
        VectorLayout.of({"a": a}, exact | {"b": b}),  # the section
        VectorLayout.of({"a": a, "b": b}, {}),
        VectorLayout.of({"a": a, "b": b}, {"loss": ArraySpec((3,), "float64")}),
        VectorLayout.of({"a": a, "b": b}, {"lost": ArraySpec((2,), "float64")}),
        VectorLayout({"a": a, "b": b}, exact),  # without the three own coordinates
    ]
    assert len({layout.digest() for layout in layouts}) == len(layouts) == 17
    assert layouts[0].digest() == replace(layouts[0]).digest()
