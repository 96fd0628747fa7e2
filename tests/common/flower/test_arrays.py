"""Arrays survive the way to a record and back; what isn't what it says is refused."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import (
    ALLOWED_DTYPES,
    decode_array,
    decode_arrays,
    digest_arrays,
    encode_arrays,
    layout_of,
)

arrays = st.sampled_from(sorted(ALLOWED_DTYPES)).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=None
        if np.dtype(dtype).kind in "iub"
        else st.floats(-100, 100, width=np.dtype(dtype).itemsize * 8),
    )
)
named = st.dictionaries(st.text(min_size=1, max_size=8), arrays, max_size=4)


@settings(deadline=None, max_examples=100)
@given(named)
def test_round_trip(values) -> None:
    back = decode_arrays(encode_arrays(values), layout_of(values))
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        np.testing.assert_array_equal(back[name], value)
    assert digest_arrays(back) == digest_arrays(values)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["float32", "int64", "object", "<f4", "U5"]))
def test_any_bytes_are_decoded_or_refused_never_a_crash(data, dtype) -> None:
    try:
        value = decode_array("x", Array(dtype, (2,), "numpy.ndarray", data))
    except ReplyRefused:
        return
    assert value.shape == (2,) and value.dtype.name == dtype


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 200), st.integers(0, 255))
def test_one_changed_byte_gives_other_values_or_a_refusal(position, byte) -> None:
    good = Array(np.arange(6, dtype=np.float64))
    data = bytearray(good.data)
    position %= len(data)
    data[position] = byte
    try:
        value = decode_array("x", Array(good.dtype, good.shape, good.stype, bytes(data)))
    except ReplyRefused:
        return
    assert value.shape == (6,) and value.dtype == np.float64


def test_a_fortran_ordered_array_arrives_in_order() -> None:
    value = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(decode_array("x", Array(value)), value)


def test_an_object_array_cannot_be_smuggled_in() -> None:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for dtype in ("object", "float64"):
        with pytest.raises(ReplyRefused):
            decode_array("x", Array(dtype, (1,), "numpy.ndarray", buffer.getvalue()))


def test_digest_tells_names_shapes_and_types_apart() -> None:
    base = {"a": np.zeros(4, np.float32)}
    others = [
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.array([0, 0, 0, 1], np.float32)},
        {},
    ]
    digests = {digest_arrays(value) for value in [base, *others]}
    assert len(digests) == 6
    assert digest_arrays({"a": np.zeros(1), "b": np.ones(1)}) == digest_arrays(
        {"b": np.ones(1), "a": np.zeros(1)}
    )


def test_a_huge_declared_shape_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(ReplyRefused, match="but its shape"):
        decode_arrays(
            ArrayRecord({"x": Array("float32", (2**40, 2**20), "numpy.ndarray", b"x" * 128)})
        )
    with pytest.raises(ReplyRefused, match="impossible shape"):
        decode_array("x", Array("float32", (-1,), "numpy.ndarray", b"x" * 128))
