"""``[procedure]`` with ``name = "statistics"``: a list of analyses, asked together."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, model_validator

from wardround.common.settings.analyses import ANALYSES, AnalysisOptions, file_stem
from wardround.common.settings.base import Table
from wardround.common.settings.key_errors import WrongKey
from wardround.common.text import near

MOST_ANALYSES = 100
MOST_CELL = 1000


class StatisticsOptions(Table):
    """See the fields."""

    smallest_cell: int = Field(
        5,
        ge=3,
        le=MOST_CELL,
        description=(
            "nothing is shown from which a count of fewer persons (rows, where no patients are "
            "named) could be worked out"
        ),
    )
    analyses: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=MOST_ANALYSES,
        description="what is asked, each a table of its own: [analyses](statistics.md#analyses)",
    )

    @model_validator(mode="after")
    def _are_analyses(self) -> StatisticsOptions:
        stems: dict[str, str] = {}
        for one in self.parsed():
            if (stem := file_stem(one.name)) in stems:
                raise WrongKey(
                    "analyses",
                    f"'{stems[stem]}' and '{one.name}' would have files of the same names; give "
                    "each a name with other letters or digits",
                )
            stems[stem] = one.name
        return self

    def parsed(self) -> list[AnalysisOptions]:
        """Each with its kind's options. Raises WrongKey."""
        return [_parsed(values, place) for place, values in enumerate(self.analyses, 1)]


def _parsed(values: dict[str, Any], place: int) -> AnalysisOptions:
    """One analysis. ``place``: in the list, from 1."""
    who = f"'{values['name']}'" if isinstance(values.get("name"), str) else f"number {place}"
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in ANALYSES:
        meant = near(str(kind), ANALYSES) if isinstance(kind, str) else None
        what = f"there is no kind '{kind}'" if isinstance(kind, str) else "it has no kind"
        there = f"did you mean '{meant}'?" if meant else f"there are: {', '.join(sorted(ANALYSES))}"
        raise WrongKey("analyses", f"{who}: {what}; {there}")
    options = ANALYSES[kind]
    try:
        return options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        key = ".".join(str(part) for part in first["loc"])
        if isinstance(cause, WrongKey):
            raise WrongKey("analyses", f"{who}: {cause.key}: {cause}") from None
        if first["type"] == "missing":
            message = f"'{kind}' needs it"
        elif first["type"] == "extra_forbidden":
            message = f"'{kind}' has no such key; it has: {', '.join(options.model_fields)}"
        else:
            text = first["msg"]
            message = f"{text[0].lower()}{text[1:]} (found {first['input']!r:.60})"
        raise WrongKey(
            "analyses", f"{who}: {key}: {message}" if key else f"{who}: {message}"
        ) from None
