"""Kits that train on the same data and count apart: what one spends the other doesn't know of.

Two kits hold the same data where their audit logs name one digest (``client/data/watch.py``). An
export of the same patients under another digest is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from wardround.client.privacy.ledger import Ledger, hospital_of
from wardround.client.site.held_out import EVENT
from wardround.client.site.ledger import AUDIT, beside, ledger_of
from wardround.client.site.policy import load_site
from wardround.common.audit.lines import told
from wardround.common.errors import WardroundError
from wardround.common.process.checks import Finding
from wardround.common.trust.credentials import SITE

_DATA = "data"


def unlike_held_out(kit: Path, others: Iterable[Path] = ()) -> Iterator[Finding]:
    """A finding for each other kit, beside this one or named, that holds out other rows of its
    data: what one tests on the other may train on."""
    own = _held_out(kit)
    for other in _with_its_data(kit, others):
        if own and _held_out(other) not in ("", own):
            yield Finding(
                "held-out rows",
                "warning",
                f"{other} has trained on the same data and holds out other rows, so that what one "
                "tests on the other may train on: name one file in both site.toml (held_out_key = "
                "...), the key of the kit with more studies",
            )


def shared_data(kit: Path, others: Iterable[Path] = ()) -> Iterator[Finding]:
    """A finding for each other kit, beside this one or named, that has trained on its data."""
    for other in _with_its_data(kit, others):
        ledgers = [ledger_of(load_site(one / SITE), one) for one in (kit, other)]
        if ledgers[0] == ledgers[1]:
            yield Finding("shared data", "ok", f"as {other} has it, in one ledger: {ledgers[0]}")
            continue
        yield Finding(
            "shared data",
            "error" if any(map(_is_used, ledgers)) else "warning",
            f"{other} has trained on the same data and has another privacy ledger, so no limit "
            "counts both: name one file in both site.toml (ledger = ...), then take over what was "
            f"spent: wardround client ledger KIT --accept REASON --from {ledgers[1]}",
        )


def _with_its_data(kit: Path, others: Iterable[Path]) -> Iterator[Path]:
    own = _digests(kit)
    found = {one.resolve(): one for one in (*beside(kit), *others)}
    for place, other in found.items():
        if place != kit.resolve() and own & _digests(other):
            yield other


def _held_out(kit: Path) -> str:
    """Digest of the newest held-out key that a kit's audit log knows; '' where none."""
    audit, digest = kit / "state" / AUDIT, ""
    for values in told(audit, EVENT) if audit.exists() else ():
        digest = str(values.get("digest"))
    return digest


def _digests(kit: Path) -> set[str]:
    audit = kit / "state" / AUDIT
    if not audit.exists():
        return set()
    return {str(values.get("digest")) for values in told(audit, _DATA)}


def _is_used(path: Path) -> bool:
    try:
        with Ledger.open(path, hospital_of(path)) as ledger:
            return bool(ledger.entries())
    except WardroundError:
        return path.exists()
