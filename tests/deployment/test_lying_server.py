"""A server that lies gets a refusal with a reason from the hospitals, and nothing of a patient."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.deployment.checks import assert_sound, told_otherwise
from tests.deployment.harness import Federation, federation, until


def opened(folder: Path, names: tuple[str, ...]) -> dict[tuple[str, int], set[tuple[int, ...]]]:
    """Survivor sets by aggregation, as the hospitals opened them."""
    sets: dict[tuple[str, int], set[tuple[int, ...]]] = {}
    for name in names:
        path = folder / f"{name}.unmasked"
        for line in path.read_text().splitlines() if path.exists() else []:
            one = json.loads(line)
            sets.setdefault((one["group"], one["index"]), set()).add(tuple(one["survivors"]))
    return sets


def recording(folder: Path, made: Federation) -> dict[str, list[tuple[str, dict[str, object]]]]:
    """Patches: every hospital writes down what it opened."""
    return {
        name: [("record_unmasking", {"file": str(folder / f"{name}.unmasked")})]
        for name in made.names
    }


def test_two_survivor_sets(tmp_path: Path) -> None:
    """A hospital that isn't in the set that it is asked to open, or whose set is too small."""
    mark = str(tmp_path / "lied")
    lie = ("lie_about_survivors", {"name": "c", "once": mark})
    with federation(tmp_path, secure=True, rounds=2) as made:
        made.start(server=[lie], clients=recording(tmp_path, made))
        made.finish()
        assert Path(mark).exists()
        refusals = made.refusals("c")
        assert any("survivor set" in reason for reason in refusals), refusals
        assert {len(found) for found in opened(tmp_path, made.names).values()} == {1}
        assert_sound(made, rounds=2, honest=False)
        first, *_ = told_otherwise(made)
        assert re.search(
            "differ in opening aggregation .* of round 1: survivors is with c for '[ab]' and "
            "without for 'c'",
            first,
        )


def test_both_kinds_of_share(tmp_path: Path) -> None:
    said = tmp_path / "said"
    with federation(tmp_path, secure=True, rounds=2) as made:
        lie = ("ask_for_both_shares", {"file": str(said)})
        made.start(server=[lie], clients=recording(tmp_path, made))
        made.finish()
        lines = said.read_text().splitlines()
        assert len(lines) >= 6 and not [line for line in lines if "SHARES" in line]
        assert all("opened" in line for line in lines), lines
        assert {len(found) for found in opened(tmp_path, made.names).values()} == {1}
        assert_sound(made, rounds=2, honest=False)
        assert "was told two things of opening aggregation" in told_otherwise(made)[0]


def test_a_manifest_that_says_fewer_rounds(tmp_path: Path) -> None:
    """Other lies in it: tests/client/site."""
    with federation(tmp_path, secure=True, rounds=4) as made:
        made.start(server=[("lie_in_manifest", {"rounds": 2})])
        until(lambda: any("round" in text for text in made.refusals("a")), "the refusal")
        assert made.server is not None
        made.server.says("round")
        assert len(made.rounds()) <= 2
        assert not [
            line
            for line in made.audit("a")
            if line["event"] == "sent" and int(line.get("round") or 0) > 2
        ]


def test_more_rounds_than_the_hospitals_allow(tmp_path: Path) -> None:
    with federation(tmp_path, secure=True, rounds=4, policy="max_rounds = 3") as made:
        made.start()
        for party in ("a", "server"):
            until(lambda: any("max_rounds" in r for r in made.refusals(party)), "the refusal")
        kinds = {line["kind"] for line in made.audit("a") if line["event"] == "sent"}
        assert not kinds - {"query.manifest"}, "nothing left but the refusal"


def test_a_swapped_roster(tmp_path: Path) -> None:
    """Nobody can stand in for a hospital: its true bundle doesn't fit the false key."""
    with federation(tmp_path, secure=True, rounds=1, min_clients=3) as made:
        made.start(server=[("swap_roster", {})], clients=recording(tmp_path, made))
        assert made.server is not None
        made.server.says("not signed by the hospital of the roster", 60)
        assert not opened(tmp_path, made.names)
        made.server.kill()


def test_another_model_for_one_hospital(tmp_path: Path) -> None:
    """Then the masks don't cancel: a sum over different models is never opened."""
    with federation(tmp_path, secure=True, rounds=1) as made:
        made.start(server=[("another_model_for", {"node": 0})])
        assert made.server is not None
        made.server.says("round 1", 60)
        until(lambda: made.server.code is not None or "attempt" in made.server.text, "a failure")
        assert made.rounds() == []
        made.server.kill()
        found = told_otherwise(made)
        assert re.search(
            "differ in 'train 1' of round 1 .*: model is [0-9a-f]{12} for 'a'", found[0]
        )
        print(found)


def test_another_cohort_for_one_hospital(tmp_path: Path) -> None:
    """It refuses to be of two only; what it was told stands in its log, beside the others'."""
    lie = ("another_group_for", {"name": "c", "once": str(tmp_path / "lied")})
    with federation(tmp_path, secure=True, rounds=1) as made:
        made.start(server=[lie])
        made.finish()
        assert_sound(made, rounds=1, honest=False)
        first, *_ = told_otherwise(made)
        assert "differ in the group of aggregations 0 to " in first
        assert re.search("members is with a for '[ab]' and without for 'c'", first)
