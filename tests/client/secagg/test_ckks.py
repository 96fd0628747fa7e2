"""Masked words under CKKS at a hospital: exact sums, one key from 32 bytes, strangers' numbers."""

from __future__ import annotations

import functools
import struct
import sys

import numpy as np
import pyarrow as pa
import pytest
import tenseal

from wardround.client.secagg import ckks as hospital
from wardround.client.secagg.ckks import Cipher, lacking
from wardround.client.secagg.ckks_key import smallest_root, ternary, transform
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, ProtocolRefused, TaskError
from wardround.common.secagg.ckks import FLARE, MOST_VECTORS, SMALL, CipherSum, Parameters, pack
from wardround.common.secagg.ring import word_type
from wardround.common.settings import SecureAggregationTable
from wardround.simulations import simulate

SECRET = bytes(range(32))
both = pytest.mark.parametrize("parameters", [FLARE, SMALL], ids=["8192", "4096"])


@functools.cache
def cipher(parameters: Parameters, secret: bytes = SECRET) -> Cipher:
    return Cipher(secret, parameters)


def summed(parameters: Parameters, parts: list[np.ndarray]) -> memoryview:
    total = CipherSum(parameters, len(parts[0]))
    for part in parts:
        total.add_bytes(cipher(parameters).encrypt(part))
    return total.data()


@both
@pytest.mark.parametrize(("bits", "clients"), [(8, 3), (16, 10), (32, 5), (32, MOST_VECTORS)])
def test_the_sum_of_uniform_words_is_exact(parameters: Parameters, bits: int, clients: int) -> None:
    """As masks make them: to the last bit of every word, with as many hospitals as there may be."""
    generator, count = np.random.default_rng(bits), parameters.slots + (3 if clients < 10 else 0)
    kind = word_type(bits)
    parts = [generator.integers(0, 1 << bits, count, kind) for _ in range(clients)]
    found = cipher(parameters).decrypt(summed(parameters, parts), count, bits)
    assert found.dtype == kind
    assert np.array_equal(found, np.add.reduce(parts, dtype=kind))


def test_words_that_no_mask_made_uniform_are_exact_in_the_large_ring() -> None:
    total, sent = CipherSum(FLARE, 4000), cipher(FLARE).encrypt(np.full(4000, 1 << 31, np.uint32))
    for _ in range(MOST_VECTORS - 1):
        total.add_bytes(sent)
    found = cipher(FLARE).decrypt(total.data(), 4000, 32)
    assert np.array_equal(found, np.full(4000, 1 << 31, np.uint32))


@both
def test_the_same_words_are_encrypted_afresh_each_time(parameters: Parameters) -> None:
    words = np.arange(100, dtype=np.uint32)
    first, second = (bytes(cipher(parameters).encrypt(words)) for _ in range(2))
    assert first != second


@both
def test_what_is_of_another_key_or_no_sum_is_refused(parameters: Parameters) -> None:
    words = np.arange(10, dtype=np.uint32)
    with pytest.raises(ProtocolRefused, match="isn't one under this hospital's key"):
        cipher(parameters, bytes(32)).decrypt(cipher(parameters).encrypt(words), 10, 32)
    shape = (2, len(parameters.moduli), parameters.degree)
    primes = np.array(parameters.moduli, np.uint64)[None, :, None]
    noise = np.random.default_rng(0).integers(0, 2**63, shape, np.uint64) % primes
    with pytest.raises(ProtocolRefused, match="isn't one under this hospital's key"):
        cipher(parameters).decrypt(pack(noise, parameters), 10, 32)
    size = parameters.ciphertext_bytes
    with pytest.raises(ProtocolRefused, match=f"have {size - 1} bytes, not {size}"):
        cipher(parameters).decrypt(bytes(size - 1), 10, 32)


def test_words_of_64_bits_have_no_room() -> None:
    with pytest.raises(ProtocolRefused, match="64 bits"):
        cipher(SMALL).encrypt(np.zeros(3, np.uint64))


# --- the key ------------------------------------------------------------------------------------
def test_the_transform_is_the_polynomials_values_at_odd_powers_of_the_smallest_root() -> None:
    prime, degree = 97, 8  # 97 = 1 modulo 16
    root = smallest_root(degree, prime)
    roots = [r for r in range(prime) if pow(r, degree, prime) == prime - 1]
    assert root == min(roots)
    values = np.array([1, -1, 0, 1, 1, 0, -1, -1])
    points = [pow(root, 2 * int(f"{i:03b}"[::-1], 2) + 1, prime) for i in range(degree)]
    expected = [
        sum(int(v) * pow(x, k, prime) for k, v in enumerate(values)) % prime for x in points
    ]
    assert transform(values, prime).tolist() == expected


def test_coefficients_of_a_key_are_uniform_and_of_its_secret() -> None:
    drawn = ternary(SECRET, FLARE.degree)
    counts = np.array([np.count_nonzero(drawn == one) for one in (-1, 0, 1)])
    expected = FLARE.degree / 3
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # chi-squared, 2 degrees, p = 0.001
    assert counts.sum() == FLARE.degree
    assert not np.array_equal(drawn, ternary(bytes(32), FLARE.degree))
    assert not np.array_equal(drawn[: SMALL.degree], ternary(SECRET, SMALL.degree))


@both
def test_the_ring_is_the_one_that_tenseal_makes_of_these_bits(parameters: Parameters) -> None:
    bits = [prime.bit_length() for prime in parameters.primes]
    made = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, parameters.degree, coeff_mod_bit_sizes=bits, n_threads=1
    )
    stored = made.serialize(save_galois_keys=False, save_relin_keys=False)
    start = stored.find(b"\x5e\xa1\x10")
    end = start + struct.unpack("<Q", stored[start + 8 : start + 16])[0]
    ring = pa.CompressedInputStream(pa.BufferReader(stored[start + 16 : end]), "zstd").read()
    places = [ring.find(struct.pack("<Q", prime)) for prime in parameters.primes]
    assert places == sorted(places)
    assert places[0] > 0


def test_without_tenseal_the_mend_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(TaskError, match=r"pip install 'wardround\[ckks\]'"):
        Cipher(SECRET, SMALL)


def test_another_form_of_tenseals_bytes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version's: a ciphertext is never taken apart by guessing."""
    monkeypatch.setattr(Cipher, "prefix", lambda self: b"another version's")
    with pytest.raises(TaskError, match=r"another form than 0\.3\.18"):
        cipher(SMALL).encrypt(np.zeros(3, np.uint32))


def test_what_a_hospital_lacks_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ckks = SecureAggregationTable(blind=True, scheme="ckks")
    assert lacking(ckks, MOST_VECTORS) is None
    assert "64 hospitals at most, not 65" in str(lacking(ckks, MOST_VECTORS + 1))
    monkeypatch.setitem(sys.modules, "tenseal", None)
    assert lacking(ckks, 3) == hospital.MISSING
    assert lacking(SecureAggregationTable(blind=True), 100) is None
    with pytest.raises(TaskError, match=r"pip install 'wardround\[ckks\]'"):
        simulate(overrides=["secure_aggregation.blind=true", "secure_aggregation.scheme='ckks'"])


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ('scheme = "ckks"', r"secure_aggregation\.scheme.*set secure_aggregation\.blind = true"),
        ("blind = true\ndegree = 4096", r"degree: has no effect with .*scheme = \"masks\""),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(setting: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        parse_config(f"[secure_aggregation]\n{setting}\n")
