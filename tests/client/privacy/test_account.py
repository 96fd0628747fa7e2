"""How a hospital pays: whose patients a spending touches, what is told of it, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.client.privacy.test_ledger import entry
from tests.client.privacy.test_shared_ledger import gaussian
from wardround.client.data.hospital import Hospital, Place
from wardround.client.data.shard import OwnShard
from wardround.client.data.witness import Anchor
from wardround.client.privacy.account import limit_of, open_ledger, pay
from wardround.client.privacy.ledger import Ledger
from wardround.client.privacy.sizes import announced_sizes
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import Release
from wardround.common.tasks.base import Examples

PRIVATE = "[privacy]\nunit='{}'\nnoise_multiplier=4.0\nepsilon_limit=1.0\n"


class Log:
    """A witness that keeps what it was told."""

    def __init__(self, kit: str, ledger: Path) -> None:
        self.kit, self._path, self.told = kit, ledger, list[dict[str, Any]]()
        with Ledger.open(ledger, "a") as opened:
            self._anchor = Anchor(*opened.head)

    def newest(self) -> Anchor:
        return self._anchor

    def add(self, anchor: Anchor, entry: Mapping[str, Any]) -> None:
        with Ledger.open(self._path, "a") as opened:  # it is in the ledger by now
            assert opened.goes_on_from(*anchor)
        self._anchor = anchor
        self.told.append(dict(entry))


@pytest.fixture
def hospital(settings: Any, line: Any, tmp_path: Path):
    class Named(line):  # type: ignore[misc]
        """A row's target is its patient; above 90 the data don't name one."""

        def patients(self, raw: Examples) -> np.ndarray:
            return np.array([str(int(one)) for one in raw.targets])

        def names_all(self, raw: Examples) -> bool:
            return bool((raw.targets <= 90).all())

    ledger = tmp_path / "ledger.sqlite"
    Ledger.create(ledger, "a").close()

    def make(
        kit: str, patients: list[int], unit: str = "patient", each: bool = True, source: str = ""
    ) -> Hospital:
        data = Examples(torch.ones(len(patients), 1), torch.tensor(patients, dtype=torch.float32))
        shard = OwnShard("a", Named(), settings(PRIVATE.format(unit)), lambda: data)
        log = Log(kit, ledger)
        place = Place(ledger_path=ledger, witness=log, each_patient=each, source=source)
        return Hospital(shard, place=place)

    return make


def spend(hospital: Hospital, number: int = 0) -> None:
    with open_ledger(hospital) as ledger:
        pay(hospital, ledger, entry(number, Release(4.0)), ("train",))


def test_a_patient_in_two_studies_pays_for_both_and_others_for_one(hospital) -> None:
    """At noise 4 one release is within 1.0, and two are not."""
    assert gaussian(4.0) < 1.0 < gaussian(4.0, 4.0)
    spend(hospital("heart", [1, 2, 3]))
    spend(hospital("lungs", [4, 5, 6]), 1)
    with pytest.raises(PrivacyRefused, match="a patient's epsilon would pass"):
        spend(hospital("skin", [6, 7]), 2)
    with pytest.raises(PrivacyRefused, match="a patient's epsilon would pass"):
        spend(hospital("eyes", [7, 91]), 3)  # who 91 is nobody knows
    with pytest.raises(PrivacyRefused, match="is spent"):
        spend(hospital("ears", [8, 9], each=False), 4)
    spend(hospital("nose", [7, 8]), 5)


def test_the_witness_is_told_after_the_ledger_and_no_patient(hospital) -> None:
    site = hospital("heart", [1, 2])
    spend(site)
    (told,) = site.witness.told
    assert told["releases"][0]["noise_multiplier"] == 4.0 and told["round"] == 0
    with open_ledger(site) as ledger:
        assert site.witness.newest() == ledger.head
    Path(site.ledger_path).unlink()
    with pytest.raises(PrivacyRefused, match="missing"):
        spend(site, 1)
    assert len(site.witness.told) == 1


def test_hospitals_as_units_are_held_together_always(hospital) -> None:
    assert limit_of(hospital("heart", [1])).each_patient
    assert not limit_of(hospital("heart", [1], unit="hospital")).each_patient


def test_two_kits_of_federations_of_one_name_have_sizes_of_their_own(hospital) -> None:
    """Their federations, hospital and settings are called the same; their rows are others."""
    few, many = hospital("one", [1] * 3), hospital("two", list(range(400)))
    told = [announced_sizes(site)["train"] for site in (few, many, few, many)]
    assert told[0] == told[2] and told[1] == told[3] and told[0] < told[1]
    with open_ledger(few) as ledger:
        assert len(ledger.entries()) == 2


def test_two_studies_on_other_data_have_sizes_of_their_own(hospital) -> None:
    """Their settings may be the same; which data a study is computed on, site.toml says."""
    few = hospital("one", [1] * 3, source="/data/icu.csv")
    many = hospital("one", list(range(400)), source="/data/wards.csv")
    told = [announced_sizes(site)["train"] for site in (few, many, few, many)]
    assert told[0] == told[2] and told[1] == told[3] and told[0] < told[1]
