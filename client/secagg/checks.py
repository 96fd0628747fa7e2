"""What a hospital refuses, whatever the server asks: checks of secure aggregation's messages.

Each function returns, or raises ProtocolRefused with a sentence.
"""

from __future__ import annotations

from wardround.client.secagg.asked import Asked
from wardround.client.secagg.state import Group, Policy, Session
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.graph import (
    Thresholds,
    check_spread,
    complete_graph,
    ring_places,
)
from wardround.common.text import one_line
from wardround.common.trust.identity import KEY_BYTES, Roster, verify

_LAST_INDEX = 2**31


def check_group(
    request: wire.GroupRequest, session: Session, name: str, roster: Roster, policy: Policy
) -> list[str]:
    """The members' names, if this hospital may make keys for the group.

    That is: all in its roster, ordered, itself with its own key among them; graph and thresholds
    safe with as many colluders as *its* policy assumes; no fewer than its ``min_cohort``, even if
    the server shows others another survivor set; numbers that it hasn't made keys for before.
    """
    names = [member.name for member in request.members]
    if names != sorted(set(names)):
        raise ProtocolRefused("the group's members are not distinct and ordered")
    if unknown := sorted(set(names) - set(roster)):
        raise ProtocolRefused(f"'{unknown[0][:64]}' is not in this hospital's roster")
    if name not in names:
        raise ProtocolRefused("this hospital is not in the group that it was asked to join")
    if request.members[names.index(name)].to_bytes() != session.hello:
        raise ProtocolRefused("this hospital's own key was replaced")
    if min(len(names), request.survivors) < policy.min_cohort:
        raise ProtocolRefused(
            f"a sum of {min(len(names), request.survivors)} of {len(names)} hospitals could be "
            f"opened; this hospital's secure_aggregation.min_cohort is {policy.min_cohort}"
        )
    asked = Thresholds(
        len(names), request.degree, request.threshold, request.survivors, request.window
    )
    asked.check(policy.colluding, policy.min_cohort)
    _check_signed(asked, policy)
    if request.first < session.next_index:
        raise ProtocolRefused(
            f"aggregation {request.first} was already prepared; the next is {session.next_index}"
        )
    if not 1 <= request.count <= wire.MOST_AGGREGATIONS or request.first >= _LAST_INDEX:
        raise ProtocolRefused(f"a bundle covers 1 to {wire.MOST_AGGREGATIONS} aggregations")
    return names


def _check_signed(asked: Thresholds, policy: Policy) -> None:
    """The threshold of a complete graph is no lower than what the signed settings give a group of
    this size: each share fewer is one hospital more that the server and its friends need not ask.

    That of a k-regular graph is nobody's choice: ``check`` works out what this hospital's numbers
    take.
    """
    if not asked.complete:
        return
    signed = complete_graph(asked.clients, policy.threshold)
    for what in ("threshold", "survivors"):
        here, least = getattr(asked, what), getattr(signed, what)
        if here < least:
            raise ProtocolRefused(
                f"the group's {what} is {here}, the signed settings "
                f"(secure_aggregation.threshold = {policy.threshold:g}) give {least}"
            )


def check_hello(hello: wire.Hello, session: bytes, roster: Roster) -> None:
    """A neighbour's key is of this session and signed by that hospital."""
    if hello.session != session:
        raise ProtocolRefused(f"the key of '{hello.name}' is of another session")
    signed = wire.Hello.signed(session, hello.name, hello.exchange)
    if not verify(roster[hello.name], hello.signature, signed):
        raise ProtocolRefused(f"the key of '{hello.name}' is not signed by that hospital")


def check_keys(group: Group, name: str, keys: wire.BundleKeys, roster: Roster) -> None:
    """A neighbour's bundle is of this group, complete, and signed by that hospital."""
    if (keys.group, keys.name) != (group.group, name):
        raise ProtocolRefused(f"the keys of '{name}' are of another group or hospital")
    size = KEY_BYTES * group.count
    if len(keys.public_keys) != size or len(keys.commitments) != size:
        raise ProtocolRefused(f"the keys of '{name}' don't cover {group.count} aggregations")
    if not verify(roster[name], keys.signature, keys.body()):
        raise ProtocolRefused(f"the keys of '{name}' are not signed by that hospital")


def check_task(group: Group, task: wire.TaskRequest, asked: Asked) -> None:
    """The aggregation is one of the group's, and this hospital hasn't uploaded for it: two vectors
    under one mask differ by their numbers alone. What it is for, and how its numbers are written,
    are as the hospital itself reads the request and works them out."""
    check_ring(group)
    if not group.transcript:
        raise ProtocolRefused("the group's keys were not accepted yet")
    if not group.first <= task.index < group.first + group.count:
        raise ProtocolRefused(f"aggregation {task.index} is not one of this group's")
    if task.index <= group.uploaded:
        raise ProtocolRefused(
            f"aggregation {task.index}: a hospital uploads once, and this one has already sent "
            f"number {group.uploaded}"
        )
    if not asked.step.is_purpose(task.purpose):
        raise ProtocolRefused(
            f"the task's purpose is '{one_line(task.purpose, 64)}', the request is for "
            f"{asked.step.parts[0]}"
        )
    task.encoding(group.clients)  # in range at all
    asked.terms.check(task, group.limits)


def check_ring(group: Group) -> None:
    """What this hospital stored of a group is enough to check survivor sets."""
    if not group.limits.complete and not group.ring:
        raise ProtocolRefused(
            "the group's keys were made by an earlier version of wardround, which did not check "
            "who is near whom; the server must be started again"
        )


def check_survivors(group: Group, request: wire.UnmaskRequest, policy: Policy) -> None:
    """The survivor set is one whose sum may be opened: large enough, with this hospital in it, as
    it has uploaded, and on a ring without gaps, for one may be a lie."""
    survivors = request.survivors
    # sorted, so the last position is the largest; none at all is refused for its number below
    if list(survivors) != sorted(set(survivors)) or survivors[-1:] >= (group.clients,):
        raise ProtocolRefused("the survivor set is not distinct, ordered members of the group")
    if group.position not in survivors:
        raise ProtocolRefused("this hospital uploaded, but the survivor set leaves it out")
    least = max(group.survivors, policy.min_cohort)
    if len(survivors) < least:
        raise ProtocolRefused(
            f"a sum of {len(survivors)} hospitals is not opened; it takes at least {least}"
        )
    check_ring(group)
    if group.ring and (wrong := check_spread(survivors, ring_places(group.ring), group.limits)):
        raise ProtocolRefused(f"the survivor set has a gap: {wrong}")
    if len(request.ciphertexts) != len(group.holders):
        raise ProtocolRefused("the encrypted shares are not one for each neighbour")
