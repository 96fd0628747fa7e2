"""Files of arrays are what any reader of safetensors understands, written without a second copy."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.flower.arrays import ALLOWED_DTYPES

arrays = st.sampled_from(sorted({*ALLOWED_DTYPES} - {"bfloat16"})).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "a.safetensors"


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "__metadata__"), arrays))
def test_the_library_reads_what_is_written(path, named) -> None:
    write_tensors(path, {k: v.T for k, v in named.items()}, {"round": 3})
    theirs, (ours, state) = load_file(path), read_tensors(path)
    assert state == {"round": 3} and set(theirs) == set(ours) == set(named)
    for name, value in named.items():
        for found in (theirs[name], ours[name]):
            assert found.dtype == value.dtype and found.shape == value.T.shape
            assert found.tobytes() == value.T.tobytes()


def test_every_array_begins_where_its_type_may(path) -> None:
    write_tensors(path, {"a": np.ones(3, np.int8), "b": np.ones(2), "c": np.ones(1, np.int16)}, {})
    with safe_open(path, framework="numpy") as file:
        assert [file.get_tensor(name)[0] for name in "abc"] == [1, 1, 1]
    header = int.from_bytes(path.read_bytes()[:8], "little")
    assert header % 8 == 0 and path.stat().st_size == 8 + header + 16 + 2 + 3


def test_writing_takes_no_copy_of_the_arrays(path) -> None:
    big = {name: np.ones((500, 1000), np.float32) for name in "abcd"}
    tracemalloc.start()
    try:
        write_tensors(path, big, {})
        assert tracemalloc.get_traced_memory()[1] < big["a"].nbytes / 2
    finally:
        tracemalloc.stop()
