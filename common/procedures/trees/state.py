"""The state of ``trees``, as both ends read it, and what it must be before a hospital believes it.

now/prepared/STEP/NAME   totals so far, while hospitals agree
agreed/...               what they agreed on; events of cells of time come last
trees/...                finished trees (``common/trees/codec.py``)
scores                   loss of all validation rows after each round
now/round/...            the round's trees in growth
now/at_risk              survival: the round's hazards in each cell
now/rounds               how many rounds are kept, before figures
"""

from __future__ import annotations

import numpy as np

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.carrying import STEP, CarryingProcedure
from wardround.common.procedures.procedure import Earlier
from wardround.common.procedures.trees import agreeing, finished
from wardround.common.procedures.trees.agreed import NAMES, Agreed, check_names
from wardround.common.procedures.trees.calendar import PREPARING, Calendar, Moment
from wardround.common.procedures.trees.local import HospitalRows, Trees
from wardround.common.settings.trees import TreesOptions
from wardround.common.tasks.tabular import TabularTask
from wardround.common.trees.cox import Cox
from wardround.common.trees.gains import Rules
from wardround.common.trees.objectives import Objective
from wardround.common.trees.plan import Growth, least_hessian

PREPARED, NOW_RISK, ROUNDS, SCORES = "now/prepared/", "now/at_risk", "now/rounds", "scores"


class TreesState(CarryingProcedure):
    """What is read of a state. Everything raises TaskError for one that is none."""

    def __init__(self, task: TabularTask, options: TreesOptions, seed: int) -> None:
        super().__init__()
        self.task, self.options = task, options
        self.growth = growth_of(options, seed)
        self.calendar = Calendar(options.rounds, options.max_depth, task.kind == "survival")

    def moment(self, earlier: Earlier) -> Moment:
        """What the next step is."""
        return self.calendar.at(self.step(earlier))

    def agreed(self, state: Sums) -> Agreed:
        """What the state says was agreed; read once. Raises TaskError."""
        arrays = tuple(state.get(name) for name in sorted(NAMES))
        known = self.working.get("agreed")
        if known is not None and all(x is y for x, y in zip(arrays, known[2], strict=True)):
            same: Agreed = known[1]
            return same
        key = tuple(b"" if one is None else one.tobytes() for one in arrays)
        if known is None or known[0] != key:
            known = key, Agreed.of(state, self.task.options, self.options), arrays
        self.working["agreed"] = known[0], known[1], arrays
        found: Agreed = known[1]
        return found

    def rules(self, agreed: Agreed) -> Rules:
        """What weights and gains depend on."""
        options = self.options
        fewest, counted = options.smallest_leaf, agreed.objective.counts_rows
        largest = agreed.objective.largest[1]
        least = least_hessian(options.min_child_weight, fewest, largest, counted)
        bounded = any(one.monotone for one in agreed.features)
        return Rules.of(self.growth, least, bounded, fewest)

    def finished(self, state: Sums, agreed: Agreed) -> Trees:
        """All finished trees, without gains and hessians."""
        return self._trees(state, finished.TREES, agreed)

    def growing_trees(self, state: Sums, agreed: Agreed) -> Trees:
        """The round's trees in growth."""
        return self._trees(state, finished.ROUND, agreed)

    def _trees(self, state: Sums, prefix: str, agreed: Agreed) -> Trees:
        depth = self.options.max_depth
        return finished.all_trees(state, prefix, agreed.features, depth, self.working)

    def objective(self, state: Sums, agreed: Agreed) -> Objective:
        """This round's: of survival with who is at risk."""
        if not self.calendar.risk:
            return agreed.objective
        return cox_of(agreed.objective).with_sums(agreed.events, state[NOW_RISK])

    def a_round(self, agreed: Agreed) -> int:
        return agreed.objective.outputs * self.growth.num_parallel_tree

    def scores(self, agreed: Agreed) -> bool:
        return self.options.early_stopping > 0 and agreed.held_out["validation"] > 0

    def scored(self, agreed: Agreed, moment: Moment) -> bool:
        """Whether the step also asks for the loss of the rounds before."""
        first = moment.kind == "score" or (self.calendar.opens(moment) and moment.round > 0)
        return first and self.scores(agreed)

    def local(self, agreed: Agreed) -> HospitalRows:
        return HospitalRows(self.task, agreed, self.growth.num_parallel_tree, self.working)

    # --- what it must be -------------------------------------------------------------------------
    def check_state(self, step: int, state: Sums) -> None:
        moment, names = self.calendar.at(step), set(state) - {STEP}
        if step < PREPARING and moment.kind == "cells":
            self._check_prepared(moment, names, state)
            return
        known = set(NAMES)
        if moment.kind != "events":
            known |= finished.named(finished.TREES) | {SCORES}
        if moment.kind == "level":
            known |= finished.named(finished.ROUND)
            known |= {NOW_RISK} if self.calendar.risk else set()
        if moment.kind == "figures":
            known.add(ROUNDS)
        if names != known or moment.kind in ("names", "over"):
            raise TaskError("the state that came isn't one of this step")
        agreed = self.agreed(state)
        if moment.kind == "events":
            cox_of(agreed.objective)
            return
        self._check_trees(moment, state, agreed)

    def _check_prepared(self, moment: Moment, names: set[str], state: Sums) -> None:
        prepared = prepared_of(state)
        if len(prepared) != moment.level + 1 or any(not k.startswith(PREPARED) for k in names):
            raise TaskError("the state that came isn't one of this step")
        first, options = prepared[0], self.task.options
        rows = first.get("rows", np.zeros(0))
        if rows.shape != (1,) or rows.dtype != np.float64 or not 0 <= rows[0] < 2**53:
            raise TaskError("the totals that came have no rows")
        # cells are counted of columns that the settings make numbers, and of no others
        numbers = agreeing.agreed_numbers(first, options)
        check_names([(name, None) for name in numbers], options)
        for number in range(1, len(prepared)):
            asked = agreeing.cell_shapes(prepared[:number], options, self.options)
            if asked != {key: one.shape for key, one in prepared[number].items()}:
                raise TaskError("the totals that came are not what 'trees' asks for")
        if any(one.dtype != np.float64 for sums in prepared for one in sums.values()):
            raise TaskError("the totals that came are no sums")

    def _check_trees(self, moment: Moment, state: Sums, agreed: Agreed) -> None:
        trees, scores = self.finished(state, agreed), state[SCORES]
        a_round, done = self.a_round(agreed), moment.round
        if moment.kind == "figures":
            done, rest = divmod(len(trees), a_round)
            chosen = state[ROUNDS]
            wrong = rest or chosen.shape != (1,) or not 0 <= int(chosen[0]) <= done
        else:
            wrong = len(trees) != done * a_round
        if wrong or done > self.options.rounds:
            raise TaskError("the trees that came are not those of the rounds so far")
        if scores.dtype != np.float64 or scores.ndim != 1 or len(scores) > done:
            raise TaskError("the scores that came are not those of the rounds so far")
        if moment.kind == "level":
            growing = self.growing_trees(state, agreed)
            deepest = max((int(tree.depth.max()) for tree in growing), default=0)
            if len(growing) != a_round or deepest > moment.level:
                raise TaskError("the trees in growth that came are not those of this level")
            self.objective(state, agreed)


def growth_of(options: TreesOptions, seed: int) -> Growth:
    """How trees are grown, by the settings."""
    return Growth(
        learning_rate=options.learning_rate,
        max_depth=options.max_depth,
        min_child_weight=options.min_child_weight,
        gamma=options.gamma,
        reg_lambda=options.reg_lambda,
        reg_alpha=options.reg_alpha,
        max_delta_step=options.max_delta_step,
        max_cat_to_onehot=options.max_cat_to_onehot,
        max_cat_threshold=options.max_cat_threshold,
        num_parallel_tree=options.forest,
        subsample=options.subsample,
        colsample_bytree=options.colsample_bytree,
        colsample_bylevel=options.colsample_bylevel,
        seed=seed,
    )


def prepared_of(state: Sums) -> list[Sums]:
    """Totals of the steps so far. Raises TaskError."""
    found: dict[int, Sums] = {}
    for key, one in state.items():
        if key.startswith(PREPARED):
            number, _, name = key.removeprefix(PREPARED).partition("/")
            if number not in map(str, range(PREPARING)) or not name:
                raise TaskError("the totals that came are not those of the steps before")
            found.setdefault(int(number), {})[name] = one
    if sorted(found) != list(range(len(found))) or not found:
        raise TaskError("the totals that came are not those of the steps before")
    return [found[number] for number in range(len(found))]


def cox_of(objective: Objective) -> Cox:
    """The objective, of survival. Raises TaskError for another one."""
    if not isinstance(objective, Cox):
        raise TaskError("only survival has cells of time")
    return objective
