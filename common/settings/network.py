"""``[network]`` and ``[study]``: a consortium that stands for years, and what one asks of it.

A file with ``[network]`` is the coordinator's; one with ``[study]`` a researcher's. A file with
neither is a federation with the one study that its other tables describe.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from pydantic import Field, field_validator, model_validator

from wardround.common.names import HOSPITAL_NAME, name_of
from wardround.common.settings.base import DAY_S, PathText, Table

MOST_PURPOSE = 2000
MOST_STUDY_DAYS = 3660
"""No study is open for longer: an approval isn't for ever."""


class NetworkTable(Table):
    """``[network]``: a server that stands, and runs one study after the other, or side by side."""

    at_once: int = Field(2, ge=1, le=64, description="studies that run side by side")
    database: str = Field(
        "",
        max_length=2000,
        description=(
            "where studies are kept: empty, a SQLite file in the server's folder; or the URL of a "
            "PostgreSQL database, `postgresql+psycopg://user@host/name`, its password in "
            "`PGPASSWORD` or `~/.pgpass`"
        ),
    )
    lease_s: float = Field(
        10.0,
        ge=1,
        le=3600,
        description=(
            "a server that the database hasn't heard of for so long is gone: a second one on the "
            "same database and folders takes over"
        ),
    )
    library: PathText = Field(
        "library",
        description=(
            "folder of what never travels: task files, encoders' folders, first models; a study "
            "names them by their last part"
        ),
    )
    most_open: int = Field(
        20, ge=1, le=10_000, description="studies of one researcher that aren't over yet"
    )


class StudyTable(Table):
    """``[study]``: who asks what of whom, in the words that hospitals are shown."""

    name: str = Field(
        pattern=f"^{HOSPITAL_NAME.pattern}$",
        description="letters, digits, `.`, `_`, `-`; `site.toml` may have rules for such names",
    )
    purpose: str = Field(
        min_length=1,
        max_length=MOST_PURPOSE,
        description="in plain words: a person at each hospital decides by them",
    )
    hospitals: list[str] = Field(
        [],
        max_length=10_000,
        description="which are asked; left out: all of the network. The others learn nothing of it",
    )
    ends: str = Field(
        "",
        description=(
            "a date, or date and time (UTC unless it says otherwise): nothing is computed after "
            "it; left out: 90 days from when it is submitted"
        ),
    )
    wait_hours: float = Field(
        24.0,
        ge=0,
        le=24 * 366,
        description=(
            "once `federation.min_clients` hospitals have accepted: how long to wait for those "
            "that haven't decided"
        ),
    )

    @field_validator("ends", mode="before")
    @classmethod
    def _is_a_time(cls, value: object) -> object:
        """TOML has dates of its own."""
        if isinstance(value, datetime | date):
            value = value.isoformat()
        if isinstance(value, str) and value:
            try:
                end_of(value)
            except ValueError:
                raise ValueError(f"{value!r:.40} is no date, such as 2027-03-01") from None
        return value

    @model_validator(mode="after")
    def _names_are_distinct(self) -> StudyTable:
        names = [name_of(title) for title in self.hospitals]
        if len(set(names)) < len(names):
            raise ValueError("hospitals: a hospital stands there twice")
        return self

    @property
    def wait_s(self) -> float:
        """``wait_hours`` in seconds, to the second."""
        return round(self.wait_hours * DAY_S / 24)


def end_of(text: str) -> datetime:
    """The moment, UTC and to the second, that ``study.ends`` names; a date means its end.

    Raises ValueError.

    >>> end_of("2027-03-01").isoformat()
    '2027-03-02T00:00:00+00:00'
    """
    if len(text) == len("2027-03-01"):
        day = date.fromisoformat(text).toordinal() + 1
        return datetime.combine(date.fromordinal(day), datetime.min.time(), UTC)
    when = datetime.fromisoformat(text)
    return in_utc(when if when.tzinfo else when.replace(tzinfo=UTC)).replace(microsecond=0)


def in_utc(when: datetime) -> datetime:
    """The same moment. Raises ValueError where the calendar has no such year."""
    try:
        return when.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from None
