"""Random numbers that depend on what they are for, never on when they were drawn.

Every draw of a run takes a generator seeded by (run seed, purpose, round, client, ...). So the
order of clients, a resume after a crash or another executor changes nothing, and there is no
generator state to store. Not for keys, masks or real privacy noise: those come from the operating
system (``secrets``, ``cryptography``).
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive_seed(seed: int, purpose: str, *parts: int | str) -> int:
    """A seed in [0, 2^63) that is a hash (SHA-256) of the run seed, the purpose and the parts.

    Parts are hashed with their type: 1 and '1' are two clients.

    >>> derive_seed(1, "batches", 3, "north") == derive_seed(1, "batches", 3, "north")
    True
    >>> derive_seed(1, "batches", 3, 1) == derive_seed(1, "batches", 3, "1")
    False
    """
    text = "\x1f".join([str(seed), purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, *parts: int | str) -> np.random.Generator:
    """A numpy generator (PCG64) of its own for this purpose."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *parts)))


@lru_cache(maxsize=1 << 17)
def _name_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def client_keys(
    seed: int, purpose: str, server_round: int, names: Sequence[str]
) -> NDArray[np.uint64]:
    """A 64-bit key for each client's draws of this purpose and round, uint64; thousands at once.

    names : of K clients; a client's key doesn't depend on who else is asked for
    """
    base = np.array([derive_seed(seed, purpose, server_round)], dtype=np.uint64)
    keys: NDArray[np.uint64] = _mixed(_mixed(base + _GOLDEN) ^ name_keys(names))
    return keys


def name_keys(names: Sequence[str]) -> NDArray[np.uint64]:
    """A 64-bit number for each name, uint64: the same for every seed and purpose."""
    return np.array([_name_key(name) for name in names], dtype=np.uint64)


def orders(keys: NDArray[np.uint64], size: int, epoch: int) -> NDArray[np.int64]:
    """A random order of ``size`` examples for each of K keys: K x size, of this epoch.

    Each position gets the next output of SplitMix64 (Steele, Lea and Flood 2014) from the key on,
    and positions are sorted by it. So an order is known without drawing those before it, and the
    orders of many clients are drawn at once.
    """
    positions = np.arange(size, dtype=np.uint64)
    with np.errstate(over="ignore"):
        counter = positions + np.uint64((epoch << 32) + 1)
        words = _mixed(keys[:, None] + counter * _GOLDEN)
    # the position in the lowest bits: to sort numbers takes a fifth of what sorting indices takes
    low = np.uint64((1 << max(1, size - 1).bit_length()) - 1)
    words &= ~low
    words |= positions
    words.sort(axis=1)
    found: NDArray[np.int64] = (words & low).astype(np.int64)
    return found


def _mixed(words: Any) -> Any:
    """SplitMix64's output function, on numbers modulo 2^64."""
    with np.errstate(over="ignore"):
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return words ^ (words >> np.uint64(31))


_GLOBALS = threading.RLock()


@contextmanager
def seeded_globals(seed: int, purpose: str, *parts: int | str) -> Iterator[None]:
    """Seed the global generators of ``random``, numpy and torch (CPU) inside, restore them after.

    For code of others that draws from them: Flower's node sampling, a model's initialisation,
    dropout. One thread at a time: studies that run side by side in one server must each draw what
    they would alone.
    """
    value = derive_seed(seed, purpose, *parts)
    with _GLOBALS:
        yield from _seeded(value)


def _seeded(value: int) -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.random.get_rng_state()
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.random.set_rng_state(torch_state)


def seed_torch(value: int, device: torch.device) -> None:
    """Seed what a step on this device draws from, as ``torch.manual_seed`` would.

    That seeds every kind of device there may be, and notes for each that isn't in use the whole
    stack of calls: a millisecond, where a small model's step takes less.
    """
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def random_state(device: torch.device) -> list[torch.Tensor]:
    """Of torch's generators that a step on this device draws from: the CPU's, then the GPU's. A
    GPU draws dropout by its own."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return states


def restore_random_state(device: torch.device, states: list[torch.Tensor]) -> None:
    """Draw from here on what was drawn after ``random_state``."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
