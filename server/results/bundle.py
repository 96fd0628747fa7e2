"""An audit bundle is made: a complete run's results, and what the coordinator can show of how they
came about (``common/bundle``)."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from wardround.common.audit.lines import (
    Countersigned,
    decode_line,
    heads_path,
    raw_lines,
    read_records,
)
from wardround.common.bundle.bundle import (
    APPROVALS,
    AUTHORITY,
    BUNDLE,
    CLAIMS,
    DESCRIPTION,
    HEADS,
    Bundle,
    claim_lines,
)
from wardround.common.durable.files import sync, writing
from wardround.common.errors import AuditError
from wardround.common.results.package import FILES, Listed, list_digest, read_list
from wardround.common.run.directory import RunDirectory
from wardround.common.trust.credentials import read_credentials
from wardround.server.results.package import make_package, package_of

_EVENTS = frozenset(["manifest", "model", "study", "results", "run ended"])
"""Kinds of the server's lines that tell of a run's plan and its end."""
_DAY = (1980, 1, 1, 0, 0, 0)
"""Of every file in the archive: the same run and log give the same bytes."""


def make_bundle(run: RunDirectory, server: Path, out: Path, now: datetime | None = None) -> Path:
    """Write the bundle of a complete run.

    server : the server's folder
    now : this machine's clock, if left out

    Raises ResultsRefused if the run isn't complete, AuditError without a log, ProvisionError.
    """
    folder, log = read_credentials(server, "server", now), server / "audit.jsonl"
    if not log.is_file():
        raise AuditError("there is no audit log", who=str(log))
    network = folder.description.federation
    results = make_package(run, folder.identity, network=network)
    package = package_of(results, folder.identity.public)
    texts = {
        DESCRIPTION: (server / DESCRIPTION).read_bytes(),
        AUTHORITY: folder.ca_pem,
        APPROVALS: _told(log, run.path.name, package.study),
        CLAIMS: claim_lines(run.rounds()),
        HEADS: _newest_heads(log),
    }
    signed = read_list(results)
    bundle = Bundle(
        network=package.network,
        study=package.study,
        run=package.run,
        round=package.round,
        files=tuple(_listed(name, texts[name]) for name in sorted(texts)),
        results=list_digest(signed),
    )
    texts |= {BUNDLE: bundle.signed(folder.identity), FILES: signed}
    with writing(out, "make the bundle again"):
        _write(out, texts, {one.name: results / one.name for one in package.files})
    return out


def _write(out: Path, texts: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    """The archive, there as a whole or not at all. Raises OSError."""
    part = out.with_name(f".{out.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (BUNDLE, *sorted(set(texts) - {BUNDLE})):
                archive.writestr(_info(name), texts[name], zipfile.ZIP_DEFLATED)
            for name in sorted(files):
                with archive.open(_info(name), "w") as into, open(files[name], "rb") as source:
                    while piece := source.read(1 << 20):
                        into.write(piece)
        sync(part)
        part.replace(out)
        sync(out.parent)
    finally:
        part.unlink(missing_ok=True)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DAY)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _listed(name: str, data: bytes) -> Listed:
    return Listed(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _told(log: Path, run: str, study: str) -> bytes:
    """The lines of the log that are about a run: of a network's those that name its study."""
    found = []
    for raw in raw_lines(log):
        line = decode_line(raw)
        if line is None or not line.sound or line.event not in _EVENTS:
            continue
        of = line.values.get("run"), line.values.get("study")
        if study and study not in of:
            continue
        if not study and of[0] not in (None, run):
            continue
        found.append(raw.rstrip(b"\n"))
    return b"".join(line + b"\n" for line in found)


def _newest_heads(log: Path) -> bytes:
    """The newest record of each log, by who countersigned it."""
    path = heads_path(log)
    records, _ = read_records(path.read_bytes()) if path.is_file() else ([], [])
    newest: dict[tuple[str, str], Countersigned] = {}
    for _, one in records:
        key = one.head.party, one.by
        if key not in newest or one.head.seq >= newest[key].head.seq:
            newest[key] = one
    return b"".join(newest[key].to_bytes() + b"\n" for key in sorted(newest))
