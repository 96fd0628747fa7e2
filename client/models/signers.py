"""Whose signature counts on a model at this hospital; no torch, as serving an export needs none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from wardround.client.site.kit import AUDIT, Kit
from wardround.common.audit.chain import read_log
from wardround.common.audit.verify import history
from wardround.common.errors import ResultsRefused
from wardround.common.results.package import FILES, Package, list_digest, read_list

_RESULTS, _MODEL = "results", f"model/{FILES}"


def trusted_keys(kit: Kit, digest: str = "") -> set[bytes]:
    """Public keys of who may have signed a model that is used here.

    An earlier key of the server counts for what came under it alone: it may have been stolen since,
    and what it signs now says any day.

    digest : of the model; '' where none is known yet: then no earlier key is among them
    """
    found = {kit.identity.public, kit.description.server}
    if not digest:
        return found
    told = {str(line["digest"]): bytes.fromhex(str(line["signer"])) for line in _told(kit)}
    for folder in (kit.folder / _RESULTS).glob("*/"):
        with suppress(ResultsRefused):
            signed = read_list(folder)
            if (signer := told.get(list_digest(signed))) is not None:
                entry = Package.read(signed, signer).file(_MODEL)
                found |= {signer} if entry.sha256 == digest else set()
    return found


def signer_of(kit: Kit, folder: Path) -> bytes:
    """The public key by which results that came were signed, as this hospital's audit log has it.

    Raises ResultsRefused where it doesn't tell of them.
    """
    digest = list_digest(read_list(folder))
    for line in _told(kit):
        if line.get("digest") == digest:
            return bytes.fromhex(str(line["signer"]))
    raise ResultsRefused(
        "are no results that this hospital's audit log tells of",
        who=str(folder),
        mend="see: wardround client results KIT",
    )


def _told(kit: Kit) -> Iterator[Mapping[str, Any]]:
    """What the audit log says of results that came."""
    log = kit.folder / "state" / AUDIT  # none is made: the kit may be one that is only read
    for part in history(read_log(log)) if log.exists() else ():
        for _, line in part.sound():
            if line.event == "results" and line.values.get("digest"):
                yield line.values
