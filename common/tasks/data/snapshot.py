"""A snapshot of rows: one Parquet file that says where its rows come from.

Rows are written in groups of one size, so that the same rows give the same bytes in whatever
batches they come. The file is readable by its owner only, and whole under its name after any crash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wardround.common.durable.files import hand_over, sync
from wardround.common.errors import DataError

PATIENT = "wardround:patient"
"""Name of the column that says whose each row is, where the hospital itself says it."""
_META = b"wardround"
_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Origin:
    """Where a snapshot's rows come from. ``called``: how messages name it, instead of the file."""

    called: str


def write_snapshot(path: Path, batches: Iterable[pa.Table], origin: Origin) -> tuple[str, int]:
    """Write all rows. Gives the SHA-256 of the file, hexadecimal, and the number of rows.

    Raises DataError where there are none, or one table has other columns than those before it;
    OSError.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "wb", opener=_new_private) as file:
            rows = _write(file, batches, origin)
            file.flush()
            os.fsync(file.fileno())
        hand_over(temporary)
        with open(temporary, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)
    return digest, rows


def _write(file: object, batches: Iterable[pa.Table], origin: Origin) -> int:
    writer: pq.ParquetWriter | None = None
    schema, held, rows = None, [], 0
    waiting = 0
    try:
        for table in batches:
            if schema is None:
                meta = dict(table.schema.metadata or {}) | {_META: json.dumps(asdict(origin))}
                schema = table.schema.with_metadata(meta)
                writer = pq.ParquetWriter(file, schema, compression="zstd")
            elif not table.schema.equals(schema, check_metadata=False):
                raise DataError("later rows have other columns, or other types", who=origin.called)
            held.append(table)
            waiting += len(table)
            rows += len(table)
            while waiting >= _GROUP_ROWS:
                whole = pa.concat_tables(held).combine_chunks()
                _group(writer, whole.slice(0, _GROUP_ROWS), schema)
                held, waiting = [whole.slice(_GROUP_ROWS)], waiting - _GROUP_ROWS
        if writer is None or schema is None or not rows:
            raise DataError("there are no rows", who=origin.called)
        if waiting:
            _group(writer, pa.concat_tables(held).combine_chunks(), schema)
    finally:
        if writer is not None:
            writer.close()
    return rows


def _group(writer: pq.ParquetWriter, table: pa.Table, schema: pa.Schema) -> None:
    writer.write_table(table.cast(schema), row_group_size=_GROUP_ROWS)


def origin_of(metadata: Mapping[bytes, bytes] | None) -> Origin | None:
    """Of a Parquet file's schema metadata; None where it is no snapshot."""
    said = (metadata or {}).get(_META)
    if said is None:
        return None
    try:
        return Origin(str(json.loads(said)["called"]))
    except (ValueError, KeyError, TypeError):
        return None


def _new_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
