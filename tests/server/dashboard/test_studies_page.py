"""A network's pages in a real browser: the list, a study's page, signing in and out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.dashboard.browser import MISSING, Browser
from tests.server.dashboard.people import (
    IMAGES,
    PASSWORD,
    SEPSIS,
    account,
    network,
    sign_in,
)
from wardround.server.dashboard.app import Dashboard, serve_dashboard
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import Said, StudyEvent, StudyLine

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser"), width=375) as found:
        yield found


@pytest.fixture
def served() -> Iterator[tuple[StudiesBoard, Dashboard]]:
    studies = network()
    dashboard = serve_dashboard(studies, "127.0.0.1:0")
    yield studies, dashboard
    dashboard.stop()


def text(browser: Browser, selector: str) -> str:
    found = browser.run(f"return document.querySelector({selector!r}).innerText")
    return " ".join(str(found).split())


def test_the_list_is_kept_up_to_date_and_leads_to_a_study(
    browser: Browser, served: tuple[StudiesBoard, Dashboard]
) -> None:
    studies, dashboard = served
    browser.open(dashboard.url)
    browser.wait("document.querySelectorAll('#study-rows tr').length === 3")
    browser.run("window.mark = 'same page'")
    assert text(browser, "h1") == "trust" and text(browser, "#connected") == "3 of 3"
    (images,) = browser.run(
        "return [...document.querySelectorAll('#study-rows tr')]"
        ".map(r => r.innerText).filter(t => t.startsWith('images'))"
    )
    for part in ("ben", "waiting for approvals", "1 of 2 accepted", "east"):
        assert part in images
    said = {"east": Said(word="accepted"), "south": Said(word="accepted")}
    studies.put(
        StudyLine(id=IMAGES, name="images", owner="ben", state="running", rounds=9, hospitals=said)
    )
    board = studies.begin(IMAGES, RunFacts(run="images-1", rounds=9, hospitals=["east"]))
    board.round_started(4, ["east"], 1)
    browser.wait("document.querySelector('#count-running').innerText === '2'")
    browser.wait("document.querySelector('#study-rows').innerText.includes('4 of 9')")
    browser.wait("document.querySelector('[aria-live]').textContent === 'images: running'")
    browser.run("document.querySelector('[data-filter=over]').click()")
    assert browser.run("return document.querySelectorAll('#study-rows tr').length") == 1
    assert browser.run("return window.mark") == "same page"
    browser.run("document.querySelector('[data-filter=all]').click()")
    browser.run("document.querySelector('#study-rows a[href*=bbbb]').click()")
    browser.wait("location.pathname.endsWith('" + IMAGES + "')")
    browser.wait("document.querySelector('#round').innerText === '4'")
    assert text(browser, "#status") == "running" and text(browser, "h1") == "images"
    board.round_started(5, ["east"], 1)
    browser.wait("document.querySelector('#round').innerText === '5'")
    browser.run("document.querySelector('#back-link').click()")
    browser.wait("document.querySelectorAll('#study-rows tr').length === 3")
    assert browser.complaints() == []


def test_a_page_of_a_study_that_waits_goes_over_into_its_rounds(
    browser: Browser, served: tuple[StudiesBoard, Dashboard]
) -> None:
    studies, dashboard = served
    browser.open(f"{dashboard.url}studies/{IMAGES}")
    browser.wait("document.querySelector('#no-run').checkVisibility()")
    assert not browser.run("return document.querySelector('#run').checkVisibility()")
    assert text(browser, "#waiting-for") == "east"
    said = {"east": Said(word="rejected", reason=EVIL)}
    line = StudyLine(
        id=IMAGES, name=EVIL, owner=EVIL, purpose=EVIL, state="running", reason=EVIL, hospitals=said
    )
    studies.put(line)
    event = StudyEvent(
        number=9, time=2.0, old="waiting", new="rejected", who="east", reason=EVIL, kind="decision"
    )
    studies.event(IMAGES, event)
    board = studies.begin(IMAGES, RunFacts(run="images-1", rounds=3, hospitals=["south"]))
    browser.wait("document.querySelector('#run').checkVisibility()")
    board.round_started(1, ["south"], 1)
    browser.wait("document.querySelector('#round').innerText === '1'")
    for selector in ("h1", "#owner", "#purpose", "#study-reason", "#said", "#events"):
        assert EVIL in text(browser, selector), selector
    assert browser.run("return document.images.length") == 1
    wide = browser.run("return [innerWidth, document.documentElement.scrollWidth]")
    assert wide == [375, 375]
    assert browser.complaints() == []


def test_people_sign_in_see_what_is_theirs_and_sign_out(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "accounts.json"
    account(path, "anna", "researcher:anna")
    page = serve_dashboard(network(), "127.0.0.1:0", sign_in=sign_in(path))
    try:
        browser.open(f"{page.url}studies/{SEPSIS}")
        browser.wait("document.querySelector('#password')")
        fill = "document.querySelector('#{}').value = '{}'"
        submit = "document.querySelector('form button').click()"
        browser.run(f"{fill.format('name', 'anna')}; {fill.format('password', 'x')}; {submit}")
        browser.wait("document.querySelector('[role=alert]').checkVisibility()")
        assert text(browser, "[role=alert]") == "Name or password is wrong."
        browser.run(f"{fill.format('name', 'anna')}; {fill.format('password', PASSWORD)}; {submit}")
        browser.wait("document.querySelector('#round')?.innerText === '1'")
        browser.wait("document.querySelector('#me').checkVisibility()")
        assert text(browser, "#me").startswith("anna")
        seen = "return [...document.querySelectorAll('.for-all')].some(n => n.checkVisibility())"
        assert not browser.run(seen)  # audit log and metrics are a coordinator's
        browser.run("document.querySelector('#back-link').click()")
        browser.wait("document.querySelectorAll('#study-rows tr').length === 2")
        assert not browser.run("return document.querySelector('#hospitals').checkVisibility()")
        browser.run("document.querySelector('#me button').click()")
        browser.wait("document.querySelector('#password')")
        browser.open(page.url)
        assert browser.run("return location.pathname") == "/sign-in"
        browser.complaints()  # of the failed try
    finally:
        page.stop()
