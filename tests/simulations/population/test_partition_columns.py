"""Partitions by a column's value or order, and noise on inputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError, RoundFailed, TaskError, WardroundError
from wardround.common.names import HOSPITAL_NAME, names_of
from wardround.common.tasks.base import Examples
from wardround.common.tasks.data.row_keys import tensor_keys
from wardround.simulations import simulate
from wardround.simulations.population.feature_noise import NoisyShard
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.partition import partition, shifted_rows

WARDS = ["Sankt Hans", "sankt-hans", "Århus", "上海"]


def config(text: str, *overrides: str) -> Config:
    sets = ["simulation.min_examples=1", "secure_aggregation.enabled=false", *overrides]
    return parse_config(text, sets)


@pytest.fixture
def table(tmp_path: Path) -> Config:
    """Forty rows of four wards, two rows a patient, some ages missing."""
    lines = ["ward,patient,age,ill"]
    for row in range(40):
        age = "" if row == 7 else str(row)
        lines.append(f"{WARDS[row % 4]},p{row // 2},{age},{row % 2}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = '{ target = "ill", numeric = ["age"], patient_id = "patient", ignore = ["ward"] }'
    return config(
        f'data.path = "{tmp_path / "all.csv"}"\n[task]\ncolumns = {columns}\n',
        "simulation.partition=column",
        "simulation.column=ward",
    )


def changed(settings: Config, *overrides: str) -> Config:
    return parse_config(settings.to_toml(), overrides)


def test_a_columns_values_are_hospitals_named_like_them(table: Config) -> None:
    population = Population(table, make_task(table))
    first, *others = population.names
    assert first.startswith("Sankt-Hans-")  # another value is called 'sankt-hans' already
    assert others[:2] == ["sankt-hans", "Arhus"] and others[2].startswith("site-")
    assert [sum(population.hospital(name).sizes().values()) for name in population.names] == [
        10,
        10,
        10,
        10,
    ]
    raw = population.hospital("Arhus").parts()["train"]
    assert set(raw.cells("ward")) == {"Århus"}


def test_patients_of_a_file_are_dealt_whole(table: Config) -> None:
    settings = changed(table, "simulation.partition=patient", "simulation.clients=3")
    population = Population(settings, make_task(settings))
    held = [
        {name for part in population.hospital(x).parts().values() for name in part.cells("patient")}
        for x in population.names
    ]
    assert sorted(map(len, held)) == [6, 7, 7] and len(set.union(*held)) == 20


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["simulation.column=nowhere"], DataError, "no column 'nowhere'; it has age, ill"),
        (["simulation.column=age"], DataError, r"all.csv:9: column 'age': a row without a value"),
        (["simulation.min_examples=11"], ConfigError, "4 of the 4 values of column 'ward'"),
        (["federation.min_clients=5"], ConfigError, "has 4 values, each a hospital, and"),
        (["simulation.column="], ConfigError, "'column' needs simulation.column"),
        (["simulation.partition=feature_shift"], ConfigError, "'ward' has values that are no num"),
        (
            ["simulation.partition=feature_shift", "simulation.column="],
            ConfigError,
            "needs simulation.column, a numeric one",
        ),
        (
            ["simulation.partition=patient", "simulation.clients=21"],
            ConfigError,
            "simulation.clients: 21 hospitals with a patient each need more than the 20",
        ),
        (
            ["simulation.partition=patient", "simulation.clients=41"],
            ConfigError,
            "need more than the 40 rows",
        ),
    ],
)
def test_what_a_column_cannot_part_is_said(table: Config, overrides, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        settings = changed(table, *overrides)
        Population(settings, make_task(settings))
    assert isinstance(caught.value, WardroundError) and "\n" not in str(caught.value)
    assert "上海" not in str(caught.value)  # no message quotes a cell


@settings(max_examples=100)
@given(st.lists(st.text(max_size=80), unique=True, max_size=20))
def test_safe_names_differ_and_pass_the_check_of_hospitals_names(texts) -> None:
    names = list(names_of(texts))
    assert all(HOSPITAL_NAME.fullmatch(name) for name in names)
    assert len({name.casefold() for name in names}) == len(texts)
    assert names == list(names_of(texts)) and list(names_of(texts).values()) == texts


def shift(alpha: float, clients: int, seed: int = 1) -> Config:
    return config(
        f"federation.seed = {seed}\n[simulation]\npartition = 'feature_shift'\ncolumn = 'x'\n"
        f"alpha = {alpha}\nclients = {clients}\n"
    )


@settings(max_examples=60)
@given(
    values=st.lists(st.floats(-10, 10), min_size=30, max_size=120),
    alpha=st.floats(0.01, 100),
    clients=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_rows_that_are_shifted_are_all_there_once(values, alpha, clients, seed) -> None:
    parts = shifted_rows(np.array(values), shift(alpha, clients, seed))
    assert sorted(np.concatenate(parts)) == list(range(len(values)))
    assert min(map(len, parts)) >= 1


def test_alpha_chooses_between_blocks_of_the_column_and_a_mix() -> None:
    values = np.random.default_rng(1).permutation(1000).astype(float)
    for client, part in enumerate(shifted_rows(values, shift(1e-5, 4))):
        assert sorted(values[part]) == list(range(250 * client, 250 * (client + 1)))
    for part in shifted_rows(values, shift(1e9, 4)):
        blocks = np.bincount((values[part] // 250).astype(int), minlength=4)
        assert blocks == pytest.approx([62.5] * 4, abs=1)

    def between(alpha: float) -> float:
        parts = shifted_rows(values, shift(alpha, 4))
        return float(np.std([values[part].mean() for part in parts]))

    assert between(0.01) > between(1.0) > between(1000.0)


def test_noise_grows_with_the_clients_number_and_is_the_same_again() -> None:
    text = "[simulation]\npartition = 'feature_shift'\nclients = 4\nfeature_noise = 2.0\n"
    noisy = config(text)
    task = make_task(noisy)
    populations = [Population(noisy, task), Population(noisy, task)]
    for number, name in enumerate(populations[0].names, 1):
        hospitals = [population.hospital(name) for population in populations]
        totals = hospitals[0].statistics(0, {})
        for phase in range(1, task.phases):
            totals = totals | hospitals[0].statistics(phase, totals)
        totals = task.condense(totals)
        first, second = (one.examples(totals, "d") for one in hospitals)
        without = {
            split: task.prepare(part, totals, hospitals[0].parts()["train"])
            for split, part in hospitals[0].parts().items()
        }
        assert hospitals[0].examples(totals, "d") is first  # once for all rounds
        for split in ("train", "test"):
            assert torch.equal(first[split].inputs, second[split].inputs)
            assert torch.equal(first[split].targets, without[split].targets)
            noise = (first[split].inputs - without[split].inputs).double().numpy()
            variance, count = 2.0 * number / 4, noise.size
            # within 5 standard errors of a normal sample's variance and mean
            assert noise.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
            assert abs(noise.mean()) < 5 * math.sqrt(variance / count)


def test_parts_of_equal_size_where_only_noise_tells_clients_apart() -> None:
    settings = config(
        "[simulation]\npartition = 'feature_shift'\nclients = 10\nfeature_noise = 0.1\n"
    )
    task = make_task(settings)
    sizes = [len(part) for part in partition(task, task.load(None), settings).values()]
    assert max(sizes) - min(sizes) <= 1


def test_noise_on_inputs_that_are_no_measurements_is_refused() -> None:
    class Tokens:
        size = staticmethod(len)
        row_keys = staticmethod(lambda raw: tensor_keys(raw.inputs))
        patients = together = given_split = staticmethod(lambda raw: None)
        left_out = staticmethod(lambda raw: [])
        measured = staticmethod(lambda raw: True)
        unused = staticmethod(lambda raw, totals: [])
        at = staticmethod(lambda raw, hospital: raw)

        def labels(self, raw: Examples) -> np.ndarray:
            return raw.targets.numpy()

        def select(self, raw: Examples, rows: np.ndarray) -> Examples:
            return raw.select(rows)

        def prepare(self, raw: Examples, totals: object, train: object) -> Examples:
            return raw

    shard = Examples(torch.arange(8).view(8, 1), torch.zeros(8, dtype=torch.int64))
    own = OwnShard("a", Tokens(), config(""), lambda: shard)
    hospital = Hospital(NoisyShard(own, 1.0))
    with pytest.raises(TaskError, match="a: its inputs are whole numbers"):
        hospital.examples({}, "d")


def test_noise_on_bytes_is_refused_by_its_key_before_anyone_trains(tmp_path: Path) -> None:
    """E5: 8-bit images; it was refused in round 1, three times."""
    sets = ["task.name=imaging", "simulation.feature_noise=0.5", f'federation.runs="{tmp_path}"']
    with pytest.raises(RoundFailed, match="hospital-1, .*feature_noise: inputs are whole"):
        simulate(overrides=[*sets, "federation.rounds=1"])


SITES = """
[federation]
name = "sites"
[data]
path = "all.csv"
[task]
[task.columns]
target = "ill"
{columns}
"""


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ('numeric = ["*"]', ""),
        ('numeric = ["age"]\ncategorical = ["Hospital"]', "kept"),
        ('numeric = ["age"]', "kept"),
    ],
)
def test_a_column_that_names_hospitals_is_told_of(tmp_path: Path, columns: str, said: str) -> None:
    """T15: as a category the place would be an input, and the hospitals that are made up others."""
    lines = ["age,ill,Hospital"] + [f"{n},{n % 2},{'abc'[n % 3]}" for n in range(60)]
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    file = tmp_path / "federation.toml"

    def population(*overrides: str) -> Population:
        made = parse_config(SITES.format(columns=columns), list(overrides), file)
        return Population(made, make_task(made))

    if not said:
        with pytest.raises(DataError, match="seems to name hospitals, .*ignore .*= 'column' makes"):
            population()
        return
    (note,) = population().notes
    assert note.startswith("column 'Hospital' seems to name hospitals: simulation.partition = 'col")
    parted = ("simulation.partition=column", "simulation.column=Hospital")
    assert population(*parted, "simulation.min_examples=1").notes == []
