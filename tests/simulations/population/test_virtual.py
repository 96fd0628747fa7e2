"""Virtual populations: lazily made is eagerly made, memory is bounded, nobody else matters."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wardround.client.data.hospital import Hospital
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ConfigError, TaskError
from wardround.common.flower.arrays import digest_arrays
from wardround.common.tasks.base import Examples
from wardround.server.observer import Observer
from wardround.server.rounds.checkpoint import newest_checkpoint
from wardround.simulations import simulate
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.virtual import ClientNames, PooledShards, label_mix
from wardround.simulations.run.baselines import own_totals

TEXT = """
[federation]
seed = 5
rounds = 3
clients_per_round = 6
min_clients = 1
[data]
test_fraction = 0.25
[training]
batch_size = 4
lr = 0.1
[secure_aggregation]
enabled = false
[simulation]
partition = "virtual"
clients = 12
rows_per_client = 20
executor = "sequential"
"""


@pytest.fixture
def config(tmp_path: Path):
    def make(*sets: str) -> Config:
        runs = f'federation.runs="{tmp_path / "runs"}"'
        return parse_config(TEXT, [runs, *sets])

    return make


@pytest.fixture
def split_line(line):
    """Lines whose x says the split: odd fortieths are test rows."""

    class SplitLine(line):
        def given_split(self, raw: Examples) -> Any:
            odd = (raw.inputs[:, 0] * 40).round().long() % 2 == 1
            return np.where(odd.numpy(), "test", "train")

    return SplitLine


def model_of(result: Any) -> dict[str, Any]:
    return read_tensors(result.run_directory / "model" / "model.safetensors")[0]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in {*one, *other})


# --- who there is ---------------------------------------------------------------------------------
@given(st.integers(1, 1_000_000), st.data())
def test_names_are_in_the_order_of_their_numbers(count: int, data: st.DataObject) -> None:
    names = ClientNames(count)
    one, other = (data.draw(st.integers(0, count - 1)) for _ in range(2))
    assert (names[one] < names[other]) == (one < other)
    assert names.index(names[one]) == one and names[one] in names
    assert names[-1] == names[count - 1] == f"client-{count}"
    assert names[one : one + 2] == [names[i] for i in range(one, min(one + 2, count))]


@pytest.mark.parametrize("name", ["client-0", "client-13", "client-1", "client-+1", "client-", 1])
def test_what_is_no_client(name: object) -> None:
    names = ClientNames(12)
    assert name not in names
    with pytest.raises(ValueError, match="there is no client"):
        names.index(name)


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=30),
    st.floats(1e-12, 1e12),
    st.integers(0, 2**31),
)
def test_a_label_mix_is_one_for_every_alpha(counts: list[int], alpha: float, seed: int) -> None:
    share = np.array(counts) / sum(counts)
    mix = label_mix(share, alpha, np.random.default_rng(seed))
    assert mix.shape == share.shape and (mix >= 0).all() and mix.sum() == pytest.approx(1)


def test_a_large_alpha_gives_the_pools_mix_and_a_small_one_a_single_label() -> None:
    share, generator = np.array([0.7, 0.3]), np.random.default_rng(1)
    assert label_mix(share, 1e9, generator) == pytest.approx(share, abs=1e-3)
    single = [label_mix(share, 1e-9, generator) for _ in range(400)]
    assert all(mix.max() > 0.999 for mix in single)
    assert np.mean(single, axis=0) == pytest.approx(share, abs=0.1)


# --- their rows -----------------------------------------------------------------------------------
def test_a_clients_rows_depend_on_the_seed_and_its_number_alone(config, split_line) -> None:
    task = split_line()
    rows = {}
    for clients, more in ((12, ""), (1_000_000, "federation.clients_per_round=9")):
        settings = config(f"simulation.clients={clients}", *([more] if more else []))
        shards = PooledShards(task, task.load(None), settings)
        rows[clients] = [shards.rows(client) for client in (7, 3, 7)]
    for one, other in zip(rows[12], rows[1_000_000], strict=True):
        assert all(np.array_equal(one[split], other[split]) for split in one)
    first, _, again = rows[12]
    assert all(np.array_equal(first[split], again[split]) for split in first)
    assert {name: len(part) for name, part in first.items()} == {
        "train": 10,
        "validation": 0,
        "test": 10,
    }


def test_nobody_trains_on_a_row_that_another_tests(config) -> None:
    settings = config("task.columns.target=malignant", "data.validation_fraction=0.2")
    task = make_task(settings)
    shards = PooledShards(task, task.load(None), settings)
    seen: dict[str, set[int]] = {"train": set(), "validation": set(), "test": set()}
    for client in range(1, 60):
        for split, rows in shards.rows(client).items():
            assert len(rows) == shards.sizes[split] and (np.diff(rows) >= 0).all()
            seen[split] |= set(rows.tolist())
    assert all(seen.values())
    assert len(set.union(*seen.values())) == sum(map(len, seen.values()))


def test_lazily_made_is_eagerly_made(config, split_line, federate) -> None:
    settings, task = config("federation.rounds=2"), split_line()
    lazily = simulate(settings, task=task)
    pooled, names = task.load(None), ClientNames(12)
    drawn = PooledShards(task, pooled, settings)
    shards = {
        name: pooled.select(np.concatenate(list(drawn.rows(client).values())))
        for client, name in enumerate(names, 1)
    }
    eagerly = federate(settings, shards, task)
    assert same(model_of(lazily), eagerly.outcome.model)
    told = ("cohort", "accepted", "overall", "hospitals", "train_loss", "bytes_up", "bytes_down")
    for one, other in zip(lazily.rounds, eagerly.recorder.rows, strict=True):
        assert {key: one[key] for key in told} == {key: other[key] for key in told}


def test_a_prepared_pool_gives_what_each_client_would_prepare(config) -> None:
    settings = config()
    shared, own = make_task(settings), make_task(settings)
    assert shared.rowwise
    own.rowwise = False
    totals = None
    for name in ("client-03", "client-11"):
        parts = []
        for task in (shared, own):
            hospital = Population(settings, task).hospital(name)
            totals = totals or own_totals(hospital)
            parts.append(hospital.examples(totals, digest_arrays(totals)))
            assert hospital.sizes() == {"train": 15, "validation": 0, "test": 5}
        for split in ("train", "test"):
            assert torch.equal(parts[0][split].inputs, parts[1][split].inputs)
            assert torch.equal(parts[0][split].targets, parts[1][split].targets)


def test_a_task_that_makes_other_than_an_example_a_row_is_named(config, line) -> None:
    class Halving(line):
        rowwise = True

        def prepare(self, raw, totals, train):
            return raw.select(np.arange(len(raw) // 2))

    hospital = Population(config(), Halving()).hospital("client-01")
    with pytest.raises(TaskError, match="made 20 examples of 40 rows.*rowwise = False"):
        hospital.examples({}, "none")


def test_a_task_may_generate_its_clients(config, line) -> None:
    class Generated(line):
        def load(self, path: Path | None) -> Examples:
            raise AssertionError("nothing is read")

        def generate(self, client: int, generator: np.random.Generator) -> Examples:
            x = torch.from_numpy(generator.random((4 + client % 3, 1))).float()
            return Examples(x, 2 * x[:, 0])

    population = Population(config(), Generated())
    assert [sum(population.hospital(n).sizes().values()) for n in population.names[:3]] == [5, 6, 4]
    assert population.members is not None and population.members[1].sizes["train"] > 0
    one, other = (
        simulate(config(f"simulation.executor={executor}"), task=Generated())
        for executor in ("sequential", "cohort")
    )
    assert model_of(one)["weight"] == pytest.approx(model_of(other)["weight"], rel=1e-5)
    assert {tuple(row["accepted"]) for row in one.rounds} == {
        tuple(row["accepted"]) for row in other.rounds
    }


def test_noise_on_inputs_grows_with_a_clients_number(config, line) -> None:
    plain, noisy = (
        Population(config(f"simulation.feature_noise={sigma}"), line()) for sigma in (0.0, 0.5)
    )
    changes = [
        (
            noisy.hospital(name).examples({}, "none")["train"].inputs
            - plain.hospital(name).examples({}, "none")["train"].inputs
        ).var()
        for name in ("client-01", "client-12")
    ]
    assert 0 < changes[0] < changes[1]


# --- runs -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("executor", ["sequential", "cohort"])
def test_memory_holds_a_few_cohorts_only(config, line, executor: str, monkeypatch) -> None:
    alive: weakref.WeakSet[Hospital] = weakref.WeakSet()
    made, init = [0], Hospital.__init__

    def counted(self: Hospital, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        alive.add(self)
        made[0] += 1

    monkeypatch.setattr(Hospital, "__init__", counted)

    class Most(Observer):
        hospitals = 0

        def round_committed(self, row: dict[str, Any]) -> None:
            self.hospitals = max(self.hospitals, len(alive))

    most, rounds, cohort, asked = Most(), 15, 20, 10
    result = simulate(
        config(
            "simulation.clients=1000000",
            f"federation.rounds={rounds}",
            f"federation.clients_per_round={cohort}",
            f"evaluation.clients={asked}",
            f"simulation.executor={executor}",
        ),
        task=line(),
        observer=most,
    )
    assert len({name for row in result.rounds for name in row["accepted"]}) > 0.9 * rounds * cohort
    assert made[0] <= (rounds + 2) * cohort + 2 * asked
    keep = 2 * cohort + asked
    assert keep / 2 < most.hospitals <= 2 * (keep + cohort)
    state = newest_checkpoint(result.run_directory / "checkpoints")
    assert state is not None and state.accepted == {}


class Stop(Observer):
    """Interrupts after a round."""

    run: Path

    def __init__(self, after: int) -> None:
        self._after = after

    def round_committed(self, row: dict[str, Any]) -> None:
        if row["round"] == self._after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_executors_and_a_resume_give_one_model(config, line, strategy, tmp_path: Path) -> None:
    sets = [f"strategy.name={strategy}", "simulation.dropout=0.2", "federation.rounds=4"]
    reference = simulate(config(*sets), task=line())
    for executor in ("cohort", "processes"):
        found = simulate(config(*sets, f"simulation.executor={executor}"), task=line())
        assert model_of(found)["weight"] == pytest.approx(model_of(reference)["weight"], rel=2e-5)
        assert [r["accepted"] for r in found.rounds] == [r["accepted"] for r in reference.rounds]
    before = set((tmp_path / "runs").iterdir())
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        simulate(config(*sets), task=line(), observer=Stop(2))
    (stopped,) = set((tmp_path / "runs").iterdir()) - before
    resumed = simulate(resume=stopped, task=line())
    assert same(model_of(resumed), model_of(reference))
    state = newest_checkpoint(stopped / "checkpoints")
    assert state is not None
    sampled = {name for row in resumed.rounds for name in row["accepted"]}
    assert set(state.accepted) == (sampled if strategy == "scaffold" else set())


def test_evaluations_ask_the_same_clients_in_every_round(config, line) -> None:
    result = simulate(config("evaluation.clients=5"), task=line())
    asked = [sorted(row["hospitals"]) for row in result.rounds]
    assert len(asked[0]) == 5 and asked[0] == asked[1] == asked[2]
    assert [row["hospital"] for row in result.comparison] == ["mean", "overall"]
    summary = json.loads((result.run_directory / "run.json").read_text())
    assert "hospitals" not in summary
    assert summary["population"] == {
        "clients": 12,
        "train": 15,
        "validation": 0,
        "test": 5,
        "device": "cpu",
    }
    page = (result.run_directory / "report.html").read_text()
    assert "virtual clients<b>12</b>" in page and "The population is virtual" in page


def test_an_ordinary_population_may_be_evaluated_on_a_sample(config, line) -> None:
    settings = config(
        "simulation.partition=iid",
        "simulation.clients=4",
        "federation.clients_per_round=2",
        "simulation.min_examples=1",
        "evaluation.clients=2",
    )
    result = simulate(settings, task=line())
    assert {len(row["hospitals"]) for row in result.rounds} == {2}
    (asked,) = {tuple(row["hospitals"]) for row in result.rounds}
    assert [row["hospital"] for row in result.comparison] == [*asked, "mean", "overall"]
    assert all(row["pooled"] and row["local"] for row in result.comparison)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("simulation.masks=protocol", "simulation.masks: .*can only be emulated; leave it out"),
        ('privacy={unit="hospital",epsilon=1.0}', "privacy.unit: .*set it to 'none'"),
        ("simulation.scenario={default={latency_s=1.0}}", "simulation.scenario: .*leave it out"),
        ("simulation.rows_per_client=1", "rows_per_client: .*no client would have any.*raise it"),
    ],
)
def test_what_a_virtual_population_cant_hold_is_refused(config, line, change, message) -> None:
    key, _, value = change.partition("=")
    sets = [change] if "." in key else [f"{key}.unit=hospital", f"{key}.epsilon=1.0"]
    if key == "simulation.masks":
        sets.append("secure_aggregation.enabled=true")
    if key == "simulation.scenario":
        sets = ["simulation.scenario.default.latency_s=1.0"]
    with pytest.raises(ConfigError, match=message):
        simulate(config(*sets), task=line())


def test_a_virtual_population_needs_a_cohort_size(line) -> None:
    text = TEXT.replace("clients_per_round = 6\n", "")
    with pytest.raises(ConfigError, match="federation.clients_per_round: .*e.g. 100"):
        simulate(parse_config(text), task=line())


def test_fewer_evaluated_clients_than_a_masked_sum_needs_are_refused() -> None:
    with pytest.raises(ConfigError, match="evaluation.clients is 2, below secure_aggregation"):
        parse_config("[evaluation]\nclients = 2\n")
