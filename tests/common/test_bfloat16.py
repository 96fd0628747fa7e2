"""bfloat16: rounded once, and carried from tensor to message to file as it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.bfloat16 import BFLOAT16, is_float, rounded, widened
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import ReplyRefused
from wardround.common.flower.arrays import (
    decode_arrays,
    digest_arrays,
    encode_arrays,
    layout_of,
)
from wardround.common.model.named import load_arrays, model_arrays, to_numpy, to_tensor

bits = st.integers(0, 2**16 - 1)


def of(bits: int) -> float:
    return float(np.array([bits], np.uint16).view(BFLOAT16)[0])


@given(bits, st.integers(-3, 3), st.booleans())
def test_a_number_near_a_tie_goes_to_the_nearest_neighbour_and_a_tie_to_the_even_one(
    at: int, ulps: int, negative: bool
) -> None:
    low, high = of(at & 0x7FFF), of((at & 0x7FFF) + 1)
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    tie = (Fraction(low) + Fraction(high)) / 2
    value = float(tie)  # has at most 9 bits: exact
    for _ in range(abs(ulps)):
        value = float(np.nextafter(value, np.inf if ulps > 0 else -np.inf))
    even = at & 1 == 0
    wanted = low if ulps < 0 or (ulps == 0 and even) else high
    sign = -1 if negative else 1
    assert float(rounded(np.array(sign * value))) == sign * wanted


@given(st.floats(width=32, allow_nan=False))
def test_float32_is_rounded_as_torch_does(value: float) -> None:
    ours = rounded(np.array([value], np.float32))
    theirs = torch.tensor([value], dtype=torch.float32).to(torch.bfloat16)
    assert ours.view(np.int16)[0] == theirs.view(torch.int16).numpy()[0]


def test_which_numbers_are_floats() -> None:
    assert all(map(is_float, ["bfloat16", "float16", "float32", "float64", BFLOAT16]))
    assert not any(map(is_float, ["int8", "bool", "uint8", "int64", "V2"]))
    half = np.ones(2, np.float16)
    assert widened(half) is half and widened(half.astype(BFLOAT16)).dtype == np.float32


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.narrow = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
        self.wide = torch.nn.Linear(2, 1)


def test_entries_go_to_messages_and_files_and_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = Two(), Two()
    arrays = model_arrays(model)
    assert [one.dtype.name for one in arrays.values()] == ["bfloat16"] * 2 + ["float32"] * 2
    came = decode_arrays(encode_arrays(arrays), layout_of(arrays))
    write_tensors(tmp_path / "m", came, {"n": 1})
    read, state = read_tensors(tmp_path / "m")
    assert state == {"n": 1} and digest_arrays(read) == digest_arrays(arrays)
    load_arrays(other, read)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(to_tensor(to_numpy(model.narrow.weight)), model.narrow.weight)


@pytest.mark.parametrize(
    ("bad", "found"), [(np.nan, "NaN"), (np.inf, "infinity"), (1e13, "beyond")]
)
def test_what_is_no_healthy_number_is_refused(bad: float, found: str) -> None:
    arrays = {"w": np.array([0, bad], ml_dtypes.bfloat16)}
    with pytest.raises(ReplyRefused, match=found):
        decode_arrays(encode_arrays(arrays), layout_of(arrays))
    record = encode_arrays({"w": np.zeros(2, np.int16)})
    record["w"].dtype = "bfloat16"  # the same bytes behind another header
    with pytest.raises(ReplyRefused):
        decode_arrays(record)
