"""Messages and what clients remember, as bytes: sent, or in files that processes share.

The form is the wire's (``common/flower/content.py``), never pickle. Arrays that several messages
of a parcel share are written once.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from wardround.common.flower.content import Body, decode_content, encode_content

_PLAN, _SAME = "plan", "same"


@dataclass(frozen=True)
class Parcel:
    """Contents of messages, and of each client's memory, in one order."""

    contents: list[RecordDict]
    states: list[RecordDict]

    def write(self, path: Path) -> None:
        """Write the parcel; the file is complete when this returns."""
        body = self._body()
        with open(path, "wb") as file:
            for start in range(0, body.size_bytes, 1 << 24):
                file.write(body.read(start, 1 << 24))

    @classmethod
    def read(cls, path: Path) -> Parcel:
        """What ``write`` wrote. Raises TransportError for anything else."""
        with open(path, "rb") as file:
            return cls._from(file, path.stat().st_size)

    def to_bytes(self) -> bytes:
        """The parcel, as ``write`` would write it."""
        body = self._body()
        return body.read(0, body.size_bytes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Parcel:
        """What ``to_bytes`` made. Raises TransportError for anything else."""
        return cls._from(io.BytesIO(data), len(data))

    def _body(self) -> Body:
        packed: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {}
        same: dict[str, str] = {}
        order: list[str] = []
        seen: dict[tuple[int, ...], str] = {}
        for prefix, parts in (("m", self.contents), ("s", self.states)):
            for number, content in enumerate(parts):
                for name, record in content.items():
                    key = f"{prefix}{number}/{name}"
                    order.append(key)
                    if isinstance(record, ArrayRecord) and len(record):
                        identity = tuple(id(array.data) for array in record.values())
                        if identity in seen:
                            same[key] = seen[identity]
                            continue
                        seen[identity] = key
                    packed[key] = record
        packed[_PLAN] = ConfigRecord(
            {"messages": len(self.contents), "states": len(self.states), "order": order}
        )
        packed[_SAME] = ConfigRecord(dict(same))
        return encode_content(RecordDict(packed))

    @classmethod
    def _from(cls, file: IO[bytes], size_bytes: int) -> Parcel:
        packed = decode_content(file, size_bytes)
        plan, same = packed[_PLAN], packed[_SAME]
        assert isinstance(plan, ConfigRecord) and isinstance(same, ConfigRecord)
        found = {
            prefix: [dict[str, ArrayRecord | MetricRecord | ConfigRecord]() for _ in range(count)]
            for prefix, count in (("m", _whole(plan["messages"])), ("s", _whole(plan["states"])))
        }
        order = plan["order"]
        assert isinstance(order, list)
        for key in map(str, order):
            place, _, name = key.partition("/")
            found[place[0]][int(place[1:])][name] = packed[str(same.get(key, key))]
        return cls(_contents(found["m"]), _contents(found["s"]))


def _contents(
    parts: Iterable[dict[str, ArrayRecord | MetricRecord | ConfigRecord]],
) -> list[RecordDict]:
    return [RecordDict(part) for part in parts]


def _whole(value: object) -> int:
    assert isinstance(value, int)
    return value
