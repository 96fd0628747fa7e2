"""Random numbers that depend on what they are for, never on when they were drawn.

Every draw of a run takes a generator seeded by (run seed, purpose, round, client, ...). So the
order of clients, a resume after a crash or another executor changes nothing, and there is no
generator state to store. Not for keys, masks or real privacy noise: those come from the operating
system (``secrets``, ``cryptography``).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *parts: int | str) -> int:
    """A seed in [0, 2^63) that is a hash (SHA-256) of the run seed, the purpose and the parts."""
    text = "\x1f".join([str(seed), purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(seed: int, purpose: str, *parts: int | str) -> np.random.Generator:
    """A numpy generator (PCG64) of its own for this purpose."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *parts)))


@contextmanager
def seeded_globals(seed: int, purpose: str, *parts: int | str) -> Iterator[None]:
    """Seed the global generators of ``random``, numpy and torch (CPU) inside, restore them after.

    For code of others that draws from them: Flower's node sampling, a model's initialisation,
    dropout.
    """
    value = derive_seed(seed, purpose, *parts)
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
