"""``[procedure]``: what hospitals are asked, where it isn't training."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wardround.common.settings.base import PathText, Table, floats_of
from wardround.common.settings.declared import BY_NAME, Name
from wardround.common.settings.finished import NamedModel, Sha256
from wardround.common.settings.joint import (
    LINKAGE,
    SPLIT,
    VERTICAL,
    JointOptions,
    LinkageOptions,
    SplitOptions,
    VerticalOptions,
)
from wardround.common.settings.key_errors import WrongKey
from wardround.common.settings.statistics import StatisticsOptions
from wardround.common.settings.trees import TreesOptions
from wardround.common.text import near

TRAIN, DESCRIBE, EVALUATE, CALIBRATE = "train", "describe", "evaluate", "calibrate"
MONITOR, STATISTICS, TREES = "monitor", "statistics", "trees"
MOST_CELL = 1000
_OWN = re.compile(r"^[^\x00]{1,4000}\.py:[A-Za-z_]\w{0,99}$")
Disturbance = Literal["noise", "missing", "absent", "contrast", "brightness", "blur", "unknown"]
STRENGTHS: dict[str, tuple[tuple[float, ...], float]] = {
    "noise": ((0.25, 1.0), 10.0),
    "missing": ((0.1, 0.3), 1.0),
    "contrast": ((0.25, 0.5), 1.0),
    "brightness": ((0.5, 1.0), 10.0),
    "blur": ((1.0, 2.0), 8.0),
    "unknown": ((0.1, 0.3), 1.0),
}
"""Of each disturbance the strengths where none are given, and the largest that may be."""


class ProcedureOptions(Table):
    """What a procedure's table has beside its name. ``train`` has nothing."""


class DescribeOptions(ProcedureOptions):
    """``[procedure]`` with ``name = "describe"``: what the data of all hospitals hold."""

    smallest_cell: int = Field(
        5,
        ge=3,
        le=MOST_CELL,
        description=(
            "a count of fewer persons (rows, where no patients are named) is not shown, and all "
            "others are rounded to multiples of it"
        ),
    )
    ranges: Annotated[dict[Name, list[float]], BY_NAME] = Field(
        {},
        max_length=10_000,
        description=(
            "with `[privacy]`: the range of each column of numbers that is described, "
            "`{ age = [0, 120] }`; bins there are fixed before anybody looks at a row"
        ),
    )

    @field_validator("ranges", mode="before")
    @classmethod
    def _are_numbers(cls, value: object) -> object:
        return floats_of(value)

    @model_validator(mode="after")
    def _are_ranges(self) -> DescribeOptions:
        for name, one in self.ranges.items():
            if len(one) != 2 or not -1e15 <= one[0] < one[1] <= 1e15:
                raise WrongKey("ranges", f"'{name}': two numbers, the smaller one first")
        return self


class FinishedOptions(NamedModel, ProcedureOptions):
    """What every procedure on a finished model has."""


class RowsOptions(FinishedOptions):
    """What every procedure has that takes a finished model to rows."""

    rows: Literal["held_out", "all"] = Field(
        "held_out",
        description=(
            "of which rows: `held_out`, those that no study trains on; or `all` of them, for "
            "hospitals that the model was not trained at"
        ),
    )


class EvaluateOptions(RowsOptions):
    """``[procedure]`` with ``name = "evaluate"``: figures of a finished model."""

    importance: bool | list[Name] = Field(
        False,
        description=(
            "how much worse the primary figure is with an input's values dealt to other rows: "
            "`true` for every input, or the columns. [Importance](judgement.md#importance)"
        ),
    )
    robustness: list[Disturbance] = Field(
        [],
        description=(
            "how much worse it is of disturbed inputs. Tables: `noise`, `missing` (a share of "
            "cells), `absent` (each input in turn); images: `noise`, `contrast`, `brightness`, "
            "`blur`; texts: `unknown` (a share of tokens)"
        ),
    )
    strengths: dict[str, list[float]] = Field(
        {},
        description=(
            "how strongly, at most five of each: `{ noise = [0.25, 1] }`; of what isn't named "
            "[these](judgement.md#robustness)"
        ),
    )
    repeats: int = Field(
        5, ge=1, le=20, description="how often what is drawn is drawn anew, for the spread"
    )
    smallest_cell: int = Field(
        5,
        ge=3,
        le=MOST_CELL,
        description=(
            "of `importance` and `robustness`: what alters the inputs of fewer persons counts as "
            "no change, and counts are rounded to multiples of it"
        ),
    )

    @field_validator("strengths", mode="before")
    @classmethod
    def _are_numbers(cls, value: object) -> object:
        return floats_of(value)

    @model_validator(mode="after")
    def _are_strengths(self) -> EvaluateOptions:
        if len(set(self.robustness)) < len(self.robustness):
            raise WrongKey("robustness", "a name stands there twice")
        if isinstance(self.importance, list):
            if not self.importance or len(set(self.importance)) < len(self.importance):
                raise WrongKey("importance", "true, or columns, each of them once")
        for name, given in self.strengths.items():
            if name not in self.robustness or name not in STRENGTHS:
                raise WrongKey("strengths", f"'{name}' has none here; it isn't in robustness")
            most = STRENGTHS[name][1]
            if not 1 <= len(given) <= 5 or len(set(given)) < len(given):
                raise WrongKey("strengths", f"'{name}': one to five different numbers")
            if not all(1e-3 <= one <= most for one in given):
                raise WrongKey("strengths", f"'{name}': numbers from 0.001 to {most:g}")
        return self

    def strengths_of(self, name: str) -> list[float]:
        """Of a disturbance, weakest first."""
        return sorted(self.strengths.get(name, STRENGTHS[name][0]))

    @property
    def disturbs(self) -> bool:
        """Whether inputs are altered."""
        return bool(self.importance or self.robustness)


class CalibrateOptions(RowsOptions):
    """``[procedure]`` with ``name = "calibrate"``: what corrects a finished model's predictions."""


class MonitorOptions(RowsOptions):
    """``[procedure]`` with ``name = "monitor"``: what a finished model meets, as histograms."""

    smallest_cell: int = Field(
        5,
        ge=3,
        le=MOST_CELL,
        description=(
            "places of fewer persons (rows, where no patients are named) are counted with the next "
            "ones, and what is shown is rounded to multiples of it"
        ),
    )
    reference: PathText = Field(
        "",
        description=(
            "what the counts are held against: an earlier run of `monitor` on this model, or its "
            "`reference.json`. It stays with whoever asks"
        ),
    )


class OwnOptions(ProcedureOptions):
    """``[procedure]`` with a file of one's own; other keys are its own."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    file_sha256: Sha256 = Field(
        "",
        description=(
            "SHA-256 of the file that the procedure is from; follows from it, and is what each "
            "party holds its own copy against"
        ),
    )


PROCEDURES: dict[str, type[Table]] = {
    TRAIN: ProcedureOptions,
    DESCRIBE: DescribeOptions,
    EVALUATE: EvaluateOptions,
    CALIBRATE: CalibrateOptions,
    MONITOR: MonitorOptions,
    STATISTICS: StatisticsOptions,
    TREES: TreesOptions,
    LINKAGE: LinkageOptions,
    VERTICAL: VerticalOptions,
    SPLIT: SplitOptions,
}
"""Options of what there is, by name."""


class ProcedureTable(BaseModel):
    """``[procedure]``: which one, and its own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: PathText = Field(
        TRAIN,
        description=(
            "`train` a model; `describe` the data: [what is there](describe.md), before a study; "
            "`statistics`: [analyses](statistics.md) of them, from tables to regressions; "
            "`trees`: [boosted trees](trees.md) and forests of them; "
            "of the same persons in several places `linkage`: [who they are](linkage.md), "
            "`vertical`: [a model](vertical.md) of columns that stay where they are, "
            "`split`: [a network in parts](vertical.md#split-networks), a research mode; "
            "or of a model that is finished `evaluate` the figures, `calibrate` what it "
            "predicts, or `monitor` what it meets: [judgement](judgement.md); or a "
            "[procedure of your own](procedures.md), `path/to/file.py:Class`"
        ),
    )

    @model_validator(mode="after")
    def _has_the_procedures_options(self) -> ProcedureTable:
        if self.name not in PROCEDURES and not self.own:
            meant = near(self.name, PROCEDURES)
            also = f"did you mean '{meant}'?" if meant else f"there are: {', '.join(PROCEDURES)}"
            raise WrongKey("name", f"there is no procedure '{self.name[:60]}'; {also}")
        kind = PROCEDURES.get(self.name, OwnOptions)
        try:
            kind.model_validate(self.options)
        except ValidationError as error:
            first = error.errors()[0]
            if isinstance(cause := first.get("ctx", {}).get("error"), WrongKey):
                raise cause from None
            key = ".".join(str(part) for part in first["loc"]) or "name"
            message = f"{first['msg'][0].lower()}{first['msg'][1:]} (found {first['input']!r:.60})"
            if first["type"] == "extra_forbidden":
                has = ", ".join(kind.model_fields) or "no options"
                message = f"'{self.name}' has no such option; it has: {has}"
            raise WrongKey(key, message) from None
        return self

    @property
    def own(self) -> bool:
        """Whether it is from a file of one's own."""
        return _OWN.match(self.name) is not None

    @property
    def called(self) -> str:
        """Its name without the folder of its file, which differs from party to party."""
        return re.split(r"[/\\]", self.name)[-1]

    def of_file(self, sha256: str) -> ProcedureTable:
        """The same, with the digest of its file."""
        return ProcedureTable(**{"name": self.name, **self.options, "file_sha256": sha256})

    @property
    def trains(self) -> bool:
        """Whether a model is trained: there are rounds, a strategy, and figures."""
        return self.name == TRAIN

    @property
    def joint(self) -> bool:
        """Whether its parties send each other letters, and no sums: ``common/joint``."""
        return issubclass(PROCEDURES.get(self.name, OwnOptions), JointOptions)

    @property
    def finished(self) -> FinishedOptions | None:
        """Its options where it is asked of a finished model; else None."""
        found = self.settings
        return found if isinstance(found, FinishedOptions) else None

    def of_model(self, digest: str) -> ProcedureTable:
        """The same, with the digest of its model."""
        return ProcedureTable(**{"name": self.name, **self.options, "model_digest": digest})

    def shared(self) -> dict[str, Any]:
        """As all parties have it: a model's digest, and not where it lies."""
        values = self.model_dump(mode="json") | {"name": self.called}
        places = ("model", "reference") if self.finished is not None else ()
        return {key: one for key, one in values.items() if key not in places}

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside the name, as they were given."""
        return dict(self.model_extra or {})

    @property
    def settings(self) -> Table:
        """The options, with their defaults."""
        return PROCEDURES.get(self.name, OwnOptions).model_validate(self.options)
