"""What typed messages are made of: values, each with its place, and how a wrong one is refused.

A ``Value`` says once where one number or text stands, what it must be and what it is called in an
error; a message's ``to_records``, ``from_records`` and ``leaves`` all ask it. Arrays stay Flower's
records until somebody holds them against a layout: what is decoded when is the receiver's to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from wardround.common.decided import Decided
from wardround.common.errors import ReplyRefused, RequestRefused, WardroundError
from wardround.common.flower.stored import in_memory
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import Leaf, Protection, ValueType, leaf_of

Content = RecordDict
"""A message's records, by name: what goes over the wire."""
Record = ArrayRecord | ConfigRecord | MetricRecord
Records = dict[str, Record]
T = TypeVar("T")
MOST_WHOLE = 2**53
"""Below it every whole number is a float64 too."""


# --- what a value must be --------------------------------------------------------------------
@dataclass(frozen=True)
class Kind(Generic[T]):
    """A type with its range.

    said : what such a value is, for an error
    dtype : as a leaf has it; '' of values that no reply has
    take : the value, or None where it isn't one
    """

    said: str
    dtype: ValueType | str
    take: Callable[[Any], T | None]


def whole(least: int = 0, most: int = 2**63 - 1, said: str = "") -> Kind[int]:
    """A whole number from ``least`` to ``most``."""

    def take(value: Any) -> int | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return value if good else None

    return Kind(said or f"a whole number of at least {least}", "int", take)


def number(
    least: float = -math.inf, above: float = -math.inf, most: float = math.inf, said: str = ""
) -> Kind[float]:
    """A finite number from ``least`` (or above ``above``) to ``most``; whole ones count too."""

    def take(value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            found = float(value)
        except OverflowError:  # a whole number beyond all floats
            return None
        good = math.isfinite(found) and found >= least and above < found <= most
        return found if good else None

    return Kind(said or "a finite number", "float", take)


def text(most: int | None = None, fewest: int = 0, said: str = "") -> Kind[str]:
    """A text of bounded length (characters)."""

    def take(value: Any) -> str | None:
        good = isinstance(value, str) and len(value) >= fewest
        return value if good and (most is None or len(value) <= most) else None

    return Kind(said or "a text", "text", take)


def texts(most: int | None = None, said: str = "") -> Kind[tuple[str, ...]]:
    """A list of at most ``most`` texts."""

    def take(value: Any) -> tuple[str, ...] | None:
        good = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
        return tuple(value) if good and (most is None or len(value) <= most) else None

    return Kind(said or "a list of texts", "texts", take)


def wholes(said: str = "a list of whole numbers") -> Kind[tuple[int, ...]]:
    """A list of whole numbers of at least 0."""

    def take(value: Any) -> tuple[int, ...] | None:
        # whole passes in C: a cohort's list has thousands, and is looked at several times a round
        good = isinstance(value, list | tuple) and {int}.issuperset(map(type, value))
        return tuple(value) if good and min(value, default=0) >= 0 else None

    return Kind(said, "", take)


def data(long: bool = False) -> Kind[bytes]:
    """Bytes. ``long``: they may stay in a file (``StoredBytes``), and their reader knows it."""

    def take(value: Any) -> bytes | None:
        if not isinstance(value, bytes):
            return None
        return value if long else in_memory(value)

    return Kind("bytes", "bytes", take)


# --- where a value stands ------------------------------------------------------------------------
@dataclass(frozen=True)
class Value(Generic[T]):
    """One value of a message.

    record, key : where it stands
    must : what is asked of it, where 'be' and the kind's words don't say it
    decided : of a request's: who decides it; None where only hospitals send it
    """

    record: str
    key: str
    kind: Kind[T]
    must: str = ""
    decided: Decided | None = None

    def leaf(
        self, message_type: str, protection: Protection, shape: tuple[int, ...] | None = ()
    ) -> Leaf:
        """What the manifest lists of it. ``shape``: as ``Leaf`` has it, of a number by default."""
        return leaf_of(message_type, self.record, self.key, shape, self.kind.dtype, protection)


@dataclass(frozen=True)
class SentArrays:
    """A record of arrays of a request. ``record``: its name, or '*' for any other."""

    record: str
    decided: Decided


@dataclass(frozen=True)
class SentValues(Generic[T]):
    """A record of a request whose keys are the sender's: each value of one kind."""

    record: str
    kind: Kind[T]
    decided: Decided


@dataclass(frozen=True)
class Words:
    """How what is wrong with a message is said, and the error that it is.

    Names of ours and of keys are filled in; nothing of a value ever is.
    """

    error: type[WardroundError]
    no_record: str
    wrong: str

    def lacks(self, record: str) -> WardroundError:
        """There is no such record, or it is of another kind."""
        return self.error(self.no_record.format(record=record))

    def is_wrong(self, value: Value[Any]) -> WardroundError:
        """A value isn't there, or not what it must be."""
        must = value.must or f"be {value.kind.said}"
        said = value.kind.said
        return self.error(
            self.wrong.format(record=value.record, key=value.key, must=must, is_=said)
        )


REQUEST = Words(
    RequestRefused, "the request has no '{record}' record", "the request's '{key}' must {must}"
)
REPLY = Words(ReplyRefused, "record '{record}' is missing or not expected", "'{key}' is not {is_}")


@dataclass(frozen=True)
class Came:
    """The records of a message that came, to take its parts out of. Whatever is wrong with them
    is raised in ``words``."""

    content: Content
    words: Words

    def config(self, name: str = m.CONFIG) -> ConfigRecord:
        """A record of settings."""
        record = self.content.get(name)
        if not isinstance(record, ConfigRecord):
            raise self.words.lacks(name)
        return record

    def metrics(self, name: str = m.METRICS) -> MetricRecord:
        """A record of numbers."""
        record = self.content.get(name)
        if not isinstance(record, MetricRecord):
            raise self.words.lacks(name)
        return record

    def arrays(self, sent: SentArrays) -> ArrayRecord:
        """A record of a request's arrays, none of them decoded."""
        record = self.content.get(sent.record)
        if not isinstance(record, ArrayRecord):
            raise self.words.lacks(sent.record)
        return record

    def every(self, sent: SentValues[T], most: int) -> dict[str, T]:
        """The values of a record, at most so many; none where it isn't there."""
        if sent.record not in self.content:
            return {}
        found: dict[str, T] = {}
        for key, value in self.config(sent.record).items():
            taken = sent.kind.take(value)
            if taken is None or len(found) >= most:
                raise self.words.lacks(sent.record)
            found[key] = taken
        return found

    def take(self, value: Value[T]) -> T:
        """A value that must be there."""
        found = self.find(value)
        if found is None:
            raise self.words.is_wrong(value)
        return found

    def find(self, value: Value[T]) -> T | None:
        """A value, or None where there is none; one that is there must be right.

        Raises TypeError for a request's value that nobody has declared: it can't be read.
        """
        if value.decided is None and self.words.error is not ReplyRefused:
            raise TypeError(f"'{value.key}' is read from a request, and nobody says who decides it")
        record = self.content.get(value.record)
        if not isinstance(record, ConfigRecord | MetricRecord):
            raise self.words.lacks(value.record)
        if value.key not in record:
            return None
        found = value.kind.take(record[value.key])
        if found is None:
            raise self.words.is_wrong(value)
        return found

    def only(self, names: Iterable[str]) -> None:
        """Hold that exactly these records are there."""
        if found := sorted(set(self.content) ^ set(names)):
            raise self.words.lacks(found[0][:100])


@contextmanager
def as_request() -> Iterator[None]:
    """Arrays that are refused inside are a request's: RequestRefused, of the same text."""
    try:
        yield
    except ReplyRefused as error:
        raise RequestRefused(str(error)) from None


def values(*pairs: tuple[Value[Any], Any]) -> dict[str, Any]:
    """Values by key, in this order, as a record holds them; what is None is left out."""
    return {
        value.key: list(one) if isinstance(one, tuple) else one
        for value, one in pairs
        if one is not None
    }
