"""``wardround client approve``: plans are shown, and decisions on them made and changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wardround.client.site.approval import Approvals
from wardround.client.site.kit import Kit
from wardround.client.site.plan_text import plan_text
from wardround.client.site.stop import LOCK
from wardround.common.audit.log import AuditLog
from wardround.common.durable.lock import lock_holder
from wardround.common.errors import AuditError, TransportError
from wardround.common.manifest.manifest import Manifest


def decide(
    folder: Path,
    yes: bool,
    reject: str | None,
    plan: str | None,
    say: Callable[[str], None],
    confirm: Callable[[str], bool],
) -> None:
    """Show what waits and ask, approve, or reject.

    yes : approve what waits, else what was rejected last
    reject : a reason; reject what waits, and what the hospital takes part in
    plan : the beginning of a digest: this one only
    """
    kit = Kit.open(folder)
    approvals = Approvals(kit.state, kit.identity)
    chosen = _chosen(approvals, yes, reject is not None, plan)
    if not chosen:
        say(f"{folder}: no plan waits for approval{_standing(approvals)}")
    for manifest in chosen:
        say(plan_text(manifest))
        name = manifest.digest().hex()
        if reject is not None:
            approvals.reject(name, reject)
            say(f"rejected: of run '{manifest.run}' nothing more leaves")
        elif yes or confirm("Approve this plan?"):
            approvals.approve(name)
            say("approved: the running client takes part within half a minute")
        else:
            say("nothing decided: the plan waits; to refuse it, say why with --reject REASON")
    _note(kit, approvals)


def _chosen(approvals: Approvals, yes: bool, rejecting: bool, plan: str | None) -> list[Manifest]:
    """The plans to decide on."""
    if plan is not None:
        return [approvals.find(plan)]
    waiting = approvals.pending()
    if rejecting:
        return waiting + [one for one in approvals.in_force() if one not in waiting]
    last = approvals.last_rejected()
    return waiting if waiting or not yes or last is None else [last.manifest]


def _standing(approvals: Approvals) -> str:
    """What was decided last, and how to change it."""
    lines = [
        f"; run '{one.run}' goes on with plan {one.digest().hex()[:12]}: withdraw from it with "
        "--reject REASON"
        for one in approvals.in_force()
    ]
    if (last := approvals.last_rejected()) is not None:
        lines.append(
            f"; run '{last.manifest.run}' was rejected at {last.time} by {last.who} "
            f"({last.reason or 'no reason given'}): take part after all with --yes"
        )
    return "".join(lines)


def _note(kit: Kit, approvals: Approvals) -> None:
    """The audit log is written by the running client, or else here."""
    if not approvals.log.waiting():
        return
    try:
        if lock_holder(kit.state / LOCK) is not None:
            return
    except TransportError:
        return  # who can't see whether it runs doesn't write its log
    try:
        path = kit.state / "audit.jsonl"
        with AuditLog.open(path, kit.name, kit.identity) as audit:
            approvals.log.note(audit)
    except AuditError as error:
        raise AuditError(f"decided, and not yet in the audit log: {error}") from None
