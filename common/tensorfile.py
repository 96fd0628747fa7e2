"""Arrays and a JSON state in one safetensors file, written atomically, with a checksum inside.

The checksum (SHA-256 over arrays and state) finds torn or altered files; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from wardround.common.arrays import Arrays, digest_arrays
from wardround.common.errors import CheckpointError
from wardround.common.rundir import to_json, write_atomically


def write_tensors(path: Path, arrays: Arrays, state: dict[str, Any]) -> None:
    """Write arrays and state; equal input gives equal bytes."""
    text = to_json(state)
    envelope = to_json({"sha256": _checksum(arrays, text), "state": text})
    # (ascontiguousarray would turn a scalar into a vector)
    # one metadata entry only: safetensors writes several in an order that changes between runs
    data = save({k: np.asarray(v, order="C") for k, v in arrays.items()}, {"wardround": envelope})
    write_atomically(path, data)


def read_tensors(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and state of a file. Raises CheckpointError if it is missing, torn or altered."""
    try:
        with safe_open(path, framework="numpy") as file:
            envelope = json.loads(file.metadata()["wardround"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}
        text, expected = envelope["state"], envelope["sha256"]
        state = json.loads(text)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: not readable ({type(error).__name__}); remove it to go on from an older one"
        ) from None
    if _checksum(arrays, text) != expected:
        raise CheckpointError(f"{path}: its checksum doesn't match; remove it to use an older one")
    return arrays, state


def _checksum(arrays: Arrays, text: str) -> str:
    return hashlib.sha256((digest_arrays(arrays) + text).encode()).hexdigest()
