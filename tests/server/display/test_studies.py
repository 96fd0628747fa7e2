"""A network's board: a line and events per study, a board per running one, all bounded."""

from __future__ import annotations

import json
import threading

import pytest

from wardround.server.display import studies as studies_module
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.display.study_lines import Said, StudyEvent, StudyLine

EVIL = "<img src=x>\x1b[2J\n"


def study_id(number: int) -> str:
    return f"{number:064x}"


def line(number: int, state: str = "waiting", **more: object) -> StudyLine:
    given = {"id": study_id(number), "name": f"study-{number}", "owner": "anna", "state": state}
    return StudyLine(**given | {"submitted": float(number), "rounds": 5} | more)  # type: ignore[arg-type]


def begun(studies: StudiesBoard, number: int, *hospitals: str) -> None:
    studies.put(line(number, "running"))
    studies.begin(study_id(number), RunFacts(run=f"study-{number}", rounds=5, hospitals=hospitals))


def test_the_newest_study_is_first_and_only_changes_come_again() -> None:
    studies = StudiesBoard("trust", clock=lambda: 7.0)
    for number in (1, 2, 3):
        studies.put(line(number))
    whole = studies.snapshot()
    assert whole["known"] == [study_id(n) for n in (3, 2, 1)] and len(whole["studies"]) == 3
    assert (whole["network"], whole["now"]) == ("trust", 7.0)
    assert studies.snapshot(whole["version"])["studies"] == []
    studies.put(line(2))  # as it was
    assert studies.version == whole["version"]
    studies.put(line(2, "queued"))
    (changed,) = studies.snapshot(whole["version"])["studies"]
    assert (changed["id"], changed["state"]) == (study_id(2), "queued")
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize(
    ("state", "words", "who"),
    [
        ("submitted", {"north": "waiting"}, ["the server"]),
        (
            "waiting",
            {"north": "waiting", "south": "accepted", "east": "waiting"},
            ["east", "north"],
        ),
        ("waiting", {"north": "accepted"}, ["the server"]),
        ("queued", {"north": "accepted", "south": "waiting"}, ["a free place"]),
        ("running", {"north": "accepted"}, []),
        ("aborted", {"north": "waiting"}, []),
    ],
)
def test_whom_a_study_waits_for(state: str, words: dict[str, str], who: list[str]) -> None:
    said = {name: Said(word=word) for name, word in words.items()}  # type: ignore[arg-type]
    assert line(1, state, hospitals=said).shown(0)["waiting_for"] == who


def test_texts_from_outside_are_harmless_and_short() -> None:
    one = line(1, "failed", name=EVIL * 99, owner=EVIL, purpose=EVIL * 99, reason=EVIL * 99)
    shown = one.shown(0) | StudyEvent(number=1, time=1.0, old="", new=EVIL, who=EVIL).shown()
    for text in (value for value in shown.values() if isinstance(value, str)):
        assert text.isprintable() and len(text) <= 500


def test_events_are_kept_once_and_the_newest() -> None:
    studies = StudiesBoard("trust")
    studies.put(line(1))
    for number in [*range(250), 249, 240]:
        event = StudyEvent(number=number, time=float(number), old="waiting", new="queued")
        studies.event(study_id(1), event)
    studies.event(study_id(9), StudyEvent(number=1, time=1.0, old="", new="submitted"))  # unknown
    shown = studies.one(study_id(1))
    assert shown is not None
    assert [one["time"] for one in shown["events"]] == list(range(150, 250))
    assert studies.one(study_id(9)) is None


def test_the_round_of_a_running_study_stands_in_its_line() -> None:
    studies = StudiesBoard("trust")
    begun(studies, 1, "north")
    board = studies.board(study_id(1))
    assert board is not None
    board.restore([{"round": 1}, {"round": 2}])
    assert studies.snapshot()["studies"][0]["round"] == 2
    board.round_started(3, ["north"], 1)
    before = studies.version
    board.round_started(3, ["north"], 2)  # another attempt: nothing new in the list
    assert studies.snapshot()["studies"][0]["round"] == 3 and studies.version == before


def test_connections_reach_the_studies_that_the_hospital_is_in() -> None:
    studies = StudiesBoard("trust")
    studies.network.connected("north", "10.0.0.7:1", "1")
    begun(studies, 1, "north", "south")
    begun(studies, 2, "south")
    studies.network.connected("south", "10.0.0.8:1", "1")
    studies.network.disconnected("north", "lease")

    def up(number: int) -> dict[str, bool]:
        board = studies.board(study_id(number))
        assert board is not None
        return {row["name"]: row["up"] for row in board.snapshot()["hospitals"]}

    assert up(1) == {"north": False, "south": True}
    assert up(2) == {"south": True}
    studies.network.revoked("south")
    board = studies.board(study_id(2))
    assert board is not None and board.snapshot()["hospitals"][0]["state"] == "revoked"


def test_boards_of_ended_studies_go_one_after_the_other() -> None:
    studies = StudiesBoard("trust")
    for number in range(12):
        begun(studies, number, "north")
        studies.end(study_id(number))
        studies.end(study_id(number))
    assert studies.running() == {}
    kept = [n for n in range(12) if studies.board(study_id(n)) is not None]
    assert kept == list(range(4, 12))
    begun(studies, 4, "north")  # again, as after a crash: it is no ended one any more
    for number in range(20, 28):
        begun(studies, number, "north")
        studies.end(study_id(number))
    assert studies.board(study_id(4)) is not None and list(studies.running()) == [study_id(4)]


def test_the_list_is_bounded_and_what_is_over_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies_module, "MOST_STUDIES", 4)
    studies = StudiesBoard("trust")
    studies.put(line(0, "running", changed=0.0))
    studies.put(line(1, "complete", changed=9.0))
    studies.put(line(2, "failed", changed=3.0))
    studies.put(line(3, changed=1.0))
    studies.put(line(4))
    studies.put(line(5))
    assert studies.snapshot()["known"] == [study_id(n) for n in (5, 4, 3, 0)]
    assert studies.states() == {"running": 1, "waiting": 3}


def test_threads_that_tell_and_ask_at_once_never_stop_each_other() -> None:
    studies = StudiesBoard("trust")
    begun(studies, 1, "north")
    board = studies.board(study_id(1))
    assert board is not None

    def tell(number: int) -> None:
        for step in range(60):
            studies.network.connected("north", "a", "1")
            board.round_started(step, ["north"], 1)
            begun(studies, number, "north")
            studies.snapshot()
            studies.end(study_id(number))
            studies.network.disconnected("north", "why")

    threads = [threading.Thread(target=tell, args=(n,), daemon=True) for n in (2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
