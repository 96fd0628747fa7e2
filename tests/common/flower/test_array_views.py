"""Arrays on their way through messages aren't copied, and those on a disk aren't held."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import (
    ALLOWED_DTYPES,
    StoredArray,
    checked_arrays,
    decode_array,
    decode_arrays,
    encode_array,
    encode_arrays,
    encoded_view,
    layout_of,
    record_of,
)

arrays = st.sampled_from(sorted(ALLOWED_DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@given(arrays, st.sampled_from(["as is", "transposed", "every other"]))
def test_an_array_is_encoded_as_flower_does(value, form) -> None:
    value = value.T if form == "transposed" else value[..., ::2] if value.ndim else value
    mine, theirs = encode_array(value), Array(np.asarray(value, order="C"))
    assert (mine.dtype, mine.shape, mine.stype) == (theirs.dtype, theirs.shape, theirs.stype)
    assert mine.data == theirs.data


@given(arrays)
def test_an_encoded_view_has_the_values_and_is_sent_as_it_is(value) -> None:
    view = encoded_view(value)
    assert view.dtype == value.dtype and view.shape == value.shape
    assert view.tobytes() == np.asarray(value, order="C").tobytes()
    encoded = encode_array(view)
    assert encoded.data == Array(np.asarray(value, order="C")).data
    if value.nbytes:
        assert not view.flags.writeable and encode_array(view).data is encoded.data


@pytest.mark.parametrize(
    "part",
    [
        lambda view: view[1:],
        lambda view: view[:-1],
        lambda view: view.T,
        lambda view: view[::-1],
        lambda view: view.reshape(-1),
        lambda view: view.view(np.int32),
    ],
)
def test_another_view_of_the_same_bytes_is_another_array(part) -> None:
    view = encoded_view(np.arange(9, dtype=np.float32).reshape(3, 3))
    other = part(view)
    np.testing.assert_array_equal(decode_array("w", encode_array(other)), other)
    assert encode_array(other).data == Array(np.array(other, order="C")).data


def test_bytes_that_look_like_a_record_of_the_same_array_are_not_taken_for_it() -> None:
    """A view whose base begins with its header but that starts elsewhere in it."""
    value = np.arange(16, dtype=np.int8)
    data = encode_array(value).data
    shifted = np.frombuffer(data, np.int8, 16, len(data) - 17)
    assert shifted.tobytes() != value.tobytes()
    np.testing.assert_array_equal(decode_array("w", encode_array(shifted)), shifted)


def stored(value: np.ndarray, reads: list[int]) -> StoredArray:
    data = encode_array(value).data

    def read() -> bytes:
        reads.append(1)
        return data

    return StoredArray(str(value.dtype), value.shape, "numpy.ndarray", len(data), read)


def test_a_stored_array_is_read_when_it_is_looked_at_and_not_kept() -> None:
    value, reads = np.arange(6, dtype=np.float32).reshape(2, 3), list[int]()
    record = record_of({"w": stored(value, reads)})
    assert reads == []
    found = checked_arrays(record, layout_of({"w": value}))
    assert len(reads) == 1 and found.memory_bytes == 0 and list(found) == ["w"]
    for times in (2, 3):
        np.testing.assert_array_equal(found["w"], value)
        assert len(reads) == times
    plain = checked_arrays(encode_arrays({"w": value}), layout_of({"w": value}))
    assert plain.memory_bytes > value.nbytes


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_checks_are_those_of_decode_arrays(bad) -> None:
    good = {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    layout = layout_of(good)
    wrong = [
        {"w": good["w"]},
        good | {"extra": good["b"]},
        good | {"w": np.ones(4, np.float32)},
        good | {"w": np.ones((2, 2))},
        good | {"b": np.array([0, bad], np.float32)},
    ]
    for one in wrong:
        with pytest.raises(ReplyRefused) as first:
            decode_arrays(encode_arrays(one), layout)
        with pytest.raises(ReplyRefused) as second:
            checked_arrays(record_of({k: stored(v, []) for k, v in one.items()}), layout)
        assert str(first.value) == str(second.value).removesuffix("; lower training.lr?")
