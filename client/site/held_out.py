"""A kit's held-out key: made once, kept beside the hospital's state or where ``site.toml`` says.

Kits of one hospital that name one file hold out the same rows in all their studies. The audit log
has the key's digest whenever it is another one: rows that were held out before may be trained on
from then on, and nothing else would show it.
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from wardround.client.data.held_out import KEY_BYTES, key_digest
from wardround.client.site.policy import SitePolicy
from wardround.common.audit.lines import told
from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import sync
from wardround.common.durable.private import private_folder, read_private, why, write_private
from wardround.common.errors import ProvisionError

log = logging.getLogger("wardround.client")

FILE = "held_out.key"
EVENT = "held-out key"
_MEND = (
    "restore it from the newest backup; without it other rows are held out, and earlier studies "
    "may have trained on them"
)


def held_out_path(site: SitePolicy, kit: Path) -> Path:
    """Where a kit's key lies: as ``site.toml`` says, else in the kit's ``state/``."""
    if site.held_out_key is not None:
        return site.beside(site.held_out_key)
    return (kit / "state" / FILE).resolve()


def held_out_key(site: SitePolicy, kit: Path) -> bytes:
    """The kit's key, 32 bytes; a new one where there is none.

    Raises ProvisionError for a file that is no such key, or that others may read.
    """
    path = held_out_path(site, kit)
    if not path.exists():
        _make(path)
    key = read_private(path, _MEND)
    if len(key) != KEY_BYTES:
        raise ProvisionError(f"{path}: this is no held-out key ({KEY_BYTES} bytes); {_MEND}")
    return key


def tell_held_out(site: SitePolicy, kit: Path, audit: AuditLog) -> None:
    """Write the key's digest into the audit log, if it isn't the one that stands there last."""
    path, before = held_out_path(site, kit), ""
    for values in told(audit.path, EVENT):
        before = str(values.get("digest"))
    digest = key_digest(held_out_key(site, kit))
    if digest == before:
        return
    audit.append(EVENT, digest=digest, before=before or None)
    if before:
        log.warning(
            "%s: is another held-out key than this kit had: other rows are held out from now on, "
            "and earlier studies may have trained on them; if it was lost, %s",
            *(path, "restore it from the newest backup"),
        )


def _make(path: Path) -> None:
    """A new key at ``path``. Two kits may start at once: the first one's is both's."""
    private_folder(path.parent)
    own = path.with_name(f".{path.name}.{os.getpid()}")
    write_private(own, secrets.token_bytes(KEY_BYTES))
    try:
        with suppress(FileExistsError):
            os.link(own, path)
        sync(path.parent)
    except OSError as error:
        raise ProvisionError(f"{path}: can't be written ({why(error, path)})") from None
    finally:
        own.unlink(missing_ok=True)
