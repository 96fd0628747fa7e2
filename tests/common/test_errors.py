"""An error's parts are fields, and one text."""

from __future__ import annotations

import pickle

from wardround.common.errors import DataError, WardroundError


def test_an_error_says_who_what_and_mend_in_this_order() -> None:
    error = DataError("no column 'age'", who="north (north.csv)", mend="add it")
    assert (error.who, error.what, error.mend) == ("north (north.csv)", "no column 'age'", "add it")
    assert str(error) == "north (north.csv): no column 'age'; add it"
    assert str(WardroundError("all in one text")) == "all in one text"


def test_an_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DataError("cut", who="north", mend="copy it again")))
    assert isinstance(error, DataError) and str(error) == "north: cut; copy it again"


def test_whose_fault_it_is_is_said_once() -> None:
    assert str(DataError("cut").by("north")) == "north: cut"
    assert str(DataError("cut", who="south").by("north")) == "south: cut"
