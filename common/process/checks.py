"""Checks that ``wardround doctor`` makes at either end: each one a line, none of them ends it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from wardround.common.durable.private import denied, may_write
from wardround.common.errors import DataError, ProvisionError, WardroundError
from wardround.common.tasks.base import Task
from wardround.common.trust.description import Description
from wardround.common.trust.lifetime import check_in_force, days_left, warning
from wardround.common.trust.pki import CertificateInfo, check_validity

_LOW_BYTES = 2 << 30
_SOON_DAYS = 30


@dataclass(frozen=True)
class Finding:
    """One check's outcome: what was looked at, how it stands, and what to do about it."""

    what: str
    state: Literal["ok", "warning", "error"]
    text: str


def check(what: str, look: Callable[[], str]) -> Finding:
    """The finding of a function that says what it saw, or raises WardroundError."""
    try:
        return Finding(what, "ok", look())
    except (WardroundError, PermissionError) as error:
        return Finding(what, "error", said(error))


def looking(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Several findings; what this user may not look at is one of them."""
    try:
        yield from look()
    except PermissionError as error:
        yield Finding(what, "error", said(error))


def said(error: Exception) -> str:
    """The line that an error is."""
    return denied(error) if isinstance(error, PermissionError) else str(error)


def certificate(info: CertificateInfo, now: datetime) -> Finding:
    """How long a certificate is good for."""
    try:
        check_validity(info, now)
    except ProvisionError as error:
        return Finding("certificate", "error", str(error))
    days = (info.not_after - now).days
    text = f"of {info}, serial {info.serial:x}, expires in {days} days"
    if days < _SOON_DAYS:
        return Finding("certificate", "warning", f"{text}: have it renewed")
    return Finding("certificate", "ok", text)


def description(one: Description, now: datetime) -> Finding:
    """How long the signed description is good for."""
    try:
        check_in_force(one, now)
    except ProvisionError as error:
        return Finding("description", "error", str(error))
    if line := warning(one, now):
        return Finding("description", "warning", line)
    text = f"version {one.version}, valid for {days_left(one, now)} days, until {one.valid_until}"
    return Finding("description", "ok", text)


def disk(folder: Path) -> Finding:
    """Room for checkpoints, spools and logs, and the right to write them."""
    if not may_write(folder, folder=True):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return Finding("disk", "error", f"can't be written: {denied(error)}")
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free at {folder}"
    return Finding("disk", "ok" if free > _LOW_BYTES else "warning", text)


def rows(task: Task[Any], data: Path, hospital: str) -> str:
    """What a hospital's shard has for the task. Raises DataError if it can't be read, or has no
    usable row."""
    if not data.exists():
        raise DataError(f"{data}: no such file or folder")
    with tempfile.TemporaryDirectory() as folder:  # for what doesn't fit into memory
        raw = task.at(task.load_large(data, Path(folder)), hospital)
        if task.size(raw) == 0:
            raise DataError(f"{data}: no usable rows")
        lines = [*map(str, task.left_out(raw)), *task.warnings(raw)]
    told = "".join(f"\n  {line}" for line in lines)
    return f"{data}: {task.size(raw)} rows fit the task; warnings: {len(lines)}{told}"


def worst(findings: Iterable[Finding]) -> int:
    """An exit code: 1 if anything is an error."""
    return int(any(finding.state == "error" for finding in findings))
