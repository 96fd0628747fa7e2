"""``[task]`` with ``name = "linked"``: by what rows are linked, and which columns are whose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from wardround.common.identifiers import VERSION, RuleName
from wardround.common.names import HospitalName
from wardround.common.settings.declared import Name
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.declared import Codes, Options
from wardround.common.tasks.linked.images import ImageColumn

FEWEST, MOST = 2, 5
_COORDINATOR = "coordinator"
_Feature = Annotated[Name, Field(min_length=1, max_length=200)]


class PartyColumns(Options):
    """``[task.parties.NAME]``: what one party has of the persons; {} where only who they are."""

    numeric: list[_Feature] = Field(
        [], max_length=10_000, description="its columns of numbers that are inputs"
    )
    categorical: dict[_Feature, Codes] = Field(
        {},
        max_length=1000,
        description=(
            'its columns of texts that are inputs, with all that may stand in them: `{ sex = ["f", '
            '"m"] }`; the first is what the others are compared with'
        ),
    )
    outcome: _Feature | None = Field(
        None, description="the column to predict: numbers, or two texts; one party has it"
    )
    time: _Feature | None = Field(
        None, description="of survival: time to the event or to the last visit"
    )
    event: _Feature | None = Field(None, description="of survival: whether the event was seen")
    images: ImageColumn | None = Field(
        None,
        description=(
            "its images, one for each person, instead of other inputs: for a "
            "[split network](vertical.md#split-networks)"
        ),
    )
    positive: Codes | None = Field(
        None,
        description=(
            "texts of `outcome` or `event` that mean 1, as the party writes them; left out: 1, "
            "true and yes, and of an outcome numbers are numbers"
        ),
    )

    @property
    def features(self) -> list[str]:
        """Its columns that are inputs, in their order: numbers, then categories."""
        return [*self.numeric, *self.categorical]

    @property
    def has_inputs(self) -> bool:
        """Whether it has columns or images to compute with."""
        return bool(self.features) or self.images is not None

    @property
    def outcomes(self) -> list[str]:
        """Its columns that say what is to be predicted."""
        return [one for one in (self.outcome, self.time, self.event) if one is not None]

    def named(self) -> Iterator[tuple[str, str]]:
        """(key, column) of all that it names."""
        yield from (("numeric", one) for one in self.numeric)
        yield from (("categorical", one) for one in self.categorical)
        for key in ("outcome", "time", "event"):
            if (one := getattr(self, key)) is not None:
                yield key, one
        if self.images is not None:
            yield "images.column", self.images.column

    @model_validator(mode="after")
    def _has_one_meaning_each(self) -> PartyColumns:
        seen: dict[str, str] = {}
        for key, column in self.named():
            if column in seen:
                raise WrongKey(key, f"'{column}' stands in {seen[column]} already; name it once")
            seen[column] = key
        for column, levels in self.categorical.items():
            if len(levels) < 2:
                raise WrongKey("categorical", f"of '{column}': at least two different texts")
        if (self.time is None) != (self.event is None):
            lacking = "event" if self.event is None else "time"
            raise WrongKey(lacking, "is missing: survival has time and event, both at one party")
        if self.outcome is not None and self.time is not None:
            raise WrongKey("outcome", "beside time and event, which are one: leave one out")
        if self.positive is not None and not (self.outcome or self.event):
            raise WrongKey("positive", "is of an outcome or event; leave it out")
        if self.images is not None and self.features:
            raise WrongKey("images", "beside numeric or categorical: a party has one tower")
        return self


class LinkedOptions(Options):
    """``[task]`` with ``name = 'linked'``."""

    identifiers: dict[Name, RuleName] = Field(
        min_length=1,
        max_length=8,
        description=(
            "the columns that say who a person is, the same at all parties, with the "
            "[rule](linkage.md#identifiers) of each; a person is the same where all of them are"
        ),
    )
    parties: dict[HospitalName, PartyColumns] = Field(
        min_length=FEWEST,
        max_length=MOST,
        description="who takes part, and with which columns: a table `[task.parties.NAME]` each",
    )
    rules: int = Field(
        VERSION,
        ge=1,
        le=1_000_000,
        description=(
            "version of the rules; is filled in, and parties whose software has other ones refuse"
        ),
    )
    duplicates: Literal["refuse", "leave_out"] = Field(
        "refuse",
        description=(
            "rows of one party with the same identifiers: refused, or all of them left out, as "
            "nothing says which is meant"
        ),
    )
    incomplete: Literal["leave_out", "refuse"] = Field(
        "leave_out",
        description=(
            "rows in which an identifier is missing, or none by its rule. Where that is most of "
            "them, the rule or the column is another one, and they are refused in any case"
        ),
    )
    missing: Literal["median", "leave_out", "refuse"] = Field(
        "median",
        description=(
            "of an input: filled with the party's own median, or most frequent text; or its row "
            "is left out, before anything is linked. A row without outcome always is"
        ),
    )
    dialect: Dialect = Dialect()
    missing_values: list[str] = Field(
        ["", "?", "NA", "N/A", "NaN", "nan", "NULL", "null"],
        description="texts that mean missing, beside empty cells",
    )

    @property
    def has_features(self) -> bool:
        """Whether any party has inputs."""
        return any(one.features for one in self.parties.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The parties, ordered."""
        return tuple(sorted(self.parties))

    @property
    def holder(self) -> str | None:
        """The party that has the outcome, or time and event; None where none has."""
        return next((name for name, one in self.parties.items() if one.outcomes), None)

    @property
    def text_columns(self) -> frozenset[str]:
        """Columns that are used as they are written; dates are read as dates."""
        names = [name for name, rule in self.identifiers.items() if rule != "date"]
        for one in self.parties.values():
            names += [*one.categorical, *([one.event] if one.event is not None else [])]
            names += [one.images.column] if one.images is not None else []
        return frozenset(names)

    @model_validator(mode="after")
    def _fits_together(self) -> LinkedOptions:
        if self.rules != VERSION:
            raise WrongKey(
                "rules",
                f"this wardround has version {VERSION} of the rules of identifiers, the settings "
                f"have {self.rules}; all parties need the same wardround",
            )
        folded: dict[str, str] = {}
        for name in self.parties:
            if name.casefold() == _COORDINATOR:
                raise WrongKey(f"parties.{name}", "is the server's own name among parties")
            if (other := folded.setdefault(name.casefold(), name)) != name:
                raise WrongKey(f"parties.{name}", f"differs from '{other}' in capitals only")
        if "missing" in self.model_fields_set and not self.has_features:
            raise WrongKey("missing", "has no effect: no party has inputs; leave it out")
        self._check_owners()
        return self

    def _check_owners(self) -> None:
        """Raise WrongKey unless each column has one owner, and no identifier is a column."""
        owner: dict[str, str] = {}
        holder: str | None = None
        for name, party in self.parties.items():
            for key, column in party.named():
                place = f"parties.{name}.{key}"
                if column in self.identifiers:
                    raise WrongKey(
                        place,
                        f"'{column}' is an identifier, by which rows are linked, and can't be an "
                        "input or outcome too; leave it out of one of them",
                    )
                if (other := owner.setdefault(column, name)) != name:
                    raise WrongKey(
                        place,
                        f"'{column}' is a column of '{other}' already; name one of them otherwise "
                        "(rename in [data.NAME.map] of site.toml), or leave one out",
                    )
                if key in ("outcome", "time") and holder not in (None, name):
                    raise WrongKey(place, f"'{holder}' has an outcome already; one party has it")
                holder = name if key in ("outcome", "time") else holder
