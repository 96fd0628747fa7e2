"""What ``GET /metrics`` shows: requests, times, how often inputs and scores fall into which bin.

Bins are those that drift is measured by (``common/drift``), of the model's schema alone. Counts are
added ``AT_ONCE`` rows at a time, so that the difference of two scrapes is never one patient's; the
rows that aren't counted yet wait in memory, and are written nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from wardround.client.serving.asked import Columns
from wardround.client.serving.model import Model
from wardround.common.drift.counts import Column
from wardround.common.drift.field import fields_of
from wardround.common.drift.metrics import metrics_text
from wardround.common.drift.recent import Recent
from wardround.common.tasks.schema import Input

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AT_ONCE, MOST, MANY = 50, 500, 5000
"""Rows that are counted together, at the least; of one request, at the most: of a larger one as
many, evenly spaced; and how many wait at the most."""
_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_MISSING, _UNKNOWN = -1, -2
_PAUSE_S = 0.1
"""Counting costs the same for few and for many rows: so many requests share it."""
Part = dict[str, NDArray[Any]]


class Counting:
    """Counts for one model; may be used by several threads. Scores are the model's own, before a
    calibration, as those of a reference are."""

    def __init__(self, model: Model) -> None:
        self._inputs = model.schema.inputs
        self._numbers = {
            one.name: _numbers_of(one) for one in self._inputs if one.kind == "category"
        }
        self._binary = {one.name for one in self._inputs if one.kind == "binary"}
        self._fields = fields_of(model.schema)
        self._recent = Recent(self._fields, model.reference)
        self._waiting: list[tuple[Columns, Mapping[str, NDArray[Any]]]] = []
        self._rows, self._next_s, self._lock = 0, 0.0, Lock()
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "wardround_serve_requests",
            "Requests by path and status",
            ["path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "wardround_serve_seconds",
            "Time to answer a request, its body's arrival included",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._predicted = Counter(
            "wardround_serve_rows", "Rows that were predicted", registry=self._registry
        )
        known = {"model": model.digest, "calibration": model.calibration_digest}
        Gauge(
            "wardround_serve_model",
            "1: which model is served",
            list(known),
            registry=self._registry,
        ).labels(**known).set(1)
        Gauge(
            "wardround_serve_expires_timestamp_seconds",
            "The first moment at which the model's last day has passed",
            registry=self._registry,
        ).set(model.ends().timestamp())
        Gauge(
            "wardround_serve_expired",
            "1 once the model's last day has passed",
            registry=self._registry,
        ).set_function(lambda: float(model.is_over()))

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request. ``path``: a route's own; '' for none."""
        self._requests.labels(path or "none", str(status)).inc()
        self._seconds.labels(path or "none").observe(seconds)

    def rows(self, columns: Columns, outputs: Mapping[str, NDArray[Any]], count: int) -> None:
        """Count rows, now or with those that come."""
        self._predicted.inc(count)
        step = -(-count // MOST)
        if step > 1:
            columns = {name: values[::step].copy() for name, values in columns.items()}
            outputs = {name: values[::step].copy() for name, values in outputs.items()}
        with self._lock:
            self._waiting.append((columns, outputs))
            self._rows += -(-count // step)
        if self._rows >= MANY or time.monotonic() > self._next_s:
            self._flush()

    def _flush(self) -> None:
        """Count those that wait, unless they are too few."""
        with self._lock:
            if self._rows < AT_ONCE:
                return
            waiting, self._waiting, self._rows = self._waiting, [], 0
            self._next_s = time.monotonic() + _PAUSE_S
        columns, outputs = waiting[0]
        self._count(
            {name: np.concatenate([one[0][name] for one in waiting]) for name in columns},
            {name: np.concatenate([one[1][name] for one in waiting]) for name in outputs},
        )

    def text(self) -> bytes:
        """The exposition, as ``CONTENT_TYPE`` says."""
        self._flush()
        return generate_latest(self._registry) + metrics_text(self._recent.state()).encode()

    def _count(self, columns: Part, outputs: Part) -> None:
        found: dict[str, Column] = {}
        for field in self._fields:
            if field.role == "score" and field.name in outputs:
                found[field.key] = Column(outputs[field.name])
            elif field.role == "input" and field.name in columns:
                found[field.key] = self._column(field.name, columns[field.name])
        self._recent.add(found)

    def _column(self, name: str, values: NDArray[Any]) -> Column:
        if name in self._numbers:
            known = self._numbers[name]
            return Column(np.array([known.get(text, _UNKNOWN) for text in values], np.int64))
        if name in self._binary:
            found = np.where(np.isnan(values), _MISSING, _UNKNOWN).astype(np.int64)
            for digit in (0, 1):  # whatever else a row has there is no number to cast
                found[values == digit] = digit
            return Column(found)
        return Column(values)


def _numbers_of(one: Input) -> dict[str, int]:
    """The place of each text of a category, by how it may be written."""
    found = {text: place for place, text in enumerate(one.categories)}
    found |= {text: found[name] for text, name in one.spellings.items() if name in found}
    return {**found, "": _MISSING}
