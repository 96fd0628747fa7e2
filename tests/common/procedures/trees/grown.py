"""Trees grown by the procedure itself, step by step, without transport or masks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.figures.sums import Sums
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.procedure import Asked
from wardround.common.procedures.trees.procedure import TreesProcedure
from wardround.common.protocol.sums import joined
from wardround.common.tasks.data.table import Table
from wardround.server.gathering.exact import ExactTotal

Parts = dict[str, Table]
KINDS = {
    "binary": 'kind = "binary"\n[task.columns]\ntarget = "event"\nignore = ["time", "score"]\n',
    "multiclass": (
        'kind = "multiclass"\nmin_category_count = 2\n[task.columns]\ntarget = "stage"\n'
        'ignore = ["time", "score", "event"]\n'
    ),
    "regression": 'kind = "regression"\n[task.columns]\ntarget = "score"\nignore = ["time"]\n',
    "survival": (
        'kind = "survival"\n[task.columns]\ntime = "time"\nevent = "event"\nignore = ["score"]\n'
    ),
}


def settings(kind: str = "binary", **options: Any) -> Config:
    """A study of trees over ``statistics.unlike``'s columns."""
    categorical = ["sex"] if kind == "multiclass" else ["sex", "stage"]
    usual = {"rounds": 3, "max_depth": 3, "max_bins": 32} | options
    lines = "\n".join(f"{name} = {_toml(value)}" for name, value in usual.items())
    return parse_config(
        f'[procedure]\nname = "trees"\n{lines}\n[data]\nvalidation_fraction = 0.1\n'
        f"[task]\n{KINDS[kind]}categorical = {categorical}\n"
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {one}" for key, one in value.items()) + " }"
    return json.dumps(value)


@dataclass
class Grower:
    """A server and hospitals.

    between : called before each step with the server's procedure, its state and who is there
    """

    config: Config
    hospitals: Sequence[Parts]
    between: Callable[[Grower], None] = lambda grower: None
    earlier: list[Sums] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    sent: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = make_task(self.config)
        self.server = self.procedure()
        self.workers = [self.procedure() for _ in self.hospitals]
        for number, worker in enumerate(self.workers):
            worker.hospital = f"h{number}"
        self.there = list(range(len(self.hospitals)))

    def procedure(self) -> TreesProcedure:
        """One side's."""
        made = make_procedure(self.config, self.task)
        assert isinstance(made, TreesProcedure)
        return made

    def step(self) -> None:
        """Ask once."""
        number = self.server.step(self.earlier)
        carried = self.server.carried(self.earlier)
        total = ExactTotal(len(self.there))
        for place in self.there:
            worker = self.workers[place]
            earlier = worker.read(number, {key: one.copy() for key, one in carried.items()})
            sums = worker.sums(self.hospitals[place], earlier)
            if (shapes := worker.shapes(earlier)) is not None:
                assert shapes == {key: one.shape for key, one in sums.items()}
                assert shapes == self.server.shapes(self.earlier)
            words = worker.words(earlier)
            for name in words.names if words else ():
                assert np.array_equal(sums[name], np.rint(sums[name]))
            total.add(sums)
        self.asked.append(number)
        self.sent[number] = sum(value.nbytes for value in joined(self.earlier[:1]).values())
        self.earlier = self.server.after(self.earlier, total.total())

    def grow(self) -> dict[str, str]:
        """All steps; what is published."""
        while self.server.more(self.earlier):
            self.between(self)
            if self.server.more(self.earlier):
                self.step()
        return dict(self.server.result(self.earlier, Asked(len(self.there))))


def grow(config: Config, hospitals: Sequence[Parts]) -> dict[str, str]:
    """What is published."""
    return Grower(config, hospitals).grow()
