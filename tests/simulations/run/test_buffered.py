"""Buffered rounds (FedBuff): by hand, against synchronous ones, on a simulated clock, killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import Federate, Run, examples
from tests.unlike import Consortium
from wardround.client.privacy.ledger import Ledger
from wardround.common.config.load import Config
from wardround.common.errors import RoundFailed
from wardround.common.flower.hosting import Message
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.simulations import simulate
from wardround.simulations.run.simulate import Result

Settings = Callable[[str], Config]
SHARDS = {
    "a": examples([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
    "b": examples([1.0], [2.0]),
    "c": examples([1.0], [-2.0]),
    "d": examples([1.0], [4.0]),
}
"""From w = 0, one step at a rate of 0.1: changes of 0.1 (1 - w), 0.1 (2 - w), ..."""
BUFFERED = """
[federation]
rounds = 3
min_clients = 2
pace = "buffered"
buffer = 3
"""
MASKED = "[secure_aggregation]\nenabled = true\n"
TIMES = {
    **{(1, "a"): 1.0, (1, "b"): 2.0, (1, "c"): 3.0, (1, "d"): 4.0},
    **{(2, "a"): 5.0, (2, "b"): 6.0, (2, "c"): 9.0},
    **{(3, "a"): 8.0, (3, "b"): 10.0, (3, "d"): 11.0},
}
"""When an update is there that is begun in a round."""


def clocked(roster: Mapping[str, bytes]) -> Host:
    return Host(due=lambda number, names: {name: TIMES[number, name] for name in names})


def staleness(run: Run | Result) -> list[dict[str, int]]:
    rows = run.recorder.rows if isinstance(run, Run) else run.rounds
    return [row["staleness"] for row in rows]


@pytest.mark.parametrize("masked", [False, True])
def test_a_run_by_hand(federate: Federate, settings: Settings, masked: bool) -> None:
    run = federate(settings(BUFFERED + (MASKED if masked else "")), SHARDS, host=clocked)
    assert staleness(run) == [
        {"a": 0, "b": 0, "c": 0},
        {"a": 0, "b": 0, "d": 1},
        {"a": 0, "b": 0, "c": 1},
    ]
    # n = 3 for a, 1 for the others
    w1 = (3 * 0.1 + 0.2 - 0.2) / 5
    w2 = w1 + (3 * 0.1 * (1 - w1) + 0.1 * (2 - w1) + 0.4 / sqrt(2)) / 5
    of_c = 0.1 * (-2 - w1) / sqrt(2)  # begun with version 1
    w3 = w2 + (3 * 0.1 * (1 - w2) + 0.1 * (2 - w2) + of_c) / 5
    assert run.weight() == pytest.approx(w3, abs=2e-5 if masked else 1e-6)


def test_masked_and_plain_come_to_one_model(federate: Federate, settings: Settings) -> None:
    plain, masked = (
        federate(settings(BUFFERED + more), SHARDS, host=clocked).weight() for more in ("", MASKED)
    )
    assert masked == pytest.approx(plain, abs=2e-5)


@pytest.mark.parametrize("masked", ["true", "false"])
def test_of_all_hospitals_it_is_the_synchronous_run_bit_for_bit(
    unlike: Callable[[str], Consortium], tmp_path: Path, masked: str
) -> None:
    consortium = unlike("binary")
    few = [f"secure_aggregation.enabled={masked}", "evaluation.every=2"]
    both = []
    for more in ([], ['federation.pace="buffered"', "federation.buffer=0"]):
        config = consortium.config(*few, runs=tmp_path / masked)
        if more:
            first = both[0].rounds[0]["accepted"]
            more[1] = f"federation.buffer={len(first)}"
            config = consortium.config(*few, *more, runs=tmp_path / masked)
        both.append(simulate(config))
    models = [(run.run_directory / "model" / "model.safetensors").read_bytes() for run in both]
    assert models[0] == models[1]
    assert [row["overall"] for row in both[0].rounds] == [row["overall"] for row in both[1].rounds]


def test_an_update_of_an_old_model_is_given_up(federate: Federate, settings: Settings) -> None:
    """d's first one comes after three rounds."""
    text = BUFFERED.replace("rounds = 3", "rounds = 5\nmax_staleness = 2")

    def host(roster: Mapping[str, bytes]) -> Host:
        def due(number: int, before: Mapping[str, float]) -> dict[str, float]:
            return {name: before[name] + (100.0 if name == "d" else number) for name in before}

        return Host(due=due)

    run = federate(settings(text), SHARDS, host=host)
    assert [row["given_up"] for row in run.recorder.rows] == [[], [], [], ["d"], []]
    assert all("d" not in found for found in staleness(run))


def test_a_hospital_drops_out_of_the_group(federate: Federate, settings: Settings) -> None:
    """Of four that were asked one sends nothing: the sum is of the three, without its update, and
    it begins anew with the next version."""

    def gone(message: Message, name: str) -> str | None:
        content = message.content
        sends = message.metadata.message_type == "train"
        return "gone" if sends and name == "d" and content["config"]["server-round"] == 1 else None

    text = BUFFERED.replace("buffer = 3", "buffer = 4").replace("rounds = 3", "rounds = 2")
    run = federate(settings(text + MASKED), SHARDS, intercept=gone)
    rows = run.recorder.rows
    assert [row["accepted"] for row in rows] == [["a", "b", "c"], ["a", "b", "c", "d"]]
    assert rows[1]["staleness"] == dict.fromkeys("abcd", 0)
    w1 = (3 * 0.1 + 0.2 - 0.2) / 5
    w2 = w1 + (3 * 0.1 * (1 - w1) + 0.1 * (2 - w1) + 0.1 * (-2 - w1) + 0.1 * (4 - w1)) / 6
    assert run.weight() == pytest.approx(w2, abs=2e-5)


def test_who_fails_to_train_is_told_again(federate: Federate, settings: Settings) -> None:
    asked: list[str] = []

    def fails(message: Message, name: str) -> str | None:
        if message.metadata.message_type == "train.begin" and name in "bcd":
            asked.append(name)
            return "no" if asked.count(name) == 1 else None
        return None

    run = federate(settings(BUFFERED), SHARDS, intercept=fails)
    assert run.recorder.failures == ["1 hospitals can be in the round, and federation.buffer is 3"]
    assert sorted(run.recorder.refusals)[0] == ("b", "train", "failed: no")
    assert [row["attempt"] for row in run.recorder.rows] == [2, 1, 1]


def test_more_hospitals_than_there_are(federate: Federate, settings: Settings) -> None:
    with pytest.raises(Exception, match="federation.buffer: is 5, and there are 4 hospitals"):
        federate(settings(BUFFERED.replace("buffer = 3", "buffer = 5")), SHARDS)


PRIVATE = """
[privacy]
unit = "example"
noise_multiplier = 1.0
delta = 1e-3
"""


def test_each_training_is_paid_for_when_it_begins(
    federate: Federate, settings: Settings, tmp_path: Path
) -> None:
    """d is in one round, and has begun twice; the noise is for as many as there are rounds."""
    run = federate(settings(BUFFERED + MASKED + PRIVATE), SHARDS, host=clocked)
    for name in "abcd":
        with Ledger.open(tmp_path / f"{name}.sqlite", name) as ledger:
            entries = [one for one in ledger.entries() if one.mechanism.startswith("dp-sgd")]
        assert [one.round for one in entries] == [number for number, who in TIMES if who == name]
    claims = [sorted(row["privacy"]) for row in run.recorder.rows]
    assert claims == [["a", "b", "c"], ["a", "b", "d"], ["a", "b", "c"]]


# --- on the clock of a scenario ---------------------------------------------------------------
FEDERATION = """
[federation]
rounds = 8
min_clients = 2
pace = "buffered"
buffer = 3
[evaluation]
every = 4
[simulation]
clients = 5
partition = "iid"
baselines = false
dropout = 0.0
[simulation.scenario.default]
latency_s = 10.0
[simulation.scenario.clients.hospital-4]
latency_s = 35.0
[simulation.scenario.clients.hospital-5]
latency_s = 5.0
daily = "00:01-00:02"
"""
DAY_S = 86400.0


class Crash(Exception):
    """Stands for a killed process."""


class CrashAfter(Observer):
    def __init__(self, last: int) -> None:
        self.last = last

    def round_committed(self, row: dict[str, Any]) -> None:
        if row["round"] == self.last:
            raise Crash


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("buffered")
    (found / "federation.toml").write_text(FEDERATION)
    return found


@pytest.fixture(scope="module")
def whole(place: Path) -> Result:
    return simulate(place / "federation.toml")


def test_the_clock_of_a_straggler_and_of_other_hours(whole: Result) -> None:
    """1, 2, 3 take 10 s. 4 takes 35 s: in the round at 40 s, where it was ready at 35. 5 is there
    from 60 to 120 s: told at 60, ready at 65, in the round at 70; and told then, ready at 75, as 4
    is and one who was ready at 70."""
    assert [row["simulated_time_s"] for row in whole.rounds] == [10, 20, 30, 40, 50, 60, 70, 75]
    names = [[name[-1] for name in found] for found in staleness(whole)]
    assert [len(found) for found in names] == [3] * 8
    assert names[:3] == [["1", "2", "3"]] * 3
    assert "4" in names[3]
    assert staleness(whole)[3]["hospital-4"] == 3
    assert "5" in names[6]
    assert staleness(whole)[6]["hospital-5"] == 6
    assert {"4", "5"} < set(names[7])


def test_a_killed_run_goes_on_to_the_same_bytes(place: Path, whole: Result) -> None:
    with pytest.raises(Crash):
        simulate(place / "federation.toml", observer=CrashAfter(3))
    (begun,) = set((place / "runs").iterdir()) - {whole.run_directory}
    again = simulate(resume=begun)
    one, other = (run.run_directory / "model" / "model.safetensors" for run in (whole, again))
    assert one.read_bytes() == other.read_bytes()
    keys = ("round", "cohort", "staleness", "simulated_time_s", "train_loss", "overall")
    for before, after in zip(whole.rounds, again.rounds, strict=True):
        assert {key: before[key] for key in keys} == {key: after[key] for key in keys}
    assert all(np.isfinite(value).all() for value in load_file(other).values())


def test_a_group_that_is_never_here_together_ends_the_run(place: Path) -> None:
    never = [
        'simulation.scenario={default={daily="00:00-01:00"},clients={"hospital-1"={daily='
        '"02:00-03:00"},"hospital-2"={daily="04:00-05:00"},"hospital-3"={daily="06:00-07:00"}}}',
        "federation.round_attempts=1",
    ]
    with pytest.raises(RoundFailed, match="never has 3 clients with updates at once"):
        simulate(place / "federation.toml", overrides=never)
