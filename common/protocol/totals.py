"""The federation's summed preparation, as requests carry it; and named sums, as replies do.

Sums are float64 arrays whose names the hospitals' tasks choose: their number, sizes and names are
bounded, their meaning is the task's to judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord
from numpy.typing import NDArray

from wardround.common.decided import data
from wardround.common.errors import ReplyRefused, RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import (
    MAX_ABS_SUM,
    decode_arrays,
    digest_arrays,
    encode_arrays,
)
from wardround.common.protocol import names as m
from wardround.common.protocol.leaf import ANY, Leaf, Protection, leaf_of
from wardround.common.protocol.message import Came, Records, SentArrays, Value, as_request, text

MOST_SUMS = 100_000
MOST_SUM_NUMBERS = 10_000_000
MOST_SUM_NAME = 256
"""Characters."""
_PINNED = "they are those of the digest; with masks the same in all training of a run"
DIGEST = Value(
    m.CONFIG,
    "totals-digest",
    text(),
    decided=data(_PINNED, "client.secagg.contributions.Contributions.upload"),
)
TOTALS = SentArrays(m.TOTALS, data(_PINNED, "client.secagg.contributions.Contributions.upload"))


@dataclass(frozen=True)
class Totals:
    """Sums over all hospitals (means, deviations, medians, vocabularies); empty before the first
    phase. In every request, so that a client that restarts needs no memory of the set-up.

    record : encoded once for all requests; float64 arrays of any name
    digest : SHA-256 (hex) over them, by which a client knows them again without reading them
    """

    record: ArrayRecord
    digest: str | None

    @classmethod
    def of(cls, sums: Sums) -> Totals:
        """Of the sums themselves."""
        return cls(encode_arrays(sums), digest_arrays(sums))

    @classmethod
    def read(cls, came: Came) -> Totals | None:
        """From a request; None where it carries none."""
        digest = came.find(DIGEST)
        return cls(came.arrays(TOTALS), digest) if m.TOTALS in came.content else None

    def add_to(self, records: Records, config: dict[str, Any]) -> None:
        """Put them into a request's records, and their digest into its settings."""
        if self.digest is not None:
            config[DIGEST.key] = self.digest
        records[m.TOTALS] = self.record

    def has_bytes_of(self, other: Totals) -> bool:
        """Whether both hold the same bytes; without decoding or hashing any."""
        if self.record is other.record:
            return True
        forms = [
            [(key, one.dtype, one.shape, one.stype) for key, one in record.items()]
            for record in (self.record, other.record)
        ]
        return forms[0] == forms[1] and all(
            one.data == other.record[key].data for key, one in self.record.items()
        )

    def decoded(self) -> tuple[Sums, str]:
        """The sums, and the digest of what was really received.

        Raises RequestRefused for arrays that can't be read, or aren't those of ``digest``.
        """
        with as_request():
            sums = decode_arrays(self.record, max_abs=MAX_ABS_SUM)
        digest = digest_arrays(sums)
        if self.digest is not None and digest != self.digest:
            raise RequestRefused("the preparation that was received doesn't match its digest")
        return sums, digest


def read_sums(came: Came) -> Sums:
    """A reply's named sums, of bounded number and size. Raises ReplyRefused by name."""
    record = came.content.get(m.ARRAYS)
    if not isinstance(record, ArrayRecord):
        raise ReplyRefused(f"record '{m.ARRAYS}' is missing or not an array record")
    if len(record) > MOST_SUMS:
        raise ReplyRefused(f"it sent {len(record)} statistics; at most {MOST_SUMS}")
    elements = sum(math.prod(array.shape) for array in record.values())
    if elements > MOST_SUM_NUMBERS:
        raise ReplyRefused(f"its statistics hold {elements} numbers, too many")
    sums = decode_arrays(record, max_abs=MAX_ABS_SUM)
    for name, value in sums.items():
        if not is_sum_name(name):
            raise ReplyRefused("a statistic's name is not printable or longer than 256")
        if value.dtype.name != "float64":
            raise ReplyRefused(f"statistic '{name}' is {value.dtype.name}, expected float64")
    return sums


def is_sum_name(name: str) -> bool:
    """Whether a sum may be called so: a printable line of bounded length."""
    return len(name) <= MOST_SUM_NAME and name.isprintable()


def sums_content(sums: Mapping[str, NDArray[Any]]) -> Records:
    """A reply's records of named sums."""
    return {m.ARRAYS: encode_arrays(sums)}


def sums_leaf(message_type: str, protection: Protection) -> Leaf:
    """Sums of any name: it is known only when they leave."""
    return leaf_of(message_type, m.ARRAYS, ANY, None, "float64", protection)
