"""A hospital joins in the middle of a run that chooses its best round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deployment.checks import assert_sound
from tests.deployment.harness import Patch, federation, until, write_csv
from wardround.common.config.load import load_config
from wardround.server.provision.kits import provision

ROUNDS = 6


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "masked"])
def test_only_figures_over_the_same_hospitals_are_compared(tmp_path: Path, secure: bool) -> None:
    """Within the plan that every hospital accepted. In plain the best model so far is evaluated
    again with who joined; under masks two sums of one model would differ by that one's figures, so
    comparison begins anew, and the server says so."""
    chooses = '[evaluation]\nselect = "best"\npatience = 100\n'
    go = tmp_path / "go"  # the run waits for the newcomer, however long it takes to come
    place = "wardround.server.rounds.commits:write_checkpoint"
    wait: list[Patch] = [("hold", {"place": place, "count": 4, "until": str(go)})]
    with federation(tmp_path, rounds=ROUNDS, secure=secure, min_clients=3, extra=chooses) as made:
        held_out = 'path = "hospitals"\nvalidation_fraction = 0.2'
        text = made.config.read_text().replace('path = "hospitals"', held_out)
        made.config.write_text(text)
        provision(load_config(made.config))
        made.start(server=wait)
        made.reach_round(2)
        write_csv(made.folder / "hospitals" / "d.csv", None, 7)
        made.config.write_text(text.replace("hospitals = [", 'hospitals = ["d", ', 1))
        made.add("d")
        made.start_client("d")
        lines = ("manifest", "d", True)
        until(
            lambda: any(
                (x["event"], x.get("hospital"), x.get("accepted")) == lines for x in made.audit()
            ),
            "d takes part",
        )
        go.touch()
        made.finish()
        rows, names = made.rounds(), ["a", "b", "c", "d"]
        over = [row["over"]["validation"] for row in rows]
        joined = over.index(names)
        assert over[:joined] == [names[:3]] * joined and over[joined:] == [names] * (
            ROUNDS - joined
        )
        summary = json.loads((made.run / "run.json").read_text())
        figure, chosen = summary["primary"], summary["chosen_round"]
        found = {row["round"]: row["overall"]["validation"][figure] for row in rows[joined:]}
        again = [row["again"] for row in rows if "again" in row]
        assert made.server is not None
        if secure:
            assert not again and f"compared from round {joined + 1} on only" in made.server.text
        else:
            assert again == [rows[joined]["again"]] and not again[0]["refused"]
            assert again[0]["over"]["validation"] == names
            found[again[0]["round"]] = again[0]["overall"]["validation"][figure]
        better = summary["figures"][figure]["better"]
        assert found[chosen] == (max if better == "higher" else min)(found.values())
        assert {row["hospital"]: row["device"] for row in summary["hospitals"]} == dict.fromkeys(
            names, "cpu"
        )
        assert_sound(made, rounds=ROUNDS)
