"""Scenarios by numbers that can be worked out: who is there, who is late, how long it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, RoundFailed
from wardround.common.flower.arrays import ArraySpec
from wardround.common.flower.hosting import become_server
from wardround.common.protocol import names as m
from wardround.common.settings import TrainingTable
from wardround.server.gathering.gatherer import Expected
from wardround.server.gathering.host import KnownModel
from wardround.server.members.member import Member
from wardround.simulations.scenario.clients import Presence, trained_examples
from wardround.simulations.scenario.file import load_scenario
from wardround.simulations.scenario.play import DROPPED, Scenario

NAMES = ["a", "b", "c"]
ROWS = {"a": 10, "b": 20, "c": 40}
PLAIN = "[secure_aggregation]\nenabled = false\n[federation]\nmin_clients = 1\n"
CONSTANT = """
[simulation.scenario.default]
examples_per_s = 10.0
download_bytes_per_s = 100.0
upload_bytes_per_s = 50.0
latency_s = 0.5
"""


def scenario(
    text: str = "", *sets: str, names: Sequence[str] = NAMES, rows: dict[str, int] = ROWS
) -> Scenario:
    config = parse_config(PLAIN + text, sets)
    return Scenario(config, names, lambda name: rows.get(name, 10), load_scenario(config))


def told_the_model(made: Scenario, numbers: int = 25) -> Scenario:
    """100 bytes of float32 down, and as many up."""
    layout = {"weight": ArraySpec((numbers,), "float32")}
    made.on_model(KnownModel(Expected(layout, ["weight"], {}, {}), "ab" * 32))
    return made


def row_of(made: Scenario) -> dict[str, Any]:
    row: dict[str, Any] = {}
    made.commit(row)
    return row


def training_message(server_round: int, kind: str = m.TRAIN) -> Message:
    become_server(1)
    return Message(RecordDict({m.CONFIG: ConfigRecord({m.ROUND: server_round})}), 1, kind)


# --- time -----------------------------------------------------------------------------------------
def test_a_round_takes_as_long_as_its_slowest_client() -> None:
    made = told_the_model(scenario(CONSTANT, "training.local_epochs=2"))
    made.wait_ready(False)
    assert made.failures(m.TRAIN, 1, NAMES) == {}
    # latency 0.5, download 100/100, upload 100/50, c trains on 2 x 40 examples at 10 per second
    assert row_of(made) == {"simulated_seconds": 11.5, "simulated_time_s": 11.5}
    made.wait_ready(False)
    made.failures(m.TRAIN, 2, ["a"])
    assert row_of(made) == {"simulated_seconds": 5.5, "simulated_time_s": 17.0}


def test_masked_uploads_have_the_size_of_the_ring() -> None:
    made = told_the_model(scenario("", "secure_aggregation.enabled=true"))
    # 25 coordinates of 32 bits; count, weight, clipped, failed, loss and steps of 192
    assert made._bytes == (100.0, 25 * 4 + 6 * 24)


def test_who_needs_longer_than_the_deadline_is_late_and_the_round_takes_the_deadline() -> None:
    made = told_the_model(
        scenario("[simulation.scenario]\ndeadline_s = 6.0\n" + CONSTANT, "federation.min_clients=2")
    )
    made.wait_ready(False)
    assert made.failures(m.TRAIN, 1, NAMES) == {
        "c": "late in the scenario: 7.5 s, the deadline is 6 s"
    }
    assert row_of(made)["simulated_seconds"] == 6.0
    made.failures(m.TRAIN, 2, ["a", "b"])
    assert row_of(made)["simulated_seconds"] == 5.5


def test_exactly_the_deadline_is_in_time() -> None:
    made = told_the_model(scenario("[simulation.scenario]\ndeadline_s = 7.5\n" + CONSTANT))
    assert made.failures(m.TRAIN, 1, NAMES) == {}
    assert row_of(made)["simulated_seconds"] == 7.5


def test_failed_attempts_and_waiting_count_in_the_round() -> None:
    text = CONSTANT + "[simulation.scenario.clients.c]\narrives_s = 100.0\n"
    made = told_the_model(scenario(text, "federation.min_clients=2"))
    for _ in range(2):  # b takes 5.5 s, twice
        made.wait_ready(False)
        assert made.failures(m.TRAIN, 1, ["a", "b", "c"]) == {
            "c": "absent in the scenario until 100 s"
        }
    assert row_of(made) == {"simulated_seconds": 11.0, "simulated_time_s": 11.0}
    needs_all = told_the_model(scenario(text, "federation.min_clients=3"))
    needs_all.wait_ready(False)
    assert needs_all.failures(m.TRAIN, 1, NAMES) == {}
    assert row_of(needs_all)["simulated_seconds"] == 107.5


def test_who_goes_while_it_trains_is_waited_for_until_then() -> None:
    made = told_the_model(scenario(CONSTANT + "[simulation.scenario.clients.c]\nleaves_s = 7.0\n"))
    assert made.failures(m.TRAIN, 1, NAMES) == {
        "c": "left in the scenario at 7 s, before it had answered"
    }
    assert row_of(made)["simulated_time_s"] == 7.0
    assert made.failures(m.TRAIN, 2, ["c"]) == {"c": "absent in the scenario for good"}


@pytest.mark.parametrize(
    ("training", "size", "examples"),
    [
        (TrainingTable(local_epochs=3, batch_size=8), 20, 60),
        (TrainingTable(local_steps=2, batch_size=8), 20, 16),
        (TrainingTable(local_steps=3, batch_size=8), 20, 20),
        (TrainingTable(local_steps=7, batch_size=8), 20, 48),
        (TrainingTable(local_steps=5, batch_size=8), 3, 15),
        (TrainingTable(local_steps=5, batch_size=8), 0, 0),
    ],
)
def test_examples_of_a_round(training: TrainingTable, size: int, examples: int) -> None:
    assert trained_examples(size, training) == examples


# --- presence -------------------------------------------------------------------------------------
def test_daily_windows_also_over_midnight() -> None:
    hour = 3600.0
    day, night = (8 * hour, 10 * hour), (22 * hour, 8 * hour)  # opens, length
    presence = Presence(
        np.zeros(2), np.array([np.inf, 50 * hour]), *map(np.array, zip(day, night, strict=True))
    )
    assert presence.at(0.0).tolist() == [False, True]
    assert presence.at(8 * hour).tolist() == [True, False]
    assert presence.next(18 * hour).tolist() == [32 * hour, 22 * hour]
    assert presence.until(9 * hour)[0] == 18 * hour
    assert presence.until(23 * hour)[1] == 30 * hour
    assert presence.until(47 * hour)[1] == 50 * hour  # it leaves for good
    assert presence.next(54 * hour)[1] == math.inf
    assert presence.next_together(0.0, 1) == 0.0
    assert presence.next_together(0.0, 2) == math.inf  # they never meet


@settings(max_examples=60)
@given(
    clients=st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 400), st.integers(0, 23), st.integers(1, 24)),
        min_size=1,
        max_size=6,
    ),
    now=st.integers(0, 300),
    count=st.integers(1, 6),
)
def test_presence_is_what_a_walk_over_the_hours_finds(clients, now, count) -> None:
    columns = zip(*clients, strict=True)
    arrives, stays, opens, length = (np.array(x, dtype=float) * 3600 for x in columns)
    presence = Presence(arrives, arrives + stays, opens, length)

    def there(hour: int) -> list[bool]:
        return [
            a <= hour < a + s and (hour - o) % 24 < n for a, s, o, n in clients
        ]  # every change is at a full hour

    assert presence.at(now * 3600.0).tolist() == there(now)
    hours = range(now, 700)
    for index in range(len(clients)):
        first = next((h * 3600.0 for h in hours if there(h)[index]), math.inf)
        assert presence.next(now * 3600.0)[index] == first
        if there(now)[index]:
            end = next(h * 3600.0 for h in hours if not there(h)[index]) if length[index] else 0
            assert presence.until(now * 3600.0)[index] == end
    together = next((h * 3600.0 for h in hours if sum(there(h)) >= count), math.inf)
    assert presence.next_together(now * 3600.0, count) == together


def test_a_cohort_is_drawn_of_those_who_are_there() -> None:
    text = "[simulation.scenario.clients.b]\narrives_s = 10.0\n"
    made = scenario(text, names=NAMES)
    members = [Member(name, i, {}) for i, name in enumerate(NAMES)]
    assert [x.name for x in made.present(members)] == ["a", "c"]
    made.go_on([{"simulated_time_s": 10.0}])
    assert made.present(members) == members
    assert scenario().present(members) == members


def test_clients_that_never_meet_stop_the_run_in_one_line() -> None:
    made = scenario(
        '[simulation.scenario.default]\ndaily = "08:00-10:00"\n'
        '[simulation.scenario.clients.a]\ndaily = "12:00-14:00"\n',
        "federation.min_clients=3",
    )
    with pytest.raises(RoundFailed, match="never has 3 clients at once after 0 s; change arrives"):
        made.wait_ready(False)


# --- dropout --------------------------------------------------------------------------------------
def test_dropout_is_as_frequent_as_was_said_and_differs_per_client() -> None:
    names = [f"c{index}" for index in range(2000)]
    text = "[simulation.scenario.default]\ndropout = 0.2\n[simulation.scenario.clients.c7]\n"
    made = scenario(text + "dropout = 0.999\n", names=names)
    dropped = [set(made.failures(m.TRAIN, server_round, names)) for server_round in range(1, 11)]
    total = sum(map(len, dropped))
    assert abs(total - 4000) < 5 * math.sqrt(20_000 * 0.2 * 0.8)  # five standard deviations
    assert sum("c7" in one for one in dropped) >= 9
    assert len({frozenset(one) for one in dropped}) == 10  # each round is drawn afresh


@pytest.mark.parametrize("text", ["", "[simulation.scenario]\ndeadline_s = 1000.0\n"])
def test_single_messages_and_groups_in_any_order_agree(text: str) -> None:
    sets = ("simulation.dropout=0.4", "simulation.unmask_dropout=0.3")
    sets += ("secure_aggregation.enabled=true",)
    names = [f"c{index}" for index in range(50)]
    for kind in (m.TRAIN, m.UNMASK):
        grouped = scenario(text, *sets, names=names)
        single = scenario(text, *sets, names=names)
        for server_round in (0, 1, 1, 2):  # preparation; twice in round 1: a repeated attempt
            found = grouped.failures(kind, server_round, names)
            message = training_message(server_round, kind)
            one_by_one = {name: single(message, name) for name in reversed(names)}
            assert {k: v for k, v in one_by_one.items() if v} == found
            assert set(found.values()) == {DROPPED}
    assert grouped.failures(m.EVALUATE, 1, names) == {}
    assert single(training_message(1, m.EVALUATE), "c1") is None


def test_an_attempt_is_drawn_afresh_and_a_resumed_round_as_it_was() -> None:
    names = [f"c{index}" for index in range(200)]
    made = scenario("", "simulation.dropout=0.5", names=names)
    first, second = (made.failures(m.TRAIN, 3, names) for _ in range(2))
    assert first != second
    again = scenario("", "simulation.dropout=0.5", names=names)
    assert again.failures(m.TRAIN, 3, names) == first
    assert again.failures(m.TRAIN, 3, names[:9]) == {k: second[k] for k in names[:9] if k in second}


# --- the file -------------------------------------------------------------------------------------
def test_numbers_are_drawn_per_client_and_spread_as_said() -> None:
    names = [f"c{index}" for index in range(4000)]
    text = (
        "[simulation.scenario.default]\nexamples_per_s = { median = 5.0, sigma = 0.5 }\n"
        "latency_s = { low = 1.0, high = 3.0 }\n"
        "[simulation.scenario.clients.c0]\nexamples_per_s = 1.0\nlatency_s = 0.0\n"
    )
    clients = scenario(text, names=names)._clients
    assert clients is not None
    trained = np.log(clients._speed[1:])
    assert abs(trained.mean() - math.log(5)) < 5 * 0.5 / math.sqrt(4000)
    assert trained.std() == pytest.approx(0.5, rel=5 / math.sqrt(2 * 4000))
    latency = clients._latency[1:]
    assert 1.0 <= latency.min() and latency.max() <= 3.0
    assert abs(latency.mean() - 2) < 5 * 2 / math.sqrt(12 * 4000)
    assert clients.seconds(np.full(4000, 60.0), 0.0, 0.0)[0] == 60.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deadlines = 3", "scenario.toml:1: deadlines: unknown key; did you mean 'deadline_s'?"),
        ("deadline_s = 0", "scenario.toml:1: deadline_s: input should be greater than 0"),
        (
            "[default]\nspeed = 3",
            "scenario.toml:2: default.speed: unknown key; allowed: arrives_s,",
        ),
        ("[default]\ndropout = 1.5", "2: default.dropout: must be a number from 0 to below 1 or"),
        ("[default]\nexamples_per_s = -1", "2: default.examples_per_s: must be a number above 0"),
        ("[default]\nlatency_s = true", r"must be a number from 0, { median = ..., sigma"),
        ("[default]\nlatency_s = { low = 3, high = 2 }", r"found {'low': 3, 'high': 2}"),
        ("[default]\nlatency_s = { mean = 3 }", "default.latency_s: must be a number"),
        ("[default]\ndaily = '8-18'", "2: default.daily: must be like '08:00-18:00'"),
        ("[default]\narrives_s = 9\nleaves_s = 9", "leaves_s must be later than arrives_s"),
        ("[clients.z]\nlatency_s = 1", "1: clients.z: there is no client 'z'; there are a, b, c"),
        ("[clients.a]\nlatncy_s = 1", "2: clients.a.latncy_s: unknown key; did you mean 'lat"),
        ("[clients.a", "scenario.toml: not valid TOML"),
    ],
)
def test_mistakes_in_the_file_are_named_by_file_line_and_key(tmp_path, text, message) -> None:
    (tmp_path / "scenario.toml").write_text(text)
    config = parse_config(
        '[simulation]\nscenario = "scenario.toml"\n', path=tmp_path / "federation.toml"
    )
    with pytest.raises(ConfigError) as caught:
        Scenario(config, NAMES, file=load_scenario(config))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_mistakes_in_a_table_and_a_missing_file_are_named_too() -> None:
    with pytest.raises(ConfigError, match="2: simulation.scenario.defalt: unknown key; did you m"):
        load_scenario(parse_config("[simulation.scenario]\ndefalt = 3\n"))
    with pytest.raises(ConfigError, match="simulation.scenario.clients.z: there is no client"):
        scenario("", "simulation.scenario.clients.z.latency_s=1", names=NAMES)
    with pytest.raises(ConfigError, match="simulation.scenario: .*nowhere.toml: no such file"):
        load_scenario(parse_config('[simulation]\nscenario = "nowhere.toml"\n'))
