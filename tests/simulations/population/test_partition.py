"""Partitions: every row once, sizes as asked, the same for a seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError
from wardround.simulations.population.partition import partition, partition_rows, patient_rows

ROW_COUNT = "rows per hospital in 1000 draws"


def config(kind: str, clients: int, alpha: float | None = None, least: int = 1, seed: int = 1):
    return parse_config(
        f"[federation]\nseed = {seed}\n[simulation]\npartition = '{kind}'\nclients = {clients}\n"
        f"min_examples = {least}\n" + (f"alpha = {alpha}\n" if alpha is not None else "")
    )


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["iid", "dirichlet", "quantity"]),
    clients=st.integers(1, 6),
    labels=st.lists(st.integers(0, 3), min_size=30, max_size=200),
    seed=st.integers(0, 1000),
)
def test_every_row_lands_in_exactly_one_hospital(kind, clients, labels, seed) -> None:
    rows = np.array(labels)
    parts = partition_rows(rows, config(kind, clients, seed=seed))
    assert len(parts) == clients and min(len(part) for part in parts) >= 1
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    again = partition_rows(rows, config(kind, clients, seed=seed))
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))


def test_iid_sizes_differ_by_at_most_one() -> None:
    sizes = [len(p) for p in partition_rows(np.zeros(103, int), config("iid", 10))]
    assert max(sizes) - min(sizes) == 1


def test_a_small_alpha_separates_labels_and_a_large_one_mixes_them() -> None:
    labels = np.repeat([0, 1], 500)

    def spread(alpha: float) -> float:
        shares = [
            labels[part].mean() for part in partition_rows(labels, config("dirichlet", 5, alpha))
        ]
        return float(np.std(shares))

    assert spread(0.1) > 0.25 > 0.05 > spread(1000.0)


@pytest.mark.parametrize(
    ("kind", "clients", "alpha", "least", "message"),
    [
        ("iid", 20, None, 10, "need more than the 100 rows"),
        ("dirichlet", 9, 0.01, 11, "in 1000 draws; raise simulation.alpha"),
    ],
)
def test_what_cannot_be_partitioned_says_how_to_mend_it(
    kind, clients, alpha, least, message
) -> None:
    with pytest.raises(ConfigError, match=message):
        partition_rows(np.repeat([0, 1], 50), config(kind, clients, alpha, least))


@given(kind=st.sampled_from(["iid", "dirichlet", "quantity"]), seed=st.integers(0, 10**6))
def test_alpha_to_infinity_gives_every_client_the_same_mix(kind, seed) -> None:
    labels = np.repeat([0, 1, 2], [400, 200, 600])
    alpha = None if kind == "iid" else 1e9  # iid has none: it is the limit
    for part in partition_rows(labels, config(kind, 4, alpha, seed=seed)):
        assert len(part) == pytest.approx(300, abs=2)
        shares = np.bincount(labels[part], minlength=3) / len(part)
        # by chance for iid and quantity: 5 standard deviations of a hypergeometric share
        slack = 0.01 if kind == "dirichlet" else 5 * 0.5 / np.sqrt(len(part))
        assert shares == pytest.approx([1 / 3, 1 / 6, 1 / 2], abs=slack)


def test_alpha_to_zero_gives_each_label_to_one_client() -> None:
    labels = np.random.default_rng(3).integers(0, 6, 600)
    parts = partition_rows(labels, config("dirichlet", 3, 1e-5))
    holders = [{i for i, part in enumerate(parts) if (labels[part] == y).any()} for y in range(6)]
    assert all(len(holder) == 1 for holder in holders)


@settings(max_examples=60)
@given(
    patients=st.lists(st.integers(0, 30), min_size=40, max_size=150),
    clients=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_patients_stay_whole_and_are_dealt_evenly(patients, clients, seed) -> None:
    names = np.array([f"p{number}" for number in patients])
    if len(set(patients)) < clients:
        with pytest.raises(ConfigError, match=f"than the {len(set(patients))} patients"):
            patient_rows(names, config("patient", clients, seed=seed))
        return
    parts = patient_rows(names, config("patient", clients, seed=seed))
    assert sorted(np.concatenate(parts)) == list(range(len(names)))
    held = [set(names[part]) for part in parts]
    assert sum(len(one) for one in held) == len(set(patients))  # nobody at two clients
    assert max(map(len, held)) - min(map(len, held)) <= 1


def test_rows_of_nobody_are_not_dealt_and_every_tasks_key_is_named() -> None:
    class Nobodys:
        def patients(self, raw):
            return None

    keys = "task.columns.patient_id; imaging: task.files.patient_id"
    with pytest.raises(ConfigError, match=f"simulation.partition: 'patient' needs .*{keys}"):
        partition(Nobodys(), None, config("patient", 2))


def test_patients_whose_rows_do_not_suffice_are_refused() -> None:
    names = np.array(["often"] * 30 + ["once", "twice", "twice"])
    with pytest.raises(ConfigError, match=ROW_COUNT + "; lower simulation.clients"):
        patient_rows(names, config("patient", 3, least=5))
