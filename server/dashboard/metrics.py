"""What the dashboard shows as Prometheus metrics, in a registry of their own.

Every label's values are bounded: hospitals are those on the board (whoever isn't one counts as
'other'), steps, outcomes and directions are fixed sets, and a metric's name comes from the task. Of
a network: its connections, its studies by state, and the same of each study that runs (not of those
that ran), labelled with its short name; 16 at most.
Counters count since this process began. With secure aggregation nothing is shown per hospital but
its connection, its refusals and the epsilon it claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from wardround.server.display.board import Board
from wardround.server.display.board_rows import SECONDS_BOUNDS, Tally
from wardround.server.display.studies import StudiesBoard

_MOST_STUDIES = 16
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Reads what is shown whenever it is scraped; nothing is kept here."""

    def __init__(self, shown: Board | StudiesBoard) -> None:
        self._shown = shown
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The exposition, as ``CONTENT_TYPE`` says."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: names are known only when the board is read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family after the other, from one picture of each board."""
        if isinstance(self._shown, Board):
            yield from _of_run(self._shown)
        else:
            yield from _of_network(self._shown)


def _of_run(board: Board) -> Iterator[Metric]:
    picture, tally = board.snapshot(), board.tally()
    yield GaugeMetricFamily(
        "wardround_round", "Round that runs, or ran last", value=picture["run"]["round"]
    )
    yield from _of_hospitals(picture["hospitals"])
    yield from _counters(tally)
    yield _figures(picture["rounds"])


def _of_network(studies: StudiesBoard) -> Iterator[Metric]:
    """The network's connections, how many studies there are, and each running one's own."""
    family = GaugeMetricFamily("wardround_studies", "Studies by state", labels=["state"])
    for state, count in sorted(studies.states().items()):
        family.add_metric([state], count)
    yield family
    picture = studies.network.snapshot()
    yield from list(_of_hospitals(picture["hospitals"]))[:-1]  # budgets are each study's
    merged: dict[str, Metric] = {}
    for study, board in sorted(studies.running().items())[:_MOST_STUDIES]:
        line = studies.line(study)
        label = {"study": f"{line.name if line else ''}-{study[:12]}"}
        for one in _of_run(board):
            name = one.name.replace("wardround_", "wardround_study_", 1)
            into = merged.setdefault(name, Metric(name, one.documentation, one.type))
            for sample in one.samples:
                own = sample.name.replace("wardround_", "wardround_study_", 1)
                into.add_sample(own, label | sample.labels, sample.value)
    yield from merged.values()


def _counters(tally: Tally) -> Iterator[Metric]:
    rounds = CounterMetricFamily(
        "wardround_rounds", "Rounds committed or lost, and attempts failed", labels=["outcome"]
    )
    for outcome in ("committed", "lost", "failed"):
        rounds.add_metric([outcome], tally.rounds.get(outcome, 0))
    yield rounds
    size = CounterMetricFamily(
        "wardround_bytes", "Payload bytes, seen from the server", labels=["direction"]
    )
    size.add_metric(["in"], tally.bytes_in)
    size.add_metric(["out"], tally.bytes_out)
    yield size
    refusals = CounterMetricFamily(
        "wardround_refusals", "Connections and replies refused", labels=["hospital", "step"]
    )
    for labels, count in sorted(tally.refusals.items()):
        refusals.add_metric(labels, count)
    yield refusals
    bounds = [*map(str, SECONDS_BOUNDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(tally.seconds), strict=True))
    yield HistogramMetricFamily(
        "wardround_round_seconds",
        "Time of a committed round: training and evaluation",
        buckets=buckets,
        sum_value=tally.seconds_sum,
    )


def _of_hospitals(hospitals: list[dict[str, Any]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("wardround_hospital_up", "1 if connected, else 0", labels=["hospital"])
    epsilon = GaugeMetricFamily(
        "wardround_epsilon", "Epsilon spent, as the hospital signed it", labels=["hospital"]
    )
    for hospital in hospitals:
        name = [hospital["name"]]
        up.add_metric(name, int(hospital["up"]))
        if hospital["private"]:
            spent = hospital["epsilon"]
            epsilon.add_metric(name, math.inf if spent is None else spent)
    connected = sum(hospital["up"] for hospital in hospitals)
    yield GaugeMetricFamily(
        "wardround_hospitals_connected", "Hospitals connected now", value=connected
    )
    yield up
    yield epsilon


def _figures(rounds: list[dict[str, Any]]) -> Metric:
    """The newest known value of each figure; undefined ones are left out."""
    family = GaugeMetricFamily(
        "wardround_metric",
        "Newest figure; of the hospitals' mean where rows are ranked by their scores",
        labels=["split", "name"],
    )
    newest: dict[tuple[str, str], float | None] = {}
    for row in rounds[-1:]:
        newest["train", "loss"] = row["train_loss"]
    evaluated = [row["overall"] for row in rounds if row["overall"]]
    for split, figures in evaluated[-1].items() if evaluated else ():
        for name, value in figures.items():
            newest[split, name] = value if value is not None else newest.get((split, name))
    for labels, value in newest.items():
        if value is not None:
            family.add_metric(labels, value)
    return family
