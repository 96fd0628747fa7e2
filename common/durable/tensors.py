"""Arrays and a JSON state in one safetensors file, written atomically, with a checksum inside.

The checksum (SHA-256 over arrays and state) finds torn or altered files; it is no signature. A file
is written array by array, so that no second copy of a model stands in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from wardround.common.durable.files import write_atomically
from wardround.common.errors import CheckpointError
from wardround.common.flower.arrays import Arrays, digest_arrays, raw_pieces
from wardround.common.mapped import is_large, view_of
from wardround.common.text import to_json

_TYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "bfloat16": "BF16",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
"""Numpy's names and those of safetensors."""
_NUMPY = {theirs: name for name, theirs in _TYPES.items()}


def write_tensors(path: Path, arrays: Arrays, state: dict[str, Any], durable: bool = True) -> None:
    """Write arrays and state; equal input gives equal bytes, in whatever order the arrays come.

    durable : as ``write_atomically`` has it; a torn file is refused by ``read_tensors``

    Raises OSError, and KeyError for numbers that aren't of ``_TYPES``.
    """
    text = to_json(state)
    envelope = to_json({"sha256": _checksum(arrays, text), "state": text})
    write_atomically(path, _pieces(arrays, envelope), durable=durable)


def _pieces(arrays: Arrays, envelope: str) -> Iterator[bytes | memoryview]:
    """The file: size of the header (8 bytes, little-endian), header (JSON, padded), arrays."""
    header: dict[str, Any] = {"__metadata__": {"wardround": envelope}}
    ordered, end = [], 0
    # the widest first, so that every array begins at a multiple of its item's size
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        # (ascontiguousarray would turn a scalar into a vector)
        value = np.asarray(arrays[name], dtype=arrays[name].dtype.newbyteorder("<"), order="C")
        start, end = end, end + value.nbytes
        kind = _TYPES[value.dtype.name]
        header[name] = {"dtype": kind, "shape": value.shape, "data_offsets": [start, end]}
        ordered.append(name)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for name in ordered:
        dtype = arrays[name].dtype.newbyteorder("<")
        yield from raw_pieces(np.asarray(arrays[name], dtype=dtype, order="C"))


def read_tensors(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and state of a file. Raises CheckpointError if it is missing, torn or altered."""
    try:
        with safe_open(path, framework="numpy") as file:
            envelope = json.loads(file.metadata()["wardround"])
            mapped = _mapped(path) if is_large(path.stat().st_size) else None
            arrays = mapped or {name: file.get_tensor(name) for name in file.keys()}
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


def _mapped(path: Path) -> Arrays:
    """The arrays of a file whose header was read before, where they are. It may be removed."""
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        whole = view_of(file, os.fstat(file.fileno()).st_size)
    arrays = {}
    for name, about in header.items():
        if name != "__metadata__":
            first, end = (start + place for place in about["data_offsets"])
            array = whole[first:end].view(_NUMPY[about["dtype"]]).reshape(about["shape"])
            array.flags.writeable = False
            arrays[name] = array
    return arrays


def _checksum(arrays: Arrays, text: str) -> str:
    """SHA-256 over the arrays' own digest (hexadecimal) and the state's JSON, as it is stored."""
    return hashlib.sha256((digest_arrays(arrays) + text).encode()).hexdigest()
