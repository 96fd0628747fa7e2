"""A study is ended in each of its phases: keys are burnt, hospitals told, nothing more is asked."""

from __future__ import annotations

from pathlib import Path

from tests.deployment.harness import Patch, until
from tests.deployment.network import StandingNetwork, standing
from tests.deployment.network_checks import assert_network_sound
from tests.deployment.network_words import MASKED
from tests.deployment.test_network_faults import QUICK, Models, thorough
from wardround.common.protocol import names as m

RUN = "wardround.client.process.responder:Responder._run_app"


def hold(kind: str, folder: Path) -> Patch:
    """A hospital stays at a request of this kind, until it is let go; once."""
    arguments = {"place": RUN, "has": f"type='{kind}'", "until": str(folder / "go")}
    return ("hold_at", arguments | {"at": str(folder / "held")})


@thorough
def test_a_study_is_aborted_before_it_runs(tmp_path: Path, undisturbed_studies: Models) -> None:
    with standing(tmp_path, at_once=1) as made:
        made.start_server(patches=QUICK)
        for name in made.names:
            made.start_client(name, [hold(m.TRAIN, tmp_path)] if name == "north" else None)
        runs = made.submit(made.study("plain-1"))
        until((tmp_path / "held").exists, f"a hospital to train\n{made.tails()}")
        queued = made.submit(made.study("plain-2"))
        made.reach(queued, "queued")
        waits = made.submit(made.study("asked-3", fewest=3))
        until(lambda: all(made.approvals(name, waits) for name in made.names), "it to be shown")
        for id in (queued, waits):
            made.abort(id)
        until(lambda: told(made, queued) and told(made, waits), f"all to know\n{made.tails()}")
        assert made.row(runs).state == "running"
        (tmp_path / "go").touch()
        made.delivered(runs, queued, waits)
        assert_network_sound(made, undisturbed_studies)
        states = {made.sent[id].name: made.row(id).state for id in (runs, queued, waits)}
        assert states == {"plain-1": "complete", "plain-2": "aborted", "asked-3": "aborted"}


def told(made: StandingNetwork, id: str) -> bool:
    """Whether all hospitals have marked a study as over, and burnt its keys."""
    folders = [made.kit(name) / "state" / "studies" / id for name in made.names]
    return all((one / "over.json").exists() and not (one / "store").exists() for one in folders)


@thorough
def test_a_study_is_aborted_while_hospitals_train_and_while_a_sum_is_opened(tmp_path: Path) -> None:
    with standing(tmp_path) as made:
        made.start_server(patches=QUICK)
        for kind in (m.TRAIN, m.UNMASK):
            folder = tmp_path / kind
            folder.mkdir()
            for name in made.names:
                if name in made.clients:
                    made.clients[name].kill()
                made.start_client(name, [hold(kind, folder)] if name == "north" else None)
            id = made.submit(made.study(f"masked-{kind}", rounds=50, **MASKED))
            until((folder / "held").exists, f"a hospital at {kind}\n{made.tails()}")
            made.abort(id)
            # also the one that is at work is told at once, and what it works at never leaves
            until(lambda id=id: told(made, id), f"all to know\n{made.tails()}")
            (folder / "go").touch()
            made.delivered(id)
            check_nothing_is_asked(made, id)
        assert_network_sound(made, {})


def check_nothing_is_asked(made: StandingNetwork, id: str) -> None:
    """After the line that it is over, the server has asked nothing of it but to know that."""
    over = False
    for line in made.audit("server"):
        if line.get("study") == id and line["event"] == "study":
            over |= line["new"] == "aborted"
        elif line.get("study") == id and over and line["event"] == "sent":
            assert line["kind"] == m.STUDY_ENDED, line
