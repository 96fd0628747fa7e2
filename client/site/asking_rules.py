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
            '`"trees"`; `"evaluate"`, `"calibrate"` or `"monitor"` a finished model; to find the '
            'same persons in several places (`"linkage"`), and compute with what each has of them '
            '(`"vertical"`, `"split"`)'
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
            "training, and says so in its own log alone; a link of fewer is not used"
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
    linkage_columns: Patterns = Field(
        ["*"],
        description=(
            "which columns [persons may be linked by](linkage.md), by the names that a study has "
            "for them"
        ),
    )
    vertical_columns: Patterns = Field(
        ["*"],
        description=(
            "which columns may be computed with beside [other parties' columns](vertical.md) of "
            "the same persons, an outcome too"
        ),
    )
    smallest_link: int = Field(
        20,
        ge=3,
        le=1_000_000_000,
        description=(
            "fewest persons that a linkage may link, and a link may have that is used: else refused"
        ),
    )
    max_linkages: int = Field(
        10,
        ge=0,
        le=1_000_000_000,
        description=(
            "most linkages with each other party, in all runs together, whoever else took part; "
            "asked again too. The count lies in `state/links/helped.json`"
        ),
    )
    max_linked_ids: int = Field(
        5_000_000,
        ge=0,
        le=1_000_000_000_000,
        description=(
            "most identifiers that each other party may have looked up with this hospital's help, "
            "in all runs together: [guesses](linkage.md#guesses) are counted"
        ),
    )
    split_networks: bool = Field(
        False,
        description=(
            "whether a [split network](vertical.md#split-networks) may be trained, beside "
            '`"split"` in `procedures`: what crosses there is of single persons, and without noise '
            "tells others their outcomes and features"
        ),
    )
