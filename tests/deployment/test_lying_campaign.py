"""The campaign of lies (``tests/lying``) against real client processes: one fixed form in the
suite, drawn at random and at length by ``make chaos``."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, note, settings

from tests.lying.processes import far_study
from tests.lying.server import Ask, LyingServer
from tests.lying.test_lying import CAMPAIGN, told

CAMPAIGNS = int(os.environ.get("LYING_CAMPAIGNS", "0"))
"""Of one life of the processes, each in runs of its own."""


def test_processes_hold_what_the_app_does(tmp_path: Path) -> None:
    with far_study(tmp_path) as study:
        server = LyingServer(study)
        server.start(study.totals)
        honest = [Ask("train", 1), Ask("evaluate", 1), Ask("train", 2)]
        lies = [
            Ask("train", 1, members="abc"),
            Ask("train", 1, task={"largest_weight": 7}),
            Ask("train", 3, task={"clip": 1e-9}),
            Ask("train", 1, run="run-2", plan={"largest_weight": 7}),
            Ask("evaluate", 1, model="crafted", session=True),
            Ask("train", 3, config={"proximal-mu": 1.0}),
            Ask("train", 3, plain=True),
        ]
        for ask in honest:
            assert server.play(ask) is not None, server.refusals
        for ask in lies:
            assert server.play(ask) is None, ask
        assert told(server) == []
        number = iter(range(10**6))

        @settings(
            max_examples=max(1, CAMPAIGNS),
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(CAMPAIGN)
        def campaign(drawn: tuple[int, list[list[Ask]]]) -> None:
            asked = [ask for part in drawn[1] for ask in part]
            note(f"{asked!r}")
            server = LyingServer(study, prefix=f"campaign-{next(number)}-")
            server.start(study.totals)
            for ask in asked:
                server.play(ask)
            assert told(server) == []

        if CAMPAIGNS:
            campaign()
