"""Which ledger a kit uses, when a new one may be made, and how a person mends what can't vouch.

A ledger is made at the first start of a kit only, where nothing knows of an earlier one: not the
kit's audit log nor its mark, not a kit beside it that names the same file. Everything else is for a
person to look at: ``wardround client ledger KIT``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wardround.client.data.witness import Anchor
from wardround.client.privacy.account import check_anchor
from wardround.client.privacy.entries import Entry
from wardround.client.privacy.ledger import Ledger, hospital_of
from wardround.client.privacy.ledger_files import LEDGER
from wardround.client.privacy.pseudonyms import key_path
from wardround.client.privacy.witness import Known, LogWitness, kit_id, spent_by_log
from wardround.client.site.kit import AUDIT as AUDIT
from wardround.client.site.kit import Kit
from wardround.client.site.policy import SitePolicy, load_site
from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import hand_over
from wardround.common.durable.private import private_folder
from wardround.common.errors import PrivacyRefused, WardroundError
from wardround.common.text import one_line
from wardround.common.trust.credentials import SITE

log = logging.getLogger("wardround.client")

BEGUN = "begun"
"""The mark of the first start: a ledger that is missing later stops private training."""
_PATIENCE_S = 30.0


def ledger_of(site: SitePolicy, kit: Path) -> Path:
    """Where a kit's ledger lies: as ``site.toml`` says, else in the kit's ``state/``."""
    if site.ledger is not None:
        return site.beside(site.ledger)
    return (kit / "state" / LEDGER).resolve()


def witness_of(
    kit: Kit, audit: AuditLog, on_spent: Callable[[], None] = lambda: None
) -> LogWitness:
    """The kit's audit log as the witness of its ledger."""
    name = kit_id(kit.authority_fingerprint, kit.info.federation, kit.name)
    return LogWitness(audit, name, on_spent)


def settle(kit: Kit, site: SitePolicy, witness: LogWitness) -> None:
    """At a start, and when the rules are others: the ledger is what the kit's audit log knows, or
    is taken up, or made.

    What isn't so is said in the log, and nothing private is done until a person has mended it. A
    hospital that takes part in nothing private goes on as ever.
    """
    witness.refuse("")
    try:
        witness.check_log()
        path = ledger_of(site, kit.folder)
        if witness.known.anchor is None:
            with _alone(path):
                _first(kit, path, witness.known)
        _check_begun(kit, path)
        with Ledger.open(path, kit.name) as ledger:
            if witness.known.anchor is not None:
                check_anchor(ledger, witness.known.anchor)
            ledger.join(kit.name, kit.info.federation)
            witness.begin(Anchor(*ledger.head))
        _mark(kit)
    except PrivacyRefused as error:
        witness.refuse(str(error))
        log.warning("nothing private is done: %s", error)


def _mark(kit: Kit) -> None:
    mark = kit.state / BEGUN
    mark.touch()
    hand_over(mark)


def _first(kit: Kit, path: Path, known: Known) -> None:
    """The kit's audit log knows of no ledger: see to it that there is one, that this hospital owns
    and that has all that this kit has spent before its log knew of ledgers."""
    own = (kit.folder / "state" / LEDGER).resolve()
    if not path.exists():
        used = (kit.state / BEGUN).exists() or known.has_spent
        if used or (path != own and own.exists()):
            raise PrivacyRefused(
                f"{path}: there is no privacy ledger, and this kit has been in use; restore it, or "
                f"take over what the kit has spent: wardround client ledger {kit.folder}"
            )
        _check_unused(kit, path)
        Ledger.create(path, kit.name).close()
    elif path != own:
        if own.exists() and _missing(path, _entries(own)):
            raise PrivacyRefused(
                f"{own}: holds spendings that {path} doesn't have; take them over: wardround "
                f"client ledger {kit.folder}"
            )
        with Ledger.open(path, hospital_of(path)) as ledger:
            ledger.join(kit.name, kit.info.federation)


def _check_begun(kit: Kit, path: Path) -> None:
    """Raise PrivacyRefused where ``site.toml`` names a ledger that isn't there, of a kit that has
    one of its own: most likely it is to be begun, and nothing is lost."""
    own = (kit.folder / "state" / LEDGER).resolve()
    if path != own and own.exists() and not path.exists():
        raise PrivacyRefused(
            f"{path}: there is no such privacy ledger, and this kit has had {own}; if it was there "
            "before, restore it; else begin it with what this kit has spent: stop the client, then "
            f"wardround client ledger {kit.folder} --accept REASON"
        )


def _check_unused(kit: Kit, path: Path) -> None:
    """Raise PrivacyRefused where something beside a ledger that isn't there knows of it."""
    mend = "restore it from the newest backup"
    for other in beside(kit.folder):
        if (other / "state" / BEGUN).exists() and _names(other, path):
            raise PrivacyRefused(
                f"{path}: there is no privacy ledger, and the kit {other} has used it; {mend}"
            )
    if key_path(path).exists():
        raise PrivacyRefused(f"{path}: there is no privacy ledger, and its key is here; {mend}")


def _missing(path: Path, spent: Sequence[Entry]) -> list[Entry]:
    """What isn't in the ledger at ``path``."""
    here = {one.bare() for one in _entries(path)} if path.exists() else set()
    return [one for one in spent if one.bare() not in here]


def _entries(path: Path) -> list[Entry]:
    with Ledger.open(path, hospital_of(path)) as ledger:
        return ledger.entries()


def beside(folder: Path) -> Iterator[Path]:
    """Kits in the same folder."""
    for other in sorted(folder.resolve().parent.iterdir()):
        if other != folder.resolve() and (other / SITE).is_file():
            yield other


def _names(kit: Path, path: Path) -> bool:
    try:
        return ledger_of(load_site(kit / SITE), kit) == path
    except WardroundError:
        return False


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock under which ledgers are made: two kits may start at once."""
    private_folder(path.parent)
    place = path.with_name(path.name + ".lock")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        hand_over(place)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise PrivacyRefused(
                        f"{path}: another process holds this privacy ledger; try again"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


# --- a person's word ------------------------------------------------------------------------------
def lost(kit: Kit, path: Path, sources: Sequence[Path]) -> list[Entry]:
    """What is known to be spent and isn't in the ledger at ``path``: of the kit's audit logs (the
    damaged ones, too), its own former ledger, and others that are named."""
    found: list[Entry] = []
    for one in sorted((kit.folder / "state").glob("audit*.jsonl")):
        found += spent_by_log(one)
    own = (kit.folder / "state" / LEDGER).resolve()
    for source in (*((own,) if own != path and own.exists() else ()), *sources):
        found += _entries(source)
    return _missing(path, found)


def state_of(kit: Kit) -> str:
    """The kit's ledger, in a line, held against the kit's audit log as it stands.

    Raises PrivacyRefused where it can't vouch.
    """
    path, audit = ledger_of(load_site(kit.site_path), kit.folder), kit.folder / "state" / AUDIT
    known = Known.read(audit) if audit.exists() else Known()
    known.check(audit)
    _check_begun(kit, path)
    with Ledger.open(path, kit.name) as ledger:
        if known.anchor is not None:
            check_anchor(ledger, known.anchor)
        named = {name for name, of in ledger.kits() if of}  # one without says nothing more
        kits = [(name, of) for name, of in ledger.kits() if of or name not in named]
        names = (f"{name} in '{of}'" if of else name for name, of in kits)
        return f"{path}: intact, {len(ledger.entries())} releases, used by {', '.join(names)}"


def accept(kit: Kit, reason: str, sources: Sequence[Path]) -> int:
    """A person says that the ledger, with what is known to be missing added, is the one to go on
    from; how many entries were added. The kit's client must not run.

    Raises PrivacyRefused for a ledger that is damaged by itself, AuditError for a log that is.
    """
    path = ledger_of(load_site(kit.site_path), kit.folder)
    with AuditLog.open(kit.state / AUDIT, kit.name, kit.identity) as audit, _alone(path):
        witness = witness_of(kit, audit)
        missing = lost(kit, path, sources)
        if not path.exists():
            Ledger.create(path, kit.name).close()
        with Ledger.open(path, hospital_of(path)) as ledger:
            ledger.join(kit.name, kit.info.federation)
            added = ledger.mend(missing, one_line(reason))
            witness.accept(Anchor(*ledger.head), one_line(reason))
    _mark(kit)
    return added
