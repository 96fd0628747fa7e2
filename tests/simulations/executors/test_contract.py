"""Every executor gives what single messages, one after the other, give.

Sequential: bit for bit. The others: to the rounding of float32 (stated as 2e-5 of a parameter's
largest value, after two rounds), whatever the strategy, the model and the hospitals' sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.common.errors import RoundFailed
from wardround.common.flower.arrays import Arrays
from wardround.simulations.executors import make_executor, trainer
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.workers.processes import processes as make_processes
from wardround.simulations.executors.workers.spread import Spread

SIZES = [7, 1, 12, 30, 12, 5]
STRATEGIES = {
    "fedavg": "",
    "fedavg, uniform": "[strategy]\nweighting = 'uniform'\n",
    "fedprox": "[strategy]\nname = 'fedprox'\nproximal_mu = 0.5\n",
    "fedadam": "[strategy]\nname = 'fedadam'\n",
    "scaffold": "[strategy]\nname = 'scaffold'\n",
    "fednova": "[strategy]\nname = 'fednova'\n",
    "feddyn": "[strategy]\nname = 'feddyn'\n",
    "fedmedian": "[strategy]\nname = 'fedmedian'\n",
    "personal": "[strategy]\npersonal_layers = ['*.bias']\n",
    "fedrep": "[strategy]\nname = 'fedrep'\nhead_epochs = 2\n",
    "apfl": "[strategy]\nname = 'apfl'\n",
    "moon": "[strategy]\nname = 'moon'\ncontrast = 3.0\n",
    "ditto": "[strategy]\nname = 'ditto'\npull = 0.5\n",
    "momentum": "[training]\nmomentum = 0.9\nweight_decay = 0.1\n",
    "adam": "[training]\noptimizer = 'adam'\nweight_decay = 0.1\n",
    "adamw": "[training]\noptimizer = 'adamw'\nlocal_epochs = 3\n",
    "clipped": "[training]\nmax_grad_norm = 0.3\nlocal_steps = 7\n",
    "secure": "[secure_aggregation]\nenabled = true\n",
    "small, masked": "[secure_aggregation]\nenabled = true\n[compression]\nbits = 8\n",
    "small": "[compression]\nbits = 8\n",
    "hospital level": "[privacy]\nunit = 'hospital'\nnoise = 'central'\nnoise_multiplier = 0.5\n",
    "example level": "[privacy]\nunit = 'example'\nnoise_multiplier = 1.0\n",
}
BASE = {"training": "batch_size = 4\nlr = 0.3\n", "federation": "rounds = 2\nseed = 5\n"}


def text(strategy: str, more: str = "") -> str:
    """The configuration: defaults of this file, unless the strategy's text has the table."""
    given = STRATEGIES[strategy] + more
    for table, lines in BASE.items():
        if f"[{table}]" in given:
            given = given.replace(f"[{table}]\n", f"[{table}]\n{lines}")
        else:
            given += f"[{table}]\n{lines}"
    return given


settings_of_hypothesis = hypothesis_settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def same(one: Arrays, other: Arrays) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def close(one: Arrays, other: Arrays, tolerance: float = 2e-5) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = max(1.0, float(np.abs(value).max(initial=0.0)))
        assert np.abs(value - other[name]).max(initial=0.0) <= tolerance * scale, name


def figures(rows: list[dict[str, Any]]) -> list[Any]:
    keys = ["round", "cohort", "accepted", "refused"]
    if not rows[0]["privacy"]:  # a claim's length depends on the run's name
        keys += ["bytes_up", "bytes_down"]
    return [[row[key] for key in keys] for row in rows]


@pytest.fixture
def processes() -> Iterator[Spread]:
    executor = make_processes(2)
    yield executor
    executor.close()


@pytest.mark.parametrize(
    ("strategy", "form"),
    [(strategy, "dense") for strategy in STRATEGIES]
    + [(strategy, "conv") for strategy in ("fedavg", "scaffold", "personal", "adam")],
)
def test_it_is_what_single_messages_give(
    settings, federate, net, make_hospitals, processes, strategy, form
) -> None:
    config = settings(text(strategy, "[data]\ntest_fraction = 0.3\n"))
    shards = make_hospitals(SIZES)
    single = federate(config, shards, net(form))
    one_by_one = federate(config, shards, net(form), executor=make_executor("sequential"))
    executor = make_executor("cohort")
    cohort = federate(config, shards, net(form), executor=executor)
    assert not executor.notes()
    same(single.outcome.model, one_by_one.outcome.model)
    spread = federate(config, shards, net(form), executor=processes)
    close(single.outcome.model, spread.outcome.model)
    assert figures(single.recorder.rows) == figures(spread.recorder.rows)
    assert not processes.notes()
    for row, other in zip(single.recorder.rows, one_by_one.recorder.rows, strict=True):
        assert row["overall"] == other["overall"] and row["hospitals"] == other["hospitals"]
        assert row["train_loss"] == other["train_loss"] or strategy.endswith("level")
    close(single.outcome.model, cohort.outcome.model)
    assert figures(single.recorder.rows) == figures(one_by_one.recorder.rows)
    assert figures(single.recorder.rows) == figures(cohort.recorder.rows)
    for row, other in zip(single.recorder.rows, cohort.recorder.rows, strict=True):
        for split, part in row["overall"].items():
            assert part == pytest.approx(other["overall"][split], rel=1e-4), split


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
def test_the_same_executor_gives_the_same_bits(
    settings, federate, net, make_hospitals, strategy
) -> None:
    config, shards = settings(text(strategy)), make_hospitals(SIZES)
    one, other = (
        federate(config, shards, net("conv"), executor=make_executor("cohort")) for _ in range(2)
    )
    same(one.outcome.model, other.outcome.model)


@settings_of_hypothesis
@given(
    sizes=st.lists(st.integers(0, 9), min_size=2, max_size=7).filter(lambda x: sum(map(bool, x))),
    strategy=st.sampled_from([x for x in STRATEGIES if "level" not in x and x != "secure"]),
    form=st.sampled_from(["dense", "deep", "linear", "wide", "conv", "batchnorm"]),
    room=st.sampled_from([1, 40_000, trainer.CHUNK_BYTES]),
)
def test_whatever_the_sizes_and_the_chunks(
    settings, federate, net, make_hospitals, sizes, strategy, form, room
) -> None:
    """Also with empty shards, with single examples, and with chunks of one client."""
    assume(not (form == "linear" and strategy in ("personal", "fedrep", "moon")))  # one layer
    assume("masked" not in strategy or sum(map(bool, sizes)) >= 3)
    config = settings(text(strategy).replace("rounds = 2", "rounds = 1\nround_attempts = 1"))
    shards = make_hospitals(sizes, 240 if form == "wide" else 6)
    results: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "CHUNK_BYTES", room)
        for name in ("sequential", "cohort"):
            executor = make_executor(name)
            try:
                results.append(federate(config, shards, net(form), executor=executor))
            except RoundFailed as error:
                results.append(error)
    one, other = results
    if isinstance(one, RoundFailed):  # BatchNorm can't train on one example
        assert isinstance(other, RoundFailed)
        assert str(one).partition(";")[0] == str(other).partition(";")[0]
        return
    # Adam divides a gradient by its own size: of one near zero, rounding is all there is
    tolerance = 1e-3 if strategy.startswith("adam") else 2e-5
    close(one.outcome.model, other.outcome.model, tolerance)
    assert form == "batchnorm" or not executor.notes()
    assert figures(one.recorder.rows) == figures(other.recorder.rows)


@pytest.mark.parametrize("name", ["sequential", "cohort"])
def test_an_update_that_is_no_number_is_its_own_clients_alone(
    settings, federate, net, make_hospitals, name
) -> None:
    shards = make_hospitals(SIZES)
    shards["h02"].inputs.fill_(float("nan"))
    shards["h04"].inputs.mul_(1e30)
    config = settings(text("fedavg"))
    single = federate(config, shards, net("linear"))
    other = federate(config, shards, net("linear"), executor=make_executor(name))
    refused = single.recorder.rows[0]["refused"]
    assert [one["hospital"] for one in refused] == ["h02", "h04"]
    assert figures(single.recorder.rows) == figures(other.recorder.rows)
    close(single.outcome.model, other.outcome.model)


def test_figures_that_fail_are_their_own_clients_alone(
    settings, federate, net, make_hospitals
) -> None:
    shards = make_hospitals(SIZES)
    config = settings(text("fedavg", "[data]\ntest_fraction = 0.3\n"))
    tested = {
        name: Hospital(OwnShard(name, net(), config, lambda rows=rows: rows)).sizes()["test"]
        for name, rows in shards.items()
    }
    most = max(tested.values())
    assert [name for name, rows in tested.items() if rows == most] == ["h03"]

    class Picky(net):  # type: ignore[misc]
        def metrics(self, outputs, targets):
            if len(targets) == most:
                raise ValueError("most")
            return super().metrics(outputs, targets)

    single = federate(config, shards, Picky())
    other = federate(config, shards, Picky(), executor=make_executor("cohort"))
    refused = single.recorder.rows[0]["refused"]
    assert [(one["hospital"], one["step"]) for one in refused] == [("h03", "evaluate")]
    assert figures(single.recorder.rows) == figures(other.recorder.rows)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
@pytest.mark.parametrize("name", ["sequential", "cohort"])
def test_clients_that_fail_are_left_out(
    settings, federate, net, make_hospitals, name, strategy
) -> None:
    def fails(message, client: str) -> str | None:
        late = message.metadata.message_type == "train" and client in ("h00", "h03")
        return "simulated dropout" if late else None

    config, shards = settings(text(strategy)), make_hospitals(SIZES)
    single = federate(config, shards, net(), intercept=fails)
    other = federate(config, shards, net(), intercept=fails, executor=make_executor(name))
    assert single.recorder.rows[0]["accepted"] == ["h01", "h02", "h04", "h05"]
    assert figures(single.recorder.rows) == figures(other.recorder.rows)
    close(single.outcome.model, other.outcome.model)


@pytest.mark.parametrize(
    ("form", "used", "note"),
    [
        ("dense", "dense", None),
        ("wide", "dense", None),
        ("conv", "vmap", None),
        ("batchnorm", "sequential", "BatchNorm1d takes its statistics"),
        ("tied", "sequential", "a parameter is shared between layers"),
        ("counting", "sequential", "the forward pass changes 'count'"),
        ("fickle", "sequential", "calling .item() on a Tensor"),
        ("noisy", "sequential", "called random operation"),
    ],
)
def test_it_takes_the_form_that_suits_and_says_why_not(
    settings, federate, net, make_hospitals, form, used, note
) -> None:
    executor = make_executor("cohort")
    shards = make_hospitals([4, 5], 240 if form == "wide" else 6)
    config = settings(text("fedavg"))
    run = federate(config, shards, net(form), executor=executor)
    assert isinstance(executor, Cohort)
    assert executor.form == used
    assert len(executor.notes()) == (note is not None)
    assert all(str(note) in line for line in executor.notes()), executor.notes()
    single = federate(config, shards, net(form))
    (same if used == "sequential" else close)(single.outcome.model, run.outcome.model)
