"""``POST /predict`` of many rows, as safetensors: columns that are numbers already.

Each input is a tensor of its name, [N]: numbers and binary columns F64 or F32, NaN for a gap;
categories I32 or I64 positions in the texts that ``__metadata__`` has under the column's name (a
JSON list), -1 for a gap. What is left out is a gap in every row. Outputs come back as F64, NaN
where the model gives none, with ``model`` and ``calibration`` in ``__metadata__``. Nothing is
compressed, so nothing grows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json
from safetensors.numpy import save

from wardround.client.serving.asked import Asked, Reader
from wardround.client.serving.refused import Unanswered, unfit
from wardround.common.tasks.schema import Input, Schema

MEDIA_TYPE = "application/vnd.safetensors"
_FLOATS = {"F64": "<f8", "F32": "<f4"}
_INTS = {"I64": "<i8", "I32": "<i4"}
_HEAD_BYTES, _MOST_HEAD, _MOST_TEXTS = 8, 1 << 20, 100_000
_META = "__metadata__"


class BinaryReader:
    """Reads bodies for one model."""

    def __init__(self, schema: Schema, reader: Reader) -> None:
        self._inputs = {one.name: one for one in schema.inputs}
        self._reader = reader

    def asked(self, body: bytes) -> Asked:
        """What a body asks. Raises Unanswered."""
        head, start = _head(body)
        texts = head.pop(_META, {})
        if not isinstance(texts, dict) or not head.keys() <= self._inputs.keys():
            raise unfit("the header", "a tensor that the model doesn't take; ask GET /model")
        columns: dict[str, NDArray[Any]] = {}
        for name, entry in head.items():
            one = self._inputs[name]
            values = _tensor(name, entry, body, start)
            columns[name] = self._typed(one, values, texts.get(name))
        lengths = {len(one) for one in columns.values()}
        if len(lengths) != 1:
            raise unfit("the header", "tensors of one length are wanted")
        count = lengths.pop()
        self._reader.check_count(count)
        for name, one in self._inputs.items():
            if name not in columns:
                gap = "" if one.kind in ("category", "text") else math.nan
                kind = object if gap == "" else np.float64
                columns[name] = np.full(count, gap, dtype=kind)
        return Asked(columns, count)

    def _typed(self, one: Input, values: NDArray[Any], texts: Any) -> NDArray[Any]:
        if one.kind == "category":
            return self._texts(one, values, texts)
        if values.dtype.kind != "f":
            raise unfit(one.name, "F64 or F32 is wanted")
        found = values.astype(np.float64, copy=False)
        if np.isinf(found).any():
            raise unfit(one.name, "a number is infinite")
        return found

    def _texts(self, one: Input, values: NDArray[Any], texts: Any) -> NDArray[np.object_]:
        if values.dtype.kind != "i" or not isinstance(texts, str):
            raise unfit(one.name, "I32 or I64, and a list of texts in the metadata, are wanted")
        try:
            listed = from_json(texts)
        except ValueError:
            listed = None
        if not isinstance(listed, list) or len(listed) > _MOST_TEXTS:
            raise unfit(one.name, "its texts in the metadata must be a JSON list")
        known = self._reader.words(one, listed)
        if len(values) and not -1 <= int(values.min()) <= int(values.max()) < len(known):
            raise unfit(one.name, "a position that no text has")
        found: NDArray[np.object_] = np.array([*known, ""], dtype=object)[values]
        return found


def answer(outputs: Mapping[str, NDArray[np.float64]], origin: Mapping[str, Any]) -> bytes:
    """The outputs as safetensors."""
    meta = {key: value or "" for key, value in origin.items()}
    whole = {name: np.ascontiguousarray(values) for name, values in outputs.items()}
    return save(whole, meta)


def _head(body: bytes) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin."""
    size = int.from_bytes(body[:_HEAD_BYTES], "little")
    if len(body) < _HEAD_BYTES or size > min(_MOST_HEAD, len(body) - _HEAD_BYTES):
        raise Unanswered(400, "the body is no safetensors")
    try:
        head = from_json(body[_HEAD_BYTES : _HEAD_BYTES + size])
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise Unanswered(400, "the body is no safetensors")
    return head, _HEAD_BYTES + size


def _tensor(name: str, entry: Any, body: bytes, start: int) -> NDArray[Any]:
    """One tensor of one dimension, as a view."""
    kinds = {**_FLOATS, **_INTS}
    try:
        kind = np.dtype(kinds[entry["dtype"]])
        (count,) = entry["shape"]
        first, last = entry["data_offsets"]
        fits = 0 <= first <= last <= len(body) - start and last - first == count * kind.itemsize
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or not all(type(one) is int for one in (count, first, last)):
        raise unfit(name, "a tensor of one dimension, F64, F32, I64 or I32, is wanted")
    return np.frombuffer(body, kind, count, start + first)
