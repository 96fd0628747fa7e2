"""Hospitals that send what they shouldn't: refused by name and reason, and the round goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.deployment.checks import assert_same_model, assert_sound
from tests.deployment.harness import Federation, federation, until

KINDS = {
    "nan": "NaN",
    "shape": "expected float32[1, 2]",
    "record": "more",
    "weight": "num-examples",
    "pickle": "pickle",
    "large": "server.max_message_mb",
}
"""All others, of a process's own: tests/server/gathering/test_replies.py."""


def test_updates_that_would_spoil_the_model_are_refused(tmp_path: Path) -> None:
    kinds = list(KINDS)
    with federation(tmp_path, rounds=len(kinds) + 1, min_clients=2, max_message_mb=1) as made:
        made.start(clients={"c": [("spoil", {"kinds": kinds})]})
        made.finish()
        rows = made.rounds()
        for row, kind in zip(rows, kinds, strict=False):
            assert sorted(row["accepted"]) == ["a", "b"], (kind, row)
            (reason,) = [r["reason"] for r in row["refused"] if r["hospital"] == "c"]
            assert KINDS[kind].lower() in reason.lower(), (kind, reason)
        assert sorted(rows[-1]["accepted"]) == ["a", "b", "c"], "it may take part again"
        assert "server.max_message_mb" in made.clients["c"].text  # the limit, at both ends
        assert all(np.isfinite(value).all() for value in made.model().values())
        assert_sound(made, rounds=len(kinds) + 1)


def test_answers_that_come_three_times_count_once_and_nonsense_ends_a_connection_alone(
    tmp_path: Path, undisturbed: Federation
) -> None:
    """Both from hospitals that are in: the server says what was wrong, and they may come again."""
    mark = str(tmp_path / "said")
    with federation(tmp_path) as made:
        nonsense = [("speak_nonsense", {"count": 7, "once": mark})]
        made.start(clients={"a": [("repeat_answers", {})], "b": nonsense})
        made.finish()
        assert Path(mark).exists()
        lines = [line for line in made.audit() if line["event"] == "disconnected"]
        reasons = [str(line["reason"]) for line in lines if line.get("peer", "b") == "b"]
        assert any("broke the protocol" in reason for reason in reasons), reasons
        assert "broke the protocol" in made.clients["b"].text
        assert_same_model(made, undisturbed)
        assert_sound(made, rounds=4)


def test_a_hospital_without_rows_or_with_one_class_only(tmp_path: Path) -> None:
    rows = {"b": [[0.1, 0.2, 1], [0.3, 0.1, 1], [0.2, 0.5, 1], [0.4, 0.2, 1]], "c": []}
    with federation(tmp_path, rounds=2, min_clients=2, rows=rows, wait_s=1.0) as made:
        made.start_server()
        made.start_client("a")
        made.start_client("b")
        empty = made.start_client("c")
        until(lambda: empty.code is not None or made.server.code is not None, "an end")
        if empty.code is not None:  # told at once, in one line, without a value
            assert empty.code == 3 and "Traceback" not in empty.text
            made.clients.pop("c")
        made.finish()
        assert sorted(made.rounds()[-1]["accepted"]) == ["a", "b"]
        assert_sound(made, rounds=2)
