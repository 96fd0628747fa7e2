"""Held-out rows are the hospital's: of its key and the row's alone, the same in every study."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.data.held_out import key_digest, places, simulated_key
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.client.data.splitting import split_notes, split_rows
from wardround.common.config.load import parse_config
from wardround.common.errors import TaskError
from wardround.common.tasks.base import Examples
from wardround.common.tasks.tabular import TabularTask
from wardround.simulations.population.hospitals import Population

KEY = bytes(range(32))
PRIVATE = "[privacy]\nunit = 'example'\nepsilon = 1.0\n"
fractions = st.floats(0, 0.95)


def config(test: float = 0.3, validation: float = 0.0, more: str = "", seed: int = 1):
    return parse_config(
        f"[federation]\nseed = {seed}\n[data]\ntest_fraction = {test}\n"
        f"validation_fraction = {validation}\n{more}"
    )


class Rows:
    """Only what a split asks of a task: rows are their keys."""

    def size(self, raw):
        return len(raw)

    def row_keys(self, raw):
        return np.array(raw, dtype=np.str_)

    def labels(self, raw):
        return np.array([0 if one.startswith("a") else 1 for one in raw])

    def together(self, raw):
        return None

    def given_split(self, raw):
        return None


def parts_of(rows, settings, key=KEY):
    """Part by row."""
    found = split_rows(Rows(), rows, settings, key)
    return {rows[row]: part for part, chosen in found.items() for row in chosen.tolist()}


def held_out(rows, part, *args):
    return {row for row, one in parts_of(rows, config(*args)).items() if one == part}


def test_a_place_is_the_first_53_bits_of_the_hmac() -> None:
    (found,) = places(KEY, np.array(["anna"]))
    drawn = hmac.new(KEY, b"row\x1fanna", hashlib.sha256).digest()
    assert found == (int.from_bytes(drawn[:8], "big") >> 11) / 2**53
    # another key is another choice; of its digest none can be told from the key's own bytes
    assert places(simulated_key(1, "a"), np.array(["anna"])) != found
    assert KEY.hex() not in key_digest(KEY) and key_digest(KEY) != key_digest(bytes(32))


names = st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=40, unique=True)


@settings(deadline=None, max_examples=60)
@given(rows=names, test=st.floats(0, 0.5), validation=st.floats(0, 0.45), data=st.data())
def test_every_row_once_and_neither_order_nor_privacy_nor_seed_moves_one(
    rows, test, validation, data
) -> None:
    found = parts_of(rows, config(test, validation))
    assert sorted(found) == sorted(rows)
    assert "train" in found.values()
    shuffled = data.draw(st.permutations(rows))
    assert parts_of(shuffled, config(test, validation, seed=2)) == found
    private = parts_of(rows, config(test, validation, PRIVATE))
    if "train" in private.values():
        assert private == found
    else:  # one trains where no unit is protected, and all others stay
        assert sum(private[row] != found[row] for row in rows) == 1


@settings(deadline=None, max_examples=60)
@given(rows=names, more=names)
def test_rows_that_come_or_go_move_no_other(rows, more) -> None:
    settings = config(0.3, 0.2, PRIVATE)
    both = parts_of(list(dict.fromkeys([*rows, *more])), settings)
    assert {row: both[row] for row in rows} == parts_of(rows, settings)


@settings(deadline=None, max_examples=100)
@given(rows=names, tests=st.tuples(fractions, fractions), shares=st.tuples(fractions, fractions))
def test_the_smaller_part_is_within_the_larger_and_tests_validate_nowhere(
    rows, tests, shares
) -> None:
    small, large = sorted(tests)
    low, high = (share * (0.99 - large) for share in shares)
    assert held_out(rows, "test", small, low) <= held_out(rows, "test", large, high)
    assert not held_out(rows, "test", large, low) & held_out(rows, "validation", small, high)
    few, many = (held_out(rows, "validation", large, share) for share in sorted((low, high)))
    # where all rows would be held out one of them trains: the lowest that validates
    assert len(few - many) <= 1


@given(patients=st.lists(st.integers(0, 8), min_size=4, max_size=60))
def test_a_patient_is_never_on_two_sides(patients) -> None:
    rows = [f"p{one}" for one in patients]
    parts = split_rows(Rows(), rows, config(0.3, 0.2), KEY)
    sides = [{rows[row] for row in chosen} for chosen in parts.values()]
    assert sum(map(len, sides)) == len(set(rows))
    assert sum(map(len, parts.values())) == len(rows)


def test_parts_have_their_shares_up_to_chance() -> None:
    rows = [str(number) for number in range(20_000)]
    parts = split_rows(Rows(), rows, config(0.3, 0.2), KEY)
    for name, share in (("train", 0.5), ("validation", 0.2), ("test", 0.3)):
        # four standard deviations of a binomial count
        assert abs(len(parts[name]) - share * 20_000) < 4 * np.sqrt(20_000 * share * (1 - share))


@pytest.mark.parametrize("rows", [1, 33])
def test_a_small_hospital_trains_whatever_its_key_says(rows) -> None:
    texts = [str(number) for number in range(rows)]
    for number in range(100):
        key = simulated_key(number, "small")
        assert len(split_rows(Rows(), texts, config(0.9, 0.05), key)["train"]) >= 1


def test_test_rows_of_one_study_are_never_trained_on_by_the_next(tmp_path) -> None:
    """What went wrong before: of 171 test rows of a run, 121 were training rows of the next. Here
    the studies have other seeds, targets, columns and missing values, and rows that only one of
    them can use."""
    generator = np.random.default_rng(3)
    lines = [
        f"{n},{a:.3f},{b:.3f},{['', '0', '1'][t]},{['0', '1', '-9'][u]}"
        for n, (a, b, t, u) in enumerate(
            zip(*generator.normal(size=(2, 569)), *generator.integers(0, 3, (2, 569)), strict=True)
        )
    ]
    (tmp_path / "north.csv").write_text("\n".join(["id,age,lactate,died,icu", *lines]) + "\n")
    generator.shuffle(lines)
    (tmp_path / "sorted anew.csv").write_text("\n".join(["id,age,lactate,died,icu", *lines]) + "\n")
    died = {"target": "died", "numeric": ["age"], "ignore": ["id", "icu", "lactate"]}
    icu = {"target": "icu", "numeric": ["age", "lactate"], "ignore": ["id", "died"]}

    def study(columns, file, seed, **options):
        task = TabularTask(columns=columns, **options)
        settings = config(seed=seed)
        shard = OwnShard("north", task, settings, lambda: task.load(tmp_path / file), KEY)
        return {k: set(part.cells("id").tolist()) for k, part in shard.open().parts.items()}

    one = study(died, "north.csv", 1)
    other = study(icu, "sorted anew.csv", 2, missing_values=["", "-9"])
    assert 80 < len(one["test"]) < 150 and 80 < len(other["test"]) < 150
    assert not one["test"] & other["train"] and not other["test"] & one["train"]
    assert len(one["test"] & other["test"]) > 50 and one["test"] != other["test"]


def test_a_patient_is_held_out_whole_under_any_number_of_columns(tmp_path) -> None:
    """Also where another study's table has other columns of the same patients, and as a number."""
    columns = {"target": "ill", "patient_id": "patient"}
    (tmp_path / "a.csv").write_text(
        "patient,age,ill\n" + "".join(f"{n // 2},{n},{n % 2}\n" for n in range(400))
    )
    (tmp_path / "b.csv").write_text(
        "patient,ward,ill\n" + "".join(f"{n}.0,{n % 7},{n % 2}\n" for n in range(200))
    )
    task = TabularTask(columns=columns)
    found = []
    for file in ("a.csv", "b.csv"):
        raw = task.load(tmp_path / file)
        rows = split_rows(task, raw, config(0.3, 0.1), KEY)
        found.append({k: set(task.patients(raw)[v].tolist()) for k, v in rows.items()})
    assert found[0] == found[1] and sum(map(len, found[0].values())) == 200


def test_a_split_in_the_data_wins() -> None:
    class Given(Rows):
        def given_split(self, raw):
            return np.array(["train", "test", "train", "validation"])

    parts = split_rows(Given(), ["x"] * 4, config(0.5, 0), KEY)
    assert [list(parts[k]) for k in ("train", "validation", "test")] == [[0, 2], [3], [1]]


def test_rows_of_no_known_form_are_told_apart_by_input_or_number(line) -> None:
    """A task of one's own: examples by their inputs, whatever their targets; else by their number,
    so that rows added at the end move none."""
    task = line()
    inputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(2))
    keys = task.row_keys(Examples(inputs, torch.zeros(50)))
    again = task.row_keys(Examples(inputs[order], torch.ones(50)))
    assert len(set(keys)) == 50 and (keys[order.numpy()] == again).all()
    assert list(task.row_keys([1, 2, 3])[:2]) == list(task.row_keys([5, 6]))


def test_a_task_with_too_few_keys_is_named() -> None:
    class Few(Rows):
        def row_keys(self, raw):
            return np.array(["x"])

    with pytest.raises(TaskError, match=r"Few.row_keys gave 1 keys for 2 rows"):
        split_rows(Few(), ["x", "y"], config(), KEY)


def notes(rows, key=KEY):
    return split_notes(Rows(), rows, config(), split_rows(Rows(), rows, config(), key))


def test_what_labels_and_copies_make_of_it_is_told() -> None:
    rows = ["a"] + [f"b{number}" for number in range(40)]
    told = set()
    for number in range(10):
        key = simulated_key(number, "north")
        trains = 0 in split_rows(Rows(), rows, config(), key)["train"]
        said = " ".join(notes(rows, key))
        lacks = "the train part has no row of 1 of the 2 groups by target" in said
        assert lacks == (not trains)
        told.add(lacks)
    assert told == {False, True}
    assert not any("copies" in note for note in notes(rows))
    assert "copies stay in one part" in notes(["b1", "b2", "b3"] * 5)[-1]


def test_a_simulated_hospital_splits_by_seed_and_name(tmp_path) -> None:
    def tests(seed: int) -> dict[str, list[int]]:
        settings = parse_config(f"[federation]\nseed = {seed}\n[simulation]\nclients = 2\n")
        settings = settings.model_copy()
        population = Population(settings, TabularTask(columns={"target": "malignant"}))
        return {n: population.hospital(n).sizes()["test"] for n in population.names}

    assert tests(1) == tests(1) != tests(2)


def test_the_parts_of_a_hospital_are_of_its_key(line) -> None:
    rows = Examples(torch.arange(200.0)[:, None], torch.zeros(200))
    made = {
        key: Hospital(OwnShard("north", line(), config(), lambda: rows, key)).parts()["test"].inputs
        for key in (KEY, bytes(32), None)
    }
    assert not torch.equal(made[KEY][:20], made[bytes(32)][:20])
    seeded = split_rows(line(), rows, config(), simulated_key(1, "north"))["test"]
    assert torch.equal(made[None][:, 0], torch.from_numpy(seeded).float())
