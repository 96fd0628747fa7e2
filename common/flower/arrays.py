"""Named arrays: to and from Flower's records, checked against a layout before anyone uses them.

A *layout* says which arrays a party must send: name, shape, dtype. Whatever came over a network is
decoded by ``decode_arrays`` or ``checked_arrays`` only, which refuse by name and reason and never
unpickle.

Decoded arrays are views of a record's bytes, and encoding such a view takes the bytes as they are:
a model that goes from message to message isn't copied. What is large may lie in a file
(``common/mapped.py``): its record is of ``StoredArray``, whose bytes are never made as a whole.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from wardround.common.bfloat16 import BFLOAT16, is_float, widened
from wardround.common.errors import ReplyRefused
from wardround.common.flower.stored import (
    STORED_BYTES,
    StoredArray,
    StoredBlob,
    array_bytes,
    begins_with,
)
from wardround.common.mapped import is_large, is_mapped, let_go, windows, zero_arrays

Arrays = dict[str, NDArray[Any]]
"""Named numpy arrays; for a model, the entries of its state dict."""

ALLOWED_DTYPES = frozenset(
    [
        *("bfloat16", "float16", "float32", "float64"),
        *("int8", "int16", "int32", "int64", "uint8", "bool"),
    ]
)
MAX_ABS = 1e12
"""Model floats beyond this are refused: no healthy model holds them, and one swallows a mean."""
MAX_ABS_SUM = 1e200
"""The same for sums of squares and pair counts, which may be large; they can't overflow a total."""
_NPY_HEADER_LIMIT_BYTES = 4096


class ArraySpec(NamedTuple):
    """Shape and dtype name that an array must have."""

    shape: tuple[int, ...]
    dtype: str


Layout = dict[str, ArraySpec]


def layout_of(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    """The layout that these arrays have."""
    return {name: ArraySpec(tuple(a.shape), a.dtype.name) for name, a in arrays.items()}


def encode_arrays(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """A Flower record of the arrays (npy bytes, no pickle), as ``Array(value)`` makes them."""
    return record_of({name: encode_array(value) for name, value in arrays.items()})


def record_of(arrays: Mapping[str, Array]) -> ArrayRecord:
    """A record of these very arrays. (Its constructor reads them, and holds what it has read.)"""
    record = ArrayRecord()
    for name, array in arrays.items():
        record[name] = array
    return record


def encode_array(value: NDArray[Any]) -> Array:
    """One array; what is a view of an encoded one already, or lies in a file, isn't copied."""
    value = np.asarray(value, order="C")
    dtype, shape = str(value.dtype), tuple(value.shape)
    header = _npy_header(shape, dtype)
    if value.nbytes >= STORED_BYTES and is_mapped(value):
        return stored_array(value)
    data = _whole_record(value, header) or b"".join((header, raw_bytes(value)))
    return Array(dtype, shape, "numpy.ndarray", data)


def stored_array(value: NDArray[Any]) -> StoredArray:
    """One array whose numbers stay where they are: they must not change while it is in use."""
    value = np.asarray(value, order="C")
    dtype, shape = str(value.dtype), tuple(value.shape)
    blob = StoredBlob(_npy_header(shape, dtype), value.reshape(-1).view(np.uint8))
    return StoredArray(dtype, shape, "numpy.ndarray", blob)


def stored_arrays(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """A record of arrays whose numbers stay where they are: they must not change until it has been
    sent."""
    return record_of({name: stored_array(value) for name, value in arrays.items()})


class Making:
    """Arrays of a layout while they are worked out, one after the other: in a file together where
    they are large."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        sizes = (math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in layout.values())
        self._places = zero_arrays(layout) if is_large(sum(sizes)) else None

    def begun(self, name: str) -> NDArray[Any]:
        """Where the array is to be written."""
        return np.empty(*self._layout[name]) if self._places is None else self._places[name]

    def copied(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """The array with these numbers, as ``finished``."""
        if self._places is None:
            return encoded_view(values)
        np.copyto(self._places[name], values)
        return self.finished(self._places[name])

    def finished(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array as it is written now, read-only, to be sent without a copy."""
        array.flags.writeable = False
        let_go(array)
        return encoded_view(array)


def encoded_view(value: NDArray[Any]) -> NDArray[Any]:
    """The same values, read-only, as a view of their encoded form: to be sent without a copy."""
    if is_mapped(value):
        return value
    array = encode_array(value)
    offset = len(array.data) - value.nbytes
    return np.frombuffer(array.data, value.dtype, value.size, offset).reshape(value.shape)


def same_numbers(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays have the same shape and numbers (NaN is none)."""
    if one.shape != other.shape:
        return False
    left, right = one.reshape(-1), other.reshape(-1)
    for window in windows(left.size, left.itemsize):
        same = np.array_equal(left[window], right[window])
        let_go(left[window], right[window])
        if not same:
            return False
    return True


def raw_bytes(value: NDArray[Any]) -> memoryview:
    """The bytes of a C-ordered array, not copied: as uint8, since memoryviews know no float16."""
    return value.reshape(-1).view(np.uint8).data


def raw_pieces(value: NDArray[Any]) -> Iterator[memoryview]:
    """The same in pieces, each to be used before the next one is asked for."""
    flat = value.reshape(-1).view(np.uint8)
    for window in windows(flat.size, 1):
        yield flat[window].data
        let_go(flat[window])


def _whole_record(value: NDArray[Any], header: bytes) -> bytes | None:
    """The npy bytes that ``value`` is a view of, from the end of their header on; else None."""
    base: Any = value
    while isinstance(base, np.ndarray):
        base = base.base
    if type(base) is not bytes or not value.nbytes or not base.startswith(header):
        return None
    if len(base) != len(header) + value.nbytes:
        return None
    start = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    begins_there = value.__array_interface__["data"][0] == start + len(header)
    return base if begins_there else None


def decode_array(name: str, array: Array) -> NDArray[Any]:
    """One array, after its declaration was held against its bytes. Raises ReplyRefused.

    The array may be a read-only view of the message's bytes.
    """
    if array.stype != "numpy.ndarray":
        raise ReplyRefused(f"array '{name}' is serialised as '{array.stype}', not 'numpy.ndarray'")
    if array.dtype not in ALLOWED_DTYPES:
        raise ReplyRefused(f"array '{name}' has dtype '{array.dtype}', which is not allowed")
    shape = tuple(array.shape)
    if any(not isinstance(side, int) or side < 0 for side in shape):
        raise ReplyRefused(f"array '{name}' has an impossible shape")
    header = _npy_header(shape, array.dtype)
    if isinstance(array, StoredArray):
        if (value := array.blob.view(header, array.dtype, shape)) is not None:
            return value
    size_bytes, data = math.prod(shape) * np.dtype(array.dtype).itemsize, array.data
    if len(data) == len(header) + size_bytes and data.startswith(header):
        return np.frombuffer(data, array.dtype, offset=len(header)).reshape(shape)
    if not 0 <= len(data) - size_bytes <= _NPY_HEADER_LIMIT_BYTES:
        raise ReplyRefused(
            f"array '{name}' has {len(data)} bytes, but its shape {shape} needs {size_bytes}"
        )
    # another header than ours, as another version of numpy may write it: numpy parses it, unpickled
    try:
        value = array.numpy()
    except Exception as error:  # numpy raises many types for a damaged header
        raise ReplyRefused(f"array '{name}' is not a readable npy array") from error
    if value.shape != shape or value.dtype.name != array.dtype:
        raise ReplyRefused(f"array '{name}' holds other values than it declares")
    return value


def is_npy(array: Array) -> bool:
    """Whether its bytes are just what numpy writes of such an array, in either order of its sides,
    and no more: nothing is parsed."""
    shape = tuple(array.shape)
    size_bytes = math.prod(shape) * np.dtype(array.dtype).itemsize
    headers = (_npy_header(shape, array.dtype, order) for order in (False, True))
    return any(
        array_bytes(array) == len(header) + size_bytes and begins_with(array, header)
        for header in headers
    )


@functools.lru_cache(maxsize=8192)
def _npy_header(shape: tuple[int, ...], dtype: str, fortran_order: bool = False) -> bytes:
    """The header that numpy writes: what starts with it needs no parsing."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer,
        {
            "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
            "fortran_order": fortran_order,
            "shape": shape,
        },
    )
    return buffer.getvalue()


def decode_arrays(
    record: ArrayRecord, layout: Layout | None = None, max_abs: float = MAX_ABS
) -> Arrays:
    """All arrays of a record, held against the layout (where given) before they are decoded.

    Raises ReplyRefused for a missing, extra, wrong-shaped, wrong-typed, damaged, non-finite or
    absurdly large array, by name.
    """
    if layout is not None:
        _check_layout(record, layout)
    arrays = {name: decode_array(name, array) for name, array in record.items()}
    for name, value in arrays.items():
        check_finite(name, value, max_abs)
    return arrays


def encoded_bytes(value: NDArray[Any]) -> int:
    """Size of the npy bytes that an array would be encoded to."""
    return len(_npy_header(tuple(value.shape), str(value.dtype))) + value.nbytes


class RecordArrays(Mapping[str, NDArray[Any]]):
    """Arrays of a record that was checked, each decoded anew when it is looked at: so of a record
    that lies on a disk one array at a time is in memory."""

    def __init__(self, record: ArrayRecord) -> None:
        self._record = record

    def __getitem__(self, name: str) -> NDArray[Any]:
        return decode_array(name, self._record[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def __len__(self) -> int:
        return len(self._record)

    @property
    def memory_bytes(self) -> int:
        """What the record's arrays occupy; nothing of those that are stored."""
        arrays = self._record.values()
        return sum(len(one.data) for one in arrays if not isinstance(one, StoredArray))


def checked_arrays(record: ArrayRecord, layout: Layout) -> RecordArrays:
    """What ``decode_arrays`` gives of arrays that were trained, after the same checks, decoded one
    at a time.

    Raises ReplyRefused.
    """
    _check_layout(record, layout)
    arrays = RecordArrays(record)
    for name, value in arrays.items():
        check_finite(name, value, trained=True)
    return arrays


def _check_layout(record: ArrayRecord, layout: Layout) -> None:
    """Raise ReplyRefused unless names, shapes and dtypes are those of the layout, as declared."""
    check_names(record.keys(), layout)
    for name, array in record.items():
        found, expected = ArraySpec(tuple(array.shape), array.dtype), layout[name]
        if found != expected:
            raise ReplyRefused(
                f"array '{name}' is {found.dtype}{list(found.shape)}, "
                f"expected {expected.dtype}{list(expected.shape)}"
            )


def check_names(found: Any, layout: Mapping[str, Any]) -> None:
    """Raise ReplyRefused unless exactly the names of the layout are there."""
    names = set(found)
    if missing := sorted(set(layout) - names):
        raise ReplyRefused(f"array '{missing[0]}' is missing ({len(missing)} in all)")
    if extra := sorted(names - set(layout)):
        raise ReplyRefused(f"array '{extra[0][:100]}' is not expected ({len(extra)} in all)")


def check_finite(
    name: str, value: NDArray[Any], max_abs: float = MAX_ABS, trained: bool = False
) -> None:
    """Raise ReplyRefused if a float array holds NaN, infinity or anything beyond ``max_abs``.

    trained : the array comes out of training, which has run away: the mend is named
    """
    if not is_float(value.dtype) or value.size == 0:
        return
    low, high = _range(value)
    if math.isnan(low) or math.isnan(high):
        found = "NaN"
    elif math.isinf(low) or math.isinf(high):
        found = "infinity"
    elif max(-low, high) > max_abs:
        found = f"values beyond {max_abs:g}"
    else:
        return
    raise ReplyRefused(f"array '{name}' holds {found}{'; lower training.lr?' if trained else ''}")


def _range(value: NDArray[Any]) -> tuple[float, float]:
    """Least and largest; both NaN where there is one."""
    if not is_mapped(value) and value.dtype != BFLOAT16:
        return float(value.min()), float(value.max())
    flat, found = value.reshape(-1), []
    for window in windows(flat.size, flat.itemsize):
        part = widened(flat[window])
        found.append((part.min(), part.max()))
        let_go(flat[window])
    return float(np.min(found)), float(np.max(found))


def digest_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes, whatever the order of the mapping."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        value = np.asarray(arrays[name], order="C")
        state.update(f"{name}\x1f{value.dtype.name}\x1f{value.shape}\x1f".encode())
        for piece in raw_pieces(value):
            state.update(piece)
    return state.hexdigest()
