"""The board as Prometheus metrics, in a registry of their own.

Every label's values are bounded: hospitals are those on the board (whoever isn't one counts as
'other'), steps, outcomes and directions are fixed sets, and a metric's name comes from the task.
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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """Reads the board whenever it is scraped; nothing is kept here."""

    def __init__(self, board: Board) -> None:
        self._board = board
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
        """One family after the other, from one picture of the board."""
        picture, tally = self._board.snapshot(), self._board.tally()
        yield GaugeMetricFamily(
            "wardround_round", "Round that runs, or ran last", value=picture["run"]["round"]
        )
        yield from _of_hospitals(picture["hospitals"])
        yield from _counters(tally)
        yield _figures(picture["rounds"])


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
