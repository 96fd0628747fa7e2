"""Kits that train on the same data and count apart: what one spends the other doesn't know of.

Two kits hold the same data where their audit logs name one digest (``client/data/watch.py``). An
export of the same patients under another digest is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from wardround.client.privacy.ledger import Ledger, hospital_of
from wardround.client.site.ledger import AUDIT, beside, ledger_of
from wardround.client.site.policy import load_site
from wardround.common.audit.lines import told
from wardround.common.errors import WardroundError
from wardround.common.process.checks import Finding
from wardround.common.trust.credentials import SITE

_DATA = "data"


def shared_data(kit: Path, others: Iterable[Path] = ()) -> Iterator[Finding]:
    """A finding for each other kit, beside this one or named, that has trained on its data."""
    own = _digests(kit)
    found = {one.resolve(): one for one in (*beside(kit), *others)}
    for place, other in found.items():
        if place == kit.resolve() or not own & _digests(other):
            continue
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
