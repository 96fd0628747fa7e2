"""What each role sees: a row for each role and study, its own or another's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.dashboard.people import FALLS, IMAGES, SEPSIS, Caller, account, network, sign_in
from wardround.server.dashboard.app import Dashboard, serve_dashboard
from wardround.server.dashboard.sign_in.roles import Visitor, read_roles
from wardround.server.dashboard.streams import BoardSource, ListSource, StudySource
from wardround.server.dashboard.views import sight_in_run
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import Said, StudyLine

SEEN = [
    # who, the studies in the list, those with rounds
    ("coordinator", {SEPSIS, IMAGES, FALLS}, {SEPSIS}),
    ("researcher:anna", {SEPSIS, FALLS}, {SEPSIS}),
    ("researcher:ben", {IMAGES}, set()),
    ("researcher:carla", set(), set()),
    ("researcher:north", set(), set()),  # the name of a hospital is no key to its studies
    ("hospital:north", {SEPSIS, FALLS}, {SEPSIS}),
    ("hospital:south", {SEPSIS, IMAGES}, {SEPSIS}),
    ("hospital:east", {SEPSIS, IMAGES}, set()),  # it rejected the one, and hasn't decided
    ("hospital:anna", set(), set()),
    ("hospital:west", set(), set()),
    ("researcher:ben hospital:south", {SEPSIS, IMAGES}, {SEPSIS}),
]


def visitor(roles: str) -> Visitor:
    return Visitor("somebody", read_roles(roles.split()))


def whole(source: Any) -> dict[str, Any]:
    news = source.news()
    assert news is not None and news[0] == "whole"
    return dict(news[1])


@pytest.fixture(scope="module")
def studies() -> StudiesBoard:
    return network()


@pytest.fixture(scope="module")
def served(
    studies: StudiesBoard, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Dashboard, Path]]:
    path = tmp_path_factory.mktemp("accounts") / "accounts.json"
    account(path, "somebody", "coordinator")
    dashboard = serve_dashboard(studies, "127.0.0.1:0", sign_in=sign_in(path))
    yield dashboard, path
    dashboard.stop()


@pytest.mark.parametrize(("roles", "seen", "rounds"), SEEN)
def test_role_by_study(
    served: tuple[Dashboard, Path], roles: str, seen: set[str], rounds: set[str]
) -> None:
    dashboard, path = served
    account(path, "somebody", *roles.split())
    caller = Caller(dashboard.url)
    assert caller.enter("somebody").status == 303
    listed = json.loads(caller.ask("/api/state")[1])
    assert set(listed["known"]) == {row["id"] for row in listed["studies"]} == seen
    assert (listed["connections"] is not None) == (roles == "coordinator")
    unknown = caller.ask(f"/api/studies/{'d' * 64}/state")
    for study in (SEPSIS, IMAGES, FALLS):
        for what in ("state", "events") if study not in seen else ("state",):
            answer, text = caller.ask(f"/api/studies/{study}/{what}")
            if study not in seen:
                assert (answer.status, text) == (404, unknown[1])
            else:
                assert answer.status == 200 and ("run" in json.loads(text)) == (study in rounds)


def test_a_hospital_sees_no_number_and_no_reason_of_another(studies: StudiesBoard) -> None:
    picture = whole(StudySource(studies, SEPSIS, visitor("hospital:north")))
    text = json.dumps(picture)
    for secret in ("0.875", "no lactate", "disk is full", "12 rows", "10.9.9.9", "10.0.1.7"):
        assert secret not in text, secret
    assert picture["audit"] == []
    north, south = picture["hospitals"]
    assert north["figures"] == {"test": {"auc": 0.625}} and north["rounds"] == 1
    assert (south["name"], south["up"]) == ("south", True)
    assert south["figures"] == {} and south["rounds"] == south["bytes_in"] == 0
    words = {row["name"]: row["word"] for row in picture["study"]["hospitals"]}
    assert words == {"north": "accepted", "south": "", "east": ""}
    # its own reason it may see
    east = whole(ListSource(studies, visitor("hospital:east")))
    (sepsis,) = [row for row in east["studies"] if row["id"] == SEPSIS]
    assert [row["reason"] for row in sepsis["hospitals"]] == ["no lactate here", "", ""]


def test_a_hospital_is_shown_its_own_decisions_and_deliveries(studies: StudiesBoard) -> None:
    shown = whole(StudySource(studies, SEPSIS, visitor("hospital:east")))["study"]
    assert [(row["kind"], row["who"]) for row in shown["events"]] == [
        ("decision", "east"),
        ("state", "server"),
    ]
    owner = whole(StudySource(studies, SEPSIS, visitor("researcher:anna")))["study"]
    assert len(owner["events"]) == 4
    images = whole(StudySource(studies, IMAGES, visitor("hospital:east")))["study"]
    assert images["waiting_for"] == ["east"]
    assert (
        whole(StudySource(studies, IMAGES, visitor("hospital:south")))["study"]["waiting_for"] == []
    )


def test_an_owner_sees_why_and_not_whence(studies: StudiesBoard) -> None:
    picture = whole(StudySource(studies, SEPSIS, visitor("researcher:anna")))
    text = json.dumps(picture)
    for told in ("no lactate here", "disk is full", "12 rows", "0.75"):
        assert told in text, told
    for secret in ("10.0.0.7", "10.0.1.7", "10.9.9.9", "certificate has expired", "abababab"):
        assert secret not in text, secret
    # results hold no one hospital's numbers, so neither does the page while they come to be
    assert all(row["figures"] == row["sizes"] == {} for row in picture["hospitals"])
    assert "0.875" not in text and "0.625" not in text


def test_a_coordinator_sees_all(studies: StudiesBoard) -> None:
    picture = whole(StudySource(studies, SEPSIS, visitor("coordinator")))
    assert picture["audit"] and picture["hospitals"][0]["address"].startswith("10.0.0.7")
    assert len(picture["refusals"]) == 2


def test_a_change_is_filtered_as_the_whole_was() -> None:
    studies = network()
    source = ListSource(studies, visitor("hospital:east"))
    whole(source)
    board = studies.board(SEPSIS)
    assert board is not None
    board.round_started(2, ["north"], 1)
    studies.put(StudyLine(id=FALLS, name="falls", owner="anna", state="expired"))
    news = source.news()
    assert news is not None and news[0] == "change"
    assert [row["id"] for row in news[1]["studies"]] == [SEPSIS]
    assert FALLS not in news[1]["known"]
    # of what it may not see not even that something happened, nor how often
    studies.put(StudyLine(id=FALLS, name="falls", owner="anna", state="aborted"))
    assert source.news() is None
    assert "version" not in news[1] and "number" not in json.dumps(news[1])


def test_a_stream_follows_its_study_to_the_rounds_and_out_of_sight() -> None:
    studies = network()
    east = StudySource(studies, IMAGES, visitor("hospital:east"))
    assert "run" not in whole(east) and east.news() is None
    line = StudyLine(id=IMAGES, name="images", owner="ben", state="running")
    studies.put(line)  # without any hospital: no longer east's to see
    assert east.news() is None
    line = StudyLine(
        id=IMAGES, name="images", owner="ben", state="running", hospitals={"east": Said()}
    )
    studies.put(line)
    board = studies.begin(IMAGES, RunFacts(run="images-1", hospitals=["east"]))
    news = east.news()
    assert news is not None and "run" not in news[1]  # it hasn't accepted
    accepted = {"east": Said(word="accepted")}
    studies.put(
        StudyLine(id=IMAGES, name="images", owner="ben", state="running", hospitals=accepted)
    )
    kind, picture = east.news() or ("", {})
    assert kind == "whole" and picture["run"]["name"] == "images-1"
    board.progress("round 1")
    assert (east.news() or ("",))[0] == "change"
    studies.begin(IMAGES, RunFacts(run="images-1", hospitals=["east"]))  # again, elsewhere
    assert (east.news() or ("",))[0] == "whole"


def test_a_federations_one_run_has_no_owner(studies: StudiesBoard) -> None:
    names = ["north", "south"]
    seen = {
        roles: sight_in_run(visitor(roles), names)
        for roles in ("coordinator", "researcher:anna", "hospital:north", "hospital:east")
    }
    assert list(seen.values()) == ["all", "owner", "hospital", None]
    board = studies.board(SEPSIS)
    assert board is not None
    picture = whole(BoardSource(board, visitor("hospital:south"), "hospital"))
    assert [row["reason"] for row in picture["refusals"]] == ["south's disk is full"]
