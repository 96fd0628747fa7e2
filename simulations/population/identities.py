"""Identity keys of simulated hospitals. Real ones make and keep their own."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from wardround.common.trust.identity import Identity

Identities = dict[str, Identity]


def fresh_identities(names: Sequence[str]) -> Identities:
    """New keys, in memory only."""
    return {name: Identity.generate() for name in names}


def shared_identities(names: Sequence[str], folder: Path) -> Identities:
    """Keys that all processes of one machine's simulation share, in a file only its user can read.

    The first process to come makes it. On one machine under one user nothing is protected from
    that user anyway; what is simulated is the protocol.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
    path = folder / f".simulated-identities-{key}.json"
    if not path.exists():
        made = {name: one.secret_bytes().hex() for name, one in fresh_identities(names).items()}
        descriptor, temporary = tempfile.mkstemp(dir=folder)  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, never replaces another process's file
        except FileExistsError:
            pass
        finally:
            os.unlink(temporary)
    secrets = json.loads(path.read_text("utf-8"))
    return {name: Identity.from_bytes(bytes.fromhex(secrets[name])) for name in names}
