"""A server that is killed and started again, in process, while its hospitals live on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wardround.common.protocol import names as m
from wardround.common.run.directory import RunDirectory
from wardround.common.secagg import messages as wire


class Killed(BaseException):
    """Not an Exception: nothing on the way may catch it, as nothing catches SIGKILL.

    grid, directory : what lives on (the fixture ``federate`` sets both)
    """

    grid: Any
    directory: RunDirectory


@dataclass
class Watch:
    """Wraps the hospitals' app: what they were asked and did, over all lives of the server.

    kill : (message type, hospital, how many of that type came so far) to whether the server dies
        before this one reaches the hospital
    away : hospitals that each miss the next message, and are back then
    """

    kill: Callable[[str, str, int], bool] = lambda kind, name, count: False
    away: str = ""
    trained: Counter[tuple[int, str]] = field(default_factory=Counter)
    asked: dict[tuple[bytes, int], set[tuple[int, ...]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    requests: dict[tuple[bytes, int, str], set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )
    shares: dict[tuple[bytes, int, str], set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )
    refused: list[str] = field(default_factory=list)
    models: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    count: Counter[str] = field(default_factory=Counter)
    deaths: int = 0

    def __call__(self, app: Any) -> Any:
        def answer(message: Any, context: Any) -> Any:
            kind, name = message.metadata.message_type, context.node_config["hospital"]
            self.count[kind] += 1
            if self.kill(kind, name, self.count[kind]):
                raise Killed
            if name in self.away and kind != m.DESCRIBE:
                self.away = self.away.replace(name, "")
                raise ConnectionError("away")
            number = message.content[m.CONFIG].get(m.ROUND, 0)
            if kind == m.TRAIN:
                self.trained[number, name] += 1
            if kind == m.EVALUATE:
                self.models[number].add(
                    b"".join(x.data for x in message.content[m.ARRAYS].values())
                )
            reply = app(message, context)
            if kind == m.UNMASK:
                data = message.content[m.SECAGG][m.MESSAGE]
                request = wire.UnmaskRequest.from_bytes(data)
                key = (request.group, request.index)
                self.asked[key].add(request.survivors)
                self.requests[*key, name].add(data)
                if reply.has_error():
                    self.refused.append(reply.error.reason)
                else:
                    self.shares[*key, name].add(reply.content[m.SECAGG][m.MESSAGE])
            return reply

        return answer

    def check_one_set_each(self) -> None:
        """The invariant of the whole thing."""
        assert self.asked and all(len(sets) == 1 for sets in self.asked.values())
        assert all(len(found) == 1 for found in self.requests.values())
        self.check_one_answer_each()

    def check_one_answer_each(self) -> None:
        """Whatever a hospital was asked, it gave one answer."""
        assert all(len(found) == 1 for found in self.shares.values())


def result(directory: Any) -> tuple[bytes, list[dict[str, Any]]]:
    """What a run leaves that counts: the model, and the rows of its rounds but for how long it took
    and how many bytes (a server that was started again greets again)."""
    rows = directory.rounds()
    for row in rows:
        del row["seconds"], row["bytes_up"], row["bytes_down"], row["training_bytes"]
    return (directory.model / "model.safetensors").read_bytes(), rows


def forget_ledgers(folder: Path) -> None:
    """Another run pays from the beginning, as if it were the first."""
    for path in folder.glob("*.sqlite*"):
        path.unlink()


def killing(
    monkeypatch: Any, owner: Any, name: str, when: str, matches: Any, times: int = 1
) -> None:
    """The server dies at the first calls of ``owner.name`` whose arguments match."""
    original, left = getattr(owner, name), iter(range(times))

    def call(*args: Any) -> Any:
        if not matches(*args) or next(left, None) is None:
            return original(*args)
        if when == "after":
            original(*args)
        raise Killed

    monkeypatch.setattr(owner, name, call)


def lives(federate: Any, config: Any, five: Any, watch: Watch, **more: Any) -> Any:
    """Start the server again until it isn't killed any more; the hospitals live on."""
    grid, directory = None, None
    for _ in range(30):
        try:
            return federate(config, five, wrap=watch, grid=grid, directory=directory, **more)
        except Killed as error:
            grid, directory = error.grid, error.directory
            watch.deaths += 1
    raise AssertionError("killed for ever")


def killed_in_round_2(federate: Any, config: Any, five: Any, watch: Watch, after: int) -> Any:
    """A run whose server died when ``after`` of five had answered for the model of round 2."""
    watch.kill = lambda kind, name, count: (kind, count) == (m.UNMASK, 10 + after + 1)
    with pytest.raises(Killed) as stopped:
        federate(config, five, wrap=watch)
    watch.kill = lambda kind, name, count: False
    (path,) = stopped.value.directory.journal.iterdir()
    assert path.name == "train-2.journal" and path.stat().st_mode & 0o077 == 0
    return stopped.value, path
