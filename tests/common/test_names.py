"""One rule for hospitals' names: what files are called works in simulations and certificates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.common.names import RESERVED, is_name, name_of, names_of

TITLES = ["St. Mary's", "a b #1", "Köln", "north ward", "1001", "x" * 60]


def test_what_people_call_hospitals_becomes_a_name() -> None:
    names = [name_of(title) for title in TITLES]
    assert names == ["St.-Mary-s", "a-b-1", "Koln", "north-ward", "1001", "x" * 60]
    assert name_of("Straße") == "Strasse" and name_of("Łódź") == "Lodz"
    assert name_of("Ko\u0308ln") == name_of("K\u00f6ln")  # one text in two forms


def test_a_name_stays_and_reserved_ones_are_nobodys() -> None:
    assert name_of("St.-Mary-s") == "St.-Mary-s"
    for title in [*RESERVED, "Mean", "上海", "", "..", "/"]:
        name = name_of(title)
        assert is_name(name) and name.casefold() not in RESERVED
    assert name_of("上海") != name_of("北京")  # letters were lost: a mark tells them apart


@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_different_titles_have_different_names_in_their_order(titles: list[str]) -> None:
    found = names_of(titles)
    assert list(found.values()) == titles
    assert all(is_name(name) for name in found)
    assert len({name.casefold() for name in found}) == len(titles)
    assert names_of(titles) == found
    assert names_of(reversed(titles)) == found  # whatever the order


def test_who_has_the_name_already_keeps_it() -> None:
    found = names_of(["north ward", "north-ward"])
    assert found["north-ward"] == "north-ward" and len(found) == 2


def test_provisioned_hospitals_are_called_as_their_people_do() -> None:
    config = parse_config("[server]\nhospitals = [\"St. Mary's\", 'Köln']\n")
    assert config.server.titles == {"St.-Mary-s": "St. Mary's", "Koln": "Köln"}
    with pytest.raises(ConfigError, match="'north ward' and 'north-ward' would both be 'north-wa"):
        parse_config("[server]\nhospitals = ['north ward', 'north-ward']\n")
    with pytest.raises(ConfigError, match="is no name; write 1 to 200 characters"):
        parse_config("[server]\nhospitals = [' ']\n")
