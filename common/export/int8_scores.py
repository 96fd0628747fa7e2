"""A graph of 8 bits is measured beside the float one, on rows with outcomes. One that loses more
than was allowed is never written.

The rows should be none that the model was trained on: what data calls ``test``, where it says so.
Figures are the task's own, from the probabilities that the graphs give.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays, Exporter
from wardround.common.export.int8 import method_of, quantised
from wardround.common.export.int8_info import Int8
from wardround.common.export.joined import concatenated
from wardround.common.export.session import GraphSession
from wardround.common.export.source import Source

TOLERANCE = 0.01
_ALONE = 30
_CALIBRATION_BATCHES = 32
_MEND = "allow more (--int8-tolerance), or keep the float export"


@dataclass(frozen=True)
class Wanted:
    """How a graph of 8 bits is to be made.

    data : labelled rows in the task's own form
    calibration : rows whose ranges may be in the file; None: none
    tolerance : the most that the primary figure may lose; of one where less is better, relative
    """

    data: Any
    calibration: Any = None
    tolerance: float = TOLERANCE


def int8_graph(
    source: Source, exporter: Exporter, graph: bytes, wanted: Wanted
) -> tuple[bytes, Int8]:
    """The graph in 8 bits, and how it compares. Raises ModelRefused if it loses too much, or if
    the rows can't say."""
    held_out = _held_out(source, wanted.data)
    method = method_of(graph, wanted.calibration is not None)
    calibration: list[Arrays] = []
    if method == "static":
        calibration = list(_some(exporter.rows(source, wanted.calibration)))
    small = quantised(graph, method, calibration)
    sessions = GraphSession(graph), GraphSession(small)
    runs = _Runs.of(exporter.rows(source, held_out), *sessions)
    before, after = (_figures(source, exporter, held_out, one) for one in runs.predictions)
    figure = source.task.figure_table().primary
    found = Int8(
        method=method,
        rows=source.task.size(held_out),
        calibration_rows=sum(len(next(iter(batch.values()))) for batch in calibration),
        size_bytes=len(small),
        float_bytes=len(graph),
        speed=runs.speed,
        speed_alone=_alone(exporter.rows(source, held_out), *sessions),
        largest=_largest(*runs.predictions),
        figure=figure.name,
        figures=after,
        float_figures=before,
        tolerance=wanted.tolerance,
    )
    _check(source, found, figure.better)
    return small, found


def _held_out(source: Source, raw: Any) -> Any:
    """What the data calls ``test``; all of it where it calls nothing so."""
    split = source.task.given_split(raw)
    if split is None or not (split == "test").any():
        return raw
    return source.task.select(raw, np.flatnonzero(split == "test"))


def _some(batches: Iterable[Arrays]) -> Iterable[Arrays]:
    return (batch for batch, _ in zip(batches, range(_CALIBRATION_BATCHES), strict=False))


@dataclass
class _Runs:
    """Both graphs on the same batches, one after the other.

    predictions : of each graph, the outputs of every batch
    """

    predictions: tuple[list[Arrays], list[Arrays]] = field(default_factory=lambda: ([], []))
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @classmethod
    def of(cls, batches: Iterable[Arrays], *sessions: GraphSession) -> _Runs:
        found, first = cls(), True
        for batch in batches:
            for number, session in enumerate(sessions):
                if first:
                    session.run(batch)  # what a first run costs once is no speed
                begun = perf_counter()
                found.predictions[number].append(session.run(batch))
                found.seconds[number] += perf_counter() - begun
            first = False
        return found

    @property
    def speed(self) -> float:
        """The first graph's time over the second's."""
        return _ratio(*self.seconds)


def _alone(batches: Iterable[Arrays], *sessions: GraphSession) -> float:
    """The same of single rows: the medians."""
    batch = next(iter(batches))
    rows = [{name: value[:1] for name, value in batch.items()}] * _ALONE
    times: list[list[float]] = [[], []]
    for row in rows:
        for number, session in enumerate(sessions):
            begun = perf_counter()
            session.run(row)
            times[number].append(perf_counter() - begun)
    return _ratio(*(float(np.median(one)) for one in times))


def _ratio(before: float, after: float) -> float:
    return round(before / after, 3) if after else math.nan


def _largest(before: list[Arrays], after: list[Arrays]) -> float:
    largest = 0.0
    for one, other in zip(before, after, strict=True):
        for name, values in one.items():
            gap = np.abs(np.asarray(values, np.float64) - np.asarray(other[name], np.float64))
            largest = max(largest, float(np.nanmax(gap, initial=0.0)))
    return largest


def _figures(
    source: Source, exporter: Exporter, raw: Any, batches: list[Arrays]
) -> dict[str, float]:
    task = source.task
    train = raw if source.train is None else source.train
    targets = task.prepare(raw, source.totals, train).targets
    sums = task.metrics(exporter.outputs(source, concatenated(batches)), targets)
    return {name: value for name, value in task.summarise(sums).items() if math.isfinite(value)}


def _check(source: Source, found: Int8, better: str) -> None:
    name, who = found.figure, str(source.path)
    if name not in found.figures or name not in found.float_figures:
        what = f"{name} can't be had of these {found.rows} rows, so nobody knows what 8 bits lose"
        raise ModelRefused(what, who=who, mend="give rows of every class: --data")
    before, after = found.float_figures[name], found.figures[name]
    loss = before - after if better == "higher" else (after - before) / max(abs(before), 1e-12)
    if not loss <= found.tolerance:
        what = f"in 8 bits {name} goes from {before:.4f} to {after:.4f}"
        raise ModelRefused(f"{what}, more than {found.tolerance:g} worse", who=who, mend=_MEND)
