"""Masks beside homomorphic encryption, in one run: seconds, bytes and precision.

    python -m benchmarks.encryption [--quick] [--json PATH]

One sum of ten hospitals' updates of 1e5 and 1e6 numbers, words of 32 bits, in turns; medians of the
repeats, in seconds of one processor's time. One hospital drops out before its upload.

value          masks alone: a hospital's share of a bundle of keys, its upload, its shares; the
               server's adding and opening
blind          the same under ``secure_aggregation.blind``: one more mask on the update, and what a
               hospital takes off the sum, as many as uploaded
ckks 8192      the same under ``secure_aggregation.scheme = "ckks"``: the masked words encrypted
               too, ciphertexts added, and the hospital's decrypting of the sum
ckks 4096      the same with ``degree = 4096``
tenseal        TenSEAL alone as NVIDIA FLARE uses it, [60, 40, 40] at 8192 and 2^40: floats under
               the public key, no masks below, its own bytes read and added

bytes up       what a hospital sends; bytes down: the sum that it gets back, without buffers (masks
               alone: nothing, as the server reads it and sends a model)
error          largest difference of the sum from what the hospitals encrypted, in multiples of the
               update's clip / levels for words, in the update's unit for tenseal
Paillier       where ``phe`` and ``gmpy2`` are installed: one encryption, addition and decryption
               under 2048 and 3072 bits, and what packed numbers of 40 bits make of it: an upload of
               d numbers takes d / floor(bits / 40) encryptions of 2 bits / 8 bytes each

A sum that is not the sum ends the benchmark.
"""

from __future__ import annotations

import gc
import importlib
import statistics
from dataclasses import dataclass, field
from time import process_time
from typing import Any

import numpy as np
import tenseal
from numpy.typing import NDArray

from benchmarks.report import Row, arguments, emit
from benchmarks.secagg import Group, Round, Seconds, Updates, dropped_of
from wardround.client.secagg.ckks import Cipher
from wardround.common.secagg.blind import BlindMask, carried, read_sum
from wardround.common.secagg.ckks import FLARE, SMALL, CipherSum, Parameters
from wardround.common.secagg.content import OPEN
from wardround.common.secagg.group_key import GroupKey
from wardround.common.secagg.ring import LIMBS, add_key_streams

CLIENTS = 10
UPLOADS = CLIENTS - dropped_of(CLIENTS)
PACKED_BITS = 40
"""Of a number in a Paillier plaintext: 32, and room to add."""
SCALE_BITS = 40


@dataclass
class Samples:
    """Samples of each figure, by name."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """One more of each."""
        for name, value in figures.items():
            self.found.setdefault(name, []).append(value)

    def of(self, name: str) -> float:
        """The median; 0 where nothing of it is done."""
        return statistics.median(self.found.get(name, [0.0]))


class Processor(Seconds):
    """Processor time spent in its ``with`` blocks: on a busy machine it is steadier."""

    def __enter__(self) -> None:
        self._start = process_time()

    def __exit__(self, *_: object) -> None:
        self.value += process_time() - self._start


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    sizes = (10**5,) if options.quick else (10**5, 10**6)
    rows = [row for size in sizes for row in measure(size, 3 if size < 10**6 else 2)]
    emit("Masks and encryption, ten hospitals", rows + paillier(), options.json)


def measure(size: int, repeats: int) -> list[Row]:
    """The rows of updates of one size."""
    group, updates = Group(CLIENTS), Updates(CLIENTS, size)
    names = ("masks", "blind", "ckks 8192", "ckks 4096", "tenseal")
    samples = {name: Samples() for name in names}
    for _ in range(repeats):
        done = group.round(updates, (32, 1), Processor, threads=1)
        client = group.key_seconds + done.upload + done.unmask
        samples["masks"].add(client=client, server=done.server, up=done.sent)
        blind(samples["blind"], size, client, done)
        for parameters in (FLARE, SMALL):
            ours(samples[f"ckks {parameters.degree}"], parameters, size, client, done.server)
            gc.collect()
        theirs(samples["tenseal"], updates)
        gc.collect()
    case = f"n={CLIENTS} d=1e{len(str(size)) - 1}"
    metrics = {
        "client": "client s",
        "decrypt": "of it decrypting s",
        "server": "server s",
        "up": "bytes up",
        "down": "bytes down",
        "error": "error",
    }
    return [
        Row(
            case,
            metric,
            samples["masks"].of(figure),
            "lower",
            {name: samples[name].of(figure) for name in names[1:]},
        )
        for figure, metric in metrics.items()
    ]


def blind(samples: Samples, size: int, masks: float, done: Round) -> None:
    """What a blind coordinator adds to masks."""
    names = [f"hospital-{number}" for number in range(UPLOADS)]
    mask = BlindMask(GroupKey(bytes(32), tuple(names), bytes(32)), 1, bytes(32))
    words, context = np.zeros(size, np.uint32), bytes(32)
    seconds = []
    for name in names:
        start = process_time()
        add_key_streams(words, [(mask.seeds(context, CLIENTS, name).update, 1)])
        seconds.append(process_time() - start)
    arrays = carried(words, np.zeros((OPEN, LIMBS), np.uint64))
    start = process_time()
    found, _ = read_sum(arrays, mask, context, CLIENTS, names)
    decrypt = process_time() - start
    if found.any():
        raise RuntimeError("the sum without its masks isn't the sum")
    client = masks + statistics.median(seconds) + decrypt
    samples.add(client=client, decrypt=decrypt, server=done.server)
    samples.add(up=done.sent, down=words.nbytes)


def ours(
    samples: Samples, parameters: Parameters, size: int, masks: float, server_masks: float
) -> None:
    """What the scheme adds to masks: words as they leave a hospital, which are uniform."""
    generator, bare = np.random.default_rng(0), np.zeros(size, np.uint32)
    cipher, total = Cipher(bytes(32), parameters), CipherSum(parameters, size)
    seconds, server = [], Processor()
    for _ in range(UPLOADS):
        words = generator.integers(0, 2**32, size, np.uint32)
        bare += words
        start = process_time()
        sent = cipher.encrypt(words)
        seconds.append(process_time() - start)
        with server:
            total.add_bytes(sent)
    start = process_time()
    words = cipher.decrypt(total.data(), size, 32)
    decrypt = process_time() - start
    if not np.array_equal(words, bare):
        raise RuntimeError("the decrypted sum isn't the sum")
    client = masks + statistics.median(seconds) + decrypt
    samples.add(client=client, decrypt=decrypt, server=server_masks + server.value)
    samples.add(up=len(sent), down=len(sent) + words.nbytes, error=0.0)


def theirs(samples: Samples, updates: Updates) -> None:
    """TenSEAL as it comes: every hospital under the public key, the server without the secret."""
    bits = [prime.bit_length() for prime in FLARE.primes]
    own = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, FLARE.degree, coeff_mod_bit_sizes=bits, n_threads=1
    )
    own.global_scale = 2.0**SCALE_BITS
    public = tenseal.context_from(own.serialize(save_galois_keys=False), n_threads=1)
    slots, size, server, seconds = FLARE.slots, updates.size, Processor(), []
    total: list[Any] = []
    bare = np.zeros(size)
    for position in range(UPLOADS):
        update = updates.of(position).astype(np.float64)
        bare += update
        start = process_time()
        pieces = [update[first : first + slots] for first in range(0, size, slots)]
        sent = [tenseal.ckks_vector(own, piece).serialize() for piece in pieces]
        seconds.append(process_time() - start)
        with server:
            read = [tenseal.ckks_vector_from(public, piece) for piece in sent]
            total = [a + b for a, b in zip(total, read, strict=True)] if total else read
    back = [piece.serialize() for piece in total]
    start = process_time()
    found = np.concatenate([tenseal.ckks_vector_from(own, piece).decrypt() for piece in back])
    decrypt = process_time() - start
    samples.add(client=statistics.median(seconds) + decrypt, decrypt=decrypt, server=server.value)
    samples.add(up=sum(map(len, sent)), down=sum(map(len, back)))
    samples.add(error=close(found, bare))


def close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The largest difference. Raises RuntimeError where it is more than rounding."""
    error = float(np.abs(found - expected).max())
    if not error < 1e-3:
        raise RuntimeError(f"the sum is off by {error:.1e}")
    return error


def paillier(encryptions: int = 20) -> list[Row]:
    """Single operations, and the formula; nothing where ``phe`` and gmpy2 aren't installed."""
    try:
        phe: Any = importlib.import_module("phe")
        importlib.import_module("gmpy2")  # without it phe takes ten times as long
    except ImportError:
        return []
    rows = []
    for bits in (2048, 3072):
        public, private = phe.generate_paillier_keypair(n_length=bits)
        numbers = range(encryptions)
        start = process_time()
        ciphers = [public.raw_encrypt(number) for number in numbers]
        encrypt = (process_time() - start) / encryptions
        start = process_time()
        for cipher in ciphers:
            _ = cipher * ciphers[0] % public.nsquare
        add = (process_time() - start) / encryptions
        start = process_time()
        if [private.raw_decrypt(cipher) for cipher in ciphers] != list(numbers):
            raise RuntimeError("Paillier's sum isn't the sum")
        decrypt = (process_time() - start) / encryptions
        lanes = bits // PACKED_BITS
        case = f"Paillier {bits}"
        rows += [
            Row(case, "encrypt ms", 1e3 * encrypt, "lower"),
            Row(case, "add ms", 1e3 * add, "lower"),
            Row(case, "decrypt ms", 1e3 * decrypt, "lower"),
            Row(case, "client s, 1e6 numbers", 1e6 / lanes * (encrypt + decrypt), "lower"),
            Row(case, "bytes up, 1e6 numbers", 1e6 / lanes * 2 * bits / 8, "lower"),
        ]
    return rows


if __name__ == "__main__":
    main()
