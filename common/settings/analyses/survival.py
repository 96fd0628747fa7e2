"""Options of analyses of times to an event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from wardround.common.settings.analyses.base import AnalysisOptions, ColumnName
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
        allow_inf_nan=False,
        description="times are rounded up to its multiples (entries down): the server sees sums by "
        "these, so a larger one tells it less",
    )
    horizon: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
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
        allow_inf_nan=False,
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
