"""``cox``: proportional hazards by a formula (Cox 1972).

Steps: what is agreed about the formula (``regression/facts``); where columns lie, how few are
where, and how late times go (``regression/rows``); of pooled risk sets, events by time; Newton's
steps (``regression/newton``); at the answer, concordance within hospitals.

With risk sets by hospital (a stratum each) every hospital sends likelihood, slope and information
of its own at its exact times: nothing by time leaves it. Of pooled risk sets hospitals send sums at
each time that has an event. Who has these has, between two times, sums over the rows that left: so
times are merged until at least k persons have an event at each. That is no wall (numbers for some
trial coefficients may be enough to solve for so few rows), and the plan says what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.figures.survival import survival_sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.fold import Fold
from wardround.common.procedures.statistics.frame import Frame, Mask
from wardround.common.procedures.statistics.regression import facts, rows
from wardround.common.procedures.statistics.regression.by_formula import formula_of, smallest_cell
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.newton import (
    MOST_POINTS,
    Search,
    search,
    shapes_of,
)
from wardround.common.procedures.statistics.regression.rows import Rows
from wardround.common.procedures.statistics.result import Result, Told
from wardround.common.procedures.statistics.survival import partial
from wardround.common.procedures.statistics.survival.cox_shown import Fitted, lost, shown
from wardround.common.procedures.statistics.survival.partial import Floats, Spans, Times
from wardround.common.procedures.statistics.survival.times import (
    POWERS,
    Observed,
    entry_numbers,
    numbers,
    observed,
    powers,
    reach,
    too_many,
)
from wardround.common.settings.analyses.survival import CoxOptions
from wardround.common.tasks.tabular import TabularTask

MOST_NUMBERS = 1_000_000
"""Of one step's sums: 24 MB of each hospital."""
_CLASSES = 2
_NOWHERE = np.zeros(0), False, 0, np.zeros(0, np.bool_), np.zeros(0), Sums()
_DRIFTS, _FAR = 1e-6, 1e-2
"""Squared, a step in standard errors that is next to none, and one in the columns' units that is
some: nothing holds it back."""
_PAIRS = ("concordant", "tied", "comparable")


@dataclass(frozen=True)
class _Course:
    """All totals so far, those of points as ``search`` takes them, and where it stands."""

    totals: tuple[Sums, ...] = ()
    points: tuple[Sums, ...] = ()
    found: Search = field(default_factory=lambda: Search(*_NOWHERE))


class Cox(Analysis[CoxOptions]):
    """See the module."""

    kind = "cox"

    def __init__(self, options: CoxOptions, config: Config) -> None:
        super().__init__(options, config.privacy.enabled)
        self._formula = formula_of(options.name, options.formula, config, outcome=False)
        if self._formula.offsets:
            raise config.error(
                "procedure.analyses", f"'{options.name}': an offset in its formula", "leave it out"
            )
        self._least = smallest_cell(config)
        self._agreeing = facts.steps_of(self._formula)
        self._pooled = options.risk_sets == "pooled"
        self._efron = options.ties == "efron"
        self._before = self._agreeing + (2 if self._pooled else 1)
        self._course = Fold(_Course, self._next)

    @classmethod
    def of(cls, options: CoxOptions, config: Config, task: TabularTask) -> Self:
        return cls(options, config)

    @property
    def numbers(self) -> Iterable[str]:
        own = (self.options.time, self.options.entry)
        return [*(one for one in own if one is not None), *self._formula.numbers]

    @property
    def truths(self) -> Iterable[str]:
        return (self.options.event,)

    @property
    def categories(self) -> Iterable[str]:
        return [one.column for one in self._formula.categories]

    @property
    def most_steps(self) -> int:
        return self._before + MOST_POINTS + 1

    # --- the steps -------------------------------------------------------------------------------
    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        try:
            return self._shapes(agreed, earlier)
        except NoAnswer:
            return {}

    def _shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        if len(earlier) < self._agreeing:
            facts.settle_first(self._formula, self._least, agreed, earlier)
            return facts.shapes(self._formula, agreed, earlier)
        design = self._design(agreed, earlier)
        if len(earlier) == self._agreeing:
            return rows.shapes(design, _CLASSES) | ({"powers": (POWERS,)} if self._pooled else {})
        self._check(design, earlier)
        wide = len(self._names(design))
        if len(earlier) < self._before:
            asked: Shapes = {name: (self._reach(earlier),) for name in self._counted(agreed)}
            return asked | {"covered": (wide,)}
        if "comparable" in earlier[-1]:
            return {}
        found = self._search(earlier)
        if found.ended:
            more: Shapes = {"timed": (wide,)}
            if not self._pooled:
                more = {"drift": (wide,), "times": (3,)}
            return more | {name: (1,) for name in _PAIRS}
        if found.used >= MOST_POINTS:
            return {}
        if not self._pooled:
            return shapes_of(wide)
        events, size = self._times(earlier).events, partial.width(wide)
        asked = {"risk": (len(events), size)}
        if self._efron and (tied := int((events > 1).sum())):
            asked["tied"] = (tied, size)
        return asked

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        if len(earlier) < self._agreeing:
            return facts.counts(self._formula, agreed, earlier)
        if len(earlier) == self._agreeing:
            own = ("powers",) if self._pooled else ()
            return [*rows.counts(self._design(agreed, earlier), _CLASSES), *own]
        return self._counted(agreed) if len(earlier) < self._before else ()

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        seen = observed(frame, self.options)
        if len(earlier) < self._agreeing:
            return facts.sums(self._formula, frame, seen.usable, self._least, agreed, earlier)
        design = self._design(agreed, earlier)
        x = design.matrix(frame, agreed)
        keep = seen.usable & ~np.isnan(x).any(axis=1)
        ones, whose = np.ones(int(keep.sum())), frame.whose
        whose = None if whose is None else whose[keep]
        mine = Rows(seen.event[keep], x[keep], ones, 0.0 * ones, whose, keep)
        if len(earlier) == self._agreeing:
            found = rows.sums(design, frame, agreed, mine, 0, _CLASSES)
            if self._pooled:
                found["powers"] = powers(numbers(seen.time[keep], self.options.grid))
            return found
        z = self._standard(design, mine.x, earlier)
        if len(earlier) < self._before:
            return self._by_time(mine, z, seen.time[keep], self._reach(earlier))
        found_at = self._search(earlier)
        if found_at.ended:
            return self._end(z, found_at.at, seen, keep, earlier)
        return self._point(z, found_at.at, seen, keep, earlier)

    def _point(self, z: Floats, at: Floats, seen: Observed, keep: Mask, earlier: Earlier) -> Sums:
        if not self._pooled:
            own, covered, _, _ = self._own(z, at, seen, keep)
            return _nothing(len(at)) if own is None else partial.point(own, covered, at)
        times, grid = self._times(earlier), self.options.grid
        late = self.options.entry is not None
        start = (entry_numbers(seen.start[keep], grid, late) - 1).astype(np.float64)
        stop = times.ends_of(numbers(seen.time[keep], grid))
        spans = Spans.of(times.ends, start, stop, seen.event[keep])
        risk, tied = partial.risk_sums(z, at, spans, len(times.ends))
        many = times.events > 1
        return {"risk": risk} | ({"tied": tied[many]} if self._efron and many.any() else {})

    def _by_time(self, mine: Rows, z: Floats, time: Floats, size: int) -> Sums:
        """Events by time of the grid, and the sum of z over them."""
        places, event = numbers(time, self.options.grid), mine.y == 1
        within = event & (places < size)
        counted = np.bincount(places[within], minlength=size)
        found: Sums = {"events": counted.astype(np.float64), "covered": z[event].sum(0)}
        if mine.whose is not None:  # each person at their first event
            first = np.full(int(mine.whose.max(initial=0)) + 1, size)
            np.minimum.at(first, mine.whose[within], places[within])
            people = np.bincount(first, minlength=size + 1)[:size]
            found["people"] = people.astype(np.float64)
        return found

    def _own(
        self, z: Floats, at: Floats, seen: Observed, keep: Mask
    ) -> tuple[partial.Parts | None, Floats, Floats, Floats]:
        """Of one hospital's own risk sets: parts, the sum of z over events, event times and events
        at each; None where it has no event."""
        event, stop, start = seen.event[keep], seen.time[keep], seen.start[keep]
        covered, times = z[event == 1].sum(0), np.unique(stop[event == 1])
        if not len(times):
            return None, covered, times, times
        before = start if self.options.entry is not None else np.full(len(start), -1.0)
        spans = Spans.of(times, before, stop, event)
        own, events = partial.own_parts(z, at, times, spans, self._efron)
        return own, covered, times, events

    def _end(self, z: Floats, at: Floats, seen: Observed, keep: Mask, earlier: Earlier) -> Sums:
        pairs = survival_sums(z @ at, seen.time[keep], seen.event[keep])
        found = {name: pairs[name] for name in _PAIRS}
        if self._pooled:
            places = numbers(seen.time[keep], self.options.grid)
            timed = self.options.grid * self._times(earlier).ends_of(places) * seen.event[keep]
            return found | {"timed": (timed[:, None] * z).sum(0)}
        own, _, times, events = self._own(z, at, seen, keep)
        if own is None:
            return found | {"drift": np.zeros(len(at)), "times": np.zeros(3)}
        places = np.searchsorted(times, seen.time[keep])
        happened = seen.event[keep] == 1
        lean = np.zeros((len(times), len(at)))
        np.add.at(lean, places[happened], z[happened])
        drift = (times[:, None] * (lean - own.means)).sum(0)
        moments = [events.sum(), (times * events).sum(), (times**2 * events).sum()]
        return found | {"drift": drift, "times": np.array(moments)}

    # --- where it stands -------------------------------------------------------------------------
    def _design(self, agreed: Agreed, earlier: Earlier) -> Design:
        agreeing = earlier[: self._agreeing]
        design = Design.of(
            self._formula, facts.settle(self._formula, self._least, agreed, agreeing)
        )
        if not self._names(design):
            raise NoAnswer("The formula has no column.")
        return design

    def _names(self, design: Design) -> list[str]:
        return [name for name in design.names if name != INTERCEPT]

    def _standard(self, design: Design, x: Floats, earlier: Earlier) -> Floats:
        shift, unit = self.scale(design, earlier[self._agreeing])
        return (x[:, len(x.T) - len(unit) :] - shift) / unit

    def scale(self, design: Design, total: Sums) -> tuple[Floats, Floats]:
        """Mean and deviation of each column but the intercept."""
        count = max(1.0, float(total["rows"][0]))
        moments = total["moments"][:, len(design.names) - len(self._names(design)) :] / count
        variance = moments[1] - moments[0] ** 2
        if not np.isfinite(variance).all():
            raise TaskError("sums of a design matrix that no rows have")
        flat = variance <= 1e-14 * np.maximum(moments[1], 1e-300)
        return moments[0], np.sqrt(np.where(flat, 1.0, variance))

    def _reach(self, earlier: Earlier) -> int:
        powers_ = earlier[self._agreeing]["powers"]
        return reach(self.options, None if self.options.horizon is not None else powers_)

    def _counted(self, agreed: Agreed) -> tuple[str, ...]:
        """Counts by time."""
        return ("events",) if agreed.persons is None else ("events", "people")

    def _times(self, earlier: Earlier) -> Times:
        """At which risk sets are summed."""
        total = earlier[self._before - 1]
        events = total["events"]
        least = self._least if self.options.merged else 0
        return Times.of(events, total.get("people", events), least)

    def _check(self, design: Design, earlier: Earlier) -> None:
        rows.check(design, earlier[self._agreeing], self._least, True, _CLASSES)
        if float(earlier[self._agreeing]["people"][1]) < self._least:
            raise NoAnswer(f"Fewer than {self._least} persons had an event.")
        if not self._pooled:
            return
        if words := too_many(self._reach(earlier), self.options.grid):
            raise NoAnswer(words)
        if len(earlier) < self._before:
            return
        events, size = self._times(earlier).events, partial.width(len(self._names(design)))
        tied = (events > 1).sum() if self._efron else 0
        if (len(events) + tied) * size > MOST_NUMBERS:
            raise NoAnswer(
                f"Risk sets at {len(events):,} times of {len(self._names(design))} columns are "
                f"more than {MOST_NUMBERS:,} numbers: ask with a larger grid than "
                f"{self.options.grid:g}, or with risk_sets = 'hospital'."
            )

    def _search(self, earlier: Earlier) -> Search:
        return self._course.after(earlier).found

    def _next(self, so_far: _Course, total: Sums) -> _Course:
        """How far the search is with one more of the analysis' totals."""
        totals = (*so_far.totals, total)
        if len(totals) < self._before or "comparable" in total:
            return replace(so_far, totals=totals)
        rows_of = totals[self._agreeing]
        begin = np.zeros(rows_of["moments"].shape[1] - int(self._formula.intercept))
        points = so_far.points
        if len(totals) > self._before:
            points = (*points, self._at(total, so_far.found.at, totals))
        found = search(begin, points, float(rows_of["rows"][0]), False)
        if points and not found.ended and _drifts(found):
            found = replace(found, used=MOST_POINTS)
        return _Course(totals, points, found)

    def _at(self, total: Sums, at: Floats, earlier: Earlier) -> Sums:
        """A total as one of a point."""
        if not self._pooled:
            return total
        covered = earlier[self._before - 1]["covered"]
        return partial.point(self._parts(total, len(at), earlier), covered, at)

    def _parts(self, total: Sums, wide: int, earlier: Earlier) -> partial.Parts:
        events, risk = self._times(earlier).events, total["risk"]
        tied = np.zeros_like(risk)
        if "tied" in total:
            tied[events > 1] = total["tied"]
        if not (risk[:, 0] > 0).all():
            raise TaskError("sums over risk sets that no rows have")
        return partial.parts(risk, tied, events, wide, self._efron)

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        notes = list[str]()
        try:
            if len(earlier) < self._agreeing:
                facts.settle_first(self._formula, self._least, agreed, earlier)
            design = self._design(agreed, earlier)
            notes += design.facts.notes
            self._check(design, earlier)
            found, names = self._search(earlier), self._names(design)
            if not found.ended or "comparable" not in earlier[-1]:
                raise NoAnswer(lost(names, found))
        except NoAnswer as reason:
            return Result(notes=[*notes, str(reason)])
        total = earlier[self._agreeing]
        drift, times = self._drift(found, earlier)
        fitted = Fitted(
            self.options,
            names,
            found,
            self.scale(design, total)[1],
            self._at(earlier[self._before], np.zeros(len(names)), earlier),
            total,
            earlier[-1],
            drift,
            times,
            self._times(earlier).ends * self.options.grid if self._pooled else None,
        )
        return shown(fitted, notes, told)

    def _drift(self, found: Search, earlier: Earlier) -> tuple[Floats, Floats]:
        """Sum over events of time times residual, and how many events, their times' sum, their
        squares' sum."""
        if not self._pooled:
            return earlier[-1]["drift"], earlier[-1]["times"]
        of = self._times(earlier)
        events, times = of.events, of.ends * self.options.grid
        last = self._parts(earlier[self._before + found.used - 1], len(found.at), earlier)
        drift = earlier[-1]["timed"] - (times[:, None] * last.means).sum(0)
        return drift, np.array([events.sum(), (times * events).sum(), (times**2 * events).sum()])


def _drifts(found: Search) -> bool:
    squared = float(np.add.accumulate(found.total["slope"] * found.step)[-1])
    return squared <= _DRIFTS and bool((np.abs(found.step) > _FAR * (1 + np.abs(found.at))).any())


def _nothing(wide: int) -> Sums:
    """What a hospital without an event adds."""
    return {name: np.zeros(shape) for name, shape in shapes_of(wide).items()}
