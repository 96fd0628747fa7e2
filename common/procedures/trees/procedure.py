"""The steps of ``trees``: agreeing (``agreeing.py``), then rounds of trees, level by level.

    hospital   its rows' gradients by the trees so far, in the bins of the nodes that are asked
    server     the best split of each node, as pooled rows would have it

A state carries the finished trees and those in growth; which nodes are asked follows from it, at
both ends alike. Of two children one is asked, the other's sums are the parent's less these: so a
tree is of the same hospitals from its root to its leaves. Where one leaves for good, the round ends
with the trees as they are: to grow them again would open sums of the same rows with and without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np

from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.judgement.judge import check_judgement
from wardround.common.procedures.carrying import at
from wardround.common.procedures.procedure import Asked, Earlier, FinishedModel, Parts, Shapes
from wardround.common.procedures.trees import agreeing, finished, result
from wardround.common.procedures.trees.agreed import Agreed
from wardround.common.procedures.trees.calendar import PREPARING, Calendar, Moment
from wardround.common.procedures.trees.local import Trees
from wardround.common.procedures.trees.state import (
    NOW_RISK,
    PREPARED,
    ROUNDS,
    SCORES,
    TreesState,
    cox_of,
    prepared_of,
)
from wardround.common.procedures.words import Words, fitting_bits
from wardround.common.settings import TREES
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.base import Fit, Task
from wardround.common.tasks.columns import fit_columns
from wardround.common.tasks.tabular import TabularTask
from wardround.common.trees.growing import GrowingRound, asked_of
from wardround.common.trees.histograms import width
from wardround.common.trees.objectives import Objective

_LEVEL, _RISK = "level", "at_risk"
_KEPT, _FIGURES = "level/", "figures/"
"""At the server alone: sums of the round's levels, and of the figures."""
_SCORE = {"score/loss": (1,), "score/examples": (1,)}
MOST_NUMBERS = 8_000_000


class TreesProcedure(TreesState):
    """Gradient-boosted trees, or a random forest."""

    name = TREES
    by_split: ClassVar[bool] = True

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        if not isinstance(task, TabularTask) or task.kind == "none":
            raise config.error(
                "procedure.name",
                "'trees' learn a column of a table, and this task has none",
                "use a study whose task is 'tabular', with a target",
            )
        check_judgement(config, task)
        options = cast(TreesOptions, config.procedure.settings)
        _check(config, task, options)
        return cls(task, options, config.federation.seed)

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        options = cast(TreesOptions, config.procedure.settings)
        risk = config.task.options.get("kind") == "survival"
        return Calendar(options.rounds, options.max_depth, risk).steps

    @property
    def most_steps(self) -> int:
        return self.calendar.steps

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        return fit_columns(keys, self.task.options)

    # --- what is asked ---------------------------------------------------------------------------
    def shapes(self, earlier: Earlier) -> Shapes | None:
        if not earlier:
            return None
        state, moment = earlier[0], self.moment(earlier)
        if moment.kind == "cells":
            return agreeing.cell_shapes(prepared_of(state), self.task.options, self.options)
        if moment.kind == "over":
            return {}
        agreed = self.agreed(state)
        if moment.kind == "figures":
            return self.local(agreed).figure_shapes()
        if moment.kind == "events":
            return {"events": (cox_of(agreed.objective).cells,)}
        found: Shapes = dict(_SCORE) if self.scored(agreed, moment) else {}
        if moment.kind == "risk":
            found[_RISK] = (cox_of(agreed.objective).cells,)
        elif moment.kind == "level":
            trees = self.growing_trees(state, agreed)
            nodes = len(asked_of(trees, moment.level, self.rules(agreed).least))
            channels = agreed.units(self.options.bits).channels
            found[_LEVEL] = (nodes, width(agreed.bins), channels)
            if math.prod(found[_LEVEL]) > MOST_NUMBERS:
                raise TaskError(
                    f"a level of a round has more than {MOST_NUMBERS} sums",
                    mend="fewer trees in a round (procedure.forest), fewer bins, or a lower "
                    "procedure.max_depth",
                )
        return found

    def words(self, earlier: Earlier) -> Words | None:
        if not earlier:
            return None
        state, moment = earlier[0], self.moment(earlier)
        if moment.kind == "level":
            return Words(self.options.bits, frozenset({_LEVEL}))
        if moment.kind == "cells":
            first, *_ = prepared = prepared_of(state)
            shapes = agreeing.cell_shapes(prepared, self.task.options, self.options)
            counted = frozenset(name for name in shapes if not name.startswith("target/"))
            return Words(fitting_bits(float(first["rows"][0])), counted)
        if moment.kind == "events":
            return Words(fitting_bits(self.agreed(state).rows), frozenset({"events"}))
        return None

    # --- at a hospital ---------------------------------------------------------------------------
    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        options = self.task.options
        if not earlier:
            return agreeing.first_sums(parts, options)
        state, moment = earlier[0], self.moment(earlier)
        if moment.kind == "cells":
            return agreeing.cell_sums(parts["train"], prepared_of(state), options, self.options)
        agreed = self.agreed(state)
        if moment.kind == "events":
            return agreeing.event_sums(parts["train"], agreed, options)
        local = self.local(agreed)
        trees, done = self.finished(state, agreed), moment.round
        if moment.kind == "figures":
            return local.figures(parts, trees, int(state[ROUNDS][0]))
        found = local.score(parts, trees, done) if self.scored(agreed, moment) else {}
        if moment.kind == "risk":
            rows = local.at(parts, "train", trees, done)
            found[_RISK] = cox_of(agreed.objective).at_risk(rows.margins, rows.target)
        elif moment.kind == "level":
            growing = self.growing_trees(state, agreed)
            asked = asked_of(growing, moment.level, self.rules(agreed).least)
            objective = self.objective(state, agreed)
            units = agreed.units(self.options.bits)
            whole = local.gradients(parts, trees, done, objective, units)
            rows = local.at(parts, "train", trees, done)
            sums = rows.level_sums(whole, growing, asked, self.growth, self.hospital)
            found[_LEVEL] = sums.astype(np.float64)
        return found

    # --- at the server ---------------------------------------------------------------------------
    def fold(self, earlier: Earlier, total: Sums) -> tuple[Sums, Sums]:
        moment = self.moment(earlier)
        if moment.kind in ("names", "cells"):
            return self._prepare(earlier, total)
        state, kept = dict(earlier[0]), dict(earlier[1])
        if moment.kind == "events":
            events: Any = np.rint(total["events"]).astype(np.int64)
            return self._begin({**state, "agreed/events": events}, 0), kept
        if moment.kind == "figures":
            figures = {f"{_FIGURES}{key}": one for key, one in total.items()}
            return {**state, **at(self.calendar.steps)}, kept | figures
        if "score/loss" in total:
            rows = max(1.0, float(total["score/examples"][0]))
            state[SCORES] = np.append(state[SCORES], float(total["score/loss"][0]) / rows)
            if (best := self._stops(state[SCORES], moment)) is not None:
                return self._end(state, best), _without_level(kept)
        if moment.kind == "risk":
            roots = self._roots(self.agreed(state), moment.round)
            risk = {NOW_RISK: total[_RISK], **at(self.step(earlier) + 1)}
            return {**state, **roots, **risk}, kept
        return self._grow(state, {**kept, f"{_KEPT}{moment.level}": total[_LEVEL]}, moment)

    def left(self, earlier: Earlier) -> list[Sums]:
        if not earlier or (moment := self.moment(earlier)).kind != "level" or not moment.level:
            return list(earlier)
        state, kept = dict(earlier[0]), dict(earlier[1])
        before = Moment("level", moment.round, moment.level - 1)
        growing = self._growing(self.agreed(state), before, kept)
        return [*self._finish(state, kept, tuple(growing.trees()))]

    def _prepare(self, earlier: Earlier, total: Sums) -> tuple[Sums, Sums]:
        prepared = [*(prepared_of(earlier[0]) if earlier else []), total]
        if agreeing.cell_shapes(prepared, self.task.options, self.options):
            names = {
                f"{PREPARED}{number}/{key}": one
                for number, sums in enumerate(prepared)
                for key, one in sums.items()
            }
            return {**names, **at(len(prepared))}, {}
        agreed = agreeing.agree(prepared, self.task.options, self.options)
        state = agreed.arrays()
        if self.calendar.risk:
            return {**state, **at(PREPARING - 1)}, {}
        return self._begin(state, 0), {}

    def _begin(self, state: Sums, number: int) -> Sums:
        """The state before the first step of a round."""
        kept = {key: one for key, one in state.items() if not key.startswith("now/")}
        if SCORES not in kept:
            kept |= finished.packed((), finished.TREES)
            kept[SCORES] = np.zeros(0)
        kept |= at(self.calendar.begins(number))
        if not self.calendar.risk and number < self.options.rounds:
            kept |= self._roots(self.agreed(kept), number)
        return kept

    def _roots(self, agreed: Agreed, number: int) -> Sums:
        trees = self._new_round(agreed, agreed.objective, number).trees()
        return finished.packed(trees, finished.ROUND, hessians=True)

    def _grow(self, state: Sums, kept: Sums, moment: Moment) -> tuple[Sums, Sums]:
        growing = self._growing(self.agreed(state), moment, kept)
        if growing.asked():
            grown = finished.packed(growing.trees(), finished.ROUND, hessians=True)
            number = self.calendar.begins(moment.round) + int(self.calendar.risk)
            return {**state, **grown, **at(number + moment.level + 1)}, kept
        return self._finish(state, kept, tuple(growing.trees()))

    def _growing(self, agreed: Agreed, moment: Moment, kept: Sums) -> GrowingRound:
        """The round with all its sums so far; grown again from these after a restart."""
        known = self.working.get("growing")
        if known is None or known[0] != moment.round or known[1].level > moment.level + 1:
            known = moment.round, self._new_round(agreed, agreed.objective, moment.round)
        growing: GrowingRound = known[1]
        for level in range(growing.level, moment.level + 1):
            growing.add(np.rint(kept[f"{_KEPT}{level}"]).astype(np.int64))
        self.working["growing"] = known
        return growing

    def _new_round(self, agreed: Agreed, objective: Objective, number: int) -> GrowingRound:
        units = agreed.units(self.options.bits)
        return GrowingRound(
            agreed.bins, units, self.growth, self.rules(agreed), number, objective.outputs
        )

    def _finish(self, state: Sums, kept: Sums, trees: Trees) -> tuple[Sums, Sums]:
        """The round is over."""
        kept = _without_level(kept) | finished.longer(kept, trees)
        state = {**state, **finished.state_of(kept)}
        number = len(kept[f"{finished.FULL}nodes"]) // self.a_round(self.agreed(state))
        if number < self.options.rounds or self.scores(self.agreed(state)):
            return self._begin(state, number), kept
        return self._end(state, number), kept

    def _stops(self, scores: Any, moment: Moment) -> int | None:
        """How many rounds are kept, where no more are grown."""
        best = int(np.argmin(scores)) + 1
        over = moment.kind == "score" or len(scores) - best >= self.options.early_stopping
        return best if over else None

    def _end(self, state: Sums, rounds: int) -> Sums:
        kept = {key: one for key, one in state.items() if not key.startswith("now/")}
        return {**kept, ROUNDS: np.array([rounds]), **at(self.calendar.figures)}

    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        state, kept = earlier
        agreed, rounds = self.agreed(state), int(state[ROUNDS][0])
        trees = finished.full_trees(kept, agreed.features, self.options.max_depth)
        model = result.model_of(agreed, trees, self.growth, rounds)
        figures = {
            key.removeprefix(_FIGURES): one for key, one in kept.items() if key.startswith(_FIGURES)
        }
        told = result.Told(
            agreed, model, list(map(float, state[SCORES])), figures, self.options, asked.hospitals
        )
        return result.files(told, self.task)


def _without_level(kept: Sums) -> Sums:
    """What is kept beyond a round."""
    return {key: one for key, one in kept.items() if not key.startswith(_KEPT)}


def _check(config: Config, task: TabularTask, options: TreesOptions) -> None:
    """Raise ConfigError, by key, for options that have no effect with the others."""
    columns = task.options.columns
    numbers = {*columns.numeric, *columns.binary}
    for name in options.monotone:
        others = {*columns.named()} - numbers
        if name in others or (columns.numeric != ["*"] and name not in numbers):
            raise config.error("procedure.monotone", f"'{name}' is no column of numbers here")
    if "time_cells" in options.model_fields_set and task.kind != "survival":
        raise config.error("procedure.time_cells", "has an effect with survival only")
    if options.early_stopping and not (config.data.validation_fraction or columns.split):
        raise config.error(
            "procedure.early_stopping",
            "no rows are held out to validate on",
            "set data.validation_fraction",
        )
