"""Splits: every row once, stratified, patients whole, the same for a seed and a name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.client.data.splitting import split_notes, split_rows
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.base import Examples
from wardround.common.tasks.tabular import TabularTask


class Fake:
    """Only what a split asks of a task."""

    phases = 0

    def __init__(self, labels, patients=None, given=None):
        self._labels, self._patients = np.array(labels), patients
        self._given = given

    def size(self, raw):
        return len(self._labels)

    def labels(self, raw):
        return self._labels

    def patients(self, raw):
        return None if self._patients is None else np.array(self._patients).astype(str)

    together = patients

    def given_split(self, raw):
        return None if self._given is None else np.array(self._given)


def config(test: float, validation: float, seed: int = 1):
    return parse_config(
        f"[federation]\nseed = {seed}\n[data]\ntest_fraction = {test}\n"
        f"validation_fraction = {validation}\n"
    )


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    test=st.floats(0, 0.5),
    validation=st.floats(0, 0.4),
    seed=st.integers(0, 100),
)
def test_every_row_once_and_each_label_in_proportion(labels, test, validation, seed) -> None:
    parts = split_rows(Fake(labels), None, config(test, validation, seed), "a")
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(labels)))
    for label in set(labels):
        n = labels.count(label)
        found = sum(labels[row] == label for row in parts["test"])
        assert found == min(round(n * test), n - 1)
    again = split_rows(Fake(labels), None, config(test, validation, seed), "a")
    assert all((parts[k] == again[k]).all() for k in parts)


@settings(deadline=None, max_examples=40)
@given(patients=st.lists(st.integers(0, 8), min_size=4, max_size=60))
def test_a_patient_is_never_on_two_sides(patients) -> None:
    parts = split_rows(Fake([0] * len(patients), patients), None, config(0.3, 0.2), "a")
    sides = [{patients[row] for row in rows} for rows in parts.values()]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert sum(len(rows) for rows in parts.values()) == len(patients)


def test_hospitals_split_differently() -> None:
    fake = Fake([0] * 50)
    one, two = (split_rows(fake, None, config(0.3, 0), name)["test"] for name in "ab")
    assert list(one) != list(two)


def test_a_split_in_the_data_wins() -> None:
    given = ["train", "test", "train", "validation"]
    parts = split_rows(Fake([0] * 4, given=given), None, config(0.5, 0), "a")
    assert [list(parts[k]) for k in ("train", "validation", "test")] == [[0, 2], [3], [1]]


def test_patients_that_nobody_names_are_asked_for_by_every_tasks_key() -> None:
    text = "[privacy]\nunit = 'patient'\nepsilon = 1.0\n"

    class Rows(Fake):
        def left_out(self, raw):
            return []

        def select(self, raw, rows):
            return raw

    hospital = Hospital(OwnShard("north", Rows([0] * 9), parse_config(text), lambda: None))
    keys = "task.columns.patient_id; imaging: task.files.patient_id"
    with pytest.raises(ConfigError, match=f"north: .*privacy.unit: .*{keys}"):
        hospital.unit_counts()


def test_an_empty_shard_is_named(line) -> None:
    empty = Examples(torch.zeros(0, 1), torch.zeros(0))
    with pytest.raises(DataError, match="north: the shard has no usable rows"):
        Hospital(OwnShard("north", line(), config(0.3, 0), lambda: empty)).parts()


def test_the_last_row_of_a_label_stays_in_training_and_that_is_told(line) -> None:
    two = Examples(torch.zeros(4, 1), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    hospital = Hospital(OwnShard("north", line(), config(0.3, 0.3), lambda: two))
    assert hospital.sizes() == {"train": 2, "validation": 0, "test": 2}
    (told,) = hospital.warnings()
    assert "north: the validation part has no row of 2 of the 2 labels" in told
    one = Examples(torch.zeros(1, 1), torch.zeros(1))
    hospital = Hospital(OwnShard("north", line(), config(0.9, 0), lambda: one))
    assert hospital.sizes() == {"train": 1, "validation": 0, "test": 0}


def test_patients_are_dealt_stratified_by_label() -> None:
    """40 patients of 1 to 4 rows, one in four of them ill in some rows: each part has its share of
    ill and of healthy rows, to within one patient's."""
    generator = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), generator.integers(1, 5, 40))
    labels = (patients % 4 == 0) & (generator.random(len(patients)) < 0.8)
    parts = split_rows(Fake(labels.astype(int), patients), None, config(0.3, 0.2), "a")
    sides = [set(patients[rows]) for rows in parts.values()]
    assert sum(map(len, sides)) == 40
    for label in (False, True):
        for name, share in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
            found = int((labels[parts[name]] == label).sum())
            assert abs(found - share * (labels == label).sum()) <= 2, (name, label)
    again = split_rows(Fake(labels.astype(int), patients), None, config(0.3, 0.2), "a")
    assert all((parts[k] == again[k]).all() for k in parts)


@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40),
    test=st.floats(0, 0.6),
    validation=st.floats(0, 0.39),
)
def test_some_group_of_every_label_trains(rows, test, validation) -> None:
    patients, labels = [p for p, _ in rows], [c for _, c in rows]
    parts = split_rows(Fake(labels, patients), None, config(test, validation), "a")
    assert {labels[row] for row in parts["train"]} == set(labels)
    sides = [{patients[row] for row in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set(patients))


def test_what_patients_make_impossible_is_told() -> None:
    """All ill rows are one patient's: he trains, and the test part has none of them."""
    labels, patients = [1] * 6 + [0] * 14, [0] * 6 + list(range(1, 15))
    fake, settings = Fake(labels, patients), config(0.3, 0)
    parts = split_rows(fake, None, settings, "a")
    assert {patients[row] for row in parts["train"]} >= {0}
    (told,) = split_notes(fake, None, settings, parts)
    assert "the test part has no row of 1 of the 2 labels" in told
    assert "too few patients" in told


@given(
    units=st.lists(st.integers(0, 40), min_size=2, max_size=30, unique=True),
    labels=st.lists(st.integers(0, 1), min_size=60, max_size=60),
    by_patient=st.booleans(),
)
def test_a_protected_unit_that_leaves_moves_no_other(units, labels, by_patient) -> None:
    """Else what hospitals train on, and the sizes that they announce, would change by more than
    the one unit that the noise is for."""
    unit = "patient" if by_patient else "example"
    settings = parse_config(
        f"[privacy]\nunit = '{unit}'\nepsilon = 1.0\n[data]\nvalidation_fraction = 0.3\n"
    )

    def parts_of(present: list[int]) -> dict[int, str]:
        """Part by unit; each has two rows of a patient, or is a row."""
        rows = [one for one in present for _ in range(2 if by_patient else 1)]
        groups = [f"p{one}" for one in rows] if by_patient else None
        found = split_rows(Fake(labels[: len(rows)], groups), None, settings, "a")
        return {rows[row]: part for part, chosen in found.items() for row in chosen}

    whole, fewer = parts_of(units), parts_of(units[:-1])
    assert fewer == {one: part for one, part in whole.items() if one != units[-1]}


def test_protected_rows_are_drawn_in_their_proportions() -> None:
    text = "[privacy]\nunit = 'example'\nepsilon = 1.0\n[data]\nvalidation_fraction = 0.2\n"
    parts = split_rows(Fake([0] * 20_000), None, parse_config(text), "a")
    for name, share in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
        # four standard deviations of a binomial count
        assert abs(len(parts[name]) - share * 20_000) < 4 * np.sqrt(20_000 * share * (1 - share))


def test_what_was_left_out_is_said_first_and_once_for_the_whole_shard(tmp_path) -> None:
    path = tmp_path / "north.csv"
    rows = [f"{n},{'' if n < 3 else n % 2}" for n in range(40)]
    path.write_text("\n".join(["x,y", *rows]) + "\n")
    settings = config(0.2, 0.1)
    task = TabularTask(columns={"target": "y"})
    hospital = Hospital(OwnShard("north", task, settings, lambda: task.load(path)))
    assert hospital.warnings()[0] == "north: 3 rows were left out: column 'y' is empty"
    assert sum("left out" in line for line in hospital.warnings()) == 1
