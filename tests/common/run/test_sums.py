"""The added figure sums that a run leaves: back as they were, or refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import RunDirectoryError
from wardround.common.run.directory import RunDirectory
from wardround.common.run.sums import FILE, KeptSums, read_kept, read_sums, write_sums

NAMES = st.text("ab/: é", min_size=1, max_size=6)
SUMS = st.dictionaries(NAMES, arrays.arrays(np.float64, arrays.array_shapes(max_side=4)))


@settings(max_examples=20)
@given(st.dictionaries(st.sampled_from(["validation", "test"]), SUMS, min_size=1), st.booleans())
def test_sums_come_back_as_they_were(tmp_path_factory, sums, masked) -> None:
    run = RunDirectory(tmp_path_factory.mktemp("run"))
    kept = KeptSums(7, sums, dict.fromkeys(sums, ["north", "süd"]), masked)
    write_sums(run, kept)
    found = read_kept(run.path)
    assert found is not None and found.about() == kept.about() and found.sums.keys() == sums.keys()
    for split, part in sums.items():
        again = read_sums(run, split)
        assert again is not None and again.keys() == part.keys()
        for name, value in part.items():
            np.testing.assert_array_equal(again[name], value)
    assert read_sums(run, "train") is None


def test_a_model_without_an_evaluation_leaves_no_sums_of_another(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert read_kept(run) is None
    write_sums(run, KeptSums(1, {"test": {"examples": np.ones(1)}}, {"test": ["a"]}))
    write_sums(run, None)
    assert read_kept(run) is None and not (tmp_path / FILE).exists()


@pytest.mark.parametrize("damage", ["cut", "newer", "key", "split"])
def test_what_cannot_be_read_is_refused_by_its_name(tmp_path: Path, damage: str) -> None:
    run, path = RunDirectory(tmp_path), tmp_path / FILE
    write_sums(run, KeptSums(1, {"test": {"examples": np.ones(1)}}, {"test": ["a"]}))
    found, state = read_tensors(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "newer":
        write_tensors(path, found, state | {"version": 99})
    elif damage == "key":
        write_tensors(path, found, {k: v for k, v in state.items() if k != "round"})
    else:
        write_tensors(path, found, state | {"over": {}})
    with pytest.raises(RunDirectoryError, match=r"sums\.safetensors.*remove it: the run then"):
        read_kept(run)
