"""A leaf: one thing that may leave a hospital, as a run manifest lists it and the gate holds it.

Each reply's class says which leaves it has; ``common/manifest`` puts them together.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wardround.common.protocol import names as m
from wardround.common.settings import Table

ANY = "*"
"""The name of a leaf that stands for every name."""

Protection = Literal["none", "sizes", "noised", "sealed", "masked", "masked+noised", "keys"]
"""From weak to strong.

none : as it is
sizes : numbers of rows or steps, or names and shapes of sums
noised : noise of differential privacy is on it
sealed : for other hospitals of the plan; the server carries it, and can't read it
masked : the server learns the sum over hospitals only
masked+noised : and noise is on that
keys : the protocol's own: keys, shares, signatures, names, constants. Nothing of the data
"""
PROTECTIONS: tuple[Protection, ...] = (
    "none",
    "sizes",
    "noised",
    "sealed",
    "masked",
    "masked+noised",
    "keys",
)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable")
    return text


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_printable)]
Side = Annotated[int, Field(ge=0, lt=2**48)]
ArrayType = Literal[
    "bfloat16",
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
]
ValueType = Literal["int", "float", "bytes", "text", "texts", "any"]


class Leaf(Table):
    """One thing that may leave a hospital.

    message_type, record, name : where it stands in a reply; ``name`` may be '*'
    shape : of an array; (size_bytes,) of bytes; (most characters,) of a text; (most lines, most
        characters) of texts; () of a number; None where it is known only when it leaves
    dtype : of an array or value; 'any' only for the model's arrays in stage 1
    protection : what stands between it and the server

    A masked leaf other than bytes stands for coordinates inside the reply's masked vector.
    """

    message_type: Text
    record: Text
    name: Name
    shape: Annotated[tuple[Side, ...], Field(max_length=16)] | None
    dtype: ArrayType | ValueType
    protection: Protection

    @property
    def inside(self) -> bool:
        """Whether it is a part of a masked vector, not a value of its own."""
        return self.protection.startswith("masked") and self.dtype != "bytes"

    @property
    def place(self) -> tuple[str, str, str]:
        """Where it stands."""
        return self.message_type, self.record, self.name

    @property
    def open(self) -> bool:
        """Whether stage 2 puts the model's own arrays, or its vector's size, in its place."""
        vector = (m.TRAIN, m.SECAGG, m.VECTOR) == self.place and self.shape is None
        return self.dtype == "any" or vector


def leaf_of(
    message_type: str,
    record: str,
    name: str,
    shape: tuple[int, ...] | None,
    dtype: str,
    protection: Protection,
) -> Leaf:
    """A leaf by its fields in their order; ``dtype`` is checked by the model."""
    return Leaf(
        message_type=message_type,
        record=record,
        name=name,
        shape=shape,
        dtype=dtype,  # type: ignore[arg-type]
        protection=protection,
    )
