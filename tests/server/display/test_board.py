"""The board: what a display sees after which events, with bounded memory and many threads."""

from __future__ import annotations

import json
import threading
from typing import Any

from wardround.server.dashboard.metrics import Metrics
from wardround.server.display.board import MOST_HOSPITALS, Board
from wardround.server.display.board_rows import RunFacts, curve_row
from wardround.server.members.member import Member
from wardround.server.observer import Observer, Phase

SIZES = {"train": 70, "validation": 0, "test": 30}


def make_board(**more: Any) -> Board:
    ticks = iter(range(1000, 10**9))
    told = {key: more.pop(key) for key in ("rounds", "hospitals", "hidden") if key in more}
    options: dict[str, Any] = {"rounds": 5, "hospitals": ["north", "south"]}
    facts = RunFacts("heart-1", **options | told)
    return Board(facts, clock=lambda: float(next(ticks)), **more)


def row(number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "round": number,
        "attempt": 1,
        "cohort": ["north", "south"],
        "accepted": ["north", "south"],
        "refused": [],
        "train_loss": 1.0 / number,
        "overall": {"test": {"auroc": 0.5 + number / 1000, "loss": float("nan")}},
        "hospitals": {"north": {"test": {"auroc": 0.7}}},
        "hidden": False,
        "privacy": {},
        "bytes_up": 100,
        "bytes_down": 200,
        "seconds": {"total": 0.2},
    } | more


def hospital(board: Board, name: str) -> dict[str, Any]:
    (found,) = [each for each in board.snapshot()["hospitals"] if each["name"] == name]
    return found


def phase(board: Board) -> Any:
    return board.snapshot()["run"]["phase"]


def test_a_hospital_goes_through_its_states() -> None:
    board = make_board()
    assert hospital(board, "north")["state"] == "never seen"
    board.refused("north", "its version is 0.0.9")
    assert hospital(board, "north")["state"] == "refused"
    assert hospital(board, "north")["reason"] == "its version is 0.0.9"
    board.connected("north", "10.0.0.7:4411", "0.1.0")
    seen = hospital(board, "north")
    assert (seen["state"], seen["address"], seen["version"]) == (
        "connected",
        "10.0.0.7:4411",
        "0.1.0",
    )
    assert seen["reason"] == "" and seen["since"] is not None
    board.refused("north", "a second connection of this identity")
    assert hospital(board, "north")["state"] == "connected"
    board.disconnected("north", "no heartbeat for 12 s")
    assert hospital(board, "north")["state"] == "away"
    board.connected("north", "10.0.0.7:4412", "0.1.0")
    board.not_admitted("north", "site.toml: max_rounds is 3")
    assert hospital(board, "north")["state"] == "refuses the run"
    board.not_admitted("north", "no more", withdrew=True)
    assert hospital(board, "north")["state"] == "withdrew"
    board.describe_run(RunFacts(hospitals=["north"], titles={"north": "Klinik Nord, Tübingen"}))
    assert hospital(board, "north")["title"] == "Klinik Nord, Tübingen"
    assert board.tally().refusals["north", "manifest"] == 2
    board.revoked("north")
    board.disconnected("north", "closed")
    board.refused("north", "revoked")
    assert hospital(board, "north")["state"] == "revoked"
    assert hospital(board, "north")["refusals"] == 5
    assert hospital(board, "south")["state"] == "never seen"


def test_bytes_and_signs_of_life() -> None:
    board = make_board()
    board.connected("north", "a", "1")
    before = hospital(board, "north")["seen"]
    board.sent("north", "train", 1000)
    assert hospital(board, "north")["seen"] == before  # sending proves nothing of the other end
    board.received("north", "train", 30)
    board.received("stranger", "train", 5)
    now = hospital(board, "north")
    assert (now["bytes_out"], now["bytes_in"]) == (1000, 30) and now["seen"] > before
    board.seen("north")
    assert hospital(board, "north")["seen"] > now["seen"]
    last = hospital(board, "north")["seen"]
    board.replied("north", "train", "failed: it is not connected")
    assert hospital(board, "north")["seen"] == last
    board.replied("north", "train", None)
    assert hospital(board, "north")["seen"] > last
    board.round_committed(row())  # its bytes are those already counted
    run = board.snapshot()["run"]
    assert (run["bytes_in"], run["bytes_out"]) == (35, 1000)
    assert "stranger" not in {each["name"] for each in board.snapshot()["hospitals"]}


def test_phases_of_a_secure_round() -> None:
    board = make_board(hidden=True)
    assert phase(board) == "waiting"
    board.phase(Phase.PREPARING)
    board.sent("north", "query.unmask", 1)
    assert phase(board) == "preparing"
    board.round_started(1, ["north", "south"], 1)
    board.replied("north", "keys", None)
    board.sent("north", "train", 10)
    assert phase(board) == "training"
    board.received("north", "train", 10)
    assert phase(board) == "collecting"
    board.replied("north", "train", None)
    board.replied("south", "train", "it is late")
    run = board.snapshot()["run"]
    assert (run["expected"], run["answered"], run["not_accepted"]) == (2, 1, 1)
    assert [hospital(board, n)["step"] for n in ("north", "south")] == ["answered", "refused"]
    board.sent("north", "query.unmask", 10)
    assert phase(board) == "unmasking"
    board.sent("north", "evaluate", 10)
    board.sent("north", "query.unmask", 10)
    board.received("north", "train", 10)
    assert phase(board) == "evaluating"
    board.round_committed(row(hidden=True))
    assert phase(board) == "committed" and hospital(board, "north")["step"] == ""
    assert "unmasking" in board.snapshot()["run"]["phases"]
    assert "unmasking" not in make_board().snapshot()["run"]["phases"]


def test_a_hospital_without_rows_for_training_is_not_called_undrawn() -> None:
    board = make_board()
    sizes = {"train": 0, "validation": 0, "test": 9}
    board.members([Member("north", 1, sizes), Member("south", 2, sizes | {"train": 9})], [])
    board.round_started(1, ["south"], 1)
    assert [hospital(board, n)["step"] for n in ("north", "south")] == ["evaluates only", "asked"]


def test_a_failed_attempt_is_kept_and_the_next_starts_afresh() -> None:
    board = make_board()
    board.members([Member("north", 1, SIZES), Member("south", 2, SIZES)], [])
    board.round_started(3, ["north"], 1)
    board.replied("north", "train", "failed: no space")
    board.round_failed(3, 1, "0 of 1 hospitals answered")
    board.round_started(3, ["south"], 2)
    run = board.snapshot()["run"]
    assert (run["round"], run["attempt"], run["not_accepted"]) == (3, 2, 0)
    assert run["last_failure"]["reason"] == "0 of 1 hospitals answered"
    assert [hospital(board, n)["step"] for n in ("north", "south")] == ["not drawn", "asked"]
    assert board.tally().rounds == {"failed": 1}


def test_rounds_become_curves_epsilon_and_figures() -> None:
    board = make_board(hospitals=["north"])
    claim = {"epsilon": 1.5, "limit": 4.0, "delta": 1e-5}
    board.round_committed(row(privacy={"north": claim, "south": claim | {"limit": None}}))
    snapshot = board.snapshot()
    json.dumps(snapshot, allow_nan=False)
    (curve,) = snapshot["rounds"]
    assert curve["overall"] == {"test": {"auroc": 0.501, "loss": None}}
    assert (curve["train_loss"], curve["accepted"], curve["seconds"]) == (1.0, 2, 0.2)
    north = hospital(board, "north")
    assert (north["epsilon"], north["epsilon_limit"], north["rounds"]) == (1.5, 4.0, 1)
    assert north["figures"] == {"test": {"auroc": 0.7}}
    assert hospital(board, "south")["private"] and hospital(board, "south")["epsilon_limit"] is None
    assert (snapshot["run"]["bytes_in"], snapshot["run"]["bytes_out"]) == (100, 200)


def test_secure_aggregation_hides_single_hospitals() -> None:
    board = make_board()
    board.round_committed(row(hidden=True))
    assert hospital(board, "north")["figures"] == "hidden"


def test_members_bring_sizes_and_refused_ones_a_reason() -> None:
    board = make_board()
    board.connected("south", "b", "1")
    refused = [{"hospital": "south", "reason": "it has no rows for training"}]
    board.members([Member("north", 1, SIZES)], refused)
    assert hospital(board, "north")["sizes"] == SIZES
    assert hospital(board, "north")["state"] == "connected"
    assert hospital(board, "south")["state"] == "refuses the run"
    assert board.snapshot()["refusals"][0]["reason"] == "it has no rows for training"


def test_only_what_changed_is_sent_again() -> None:
    board = make_board()
    board.round_committed(row(1))
    first = board.snapshot()
    assert set(first) == {*("version", "now", "run", "hospitals", "rounds", "refusals", "audit")}
    assert set(board.snapshot(first["version"])) == {"version", "now"}
    board.audit({"seq": 1, "time": "t", "event": "started", "prev": "0" * 64, "hash": "f" * 64})
    later = board.snapshot(first["version"])
    assert set(later) == {"version", "now", "audit"}
    board.round_committed(row(2))
    assert [each["round"] for each in board.snapshot(later["version"])["rounds"]] == [2]
    assert [each["round"] for each in board.snapshot()["rounds"]] == [1, 2]


def test_a_round_that_is_repeated_after_a_restart_replaces_the_lost_one() -> None:
    board = make_board()
    board.restore([row(1), row(2), row(3)])
    board.round_committed(row(2, train_loss=9.0))
    assert [(r["round"], r["train_loss"]) for r in board.snapshot()["rounds"]] == [(1, 1), (2, 9)]
    assert board.tally().rounds == {"committed": 1}  # since this process began


def test_memory_is_bounded_whatever_arrives() -> None:
    board = make_board()
    for number in range(1, 1500):
        board.round_committed(row(number))
        board.refused(f"10.0.0.{number}", "z" * 10_000)
        board.audit({"seq": number, "event": "e", "x": "y" * 10_000, "leaves": [1] * 10_000})
        board.connected(f"h{number}", "a", "v")
    snapshot = board.snapshot()
    assert len(snapshot["rounds"]) == 1000 and snapshot["rounds"][-1]["round"] == 1499
    assert len(snapshot["refusals"]) == 200 and len(snapshot["audit"]) == 50
    assert len(snapshot["hospitals"]) == MOST_HOSPITALS
    assert board.tally().refusals == {("other", "connect"): 1499}
    assert max(len(each["reason"]) for each in snapshot["refusals"]) <= 300
    assert len(json.dumps(snapshot["audit"])) < 50 * 600


def test_control_characters_and_line_breaks_do_not_get_in() -> None:
    board = make_board()
    board.refused("evil\n\x1b[31m\u202e", "a\r\nb\x00c")
    (refusal,) = board.snapshot()["refusals"]
    assert (refusal["hospital"], refusal["reason"]) == ("evil [31m", "a b c")


def test_grpcs_way_to_write_an_address_is_undone() -> None:
    board = make_board()
    board.connected("north", "ipv6:%5B::1%5D:4411", "0.1.0")
    board.connected("south", "ipv4:10.0.0.7:4411", "0.1.0")
    board.refused("ipv6:%5B2001:db8::7%5D:99", "unknown authority")
    assert hospital(board, "north")["address"] == "[::1]:4411"
    assert hospital(board, "south")["address"] == "10.0.0.7:4411"
    assert board.snapshot()["refusals"][0]["hospital"] == "[2001:db8::7]:99"


def test_another_observer_is_told_everything() -> None:
    told: list[tuple[Any, ...]] = []

    class Second(Observer):
        def progress(self, text: str) -> None:
            told.append(("progress", text))

        def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
            told.append(("members", len(members)))

        def warnings(self, lines: list[str]) -> None:
            told.append(("warnings", lines))

        def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
            told.append(("started", server_round, attempt))

        def replied(self, hospital: str, step: str, reason: str | None) -> None:
            told.append(("replied", hospital, step, reason))

        def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
            told.append(("failed", server_round, reason))

        def round_committed(self, row: dict[str, Any]) -> None:
            told.append(("committed", row["round"]))

    board = make_board(forward=Second())
    board.progress("waiting for hospitals")
    board.members([], [])
    board.warnings(["w"])
    board.round_started(1, [], 1)
    board.replied("north", "train", None)
    board.round_failed(1, 1, "why")
    board.round_committed(row())
    assert told == [
        ("progress", "waiting for hospitals"),
        ("members", 0),
        ("warnings", ["w"]),
        ("started", 1, 1),
        ("replied", "north", "train", None),
        ("failed", 1, "why"),
        ("committed", 1),
    ]


def test_many_threads_lose_no_count_and_readers_see_whole_pictures() -> None:
    board = make_board()
    board.connected("north", "a", "1")
    errors: list[BaseException] = []
    done = threading.Event()

    def write() -> None:
        for _ in range(300):
            board.received("north", "train", 3)
            board.sent("north", "train", 2)
            board.refused("1.2.3.4", "no")

    def read() -> None:
        try:
            while not done.is_set():
                snapshot = board.snapshot()
                (north,) = [h for h in snapshot["hospitals"] if h["name"] == "north"]
                assert north["bytes_in"] == snapshot["run"]["bytes_in"]
                assert north["bytes_out"] == snapshot["run"]["bytes_out"]
        except BaseException as error:  # shown by the assertion below
            errors.append(error)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write) for _ in range(4)]
    for thread in [reader, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert errors == []
    run = board.snapshot()["run"]
    assert (run["bytes_in"], run["bytes_out"], run["refusals"]) == (3600, 2400, 1200)
    assert board.tally().refusals == {("other", "connect"): 1200}


def test_waiting_ends_with_a_change_or_the_time() -> None:
    board = make_board()
    version = board.version
    assert board.wait_for_change(version, 0.01) == version
    threading.Timer(0.05, board.seen, ["north"]).start()
    assert board.wait_for_change(version, 30) > version


def test_one_that_refuses_the_run_stays_connected_and_one_never_seen_is_not_drawn() -> None:
    board = Board(RunFacts("run", 3, ["a", "b", "c", "d"]))
    for name in "abc":
        board.connected(name, "ipv4:127.0.0.1:1", "1")
        board.not_admitted(name, "waits for approval")
    board.admitted("a")
    board.members([Member("b", 1, SIZES)], [{"hospital": "c", "reason": "other version"}])
    board.round_started(1, ["a"], 1)
    shown = {one["name"]: (one["state"], one["up"], one["step"]) for one in hospitals(board)}
    assert shown == {
        "a": ("connected", True, "asked"),
        "b": ("connected", True, "not drawn"),
        "c": ("refuses the run", True, ""),
        "d": ("never seen", False, ""),
    }
    up = [line for line in Metrics(board).text().decode().splitlines() if "_connected " in line]
    assert up[-1] == "wardround_hospitals_connected 3.0"
    board.disconnected("c", "gone")
    board.not_admitted("d", "another version")
    states = {one["name"]: (one["state"], one["up"]) for one in hospitals(board)}
    assert (states["c"], states["d"]) == (("away", False), ("refused", False))


def hospitals(board: Board) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = board.snapshot()["hospitals"]
    return found


def test_a_curve_is_of_the_hospitals_mean_where_rows_are_ranked_by_their_scores() -> None:
    within = {"test": {"auc": {"mean": 0.8, "bound": 0.02, "hospitals": 3}}}
    overall = {"test": {"auc": 0.9, "auc_error_bound": 0.01, "loss": 0.5}}
    kept = curve_row(row(1, overall=overall, within=within))
    assert kept["overall"] == {"test": {"auc": 0.8, "auc_error_bound": 0.02, "loss": 0.5}}
    assert kept["means"] == ["auc"]


def test_a_round_that_is_evaluated_after_all_counts_once() -> None:
    board = make_board()
    board.round_committed(row(1, overall={}))
    board.round_evaluated(row(1))
    rounds = board.snapshot()["rounds"]
    assert [one["round"] for one in rounds] == [1] and rounds[0]["overall"]["test"]
    assert hospital(board, "north")["rounds"] == 1
