"""How many units a hospital announces: with noise that is drawn once, and paid for."""

from __future__ import annotations

import hashlib
import json

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.account import open_ledger, pay
from wardround.client.privacy.round import Spending, noise_source
from wardround.common.errors import DataError
from wardround.common.privacy.budget import announcement
from wardround.common.protocol import names as m
from wardround.common.secagg.content import shared_settings


def announced_sizes(hospital: Hospital) -> dict[str, int]:
    """Sizes of the splits as the server may know them.

    Without privacy the true ones. For examples and patients: the number of units, with noise that
    is drawn once per federation and settings, and paid for. For hospitals: 1 where there may be
    rows. That a hospital takes no part with a split (no rows for training; fewer than it asks of
    itself) is said as it is: 0, as who takes part. In a joint procedure it is 1
    of training: that there are rows.
    """
    if hospital.config.procedure.joint:  # how many rows a party has is no other's to know
        return {split: int(split == "train") for split in m.SPLITS}
    true, table = hospital.sizes(), hospital.config.privacy
    possible = {split: hospital.takes_part(split) for split in m.SPLITS}
    if not table.enabled:
        return {split: true[split] if possible[split] else 0 for split in m.SPLITS}
    data = hospital.config.data
    for split, share in (("validation", data.validation_fraction), ("test", data.test_fraction)):
        possible[split] |= share > 0 and hospital.share.least(split) <= 1
    if table.unit == "hospital":
        return {split: int(possible[split]) for split in m.SPLITS}
    key = _sizes_key(hospital)
    with open_ledger(hospital) as ledger:
        found = ledger.recall(key)
        if found is None:
            check_split(hospital)
            spending = Spending("", 0, key, "announced sizes", 1.0, announcement(table))
            pay(hospital, ledger, spending.entry(hospital), m.SPLITS)
            found = " ".join(str(number) for number in _noised_counts(hospital))
            ledger.remember(key, found)
    numbers = dict(zip(m.SPLITS, map(int, found.split()), strict=True))
    return {split: max(1, numbers[split]) if possible[split] else 0 for split in m.SPLITS}


def announced_rows(hospital: Hospital) -> int:
    """What a client's update counts for: rows it trains on, as it has announced them."""
    if not hospital.config.privacy.enabled:
        return hospital.sizes()["train"]
    return announced_sizes(hospital)["train"]


def _sizes_key(hospital: Hospital) -> str:
    """What announced sizes are remembered by: all of the settings that they follow from, the data,
    for studies may have others, and the kit, for two that share a ledger may be of federations of
    one name. Others make other numbers, which are paid for again. The run's seed isn't one of them,
    but in a simulation."""
    config = hospital.config
    shared = shared_settings(config)
    held_out = hospital.held_out or config.federation.seed
    parts = [held_out, shared["data"], shared["task"], config.privacy.size_noise]
    parts += [hospital.source] if hospital.source else []
    settings = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    name = f"sizes of {config.privacy.unit} in {config.federation.name}, settings {settings[:16]}"
    return f"{name}, kit {hospital.witness.kit}" if hospital.witness else name


def check_split(hospital: Hospital) -> None:
    """Raise DataError where a patient to be protected is in several parts: three counts would tell
    of one, and figures on held-out rows of someone who is trained on. Our own split never does it.
    """
    if hospital.config.privacy.unit != "patient":
        return
    seen: set[str] = set()
    for part in hospital.parts().values():
        patients = hospital.task.people(part)
        found = set() if patients is None else set(patients.tolist())
        if seen & found:
            raise DataError(
                "the split that the data gives puts rows of one patient into several parts",
                who=hospital.name,
                mend="with privacy.unit = 'patient' keep each patient in one",
            )
        seen |= found


def _noised_counts(hospital: Hospital) -> list[int]:
    """A unit is in one split, and moves no other into another one (``splitting.py``): so the three
    counts together change by 1 when one comes or goes."""
    source = noise_source(hospital, "sizes", 0)
    counts = hospital.unit_counts()
    noise = source.discrete_gaussian(hospital.config.privacy.size_noise, len(m.SPLITS))
    return [counts[split] + int(one) for split, one in zip(m.SPLITS, noise, strict=True)]
