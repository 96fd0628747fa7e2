"""The form of a store's file, and of the numbers in it.

    a page of 4096 bytes: digest of the rest of the page, then the header as JSON
    N rows of one shape, in the machine's byte order
    facts as JSON: a check sum of every row, and what whoever made the store keeps with it

A row is kept in the narrowest of three kinds that gives its bits back:

    uint8    bytes that stay bytes
    uint16   float32 k / s of whole numbers k <= s < 2^16, with one s per row: 16-bit images whose
             pixels were scaled and not resampled. k / s rounded to float32 is the same whether
             it was worked out in float32 or float64: two such quotients differ by more than
             float64's rounding from any tie between float32s
    float32  anything else

The rows of a file are all of one kind. Bytes beside wider rows are k / 255, as images are in memory
where not all are bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.durable.versioned import Format
from wardround.common.errors import DataError

Kind = Literal["uint8", "uint16", "float32"]
KINDS: tuple[Kind, ...] = ("uint8", "uint16", "float32")
"""From the narrowest."""
PAGE = 4096
FORM = Format("store of images", "delete it: it is made again")
_DIGEST = 64
_MOST_LEVELS = 2**16 - 1
_SAMPLE = 512


@dataclass(frozen=True)
class Header:
    """What a store's file holds.

    source : digest of what its rows were made of
    kind : of its rows; ``shape``: of one of them
    facts_bytes, facts : length and SHA-256 of the facts behind the rows
    order : of bytes in a number
    """

    source: str
    kind: Kind
    shape: list[int]
    rows: int
    facts_bytes: int
    facts: str
    order: str = sys.byteorder

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return math.prod(self.shape) * np.dtype(self.kind).itemsize

    @property
    def facts_at(self) -> int:
        """Where the rows end."""
        return PAGE + self.rows * self.row_bytes

    @property
    def size(self) -> int:
        """Of the whole file, bytes."""
        return self.facts_at + self.facts_bytes

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows as tensors."""
        return torch.uint8 if self.kind == "uint8" else torch.float32

    def page(self) -> bytes:
        """The first page."""
        rest = json.dumps(FORM.seal(asdict(self))).encode().ljust(PAGE - _DIGEST)
        return hashlib.sha256(rest).hexdigest().encode() + rest

    @classmethod
    def of(cls, page: bytes, place: str) -> Header:
        """The header of a first page. Raises DataError where it is damaged or of a newer form."""
        damaged = DataError(f"{place}: the stored images are damaged", mend=FORM.mend)
        if (
            len(page) < PAGE
            or page[:_DIGEST] != hashlib.sha256(page[_DIGEST:]).hexdigest().encode()
        ):
            raise damaged
        header = FORM.make(cls, json.loads(page[_DIGEST:]), DataError, place)
        if header.kind not in KINDS or header.order != sys.byteorder:
            raise damaged
        return header


@dataclass(frozen=True)
class Encoded:
    """A row as it is kept; ``span``: what whole numbers are divided by, 0 where they are not."""

    kind: Kind
    values: NDArray[Any]
    span: int = 0


def encoded(row: Tensor) -> Encoded:
    """A row, uint8 or float32, in the narrowest kind that gives its bits back."""
    values = row.detach().contiguous().numpy()
    if values.dtype == np.uint8:
        return Encoded("uint8", values)
    values = values.astype(np.float32, copy=False)
    levels = _levels(values)
    return levels if levels is not None else Encoded("float32", values)


def decoded(values: NDArray[Any], spans: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of whole numbers, of bytes too, as float32: each over its own span."""
    divisors = spans.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    quotients: NDArray[np.float32] = values.astype(np.float32) / divisors
    return quotients


def widened(row: Encoded, kind: Kind) -> Encoded:
    """The same row as a wider kind has it."""
    if row.kind == kind:
        return row
    span = 255 if row.kind == "uint8" else row.span
    if kind == "uint16":
        return Encoded(kind, row.values.astype(np.uint16), span)
    return Encoded(kind, decoded(row.values[None], np.array([span]))[0])


def _levels(values: NDArray[np.float32]) -> Encoded | None:
    """float32 in [0, 1] as whole numbers over a span, where exactly these bits come back of them.

    The smallest step is 1 / s, or a small multiple of it; whatever is tried is held against all
    bits.
    """
    flat = values.reshape(-1)
    positive = flat[flat > 0]
    smallest = float(positive.min()) if len(positive) else 1.0
    for multiple in (1, 2, 3):
        span = round(multiple / smallest)
        if not 1 <= span <= _MOST_LEVELS:
            continue
        if all(_is_exact(part, span) for part in (flat[:_SAMPLE], flat)):
            whole = np.rint(values * np.float32(span)).astype(np.uint16)
            return Encoded("uint16", whole, span)
    return None


def _is_exact(values: NDArray[np.float32], span: int) -> bool:
    if not bool(((values >= 0) & (values <= 1)).all()):
        return False
    whole = np.rint(values * np.float32(span)).astype(np.uint16)  # which has no -0
    back = decoded(whole[None], np.array([span]))[0]
    return bool(np.array_equal(back.view(np.uint32), values.view(np.uint32)))
