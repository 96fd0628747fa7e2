"""A person's word on a plan: asked for where ``approval = "ask"``, withdrawn at any time.

    state/approvals/<digest>.pending     the manifest, as canonical JSON
    state/approvals/<digest>.accepted    the one that the hospital takes part by, likewise
    state/approvals/<digest>.approved    a manifest with time, name and signature
    state/approvals/<digest>.rejected    the same, with the reason

The digest is the manifest's own, so an approval is of exactly one plan. It is signed by the
hospital's identity: an approval that someone copied or edited is none. The second manifest of a run
needs no approval of its own if it only names the arrays of an approved first one. A rejection is of
the whole run, whatever its plan becomes, until a plan of it is approved. It counts at once, also
where ``approval = "always"``: the running client asks before it begins and before anything leaves.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from wardround.client.site.decisions import Decisions
from wardround.client.site.plan_text import plan_text
from wardround.common.durable.files import sync
from wardround.common.durable.private import private_folder, why, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import (
    PlanRejected,
    PolicyRefused,
    ProvisionError,
    WaitsForApproval,
    WardroundError,
)
from wardround.common.manifest.manifest import MOST_BYTES, Manifest
from wardround.common.text import one_line
from wardround.common.trust.identity import Identity, digest, verify

__all__ = ["Approvals", "Decision", "plan_text"]

Answer = Literal["approved", "rejected"]
FOLDER = "approvals"
MOST_PENDING = 20
"""Older plans that wait are forgotten: a server may make many, and large ones."""
_PENDING, _ACCEPTED = ".pending", ".accepted"
_FORMAT = Format("decision on a plan", "remove the file and decide on the plan anew")
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
        self.log = Decisions(state_folder, identity)
        self._read: dict[Path, tuple[tuple[int, int, int], Decision | None]] = {}

    # --- the hospital's process -------------------------------------------------------------------
    def request(self, manifest: Manifest, ask: bool = True) -> None:
        """Return if the plan may be taken part in; else keep it for a person, and raise
        WaitsForApproval, or PlanRejected.

        ask : a person must have approved it; else it is enough that nobody rejected its run
        """
        name = manifest.digest().hex()
        try:
            self.check_consent(manifest)
        except PolicyRefused:
            if not (self._folder / f"{name}.rejected").exists():
                self._keep_pending(name, manifest)
            raise
        if not ask or self.is_approved(manifest):
            return
        self._keep_pending(name, manifest)
        study = f" {manifest.study[:12]}" if manifest.study else ""
        raise WaitsForApproval(
            f"the plan of run '{manifest.run}' waits for approval: run "
            f"`wardround client approve KIT{study}` (plan {name[:12]})"
        )

    def check_consent(self, manifest: Manifest) -> None:
        """Raise PolicyRefused if the plan, or another one of its run, was rejected."""
        for path in self._paths(".rejected"):
            one = self._decision(path.stem, "rejected")
            same = one.manifest.run == manifest.run if one else path.stem == manifest.digest().hex()
            if same:
                reason = (one.reason if one else "") or "no reason given"
                said = f"this hospital rejected the plan of run '{manifest.run}': {reason}"
                if manifest.study:  # whoever hears it knows which study, and of whom
                    said = f"{reason} (a person's decision)"
                raise PlanRejected(one_line(said))

    def accept(self, manifest: Manifest) -> None:
        """The hospital takes part by this plan from now on, and by no other.

        Written before the earlier ones are removed: after a crash in between there are two, never
        none, and a person who wants to withdraw finds it.
        """
        path = self._folder / f"{manifest.digest().hex()}{_ACCEPTED}"
        if not path.exists():
            write_private(path, manifest.body())
        for old in self._paths(_ACCEPTED):
            if old != path:
                old.unlink(missing_ok=True)

    def _keep_pending(self, name: str, manifest: Manifest) -> None:
        path = self._folder / f"{name}{_PENDING}"
        if not path.exists():
            write_private(path, manifest.body())
            kept = self._paths(_PENDING)
            while kept[1:] and (len(kept) > MOST_PENDING or _size(kept) > MOST_BYTES):
                kept.pop(0).unlink(missing_ok=True)

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
        return self._manifests(_PENDING)

    def in_force(self) -> list[Manifest]:
        """The plan that the hospital last accepted, if nobody rejected its run since."""
        found = []
        for manifest in self._manifests(_ACCEPTED):
            with contextlib.suppress(PolicyRefused):
                self.check_consent(manifest)
                found.append(manifest)
        return found

    def last_rejected(self) -> Decision | None:
        """The newest rejection that stands."""
        return max(self.decisions("rejected"), key=lambda one: one.time, default=None)

    def approve(self, plan: str | bytes, who: str | None = None) -> Manifest:
        """Sign a plan that waits (or was rejected): its digest, or how that begins in hexadecimal.
        Other plans of its run aren't rejected any more.

        who : a note of who approves; default the name of this process's user

        Raises PolicyRefused if no plan, or more than one, is meant.
        """
        return self._decide(plan, "approved", who, "")

    def reject(self, plan: str | bytes, reason: str, who: str | None = None) -> Manifest:
        """Refuse a plan's run, or withdraw from it; the reason is told to the server."""
        return self._decide(plan, "rejected", who, one_line(reason, 200))

    def decisions(self, answer: Answer) -> Iterator[Decision]:
        """All plans with this answer whose signature holds."""
        for path in self._paths(f".{answer}"):
            found = self._decision(path.stem, answer)
            if found is not None:
                yield found

    # --- files -----------------------------------------------------------------------------------
    def _paths(self, suffix: str) -> list[Path]:
        """Files with this ending, oldest first. Raises ProvisionError if that can't be known: a
        rejection may be among them."""
        try:
            paths = [self._folder / name for name in os.listdir(self._folder)]
            dated = [(path.stat().st_mtime_ns, path) for path in paths if path.suffix == suffix]
        except FileNotFoundError:  # decided on in between
            return self._paths(suffix) if self._folder.is_dir() else []
        except OSError as error:
            where = f"{self._folder}: can't be read ({why(error, self._folder)})"
            raise ProvisionError(where) from None
        return [path for _, path in sorted(dated)]

    def _manifests(self, suffix: str) -> list[Manifest]:
        found = []
        for path in self._paths(suffix):
            with contextlib.suppress(OSError, WardroundError):  # one that was altered is none
                manifest = Manifest.from_body(path.read_bytes())
                if manifest.digest().hex() == path.stem:
                    found.append(manifest)
        return found

    def _decide(self, plan: str | bytes, answer: Answer, who: str | None, reason: str) -> Manifest:
        manifest = self.find(plan if isinstance(plan, str) else plan.hex())
        name = manifest.digest().hex()
        values = {
            "manifest": manifest.body().decode(),
            "answer": answer,
            "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
            "who": one_line(who or _user(), 100),
            "reason": reason,
        }
        values["signature"] = self._identity.sign(_signed(values)).hex()
        text = json.dumps(_FORMAT.seal(values), sort_keys=True).encode() + b"\n"
        write_private(self._folder / f"{name}.{answer}", text)
        # a crash in between leaves both answers: rejected wins
        over = [self._folder / f"{name}{_PENDING}"]
        if answer == "rejected":
            over.append(self._folder / f"{name}.approved")
        else:
            over += [one for one in self._paths(".rejected") if self._run_of(one) == manifest.run]
            over.append(self._folder / f"{name}.rejected")
        for path in over:
            path.unlink(missing_ok=True)
        sync(self._folder)
        self.log.append(
            manifest=name,
            run=manifest.run,
            stage=manifest.stage,
            accepted=answer == "approved",
            decided=values["time"],
            who=values["who"],
            reason=reason,
        )
        return manifest

    def _run_of(self, path: Path) -> str | None:
        found = self._decision(path.stem, "rejected")
        return found.manifest.run if found is not None else None

    def find(self, plan: str) -> Manifest:
        """The plan whose digest begins so. Raises PolicyRefused unless there is just one."""
        if not _HEX.fullmatch(plan):
            raise PolicyRefused(f"'{one_line(plan, 80)}' is no plan's digest (hexadecimal)")
        order = (_ACCEPTED, ".approved", ".rejected", _PENDING)
        every = [path for suffix in order for path in self._paths(suffix)]
        paths = {path.stem: path for path in every if path.stem.startswith(plan)}
        if len(paths) != 1:
            what = f"{len(paths)} plans begin" if paths else "no plan begins"
            raise PolicyRefused(f"{what} with {plan}; see `wardround client approve KIT`")
        ((name, path),) = paths.items()
        if path.suffix in (_PENDING, _ACCEPTED):
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
        path = self._folder / f"{name}.{answer}"
        try:
            stat = path.stat()
            key = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._read.get(path)
            if known is None or known[0] != key:
                self._read[path] = known = (key, self._verified(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ProvisionError(f"{path}: can't be read ({why(error, path)})") from None
        found = known[1]
        if found is None or (found.answer, found.manifest.digest().hex()) != (answer, name):
            return None
        return found

    def _verified(self, path: Path) -> Decision | None:
        """The decision in a file; None unless this hospital signed it. Raises ProvisionError for
        one of a newer version: it may be a rejection."""
        try:
            stored: Any = json.loads(path.read_bytes())
        except ValueError:
            return None
        if not isinstance(stored, dict):
            return None
        values = _FORMAT.read(stored, ProvisionError, str(path))
        try:
            signature = bytes.fromhex(values.pop("signature"))
            if not verify(self._identity.public, signature, _signed(values)):
                return None
            manifest = Manifest.from_body(values.pop("manifest").encode())
            return Decision(manifest, **values)
        except (ValueError, TypeError, KeyError, AttributeError, WardroundError):
            return None


def _size(paths: list[Path]) -> int:
    """Bytes of files, of those that are still there."""
    found = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


def _signed(values: dict[str, str]) -> bytes:
    keys = ("manifest", "answer", "time", "who", "reason")
    return digest("approval", *(values[key].encode() for key in keys))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
