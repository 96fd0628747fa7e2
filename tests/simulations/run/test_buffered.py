"""Buffered rounds (FedBuff): by hand, against synchronous ones, on a simulated clock, killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.federate import Federate, Run, examples
from tests.unlike import Consortium
from wardround.client.privacy.ledger import Ledger
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ConfigError, RoundFailed
from wardround.common.flower.hosting import Context, Message
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.simulations import simulate
from wardround.simulations.grid import InProcessGrid
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


def test_of_all_hospitals_it_is_the_synchronous_run_bit_for_bit(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    def run(*more: str) -> Result:
        sets = ["secure_aggregation.enabled=true", "evaluation.every=2", *more]
        return simulate(unlike("binary").config(*sets, runs=tmp_path))

    one = run()
    count = f"federation.buffer={len(one.rounds[0]['accepted'])}"
    other = run('federation.pace="buffered"', count)
    models = [(x.run_directory / "model" / "model.safetensors").read_bytes() for x in (one, other)]
    assert models[0] == models[1]
    assert [row["overall"] for row in one.rounds] == [row["overall"] for row in other.rounds]


def test_so_it_is_in_plain(federate: Federate, settings: Settings) -> None:
    synchronous = federate(settings("[federation]\nrounds = 3\n"), SHARDS).weight()
    text = BUFFERED.replace("buffer = 3", "buffer = 4")
    assert federate(settings(text), SHARDS).weight() == synchronous


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
    few = "1 hospitals can be in the round, federation.buffer is 3"
    assert run.recorder.failures == [f"b, c, d: no ({few})"]
    assert sorted(run.recorder.refusals)[0] == ("b", "train", "failed: no")
    assert [row["attempt"] for row in run.recorder.rows] == [2, 1, 1]


def test_who_goes_while_it_trains_is_asked_the_same_when_it_is_back(
    federate: Federate, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """d is away from its first training until round 3: then it is in round 4, with version 0."""
    away, of_d = False, list[int]()

    def goes(message: Message, name: str) -> str | None:
        nonlocal away
        if message.metadata.message_type != "train.begin":
            return None
        number = message.content["config"]["server-round"]
        if name != "d":
            away &= number < 3
            return None
        of_d.append(number)
        away = len(of_d) == 1
        return "the connection is lost" if away else None

    everyone = InProcessGrid.get_node_ids
    monkeypatch.setattr(
        InProcessGrid, "get_node_ids", lambda grid: [*everyone(grid)][: 3 if away else 4]
    )
    text = BUFFERED.replace("rounds = 3", "rounds = 5")
    run = federate(settings(text), SHARDS, intercept=goes)
    assert of_d[:2] == [1, 1] and not run.recorder.refusals
    with_d = [found["d"] for found in staleness(run) if "d" in found]
    assert with_d[0] == 3  # it is back while the others train for round 3


def test_a_failed_training_is_a_count_in_the_sum_alone(
    federate: Federate, settings: Settings
) -> None:
    """b's step runs away. Its answer to train.begin is everybody's, and round 1 tells nothing."""
    shards = SHARDS | {"b": examples([1e25], [1.0])}
    answers = dict[str, list[str]]()

    def wrap(app: Any) -> Any:
        def call(message: Message, context: Context) -> Message:
            reply: Message = app(message, context)
            if message.metadata.message_type == "train.begin":
                who = str(context.node_config["hospital"])
                answers.setdefault(repr(reply.content["metrics"]), []).append(who)
            return reply

        return call

    text = BUFFERED.replace("buffer = 3", "buffer = 4").replace("rounds = 3", "rounds = 1")
    with pytest.raises(RoundFailed, match="no round was made: all were lost") as found:
        federate(settings(text + MASKED), shards, wrap=wrap)
    assert [sorted(names) for names in answers.values()] == [["a", "b", "c", "d"]]
    (row,) = found.value.recorder.rows  # type: ignore[attr-defined]
    assert row["failed"] == {"train": 1} and "1 of 4 hospitals' training failed" in row["lost"]


def test_an_update_that_cant_be_had_holds_up_nobody(federate: Federate, settings: Settings) -> None:
    """a was ready first and sends nothing: the next attempt is of the others."""

    def mute(message: Message, name: str) -> str | None:
        return "no" if message.metadata.message_type == "train" and name == "a" else None

    text = BUFFERED.replace("min_clients = 2", "min_clients = 3").replace(
        "rounds = 3", "rounds = 1"
    )
    run = federate(settings(text), SHARDS, intercept=mute, host=clocked_again)
    (row,) = run.recorder.rows
    assert (row["attempt"], row["accepted"]) == (2, ["b", "c", "d"])


def clocked_again(roster: Mapping[str, bytes]) -> Host:
    """a is first, and when it is told again last."""
    told = list[str]()

    def due(number: int, names: Mapping[str, float]) -> dict[str, float]:
        told.extend(names)
        return {name: 1.0 + ord(name) + 100 * told.count(name) for name in names}

    return Host(due=due)


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


def test_a_private_run_goes_on_to_the_same_bytes(place: Path) -> None:
    """Simulated hospitals have other keys then than those that their kept claims were signed by."""
    unlike_rounds = FEDERATION[: FEDERATION.index("[simulation.scenario")]
    sets = ["federation.rounds=3", "secure_aggregation.enabled=false"]

    def config(name: str) -> Config:
        folder = f"federation.runs={place / name}"
        return parse_config(unlike_rounds + PRIVATE, [*sets, folder])

    one = simulate(config("private"))
    with pytest.raises(Crash):
        simulate(config("killed"), observer=CrashAfter(1))
    (begun,) = (place / "killed").iterdir()
    other = simulate(resume=begun)
    assert any(found != dict.fromkeys(found, 0) for found in staleness(one))
    assert staleness(one) == staleness(other)
    models = [(x.run_directory / "model" / "model.safetensors").read_bytes() for x in (one, other)]
    assert models[0] == models[1]


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


def test_a_deadline_has_no_effect_and_is_refused(place: Path) -> None:
    late = ["simulation.scenario={deadline_s=60.0}"]
    with pytest.raises(ConfigError, match="deadline_s: has no effect .* leave it out"):
        simulate(place / "federation.toml", overrides=late)
