"""A simulation's clients fail, come, go and take their time; a simulated clock says how long.

What happens to a client in a round is a function of (run seed, round, attempt, client) and of the
simulated time at which the attempt began: never of when, where or in which order clients are really
run, so every executor gives the same. The clock is in ``metrics.jsonl``: a resumed run goes on with
it.

An attempt at a round takes as long as whoever of the cohort the server waits for longest: until an
answer is there, or whoever is late has let the deadline pass, or a connection breaks because its
client goes. A client that drops out is noticed at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.compression.writing import ring, words_layout
from wardround.common.config.load import Config
from wardround.common.errors import RoundFailed
from wardround.common.flower.arrays import Layout
from wardround.common.flower.hosting import Message
from wardround.common.protocol import names as m
from wardround.common.protocol.model import round_of
from wardround.common.rng import numpy_generator
from wardround.common.run.directory import RunDirectory
from wardround.common.secagg.content import training_layout
from wardround.server.gathering.host import Host, KnownModel
from wardround.server.members.member import Member
from wardround.server.members.sampling import fewest_hospitals
from wardround.simulations.population.virtual import ClientNames
from wardround.simulations.scenario.clients import ScenarioClients, trained_examples
from wardround.simulations.scenario.file import DAY_S, ScenarioFile

Index = NDArray[np.int64]
DROPPED = "simulated dropout (simulation.dropout)"
_PURPOSES = {m.TRAIN: "dropout", m.BEGIN: "dropout", m.UNMASK: "unmask dropout"}
_EXACT_BYTES = 24


class Scenario:
    """Says which clients fail, and why; an interceptor of the in-process grid.

    ``simulation.dropout`` strikes before a client answers a training request,
    ``simulation.unmask_dropout`` after it has uploaded, when masks are to be opened; the rest is
    the scenario file's, if there is one.

    Parameters
    ----------
    names : all clients, in the order of the population
    training_rows : how many training rows a client has, by name; asked once, in the first round
    file : the scenario

    Raises ConfigError if the file names a client that there isn't, or sets a deadline for rounds
    that wait for nobody.
    """

    def __init__(
        self,
        config: Config,
        names: Sequence[str],
        training_rows: Callable[[str], int] = lambda name: 0,
        file: ScenarioFile | None = None,
    ) -> None:
        self._config, self._names, self._training_rows = config, names, training_rows
        self._index = _index_of(names)
        table, count = config.simulation, len(names)
        self.target = file.table.target if file else None
        self._deadline_s = (file.table.deadline_s if file else None) or math.inf
        self._clients = (
            ScenarioClients(names, file, config.federation.seed, table.dropout) if file else None
        )
        # views: no number for each of a million clients
        dropout: NDArray[np.float64] = np.broadcast_to(np.float64(table.dropout), count)
        if self._clients is not None:
            dropout = self._clients.dropout
        unmask = np.broadcast_to(np.float64(table.unmask_dropout), count)
        self._buffered = config.federation.buffered
        if self._buffered and file and file.table.deadline_s is not None:
            raise file.error(
                "deadline_s",
                "has no effect with federation.pace = 'buffered', where nobody is late but by "
                "federation.max_staleness; leave it out",
            )
        # one that drops out does so when it is to train, not when it sends what it has
        self._strikes = m.BEGIN if self._buffered else m.TRAIN
        self._probability = {self._strikes: dropout, m.UNMASK: unmask}
        self._fails = {kind: bool(chance.any()) for kind, chance in self._probability.items()}
        self._asked: dict[str, tuple[int, Index]] = {}
        self._drawn: dict[tuple[str, int, int], NDArray[np.float64]] = {}
        self._bytes = (0.0, 0.0)
        self._seconds: NDArray[np.float64] | None = None
        self.time_s = self._committed_s = self._attempt_s = 0.0

    @property
    def timed(self) -> bool:
        """Whether there is a clock: with a scenario file only."""
        return self._clients is not None

    def host(self, go_on: str) -> Host:
        """What a federation of these clients is told: who is there, and when.

        go_on : how a run that stopped goes on
        """
        return Host(
            on_model=self.on_model,
            wait_ready=self.wait_ready,
            present=self.present,
            due=self.due,
            first=self.first,
            go_on=go_on,
        )

    # --- who fails ----------------------------------------------------------------------------
    def __call__(self, message: Message, name: str) -> str | None:
        """Why a client fails instead of answering this message; None if it doesn't."""
        kind = message.metadata.message_type
        if not self._may_fail(kind):
            return None
        server_round = round_of(message.content)
        return self.failures(kind, server_round, [name]).get(name)

    def failures(self, kind: str, server_round: int, names: Sequence[str]) -> dict[str, str]:
        """Of clients that are asked (once more) in a round: who fails, and why."""
        if not self._may_fail(kind):
            return {}
        index = np.fromiter(map(self._index, names), np.int64, len(names))
        dropped = self._draws(kind, server_round, index) < self._probability[kind][index]
        reasons = {int(i): DROPPED for i in index[dropped]}
        if kind == m.TRAIN and self._clients is not None and not self._buffered:
            reasons = self._times(self._clients, index, dropped) | reasons
        return {self._names[i]: reason for i, reason in reasons.items()}

    def present(self, members: Sequence[Member]) -> Sequence[Member]:
        """The members that are there now; of the others no cohort is drawn."""
        if self._clients is None:
            return members
        there = self._clients.presence.at(self.time_s)
        return [member for member in members if there[self._index(member.name)]]

    def _may_fail(self, kind: str) -> bool:
        if kind == m.TRAIN and self._clients is not None and not self._buffered:
            return True
        return self._fails.get(kind, False)

    def _draws(self, kind: str, server_round: int, index: Index) -> NDArray[np.float64]:
        """A number in [0, 1) for each client and how often it was asked in this round."""
        last, asked = self._asked.get(kind, (-1, np.empty(0, dtype=np.int64)))
        if last != server_round:
            asked = np.zeros(len(self._names), dtype=np.int64)
            self._drawn = {key: draws for key, draws in self._drawn.items() if key[0] != kind}
        asked[index] += 1
        self._asked[kind] = (server_round, asked)
        attempts = asked[index]
        draws = np.empty(len(index))
        for attempt in np.unique(attempts).tolist():
            key = (kind, server_round, attempt)
            if key not in self._drawn:
                seed, purpose = self._config.federation.seed, _PURPOSES[kind]
                generator = numpy_generator(seed, purpose, server_round, attempt)
                self._drawn[key] = generator.random(len(self._names))
            mine = attempts == attempt
            draws[mine] = self._drawn[key][index[mine]]
        return draws

    # --- how long it takes ----------------------------------------------------------------------
    def _times(
        self, clients: ScenarioClients, index: Index, dropped: NDArray[np.bool_]
    ) -> dict[int, str]:
        """Who is absent, late or goes too early; and how long the server waits for these clients,
        kept for the clock."""
        now, limit = self.time_s, self._deadline_s
        there = clients.presence.at(now)[index]
        stays = clients.presence.until(now)[index] - now
        takes = self._round_seconds(clients)[index]
        late = there & (takes > limit) & (limit <= stays)
        goes = there & (takes > stays) & ~late
        waited = np.where(there & ~dropped, np.minimum(np.minimum(takes, stays), limit), 0.0)
        self._attempt_s = max(self._attempt_s, float(waited.max(initial=0.0)))
        reasons: dict[int, str] = {}
        for i, seconds in zip(index[late].tolist(), takes[late].tolist(), strict=True):
            reasons[i] = f"late in the scenario: {seconds:.4g} s, the deadline is {limit:g} s"
        for i, stay in zip(index[goes].tolist(), stays[goes].tolist(), strict=True):
            reasons[i] = f"left in the scenario at {now + stay:g} s, before it had answered"
        for i, back in zip(
            index[~there].tolist(), clients.presence.next(now)[index[~there]].tolist(), strict=True
        ):
            until = f"until {back:g} s" if math.isfinite(back) else "for good"
            reasons[i] = f"absent in the scenario {until}"
        return reasons

    def _round_seconds(self, clients: ScenarioClients) -> NDArray[np.float64]:
        if self._seconds is None:
            training = self._config.training
            rows = [trained_examples(self._training_rows(name), training) for name in self._names]
            self._seconds = clients.seconds(np.array(rows, dtype=np.float64), *self._bytes)
        return self._seconds

    def on_model(self, known: KnownModel) -> None:
        """What clients are sent, and send: the model, and what the strategy sends with it."""
        expected = known.expected
        layouts = [expected.layout, *expected.records.values()]
        down = up = float(sum(_bytes(layout) for layout in layouts))
        secure = self._config.secure_aggregation
        if (writing := expected.writing) is not None:
            sent = words_layout(self._config.compression.bits, expected.layout, writing.names)
            up = float(sum(_bytes(layout) for layout in [sent, *expected.records.values()]))
        if secure.enabled:
            records = expected.all_records
            vector = training_layout(expected.layout, expected.parameters, records)
            bits, _ = ring(self._config)
            up = vector.update_size * bits / 8 + vector.exact_size * _EXACT_BYTES
        elif self._buffered:  # the present model comes once more
            down *= 2
        self._bytes, self._seconds = (down, up), None

    # --- the clock ------------------------------------------------------------------------------
    def wait_ready(self, everyone: bool) -> None:
        """Before an attempt at a round: the one before has taken its time, and the clock goes on
        until enough clients are there. Raises RoundFailed if that will never be."""
        if self._clients is None or self._buffered:
            return
        self.time_s += self._attempt_s
        self._attempt_s = 0.0
        needed = min(fewest_hospitals(self._config), len(self._names))
        ready = self._clients.presence.next_together(self.time_s, needed)
        if not math.isfinite(ready):
            raise RoundFailed(
                f"the scenario never has {needed} clients at once after {self.time_s:g} s; change "
                "arrives_s, leaves_s or daily there, or lower federation.min_clients"
            )
        self.time_s = ready

    # --- buffered rounds ------------------------------------------------------------------------
    def due(self, server_round: int, before: Mapping[str, float]) -> Mapping[str, float]:
        """When updates are here that hospitals begin to make now, or once they are done with what
        they were told before and are here: each trains whatever the hour, and answers when it is
        here again. Without a scenario all take as long, and the round counts."""
        clients = self._clients
        if clients is None:
            return dict.fromkeys(before, float(server_round))
        index = np.array([self._index(name) for name in before], dtype=np.int64)
        takes, found = self._round_seconds(clients), {}
        for i, (name, busy_s) in zip(index.tolist(), before.items(), strict=True):
            begins = float(clients.presence.next(max(self.time_s, busy_s))[i])
            ends = begins + float(takes[i])
            found[name] = float(clients.presence.next(ends)[i]) if math.isfinite(ends) else math.inf
        return found

    def first(self, here_s: Mapping[str, float], count: int) -> list[str]:
        """The first ``count`` whose updates are ready while they are here together; the clock goes
        on until then. Raises RoundFailed if that will never be."""
        names = sorted(here_s, key=lambda name: here_s[name])
        if self._clients is None:
            return names[:count]
        ready = np.array([here_s[name] for name in names])
        now = max(self.time_s, float(np.partition(ready, count - 1)[count - 1]))
        presence, index = self._clients.presence, [self._index(name) for name in names]
        last = now + 4 * DAY_S  # then days repeat
        while now < min(last, math.inf):
            there = (ready <= now) & presence.at(now)[index]
            if there.sum() >= count:
                self.time_s = now
                return [names[k] for k in np.flatnonzero(there)[:count].tolist()]
            comes = presence.next(now)[index]
            events = np.concatenate([ready[ready > now], comes[comes > now]])
            now = float(events.min(initial=math.inf))
        raise RoundFailed(
            f"the scenario never has {count} clients with updates at once after {self.time_s:g} s; "
            "change leaves_s or daily there, or lower federation.buffer"
        )

    def commit(self, row: dict[str, Any]) -> None:
        """Add the round's simulated time to its line, failed attempts and waiting included."""
        if self._clients is None:
            return
        self.time_s += self._attempt_s
        self._attempt_s = 0.0
        row["simulated_seconds"] = self.time_s - self._committed_s
        row["simulated_time_s"] = self._committed_s = self.time_s

    def go_on(self, rows: Sequence[dict[str, Any]]) -> None:
        """Set the clock to the end of a run's last committed round."""
        last = rows[-1].get("simulated_time_s", 0.0) if rows else 0.0
        self.time_s = self._committed_s = float(last)


class TimedRun(RunDirectory):
    """A simulation's run directory, whose lines have the simulated time."""

    def __init__(self, path: Path, scenario: Scenario) -> None:
        super().__init__(path, lazily=True)
        self._scenario = scenario

    def append_round(self, row: dict[str, Any]) -> None:
        self._scenario.commit(row)
        super().append_round(row)

    def keep_rounds(self, last: int) -> None:
        super().keep_rounds(last)
        self._scenario.go_on(self.rounds())


def _index_of(names: Sequence[str]) -> Callable[[str], int]:
    """Gives a name's place. Virtual names know it; others are looked up."""
    if isinstance(names, ClientNames):
        return names.index
    return {name: index for index, name in enumerate(names)}.__getitem__


def _bytes(layout: Layout) -> int:
    return sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in layout.values())
