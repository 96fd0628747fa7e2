"""Whose signature counts on a model at this hospital; no torch, as serving an export needs none."""

from __future__ import annotations

from wardround.client.site.kit import AUDIT, Kit
from wardround.common.audit.chain import read_log
from wardround.common.audit.verify import history


def trusted_keys(kit: Kit) -> set[bytes]:
    """Public keys of who may have signed a model that is used here."""
    keys = {kit.identity.public, kit.description.server}
    log = kit.folder / "state" / AUDIT  # none is made: the kit may be one that is only read
    for part in history(read_log(log)) if log.exists() else ():
        keys |= {
            bytes.fromhex(str(line.values["signer"]))
            for _, line in part.sound()
            if line.event == "results" and line.values.get("digest")
        }
    return keys
