"""A consent is withdrawn while a run goes on, and given again."""

from __future__ import annotations

from pathlib import Path

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Federation, Patch, Process, federation, until

SLOW: list[Patch] = [
    ("slow", {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.1})
]


def approve(made: Federation, *arguments: str) -> str:
    argv = ["client", "approve", str(made.kit("c")), *arguments]
    done = Process(argv, made.folder, made.folder / "approve.log")
    assert done.wait() == 0, done.text
    return done.text


def decided(made: Federation) -> list[bool]:
    return [line["accepted"] for line in made.audit("c") if line["event"] == "approval"]


def test_a_withdrawn_consent_stops_the_next_answer_until_it_is_given_again(tmp_path: Path) -> None:
    """With the client running, over its restart, and without ``approval = "ask"``."""
    with federation(tmp_path, rounds=900, min_clients=2) as made:
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(1)
        assert "nothing more leaves" in approve(made, "--reject", "the board said no")
        last = made.rounds()[-1]["round"]
        until(lambda: made.rounds()[-1]["round"] >= last + 3, "rounds without c")
        assert all("c" not in row["accepted"] for row in made.rounds() if row["round"] > last + 1)
        assert any("the board said no" in (line.get("error") or "") for line in made.audit())
        assert "takes part" in approve(made, "--yes")
        until(lambda: "c" in made.rounds()[-1]["accepted"], "a round with c")
        approve(made, "--reject", "no after all")
        made.clients["c"].kill()
        made.start_client("c").says("no after all")
        assert "was rejected" in approve(made)
        until(lambda: decided(made) == [False, True, False], "every decision in the audit log")
        assert made.server is not None
        made.server.kill()
        assert_sound(made)


def test_the_server_waits_for_who_withdrew_or_left_and_no_attempt_is_lost(tmp_path: Path) -> None:
    """Every hospital is needed, and one attempt is all that a round has."""
    with federation(tmp_path, rounds=25, attempts=1, lease_s=1.0) as made:
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(1)
        approve(made, "--reject", "the board said no")
        assert made.server is not None
        made.server.says("2 of 3 are ready; missing: c (withdrew)")
        assert made.server.running
        approve(made, "--yes")
        last = made.rounds()[-1]["round"]
        until(lambda: made.rounds()[-1]["round"] > last, "a round with c")
        stop = ["client", "stop", str(made.kit("b"))]
        assert Process(stop, made.folder, made.folder / "stop.log").wait() == 0
        made.server.says("2 of 3 are ready; missing: b")
        assert any("goodbye: kill switch" in (x.get("reason") or "") for x in made.audit())
        assert Process([*stop, "--undo"], made.folder, made.folder / "stop.log").wait() == 0
        made.start_client("b")
        made.finish()
        assert_sound(made, rounds=25)
