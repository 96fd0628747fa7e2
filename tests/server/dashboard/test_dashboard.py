"""The dashboard over HTTP: read-only, for this host only, bounded, and parseable metrics."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from wardround.common.address import bare_host
from wardround.common.errors import ConfigError
from wardround.server.dashboard import app as dashboard_app
from wardround.server.dashboard import streams
from wardround.server.dashboard.app import Dashboard, serve_dashboard
from wardround.server.dashboard.metrics import Metrics
from wardround.server.dashboard.sign_in.roles import ANYBODY
from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import StudyLine

EVIL = "<img src=x onerror=alert(1)>"
PAGES = ["/", "/page.css", "/page.js", "/api/state", "/metrics", "/healthz", "/nowhere"]
ASSETS = Path(dashboard_app.__file__).parent


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "round": number,
        "accepted": ["north"],
        "train_loss": 0.5,
        "overall": {"test": {"auc": 0.75, "loss": float("nan")}},
        "privacy": {"north": {"epsilon": 1.5, "limit": 4.0, "delta": 1e-5}},
        "bytes_up": 100,
        "bytes_down": 200,
        "seconds": {"total": 0.2},
    } | more


@pytest.fixture
def served() -> Iterator[tuple[Board, Dashboard]]:
    board = Board(RunFacts("run-1", 5, ["north", "south"]))
    dashboard = serve_dashboard(board, "127.0.0.1:0", also=["FL.example.org"])
    yield board, dashboard
    dashboard.stop()


def ask(
    dashboard: Dashboard, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = connect(dashboard)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def connect(dashboard: Dashboard) -> http.client.HTTPConnection:
    where = urllib.parse.urlsplit(dashboard.url)
    return http.client.HTTPConnection(str(where.hostname), where.port, timeout=30)


def next_event(stream: http.client.HTTPResponse) -> tuple[str, dict[str, Any]]:
    lines = []
    while line := stream.readline().decode().rstrip("\n"):
        lines.append(line)
    fields = dict(line.split(": ", 1) for line in lines)
    return fields["event"], json.loads(fields["data"])


def test_the_state_is_the_boards_snapshot(served: tuple[Board, Dashboard]) -> None:
    board, dashboard = served
    board.connected("north", "10.0.0.7:1", "0.1.0")
    board.round_committed(row(1))
    answer, body = ask(dashboard, "/api/state")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    expected = board.snapshot()
    assert json.loads(body) == expected | {"now": json.loads(body)["now"]}


def test_every_answer_has_the_security_headers(served: tuple[Board, Dashboard]) -> None:
    asked = [(path, "GET", {}) for path in PAGES]
    for path, method, more in [*asked, ("/", "POST", {}), ("/", "GET", {"Host": "evil.example"})]:
        answer, _ = ask(served[1], path, method, **more)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_but_reading_is_answered(served: tuple[Board, Dashboard], method: str) -> None:
    board, dashboard = served
    before = board.version
    for path in PAGES:
        answer, _ = ask(dashboard, path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert board.version == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:9999", 200),
        ("[::1]:8080", 200),
        ("fl.example.org", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example:8080", 421),
        ("10.1.2.3:8080", 421),
        ("localhost@evil.example", 421),
        ("", 421),
    ],
)
def test_a_rebound_name_is_refused(served: tuple[Board, Dashboard], host: str, status: int) -> None:
    for path in ("/", "/api/state", "/api/events" if status == 421 else "/metrics"):
        answer, body = ask(served[1], path, Host=host)
        assert answer.status == status
        assert status == 200 or b"run-1" not in body


def test_a_host_header_loses_its_port_only() -> None:
    hosts = ["a.b:80", "a.b", "[::1]:80", "[::1]", "::1", "127.0.0.1:8080", "a:b:c"]
    bare = ["a.b", "a.b", "::1", "::1", "::1", "127.0.0.1", "a:b:c"]
    assert [bare_host(host) for host in hosts] == bare


def test_no_documentation_of_an_interface(served: tuple[Board, Dashboard]) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/../app.py", "/app.py", "/page.html"):
        assert ask(served[1], path)[0].status == 404


def test_the_page_needs_nothing_from_elsewhere_and_has_no_inline_script(
    served: tuple[Board, Dashboard],
) -> None:
    page = ask(served[1], "/")[1].decode()
    for reference in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert ask(served[1], "/" + reference)[0].status == 200, reference
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for asset in ASSETS.glob("*.*"):
        if asset.suffix in (".html", ".css", ".js", ".svg"):
            text = asset.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"//[\w.-]+\.\w{2,}/|@import|url\(", text), asset.name
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)
    for module in re.findall(r'from "\./(\w+\.js)"', (ASSETS / "page.js").read_text()):
        assert ask(served[1], "/" + module)[0].headers["content-type"].startswith("text/javascript")


def test_events_begin_with_everything_and_go_on_with_changes(
    served: tuple[Board, Dashboard],
) -> None:
    board, dashboard = served
    board.round_committed(row(1))
    connection = connect(dashboard)
    connection.request("GET", "/api/events")
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    kind, picture = next_event(stream)
    assert kind == "whole" and len(picture["rounds"]) == 1 and len(picture["hospitals"]) == 2
    board.round_committed(row(2))
    kind, picture = next_event(stream)
    assert kind == "change" and [r["round"] for r in picture["rounds"]] == [2]
    assert "audit" not in picture
    board.refused("evil\ndata: {}\n\nevent: whole", EVIL)
    kind, picture = next_event(stream)
    assert kind == "change" and picture["refusals"][0]["reason"] == EVIL
    dashboard.stop()
    assert stream.read() == b""  # the stream ends, it isn't torn
    connection.close()


def drive_stream(
    monkeypatch: pytest.MonkeyPatch, board: Board, sleeps: int, each: Any
) -> list[str]:
    """A stream's events while ``each`` is called instead of every pause."""
    stopping, slept = threading.Event(), []

    async def pause(seconds: float) -> None:
        slept.append(seconds)
        each()
        if len(slept) == sleeps:
            stopping.set()

    monkeypatch.setattr(streams.asyncio, "sleep", pause)
    source, told = streams.Streams(stopping), streams.BoardSource(board, ANYBODY, "all")

    async def collect() -> list[str]:
        return [text async for text in source.events(told, lambda: True)]

    found = asyncio.run(collect())
    assert set(slept) == {0.5} and source.open == 0
    return found


def test_a_busy_board_is_pushed_twice_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(RunFacts("busy"))

    def change() -> None:
        for _ in range(100):
            board.refused("10.0.0.1", "no")

    events = drive_stream(monkeypatch, board, 7, change)
    assert len(events) == 7 and events[0].startswith("event: whole\n")


def test_a_quiet_stream_has_a_heartbeat_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    events = drive_stream(monkeypatch, Board(RunFacts("quiet")), 60, lambda: None)
    whole, *beats = events
    assert whole.startswith("event: whole\n")
    assert len(beats) == 2
    assert all(beat.startswith(": still here\nevent: alive\n") for beat in beats)


def test_too_many_open_pages_are_refused(
    served: tuple[Board, Dashboard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST_STREAMS", 2)
    open_ones = []
    for _ in range(2):
        open_ones.append(connect(served[1]))
        open_ones[-1].request("GET", "/api/events")
        next_event(open_ones[-1].getresponse())
    answer, body = ask(served[1], "/api/events")
    assert answer.status == 503 and b"close one" in body
    assert ask(served[1], "/healthz")[1] == b"ok\n"
    for connection in open_ones:
        connection.close()


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("0.0.0.0:0", "--dashboard-open"),
        ("[::]:0", "--dashboard-open"),
        ("192.0.2.7:8080", "--dashboard-open"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:99999", "host:port"),
        (":8080", "host:port"),
        ("http://127.0.0.1:8080", "host:port"),
        ("no-such-host.invalid:8080", "can't be resolved"),
        ("a" * 70 + ".example:8080", "can't be resolved"),
    ],
)
def test_an_address_that_cannot_or_must_not_be_served(address: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        serve_dashboard(Board(), address)
    assert "--dashboard" in str(caught.value) and "\n" not in str(caught.value)


def test_a_port_in_use_is_said_so_and_stopping_frees_it(served: tuple[Board, Dashboard]) -> None:
    port = urllib.parse.urlsplit(served[1].url).port
    with pytest.raises(ConfigError, match="another port"):
        serve_dashboard(Board(), f"127.0.0.1:{port}")
    served[1].stop()
    again = serve_dashboard(Board(RunFacts("second")), f"localhost:{port}")
    assert b"second" in ask(again, "/api/state")[1]
    again.stop()
    again.stop()


def test_remote_must_be_allowed_and_then_goes_by_addresses_only() -> None:
    dashboard = serve_dashboard(Board(), "0.0.0.0:0", open_to_all=True)
    try:
        statuses = [
            ask(dashboard, "/healthz", Host=host)[0].status
            for host in ("192.0.2.7:8080", "[2001:db8::1]", "localhost", "evil.example")
        ]
    finally:
        dashboard.stop()
    assert statuses == [200, 200, 200, 421]


@pytest.fixture
def handlers() -> list[object]:
    """What handles signals before anything is served."""
    return [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]


def test_it_leaves_signal_handlers_alone(
    handlers: list[object], served: tuple[Board, Dashboard]
) -> None:
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == handlers


def samples(board: Board | StudiesBoard) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(Metrics(board).text().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_say_what_happened() -> None:
    board = Board(RunFacts("run-1", 5, ["north", "south"]))
    board.connected("north", "a", "1")
    board.sent("north", "train", 70)
    board.received("north", "train", 30)
    board.round_started(1, ["north"], 1)
    board.round_failed(1, 1, "why")
    board.replied("north", "train", "late")
    board.round_committed(row(1))
    board.round_committed(row(2, seconds={"total": 4000.0}))
    found = samples(board)
    assert found["wardround_round", ()] == 2
    assert found["wardround_rounds_total", (("outcome", "committed"),)] == 2
    assert found["wardround_rounds_total", (("outcome", "failed"),)] == 1
    assert found["wardround_hospitals_connected", ()] == 1
    assert found["wardround_hospital_up", (("hospital", "north"),)] == 1
    assert found["wardround_hospital_up", (("hospital", "south"),)] == 0
    assert found["wardround_bytes_total", (("direction", "in"),)] == 30
    assert found["wardround_bytes_total", (("direction", "out"),)] == 70
    assert found["wardround_round_seconds_bucket", (("le", "0.25"),)] == 1
    assert found["wardround_round_seconds_bucket", (("le", "1800.0"),)] == 1
    assert found["wardround_round_seconds_count", ()] == 2
    assert found["wardround_round_seconds_sum", ()] == pytest.approx(4000.2)
    refused = (("hospital", "north"), ("step", "train"))
    assert found["wardround_refusals_total", refused] == 1
    assert found["wardround_epsilon", (("hospital", "north"),)] == 1.5
    assert found["wardround_metric", (("name", "auc"), ("split", "test"))] == 0.75
    assert found["wardround_metric", (("name", "loss"), ("split", "train"))] == 0.5
    assert found["wardround_rounds_total", (("outcome", "lost"),)] == 0
    board.round_committed(row(3, cohort=[], accepted=[], train_loss=None, lost="gave shares"))
    found = samples(board)
    assert found["wardround_rounds_total", (("outcome", "lost"),)] == 1
    assert ("wardround_metric", (("name", "loss"), ("split", "train"))) not in found
    assert ("wardround_metric", (("name", "loss"), ("split", "test"))) not in found  # undefined
    assert found["process_resident_memory_bytes", ()] > 0


def test_labels_are_bounded_and_escaped(served: tuple[Board, Dashboard]) -> None:
    board, dashboard = served
    board.describe_run(RunFacts(hospitals=[f'{EVIL}"\\\n']))
    for number in range(500):
        board.refused(f"10.0.0.{number}:1", "unknown")
        board.replied(f"stranger-{number}", f"step-{number}", "no")
    answer, body = ask(dashboard, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(board)
    refusals = {key[1]: value for key, value in found.items() if "refusals" in key[0]}
    assert refusals == {
        (("hospital", "other"), ("step", "connect")): 500,
        (("hospital", "other"), ("step", "other")): 500,
    }
    up = {dict(labels)["hospital"] for name, labels in found if name == "wardround_hospital_up"}
    assert up == {"north", "south", f'{EVIL}"\\\n'}
    assert len(body.splitlines()) < 100


def test_a_networks_figures_are_of_so_many_studies_and_of_those_that_run() -> None:
    studies = StudiesBoard("trust")
    studies.network.connected("north", "a", "1")
    for number in range(40):
        id = f"{number:02x}" + "0" * 62
        studies.put(StudyLine(id=id, name="s", owner="anna", state="running", rounds=5))
        board = studies.begin(id, RunFacts(run="s", rounds=5, hospitals=["north"]))
        board.round_started(number, ["north"], 1)
        if number < 20:
            studies.end(id)
    found = samples(studies)
    rounds = {labels: value for (name, labels), value in found.items() if name.endswith("y_round")}
    assert len(rounds) == 16 and set(rounds.values()) == set(range(20, 36))
    assert found["wardround_studies", (("state", "running"),)] == 40
    assert found["wardround_hospitals_connected", ()] == 1
    seconds = [labels for name, labels in found if name == "wardround_study_round_seconds_bucket"]
    assert len(seconds) == 16 * 14  # thirteen bounds and one without, of each


def test_one_person_cannot_take_all_streams() -> None:
    source = streams.Streams(threading.Event())

    async def held(names: list[str]) -> list[bool]:
        kept, found = [], []
        for name in names:
            found.append(source.full(name))
            if not found[-1]:
                told = streams.BoardSource(Board(), ANYBODY, "all")
                kept.append(source.events(told, lambda: True, name))
                await anext(kept[-1])
        for one in kept:
            await one.aclose()
        return found

    assert asyncio.run(held(["anna"] * 9 + ["ben"])) == [False] * 8 + [True, False]
    assert source.open == 0
