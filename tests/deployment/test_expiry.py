"""The signed description ends in the middle of a run: by clocks that are moved."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Federation, Patch, federation, until
from wardround.common.config.load import load_config
from wardround.server.provision.kits import provision

SLOW: Patch = (
    "slow",
    {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.02},
)
CLOCKS = {
    "client": ["site.last_word", "site.kit", "process.main"],
    "server": ["reception.port"],
}


class Clock:
    """All parties' clock, so many days ahead of the machine's."""

    def __init__(self, folder: Path) -> None:
        self._file, self._start = folder / "days", datetime.now(UTC)
        self.set(0)

    def set(self, days: float) -> datetime:
        """Move it; gives about the time that it shows now."""
        new = self._file.with_suffix(".new")
        new.write_text(str(days))
        os.replace(new, self._file)
        return datetime.now(UTC) + timedelta(days=days)

    def patch(self, side: str) -> Patch:
        """A process goes by it."""
        places = [f"wardround.{side}.{module}:now_utc" for module in CLOCKS[side]]
        return ("shift_clock", {"places": places, "days": str(self._file)})


def shown(made: Federation) -> list[int]:
    """Stages of the plans that hospital a accepted, each time that one was shown to it."""
    return [line["stage"] for line in made.audit("a") if line["event"] == "manifest"]


def described(made: Federation) -> list[tuple[int, str]]:
    """Versions and ends of the descriptions that hospital a was given."""
    lines = [line for line in made.audit("a") if line["event"] == "description"]
    return [(line["version"], line["valid_until"][:10]) for line in lines]


def goes_on(made: Federation) -> None:
    last = made.rounds()[-1]["round"]
    until(lambda: made.rounds()[-1]["round"] >= last + 3, "further rounds")


def test_a_run_goes_on_over_a_renewal_and_stops_when_the_description_ends(tmp_path: Path) -> None:
    """A renewal shows no plan again, so no person is asked again, and costs no attempt; after
    the end nothing is answered until the coordinator has it signed anew."""
    clock = Clock(tmp_path)
    with federation(tmp_path, rounds=900, secure=True, attempts=1) as made:
        config = load_config(made.config)
        clients = {name: [SLOW, clock.patch("client")] for name in made.names}
        made.start(server=[clock.patch("server")], clients=clients)
        made.reach_round(2)
        before = shown(made)
        assert before[-1] == 2
        renewed = provision(config, now=clock.set(16)).description
        until(lambda: described(made) == [(1, renewed.valid_until[:10])], "the renewed description")
        goes_on(made)
        assert shown(made) == before
        assert made.server is not None
        clock.set(40)
        made.server.says("is valid until")  # in time: six days before
        made.clients["a"].says("is valid until")
        goes_on(made)
        now = clock.set(50)
        ended = "has expired by this machine's clock"
        until(lambda: all(ended in " ".join(made.refusals(name)) for name in "abc"), "refusals")
        made.server.says("missing: a (refuses the run), b (refuses the run), c (refuses the run)")
        made.server.says(ended)
        again = provision(config, now=now).description
        goes_on(made)
        made.server.says(f"was renewed, until {again.valid_until}")
        assert described(made)[1:] == [(1, again.valid_until[:10])]
        made.server.kill()
        assert_sound(made)


def test_a_server_begins_no_run_under_one_that_has_ended(tmp_path: Path) -> None:
    with federation(tmp_path) as made:
        config = load_config(made.config)
        long_ago = datetime.now(UTC) - timedelta(days=90)
        shutil.rmtree(made.folder / "provision")
        provision(config, now=long_ago)
        server = made.start_server()
        assert server.wait() == 10
        assert "has expired by this machine's clock" in server.text
        assert not list((made.folder).glob("runs/*"))
