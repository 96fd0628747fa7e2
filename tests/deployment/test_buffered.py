"""Rounds that don't wait, between processes: one hospital is slow, and dies while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.deployment.harness import Federation, federation, until

NAMES = ("a", "b", "c", "d")
BUFFERED: dict[str, Any] = {
    "names": NAMES,
    "secure": True,
    "min_clients": 3,
    "pace": 'pace = "buffered"\nbuffer = 3',
    "extra": "[evaluation]\nevery = 4\n",
}
WORK = "wardround.client.requests.job:TrainingJob.work"


def held(until_there: Path, count: int) -> tuple[str, dict[str, Any]]:
    return "hold", {"place": WORK, "count": count, "until": str(until_there)}


def begun(trial: Federation, name: str) -> list[dict[str, Any]]:
    return [
        line
        for line in trial.audit(name)
        if (line["event"], line.get("kind")) == ("received", "train.begin")
    ]


def test_a_slow_hospital_that_dies_while_it_trains(tmp_path: Path) -> None:
    """a, b and c make two rounds; then a is held, and the third one waits for d, whose update is of
    the first model: it was killed over it, was asked for the same again, and has trained anew."""
    go = tmp_path / "go"
    with federation(tmp_path, **BUFFERED) as trial:
        trial.start(clients={"a": [held(go, 3)], "d": [held(tmp_path / "never", 1)]})
        trial.reach_round(2)
        assert [row["accepted"] for row in trial.rounds()] == [["a", "b", "c"]] * 2
        trial.clients["d"].kill()
        trial.start_client("d")
        trial.reach_round(3)
        third = trial.rounds()[2]
        assert third["staleness"] == {"b": 0, "c": 0, "d": 2}
        assert third["accepted"] == ["b", "c", "d"] and third["train_loss"] > 0
        first, again = begun(trial, "d")[:2]
        assert (first["round"], first["request"]) == (1, again["request"])
        go.touch()
        trial.finish()
        last = trial.rounds()[-1]
        assert last["overall"]["test"]["auc"] > 0.5 and last["over"]["test"] == ["a", "b", "c", "d"]
        trial.stop_clients()


def test_a_server_that_dies_before_a_round_is_committed(tmp_path: Path) -> None:
    """The sum of round 2 is opened from its journal: nobody trains for it again. d, whose answer
    went to the dead server, begins anew with the newest model."""
    go, once = tmp_path / "go", tmp_path / "once"
    place = "wardround.server.rounds.buffer:Buffer.over"
    dies = ("die", {"place": place, "when": "after", "count": 2, "once": str(once)})
    with federation(tmp_path, **BUFFERED) as trial:
        trial.start(server=[dies], clients={"d": [held(go, 1)]})
        until(once.exists, "the server's death")
        go.touch()
        trial.start_server()
        trial.finish()
        rows = trial.rounds()
        assert [row["round"] for row in rows] == [1, 2, 3, 4]
        assert [row["accepted"] for row in rows[:2]] == [["a", "b", "c"]] * 2
        for name in "abc":
            assert [line["round"] for line in begun(trial, name)][:3] == [1, 2, 3]
        assert [line["round"] for line in begun(trial, "d")][:2] == [1, 3]
        assert all(len(row["accepted"]) == 3 for row in rows)
        trial.stop_clients()
