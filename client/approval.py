"""A person's word on a plan, where ``approval = "ask"``: asked, kept, signed.

    state/approvals/<digest>.pending     the manifest, as canonical JSON
    state/approvals/<digest>.approved    the same with time, name and signature
    state/approvals/<digest>.rejected    the same, with the reason

The digest is the manifest's own, so an approval is of exactly one plan. It is signed by the
hospital's identity: an approval that someone copied or edited is none. The second manifest of a run
needs no approval of its own if it only names the arrays of an approved first one.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from wardround.client.plan_text import plan_text
from wardround.common.errors import PolicyRefused, WardroundError
from wardround.common.messages import one_line
from wardround.common.private_files import private_folder, write_private
from wardround.common.rundir import sync_folder
from wardround.common.secagg.keys import Identity, digest, verify
from wardround.common.wire.manifest import Manifest

__all__ = ["Approvals", "Decision", "plan_text"]

Answer = Literal["approved", "rejected"]
FOLDER = "approvals"
MOST_PENDING = 20
"""Older plans that wait are forgotten: a server may make many."""
_PENDING = ".pending"
_HEX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class Decision:
    """What a person decided. ``time``: ISO 8601, UTC; ``who`` and ``reason`` are notes."""

    manifest: Manifest
    answer: Answer
    time: str
    who: str
    reason: str


class Approvals:
    """The approvals of one hospital. Every method reads the folder anew: a person decides in
    another process than the one that waits."""

    def __init__(self, state_folder: Path, identity: Identity) -> None:
        self._folder = private_folder(state_folder / FOLDER)
        self._identity = identity

    # --- the waiting process ----------------------------------------------------------------------
    def request(self, manifest: Manifest) -> None:
        """Return if the plan is approved; else keep it for a person, and raise PolicyRefused."""
        if self.is_approved(manifest):
            return
        name = manifest.digest().hex()
        rejected = self._decision(name, "rejected")
        if rejected is not None:
            raise PolicyRefused(
                one_line(
                    f"this hospital rejected the plan of run '{manifest.run}': "
                    f"{rejected.reason or 'no reason given'}"
                )
            )
        path = self._folder / f"{name}{_PENDING}"
        if not path.exists():
            write_private(path, manifest.body())
            for old in self._pending_paths()[:-MOST_PENDING]:
                old.unlink(missing_ok=True)
        raise PolicyRefused(
            f"the plan of run '{manifest.run}' waits for approval: run "
            f"`wardround client approve KIT` (plan {name[:12]})"
        )

    def is_approved(self, manifest: Manifest) -> bool:
        """Whether a person approved it, or the first stage that it continues without weaker
        protection of anything."""
        if self._decision(manifest.digest().hex(), "approved") is not None:
            return True
        return manifest.stage == 2 and any(
            manifest.continues(one.manifest) and not manifest.weaker_than(one.manifest)
            for one in self.decisions("approved")
        )

    # --- the person -------------------------------------------------------------------------------
    def pending(self) -> list[Manifest]:
        """Plans that wait, oldest first."""
        found = []
        for path in self._pending_paths():
            with contextlib.suppress(OSError, WardroundError):  # one that was altered is none
                manifest = Manifest.from_body(path.read_bytes())
                if manifest.digest().hex() == path.stem:
                    found.append(manifest)
        return found

    def approve(self, plan: str | bytes, who: str | None = None) -> Manifest:
        """Sign a plan that waits (or was rejected): its digest, or how that begins in hexadecimal.

        who : a note of who approves; default the name of this process's user

        Raises PolicyRefused if no plan, or more than one, is meant.
        """
        return self._decide(plan, "approved", who, "")

    def reject(self, plan: str | bytes, reason: str, who: str | None = None) -> Manifest:
        """Refuse a plan for good, or take an approval back; the reason is told to the server."""
        return self._decide(plan, "rejected", who, one_line(reason, 200))

    def decisions(self, answer: Answer) -> Iterator[Decision]:
        """All plans with this answer whose signature holds."""
        for path in sorted(self._folder.glob(f"*.{answer}")):
            found = self._decision(path.stem, answer)
            if found is not None:
                yield found

    # --- files -----------------------------------------------------------------------------------
    def _pending_paths(self) -> list[Path]:
        paths = self._folder.glob(f"*{_PENDING}")
        return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def _decide(self, plan: str | bytes, answer: Answer, who: str | None, reason: str) -> Manifest:
        manifest = self._find(plan if isinstance(plan, str) else plan.hex())
        name = manifest.digest().hex()
        values = {
            "manifest": manifest.body().decode(),
            "answer": answer,
            "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "who": one_line(who or _user(), 100),
            "reason": reason,
        }
        values["signature"] = self._identity.sign(_signed(values)).hex()
        text = json.dumps(values, sort_keys=True).encode() + b"\n"
        write_private(self._folder / f"{name}.{answer}", text)
        other: Answer = "rejected" if answer == "approved" else "approved"
        for suffix in (f".{other}", _PENDING):  # a crash in between leaves both: rejected wins
            (self._folder / f"{name}{suffix}").unlink(missing_ok=True)
        sync_folder(self._folder)
        return manifest

    def _find(self, plan: str) -> Manifest:
        if not _HEX.fullmatch(plan):
            raise PolicyRefused(f"'{one_line(plan, 80)}' is no plan's digest (hexadecimal)")
        paths = {path.stem: path for path in self._folder.glob(f"{plan}*") if path.suffix}
        if len(paths) != 1:
            what = f"{len(paths)} plans begin" if paths else "no plan begins"
            raise PolicyRefused(f"{what} with {plan}; see `wardround client approve KIT`")
        ((name, path),) = paths.items()
        if path.suffix == _PENDING:
            manifest = Manifest.from_body(path.read_bytes())
            if manifest.digest().hex() != name:
                raise PolicyRefused(f"{path.name}: holds another plan than its name says")
            return manifest
        for answer in ("rejected", "approved"):
            found = self._decision(name, answer)
            if found is not None:
                return found.manifest
        raise PolicyRefused(f"{path.name}: was altered; remove it, and the plan is asked for again")

    def _decision(self, name: str, answer: Answer) -> Decision | None:
        """A decision that this hospital signed, of the plan of that digest; else None."""
        other = self._folder / f"{name}.rejected"
        if answer == "approved" and other.exists():
            return None
        try:
            values: Any = json.loads((self._folder / f"{name}.{answer}").read_bytes())
            signature = bytes.fromhex(values.pop("signature"))
            if not verify(self._identity.public, signature, _signed(values)):
                return None
            manifest = Manifest.from_body(values.pop("manifest").encode())
            found = Decision(manifest, **values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, WardroundError):
            return None
        return found if (found.answer, manifest.digest().hex()) == (answer, name) else None


def _signed(values: dict[str, str]) -> bytes:
    keys = ("manifest", "answer", "time", "who", "reason")
    return digest("approval", *(values[key].encode() for key in keys))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
