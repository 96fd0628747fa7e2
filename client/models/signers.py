"""Whose signature counts on a model at this hospital; no torch, as serving an export needs none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wardround.client.site.kit import AUDIT, Kit
from wardround.common.audit.chain import read_log
from wardround.common.audit.verify import history
from wardround.common.errors import ResultsRefused
from wardround.common.results.package import list_digest, read_list


def trusted_keys(kit: Kit) -> set[bytes]:
    """Public keys of who may have signed a model that is used here."""
    told = {bytes.fromhex(str(line["signer"])) for line in _told(kit)}
    return {kit.identity.public, kit.description.server} | told


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
