"""Arrays on their way through messages aren't copied, and those on a disk aren't held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import (
    ALLOWED_DTYPES,
    checked_arrays,
    decode_array,
    decode_arrays,
    digest_arrays,
    encode_array,
    encode_arrays,
    encoded_view,
    layout_of,
    record_of,
)
from wardround.common.flower.stored import StoredArray, StoredBlob
from wardround.common.mapped import is_mapped, view_of

arrays = st.sampled_from(sorted({*ALLOWED_DTYPES} - {"bfloat16"})).flatmap(
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


def in_file(value: np.ndarray, folder: Path) -> StoredArray:
    """An array whose bytes lie in a file, behind others: so that its numbers aren't aligned."""
    data = encode_array(value).data
    path = folder / f"{len(list(folder.iterdir()))}"
    path.write_bytes(b"abc" + data)
    with open(path, "rb") as file:
        blob = StoredBlob(b"", view_of(file, 3 + len(data))[3:])
    path.unlink()
    return StoredArray(str(value.dtype), value.shape, "numpy.ndarray", blob)


@settings(deadline=None)
@given(value=arrays.filter(lambda value: value.nbytes > 0))
def test_an_array_in_a_file_is_the_same_array_and_is_sent_from_there(value, tmp_path_factory):
    array = in_file(value, tmp_path_factory.mktemp("arrays"))
    found = decode_array("w", array)
    assert is_mapped(found) and not found.flags.writeable
    assert found.tobytes() == value.tobytes() and found.shape == value.shape
    assert b"".join(array.blob.pieces()) == array.data == encode_array(value).data
    assert digest_arrays({"w": found}) == digest_arrays({"w": value})
    np.testing.assert_array_equal(array.numpy(), value)


def test_what_lies_in_a_file_takes_no_memory_and_is_held_against_its_declaration(tmp_path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    record = record_of({"w": in_file(value, tmp_path)})
    found = checked_arrays(record, layout_of({"w": value}))
    assert found.memory_bytes == 0 and list(found) == ["w"]
    np.testing.assert_array_equal(found["w"], value)
    plain = checked_arrays(encode_arrays({"w": value}), layout_of({"w": value}))
    assert plain.memory_bytes > value.nbytes
    record["w"].dtype = "int32"
    with pytest.raises(ReplyRefused, match="other values than it declares"):
        decode_arrays(record)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_checks_are_those_of_decode_arrays(bad, tmp_path) -> None:
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
            checked_arrays(record_of({k: in_file(v, tmp_path) for k, v in one.items()}), layout)
        assert str(first.value) == str(second.value).removesuffix("; lower training.lr?")
