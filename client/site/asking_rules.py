"""Keys of ``site.toml`` on what may be asked of the hospital's rows."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wardround.client.site.machine_rules import MachineRules

Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Patterns = Annotated[list[Pattern], Field(max_length=1000)]


class AskingRules(MachineRules):
    """Which procedures, of how many persons, how often."""

    procedures: Patterns = Field(
        ["train"],
        description=(
            'what may be asked: `"train"` a model; `"describe"` the data, `"statistics"` of them, '
            '`"trees"`; `"evaluate"`, `"calibrate"` or `"monitor"` a finished model'
        ),
    )
    smallest_cell: int = Field(
        5,
        ge=3,
        le=1000,
        description=("fewest persons whose count anything published may show; of fewer: refused"),
    )
    min_persons: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description=(
            "with fewer persons (rows, where no patients are named; with [privacy] protected "
            "units, by their noised number) this hospital adds zeros to whatever is asked but "
            "training, and says so in its own log alone"
        ),
    )
    max_questions: int = Field(
        1000,
        ge=0,
        le=1_000_000_000,
        description=(
            "most questions of its rows that this hospital answers in all runs together: each of "
            "the `statistics`' analyses is one, and so is any other procedure but training, asked "
            "again too. The count lies in `state/questions.json`"
        ),
    )
