"""Where a hospital's rows come from, and how they become examples.

A hospital holds one ``Shard``. ``OwnShard`` is that of a site: rows that are read, split and
prepared there. Simulations have others: noise on the inputs, rows drawn from a pool.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from wardround.client.data.held_out import simulated_key
from wardround.client.data.splitting import split_notes, split_rows
from wardround.common.config.load import Config
from wardround.common.errors import DataError, TaskError, WardroundError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.classes import UNLABELLED
from wardround.common.tasks.data.left_out import LeftOut, added

log = logging.getLogger("wardround.client")

Parts = dict[str, Any]
"""Unprepared rows by split; a split without rows is absent."""


@dataclass(frozen=True)
class Opened:
    """A shard that was read and split.

    left_out : what its reader left out, a line each
    notes : what there is to say of the split, a line each
    """

    parts: Parts
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Shard(Protocol):
    """The data of one hospital; the hospital keeps what it gives.

    name : the hospital's name in the federation
    task : the federation's task
    config : the federation's configuration
    sizes : rows of each split where they are known before it is opened; else None
    """

    @property
    def name(self) -> str: ...
    @property
    def task(self) -> Task[Any]: ...
    @property
    def config(self) -> Config: ...
    @property
    def sizes(self) -> dict[str, int] | None: ...

    def open(self) -> Opened:
        """Read and split it. Raises DataError if there is no row at all."""

    def prepare(self, parts: Callable[[], Parts], totals: Sums, digest: str) -> dict[str, Examples]:
        """Prepared examples by split.

        parts : gives what was opened; a shard that doesn't need it doesn't call it
        digest : of the totals

        Raises TaskError if the task's ``prepare`` fails, or breaks what ``[privacy]`` relies on.
        """


@dataclass(frozen=True)
class OwnShard:
    """Rows of the hospital's own.

    open_shard : called when the data is first needed; returns the unprepared shard
    held_out_key : the hospital's own; None in a simulation, where it is of the run's seed and the
        hospital's name
    before : gives what was left out before the task saw the rows
    without : takes rows out that no study may have, which nothing tells of
    """

    name: str
    task: Task[Any]
    config: Config
    open_shard: Callable[[], Any]
    held_out_key: bytes | None = None
    before: Callable[[], tuple[LeftOut, ...]] = tuple
    without: Callable[[Any], Any] = lambda raw: raw

    @property
    def sizes(self) -> dict[str, int] | None:
        return None

    def open(self) -> Opened:
        """See ``Shard``. In a joint procedure the error itself, with lines and counts, stays in
        this hospital's log."""
        if self.held_out_key is None or not self.config.procedure.joint:
            return self._opened()
        try:
            return self._opened()
        except DataError as error:
            raise DataError(kept_here(error), who=self.name) from None

    def _opened(self) -> Opened:
        raw = self.task.at(self.open_shard(), self.name)
        if self.task.size(raw) == 0:
            raise DataError("the shard has no usable rows; check the data path", who=self.name)
        left_out = tuple(str(one) for one in added([*self.before(), *self.task.left_out(raw)]))
        raw = self.without(raw)
        if self.task.size(raw) == 0:
            raise DataError("no row is left of the shard", who=self.name)
        key = self.held_out_key or simulated_key(self.config.federation.seed, self.name)
        split = split_rows(self.task, raw, self.config, key)
        notes = tuple(split_notes(self.task, raw, self.config, split))
        parts = {part: self.task.select(raw, rows) for part, rows in split.items() if len(rows)}
        return Opened(parts, left_out, notes)

    def prepare(self, parts: Callable[[], Parts], totals: Sums, digest: str) -> dict[str, Examples]:
        return prepare_parts(self, parts(), totals)


def kept_here(error: DataError) -> str:
    """What other parties are told of an error of this hospital's data; its log has the whole."""
    log.error("%s", error)
    return "its data don't fit the study; that hospital's own log says where and why"


def prepare_parts(shard: Shard, parts: Parts, totals: Sums) -> dict[str, Examples]:
    """The examples that the task makes of these parts, each by itself; raises as
    ``Shard.prepare``."""
    task, name = shard.task, shard.name
    own = parts.get("train")  # for statistics of its own; else of the part that is prepared
    try:
        prepared = {
            split: task.prepare(part, totals, part if own is None else own)
            for split, part in parts.items()
        }
    except WardroundError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise TaskError(
            f"the task's prepare() failed with {type(error).__name__}", who=name
        ) from error
    if own is not None:
        if len(prepared["train"]) == 0:
            raise DataError("preparation left no rows for training", who=name)
        _check_units(shard, task.size(own), len(prepared["train"]))
        for line in task.unused(own, totals):
            log.warning("%s: %s", name, line)
    for split, examples in prepared.items():
        targets = examples.targets
        lost = 0 if targets.dim() > 1 else int((targets == UNLABELLED).sum())
        if lost and split != "train":
            log.warning(
                "%s: %d of %d %s rows have a class that nobody trains on: no figure counts them",
                *(name, lost, len(examples), split),
            )
    return prepared


def _check_units(shard: Shard, rows: int, examples: int) -> None:
    """Raise TaskError where it isn't known whose each training example is, but has to be."""
    unit = shard.config.privacy.unit
    if unit in ("example", "patient") and examples != rows:
        raise TaskError(
            f"the task's prepare() made {examples} examples of {rows} rows, so "
            f"no single {unit} can be protected; return one for each row, in their order (rows "
            "to leave out are load()'s), or set privacy.unit = 'hospital'",
            who=shard.name,
        )
