"""Options of analyses of times to an event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
from wardround.common.settings.declared import Formula
from wardround.common.settings.key_errors import WrongKey

MOST_TIMES = 16_384
"""Most times of a grid."""


class TimeOptions(AnalysisOptions):
    """What analyses of times have in common."""

    time: ColumnName = Field(description="column of times to the event, or to the last news")
    event: ColumnName = Field(
        description="column that says whether the event was seen (1), or not until then (0)"
    )
    entry: ColumnName | None = Field(
        None,
        description="column of times from which on a row was under observation; without it all are "
        "from the start",
    )
    grid: float = Field(
        1.0,
        gt=0,
        le=1e12,
        description="times are rounded up to its multiples (entries down): the server sees sums by "
        "these, so a larger one tells it less",
    )
    horizon: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="who is under observation longer counts as censored then",
    )

    @model_validator(mode="after")
    def _fits(self) -> TimeOptions:
        if self.horizon is not None and self.horizon / self.grid > MOST_TIMES:
            raise WrongKey("grid", f"more than {MOST_TIMES:,} times up to the horizon; enlarge it")
        names = [one for one in (self.time, self.event, self.entry) if one is not None]
        if len(set(names)) < len(names):
            raise WrongKey("event", "time, event and entry are one column")
        return self

    def _times(self) -> str:
        late = f" from '{self.entry}' on" if self.entry else ""
        until = f", up to {self.horizon:g}" if self.horizon is not None else ""
        return f"to '{self.event}' by '{self.time}'{late}, in steps of {self.grid:g}{until}"


class KaplanMeierOptions(TimeOptions):
    """``kind = "kaplan_meier"``: survival curves, numbers at risk, medians, log-rank test,
    restricted means, cumulative hazards."""

    kind: Literal["kaplan_meier"] = Field(description="survival curves")
    by: ColumnName | None = Field(
        None, description="column of categories: a curve of each, and the log-rank test of them"
    )
    restricted_mean: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="up to when the restricted mean is taken; without it up to the last time that "
        "all curves have",
    )
    exact: bool = Field(
        False,
        description="what is shown is worked out from every time of the grid, not from the steps "
        "that are shown: their digits may then tell readers how few persons had an event within a "
        "step",
    )

    def reads(self) -> str:
        by = f", by '{self.by}'" if self.by else ""
        exact = "; exact values are shown" if self.exact else ""
        return f"events and censorings {self._times()}{by}{exact}"


class CoxOptions(TimeOptions):
    """``kind = "cox"``: proportional hazards."""

    kind: Literal["cox"] = Field(description="proportional hazards")
    formula: Formula = Field(
        min_length=1,
        max_length=1000,
        description="what may tell of the hazard, 'age + C(stage)': "
        "[formulas](statistics.md#formulas), without an outcome",
    )
    ties: Literal["efron", "breslow"] = Field("efron", description="how equal times are counted")
    risk_sets: Literal["hospital", "pooled"] = Field(
        "hospital",
        description="'hospital': patients are compared within a hospital, each with its own "
        "baseline hazard (a stratum); times are exact, and no sums by time leave it. 'pooled': "
        "with all at risk in any, by sums at multiples of the grid",
    )
    merged: bool = Field(
        True,
        description="of pooled risk sets: times are merged until as many persons as the smallest "
        "cell have an event at each; false: every time that has one, so that the server can work "
        "out rows who leave alone",
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="of intervals")

    @model_validator(mode="after")
    def _has_an_effect(self) -> CoxOptions:
        if self.risk_sets == "hospital" and (self.grid != 1.0 or not self.merged):
            key = "grid" if self.grid != 1.0 else "merged"
            raise WrongKey(key, "has an effect with risk_sets = 'pooled' only")
        return self

    def reads(self) -> str:
        what = f"sums that give what {self.formula} tells of the time"
        if self.risk_sets == "hospital":
            late = f", from '{self.entry}' on" if self.entry else ""
            return f"{what} to '{self.event}' by '{self.time}'{late}, within each hospital"
        single = "" if self.merged else ", also where one row leaves alone"
        return f"{what} {self._times()}, at each of these times{single}"
