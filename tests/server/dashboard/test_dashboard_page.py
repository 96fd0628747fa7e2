"""The dashboard's page in a real browser: what a reader sees, hears and can do with a keyboard."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.dashboard.browser import MISSING, Browser
from wardround.server.dashboard.app import Dashboard, serve_dashboard
from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.simulations.run.simulate import simulate

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

EVIL = "<img src=x onerror=alert(1)>"
LEFT, ESCAPE = "\ue012", "\ue00c"
ROWS = "document.querySelectorAll('#hospital-rows tr')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def served() -> Iterator[tuple[Board, Dashboard]]:
    board = Board(RunFacts("run-1", 5, ["north", "south"], primary="auc"))
    dashboard = serve_dashboard(board, "127.0.0.1:0")
    yield board, dashboard
    dashboard.stop()


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "round": number,
        "accepted": ["north"],
        "train_loss": 1.0 / number,
        "overall": {"test": {"auc": 0.5 + number / 100}},
        "hospitals": {"north": {"test": {"auc": 0.625}}},
        "privacy": {"north": {"epsilon": 3.5, "limit": 4.0, "delta": 1e-5}},
        "seconds": {"total": 0.2},
    } | more


def text(browser: Browser, selector: str) -> str:
    found = browser.run(f"return document.querySelector({selector!r}).innerText")
    return " ".join(str(found).split())


def shown(browser: Browser, selector: str) -> bool:
    return bool(browser.run(f"return document.querySelector({selector!r}).checkVisibility()"))


def test_a_simulated_run_is_seen_in_the_browser(browser: Browser, tmp_path: Path) -> None:
    board = Board(RunFacts("breast-cancer-1", 3))
    dashboard = serve_dashboard(board, "127.0.0.1:0")
    browser.open(dashboard.url)
    browser.wait("document.querySelector('#link').innerText === 'live'")
    overrides = ["federation.rounds=3", "simulation.baselines=false"]
    simulate(overrides=[*overrides, f'federation.runs="{tmp_path}"'], observer=board)
    board.run_ended("complete")
    browser.wait("document.querySelector('#status').innerText === 'complete'")
    picture = board.snapshot()
    dashboard.stop()
    assert text(browser, "h1") == "breast-cancer-1"
    assert (text(browser, "#round"), text(browser, "#of")) == ("3", "of 3")
    assert text(browser, "#connected") == "5 of 5" and shown(browser, "#secure")
    received = f"{picture['run']['bytes_in'] / 1000:.0f} kB"
    assert (text(browser, "#refusal-count"), text(browser, "#bytes-in")) == ("0", received)
    assert browser.run(f"return [...{ROWS}].map(r => r.firstChild.innerText)") == [
        each["name"] for each in picture["hospitals"]
    ]
    cells = browser.run(f"return [...{ROWS}[0].cells].map(c => [c.dataset.label, c.innerText])")
    sizes = picture["hospitals"][0]["sizes"]
    by_title = dict(cells)
    assert by_title["State"].startswith("connected") and by_title["Figure"] == "hidden"
    assert by_title["Rows"].split() == [str(sizes["train"]), "train", str(sizes["test"]), "test"]
    assert "Epsilon spent" not in by_title  # the run was not private
    assert browser.run("return document.querySelectorAll('.plot path.line').length") >= 6
    values = browser.run("return document.querySelector('.plot').getAttribute('aria-valuetext')")
    assert values.startswith("round 3: ") and f"{picture['rounds'][2]['train_loss']:.3f}" in values
    assert browser.complaints() == []


def test_names_from_the_network_stay_text(
    browser: Browser, served: tuple[Board, Dashboard]
) -> None:
    board, dashboard = served
    board.describe_run(RunFacts(run=EVIL, hospitals=[EVIL], primary=EVIL))
    board.connected(EVIL, EVIL, EVIL)
    board.disconnected(EVIL, EVIL)
    board.warnings([EVIL])
    board.progress(EVIL)
    board.round_committed(row(1, overall={EVIL: {EVIL: 0.5}}))
    board.replied(EVIL, EVIL, EVIL)
    board.round_failed(2, 1, EVIL)
    board.audit({"seq": 1, "time": EVIL, "event": EVIL, EVIL: EVIL, "hash": EVIL})
    browser.open(dashboard.url)
    browser.wait("document.querySelector('#audit li')")
    assert browser.run("return document.images.length") == 1  # the mark of the page itself
    assert browser.run("return document.scripts.length") == 1
    for selector in ("h1", "#hospitals", "#refusals", "#audit", "#notes", "#failure", "#curves"):
        assert EVIL in text(browser, selector), selector
    assert browser.complaints() == []


def test_changes_arrive_without_a_reload_and_the_phase_is_spoken(
    browser: Browser, served: tuple[Board, Dashboard]
) -> None:
    board, dashboard = served
    browser.open(dashboard.url)
    browser.wait(f"{ROWS}.length === 2")
    browser.run("window.mark = 'same page'")
    assert shown(browser, "#no-curves") and shown(browser, "#no-refusals")
    board.connected("north", "10.0.0.7:4411", "0.1.0")
    board.round_started(1, ["north"], 1)
    browser.wait("document.querySelector('#phases [aria-current]').innerText === 'training'")
    browser.wait("document.querySelector('[aria-live]').textContent === 'Round 1: training'")
    assert text(browser, "#connected") == "1 of 2"
    board.round_committed(row(1))
    board.refused("10.9.9.9:1", "its certificate has expired")
    browser.wait("document.querySelectorAll('.curve').length === 2")
    assert text(browser, "#refusals li").endswith("its certificate has expired")
    for _ in range(3):
        board.replied("south", "train", "no answer in time")
    browser.wait("document.querySelectorAll('#refusals li').length === 2")
    assert "train, 3 times since" in text(browser, "#refusals li")
    north = text(browser, "#hospital-rows tr")
    for part in ("connected", "10.0.0.7:4411", "3.5 of 4", "only 0.5 left", "0.625", "AUC on test"):
        assert part in north
    meter = "document.querySelector('[role=meter]')"
    assert browser.run(f"return {meter}.getAttribute('aria-valuenow')") == "3.5"
    board.run_ended("stopped: 1 of 2 hospitals answered")
    browser.wait("document.querySelector('#status').className === 'badge bad'")
    assert browser.run("return window.mark") == "same page"


def test_curves_are_read_by_mouse_and_keyboard(
    browser: Browser, served: tuple[Board, Dashboard]
) -> None:
    board, dashboard = served
    every_other = [row(n, overall=row(n)["overall"] if n % 2 else {}) for n in range(1, 8)]
    board.restore(every_other)
    browser.open(dashboard.url)
    browser.wait("document.querySelector('.plot path')")
    loss = "document.querySelectorAll('.plot')[1]"
    says = f"return {loss}.getAttribute('aria-valuetext')"
    assert browser.run(says) == "round 7: train 0.143"
    browser.run(f"{loss}.focus()")
    browser.press(LEFT, LEFT, LEFT)
    assert browser.run(says) == "round 5: train 0.200"
    browser.press("\ue011")  # Home
    assert browser.run(says) == "round 1: train 1.000"
    assert browser.run(f"return {loss}.querySelectorAll('.cursor').length") == 1
    browser.press(ESCAPE)
    assert browser.run(f"return {loss}.querySelectorAll('.cursor').length") == 0
    auc = "document.querySelector('.plot')"
    box = browser.run(f"const b = {auc}.getBoundingClientRect(); return [b.x, b.y, b.width]")
    browser.hover(round(box[0] + box[2] * 0.55), round(box[1] + 60))
    assert browser.run("return document.querySelector('.curve h3 span').innerText") == "round 3"
    assert text(browser, ".curve .legend") == "test 0.530"
    assert (
        len(browser.run(f"return {auc}.querySelector('path').getAttribute('d').match(/M/g)")) == 1
    )


def test_a_broken_stream_shows_a_banner_until_the_server_is_back(
    browser: Browser, served: tuple[Board, Dashboard]
) -> None:
    board, dashboard = served
    board.restore([row(1), row(2), row(3)])
    browser.open(dashboard.url)
    browser.wait("document.querySelector('#round').innerText === '3'")
    assert not shown(browser, "#banner")
    dashboard.stop()
    browser.wait("document.querySelector('#banner').checkVisibility()")
    assert "reconnecting" in text(browser, "#banner")
    after = Board(RunFacts("run-1", 5, ["north", "south"]))
    after.restore([row(1), row(2)])  # the third was not committed
    again = serve_dashboard(after, f"127.0.0.1:{urllib.parse.urlsplit(dashboard.url).port}")
    browser.wait("!document.querySelector('#banner').checkVisibility()", 60)
    browser.wait("document.querySelector('#round').innerText === '2'")
    again.stop()


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_it_fits_a_phone_and_a_desk_light_and_dark(
    served: tuple[Board, Dashboard], tmp_path: Path, width: int, dark: bool
) -> None:
    board, dashboard = served
    board.connected("north", "10.0.0.7:44110", "0.1.0")
    board.describe_run(RunFacts(run="x" * 64, hospitals=["y" * 64]))
    board.refused("y" * 64, "z" * 300)
    board.restore([row(n) for n in range(1, 40)])
    board.audit({"seq": 1, "event": "sent", "digest": "a" * 64, "to": "b" * 40, "c": "d" * 99})
    with Browser(tmp_path, width, 900, dark) as window:
        window.open(dashboard.url)
        window.wait(f"{ROWS}.length === 3")
        wide = window.run("return [innerWidth, document.documentElement.scrollWidth]")
        assert wide == [width, width]
        channels = window.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, channels[4:-1].split(","))) < 200) == dark
        assert window.complaints() == []
