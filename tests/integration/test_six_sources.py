"""The same patients give the same model byte for byte, wherever a hospital keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import postgres
from tests.clinical import Population
from tests.six_sources import HOSPITALS, NAMES, Places, model

PATIENTS = 150


@pytest.mark.xdist_group("postgresql")
def test_six_places_are_one_model(postgresql: postgres.PostgreSQL, tmp_path: Path) -> None:
    people = {
        name: Population(round(share * PATIENTS), seed)
        for seed, (name, share) in enumerate(HOSPITALS.items())
    }
    places, found = Places(postgresql), {}
    for name in NAMES:
        found[name] = model(places, name, people, tmp_path / name)
    assert set(found.values()) == {found["csv"]}
    assert found["csv"][1] == sum(len(one.rows()) for one in people.values()) > 60
    died = next(row["patient_id"] for row in people["north"].rows() if row["died"])
    next(one for one in people["north"].people if str(one.id) == died).died = None
    assert model(places, "csv", people, tmp_path / "other")[0] != found["csv"][0]
