"""What networks do: resets, cuts, black holes, slow links; frozen hospitals; proxies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, Patch, federation, until

LONG = pytest.mark.skipif("CHAOS_CAMPAIGNS" not in os.environ, reason="part of make chaos")
SLOW: list[Patch] = [
    ("slow", {"place": "wardround.client.process.responder:Responder._run_app", "seconds": 0.1})
]


def events(made: Federation, party: str, event: str) -> list[dict[str, object]]:
    """Lines of an audit log with this event."""
    return [line for line in made.audit(party) if line["event"] == event]


def test_connections_that_break_change_nothing(tmp_path: Path, undisturbed: Federation) -> None:
    """Resets, cuts within messages, a link that was refused for a while: the same model."""
    with federation(tmp_path) as made:
        made.start(clients={name: SLOW for name in made.names})
        made.reach_round(1)
        proxy = made.proxies["b"]
        for count in (1, 500, 9_000, 30_000):
            proxy.cut_after = count
            until(lambda: proxy.cut_after is None, "the cut")
        made.proxies["a"].reset()
        made.proxies["c"].refuse = True
        made.proxies["c"].reset()
        time.sleep(0.5)
        made.proxies["c"].heal()
        made.finish()
        assert len(events(made, "server", "connected")) >= 3 + 4
        assert_sound(made, rounds=4)
        assert_same_model(made, undisturbed)


@pytest.mark.parametrize(
    ("heartbeat_s", "lease_s", "most_s"),
    [(0.4, 2.0, 4.0), pytest.param(3.0, 12.0, 15.0, marks=LONG)],
)
def test_a_black_hole_and_a_frozen_hospital_are_noticed(
    tmp_path: Path, heartbeat_s: float, lease_s: float, most_s: float
) -> None:
    """And the round goes on without the hospital, which comes back."""
    with federation(
        tmp_path, rounds=900, min_clients=2, heartbeat_s=heartbeat_s, lease_s=lease_s
    ) as made:
        made.start(clients={"a": SLOW, "b": SLOW})
        made.reach_round(1)
        made.proxies["c"].black_hole = True
        began, noticed = time.monotonic(), {}
        server, client = made.server, made.clients["c"]
        assert server is not None

        def both() -> bool:
            for name, said in (
                ("server", "c is away" in server.text),
                ("c", "nothing came from the server" in client.text),
            ):
                if said:
                    noticed.setdefault(name, time.monotonic() - began)
            return len(noticed) == 2

        until(both, "both ends to notice")
        print(f"noticed after (s): {noticed}")
        assert max(noticed.values()) < most_s
        until(lambda: "c" not in made.rounds()[-1]["accepted"], "a round without c")
        made.proxies["c"].heal()
        until(lambda: "c" in made.rounds()[-1]["accepted"], "a round with c again")
        made.clients["b"].signal(signal.SIGSTOP)
        until(lambda: "b" not in made.rounds()[-1]["accepted"], "a round without b")
        refused = [one for row in made.rounds() for one in row["refused"]]
        reasons = [str(one["reason"]) for one in refused if one["hospital"] == "b"]
        assert any("server.lease_s" in reason for reason in reasons), reasons
        made.clients["b"].signal(signal.SIGCONT)
        until(lambda: "b" in made.rounds()[-1]["accepted"], "a round with b again")
        server.kill()
        assert_sound(made)


def test_slow_links_and_none_to_a_proxy_break_nothing(
    tmp_path: Path, undisturbed: Federation
) -> None:
    """All other tests dial through CONNECT proxies: here a and c don't, and b's is slow."""
    assert all(proxy.connections for proxy in undisturbed.proxies.values())
    with federation(tmp_path) as made:
        made.proxies["b"].rate = 50_000
        made.start_server()
        for name in made.names:
            made.start_client(name, direct=name != "b")
        made.finish()
        assert [bool(made.proxies[name].connections) for name in "abc"] == [False, True, False]
        assert_same_model(made, undisturbed)
        assert_sound(made, rounds=4)
        assert not [e for e in events(made, "server", "disconnected") if "lease" in str(e)]


def test_whoever_says_nothing_is_shown_the_door(tmp_path: Path) -> None:
    """Connections that send nothing, or noise, neither last nor keep others out."""
    import socket

    with federation(tmp_path) as made:
        made.start_server()
        assert made.server is not None
        made.server.says("waiting for hospitals")
        until(lambda: _listens(made.port), "the port")
        silent = [socket.create_connection(("127.0.0.1", made.port)) for _ in range(40)]
        for number, one in enumerate(silent[:20]):
            one.sendall(bytes([number]) * 1000)
        for name in made.names:
            made.start_client(name)
        made.finish()
        for one in silent:
            one.close()
        assert_sound(made, rounds=4)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
