"""The clients of a scenario as arrays: when each is there, and how long its part of a round takes.

Every number is drawn from (run seed, what it is), one for each client in the order of the
population, so it depends on nothing that happens in a run. N clients; times in simulated seconds
since the start, at midnight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.rng import numpy_generator
from wardround.common.settings import TrainingTable
from wardround.simulations.scenario.file import DAY_S, ClientTable, Draw, ScenarioFile

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Presence:
    """When clients are there: from ``arrives`` to ``leaves``, each day from ``opens`` for
    ``length`` seconds; all N."""

    arrives: Numbers
    leaves: Numbers
    opens: Numbers
    length: Numbers

    def at(self, time_s: float) -> NDArray[np.bool_]:
        """Who is there."""
        times = np.full(len(self.arrives), time_s)
        within = self._since_opening(times) < self.length
        return (self.arrives <= time_s) & (time_s < self.leaves) & within

    def until(self, time_s: float) -> Numbers:
        """When those who are there go, infinite for those who stay."""
        since = self._since_opening(np.full(len(self.arrives), time_s))
        closes = np.where(self.length < DAY_S, time_s + self.length - since, np.inf)
        return np.minimum(closes, self.leaves)

    def next(self, time_s: float) -> Numbers:
        """When each is there next: now, later, or never (infinite)."""
        start = np.maximum(time_s, self.arrives)
        since = self._since_opening(start)
        start = np.where(since < self.length, start, start + DAY_S - since)
        return np.where(start < self.leaves, start, np.inf)

    def next_together(self, time_s: float, count: int) -> float:
        """When ``count`` are there at the same time next; infinite for never."""
        last = max(time_s, float(self.arrives.max(initial=0.0))) + 2 * DAY_S  # then days repeat
        while int(self.at(time_s).sum()) < count:
            if count > len(self.arrives):
                return np.inf
            later = float(np.partition(self.next(time_s), count - 1)[count - 1])
            if later > time_s:
                time_s = later
            else:  # each was there, but not at once: on to whoever comes next
                coming = self.next(time_s)
                time_s = float(coming[coming > time_s].min(initial=np.inf))
            if time_s > last:
                return np.inf
        return time_s

    def _since_opening(self, times: Numbers) -> Numbers:
        # to the microsecond: an opening that was computed must not be a hair too early
        since: Numbers = np.round((times - self.opens) % DAY_S, 6) % DAY_S
        return since


class ScenarioClients:
    """N clients' numbers. Raises ConfigError for a client that the scenario names and nobody is.

    presence : when they are there
    dropout : probability per round
    """

    def __init__(self, names: Sequence[str], file: ScenarioFile, seed: int, dropout: float) -> None:
        self._names, self._file, self._seed = list(names), file, seed
        self._index = {name: index for index, name in enumerate(names)}
        for name in file.table.clients:
            if name not in self._index:
                shown = ", ".join(self._names[:5]) + (", ..." if len(self._names) > 5 else "")
                raise file.error(
                    f"clients.{name}", f"there is no client '{name}'; there are {shown}"
                )
        windows = [self._table(name).window_s() or (0.0, DAY_S) for name in names]
        opens, closes = np.array(windows).reshape(-1, 2).T
        length = (closes - opens) % DAY_S
        length[length == 0] = DAY_S
        self.presence = Presence(
            self._values("arrives_s", 0.0), self._values("leaves_s", np.inf), opens, length
        )
        self.dropout = self._values("dropout", dropout)
        self._speed = self._values("examples_per_s", np.inf)
        self._download = self._values("download_bytes_per_s", np.inf)
        self._upload = self._values("upload_bytes_per_s", np.inf)
        self._latency = self._values("latency_s", 0.0)

    def seconds(self, examples: Numbers, down_bytes: float, up_bytes: float) -> Numbers:
        """How long each client takes from the request to the end of its reply.

        examples : that each trains on in a round, every pass counted
        """
        transfers = down_bytes / self._download + up_bytes / self._upload
        return self._latency + transfers + examples / self._speed

    def _table(self, name: str) -> ClientTable:
        table = self._file.table
        own = table.clients.get(name)
        return own if own is not None and "daily" in own.model_fields_set else table.default

    def _values(self, key: str, otherwise: float) -> Numbers:
        drawn: Draw = getattr(self._file.table.default, key) or Draw("constant", otherwise)
        values = drawn.sample(numpy_generator(self._seed, "scenario", key), len(self._names))
        for name, table in self._file.table.clients.items():
            own: Draw | None = getattr(table, key)
            if own is not None:
                generator = numpy_generator(self._seed, "scenario", key, name)
                values[self._index[name]] = own.sample(generator, 1)[0]
        return values


def trained_examples(size: int, training: TrainingTable) -> int:
    """How many examples a client with ``size`` of them trains on in a round, every pass counted."""
    if training.local_steps is None:
        return training.local_epochs * size
    passes, steps = divmod(training.local_steps, max(1, -(-size // training.batch_size)))
    return passes * size + min(steps * training.batch_size, size)
