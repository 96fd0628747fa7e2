"""Linkage of small lists against plain set intersection."""

from __future__ import annotations

import pytest

from tests.common.linkage.ring import Ring
from wardround.common.errors import JointRefused


def keys(*numbers: int) -> list[bytes]:
    return [b"person %d" % number for number in numbers]


@pytest.mark.parametrize("compare", ["coordinator", "lab", "registry"])
def test_two_parties_have_the_same_persons_in_the_same_order(compare: str) -> None:
    rows = {"lab": keys(*range(33)), "registry": keys(*range(60, 20, -1))}
    ring = Ring(rows, {"smallest": 3, "padded": 10, "compare": compare})
    found = ring.linked()
    linked = [rows["lab"][number] for number in found["lab"]]
    assert linked == [rows["registry"][number] for number in found["registry"]]
    assert sorted(linked) == sorted({*rows["lab"]} & {*rows["registry"]})


def test_too_few_are_refused() -> None:
    with pytest.raises(JointRefused, match="fewer persons"):
        Ring({"a": keys(1, 2, 3), "b": keys(1, 2, 4)}, {"smallest": 3, "padded": 4}).linked()
