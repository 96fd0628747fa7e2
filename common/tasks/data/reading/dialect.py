"""``[task.dialect]``: how hospitals' files are written. All that is left out is found in each file.

What is found beside the usual is told at the hospital in one line; what can be read in two ways is
asked for.
"""

from __future__ import annotations

import codecs
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from wardround.common.settings.declared import Name
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.declared import Options

KEY = "task.dialect"
"""Where a message sends its reader; a hospital's own is ``[data.NAME.dialect]``."""


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError("no encoding of texts; usual ones are utf-8, cp1252, utf-16") from None
    return codecs.lookup(name).name


Mark = Annotated[str, Field(min_length=1, max_length=1)]


class Dialect(Options):
    """``[task.dialect]``; every key left out means: found in the file."""

    header: list[Name] | None = Field(
        None, description="column names of files without a header line"
    )
    delimiter: Mark | None = Field(None, description="between the columns of a CSV")
    quote: Mark | None = Field(None, description="around cells of a CSV that hold the delimiter")
    encoding: Annotated[str, AfterValidator(_known_encoding)] | None = Field(
        None, description="of a CSV; left out: by its mark, else UTF-8, else Windows-1252"
    )
    decimal: Literal[".", ","] | None = Field(None, description="mark of decimals in numbers")
    thousands: Literal[".", ",", " ", "'"] | None = Field(
        None, description="mark between groups of three digits"
    )
    dates: str | None = Field(
        None, min_length=2, description='form of dates that aren\'t ISO 8601: `"%d.%m.%Y"`'
    )
    sheet: str | None = Field(None, min_length=1, description="of an Excel file")

    @model_validator(mode="after")
    def _marks_differ(self) -> Dialect:
        if self.decimal is not None and self.decimal == self.thousands:
            raise WrongKey("thousands", "is the mark of decimals already; they must differ")
        if self.header is not None:
            for position, name in enumerate(self.header):
                if not name or name in self.header[:position]:
                    raise WrongKey("header", "a name is empty or stands there twice")
        if self.dates is not None and "%" not in self.dates:
            raise WrongKey("dates", 'a form as "%d.%m.%Y"')
        return self

    def given(self) -> list[str]:
        """The keys that are set."""
        return sorted(key for key, value in self if value is not None)
