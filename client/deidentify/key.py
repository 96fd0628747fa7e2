"""The key of pseudonyms and shifted dates: whoever has it can try identifiers out, so it stays."""

from __future__ import annotations

import secrets
from pathlib import Path

from wardround.common.durable.private import read_private, write_private
from wardround.common.errors import ProvisionError

BYTES = 32
_MEND = "restore it: with another key the same patients get other pseudonyms and shifts"


def key_at(path: Path) -> bytes:
    """The key in a file, 32 bytes; a new one, for its owner only, where there is none.

    Raises ProvisionError for a file that is none, or that others may read.
    """
    if not path.exists():
        write_private(path, secrets.token_bytes(BYTES))
    key = read_private(path, _MEND)
    if len(key) != BYTES:
        raise ProvisionError(f"{path}: this is no key of {BYTES} bytes; {_MEND}")
    return key
