"""Before round 1: who is here."""

from __future__ import annotations

import time
from collections.abc import Sequence

from wardround.common.config.load import Config
from wardround.common.errors import ReplyRefused, RoundFailed
from wardround.common.flower.hosting import Grid, HostGrid
from wardround.common.mends import Mend
from wardround.common.protocol.describe import DescribeRequest
from wardround.common.protocol.totals import Totals
from wardround.server.gathering.exchange import exchange
from wardround.server.gathering.faults import round_failed
from wardround.server.gathering.host import Attempts, Host
from wardround.server.gathering.replies import check_description
from wardround.server.gathering.requests import queries
from wardround.server.members.member import Member
from wardround.server.members.sampling import training
from wardround.server.observer import Observer, Phase

_POLL_S = 0.2


def gather_members(
    grid: Grid, config: Config, observer: Observer, host: Host
) -> tuple[list[Member], list[dict[str, str]]]:
    """Ask every connected node who it is; wait for at least ``min_clients`` that train. Also why
    others can't take part.

    Raises RoundFailed, with the reasons, if the time runs out before.
    """
    needed, timeout_s = config.federation.min_clients, config.federation.round_timeout_s
    deadline = time.monotonic() + timeout_s
    observer.phase(Phase.WAITING)
    observer.progress("waiting for hospitals")
    while len(node_ids := sorted(grid.get_node_ids())) < needed:
        if time.monotonic() > deadline:
            raise RoundFailed(
                f"{len(node_ids)} hospitals connected within {timeout_s:g} s, "
                f"federation.min_clients is {needed}"
            )
        time.sleep(_POLL_S)
    attempts = Attempts(config.federation.round_attempts, host)
    for _ in attempts:
        found, refused = describe(grid, node_ids, config, [])
        host.on_members(found)
        if len(training(found)) >= needed:
            break
        host.wait_ready(False)
        asked, node_ids = set(node_ids), sorted(grid.get_node_ids())
        # who came meanwhile is asked without counting; else it was an attempt
        if asked.issuperset(node_ids) and not attempts.another():
            break
        time.sleep(config.federation.retry_wait_s)
    observer.members(found, refused)
    needed, limit = _fewest(config, bool(refused))
    if (able := len(training(found))) < needed:
        rest = ""
        if only := len(found) - able:
            rest = f", {only} in evaluations only (its data's split, or data.test_fraction)"
        what = f"{able} of {len(found) + len(refused)} hospitals can train{rest}, {limit}"
        if not refused:
            raise RoundFailed(what, mend=Mend.START_MORE)
        raise round_failed(what, refused)
    return found, refused


def _fewest(config: Config, refused: bool) -> tuple[int, str]:
    """How many must train, and which key says so. Where some were refused, masks need theirs too:
    otherwise too few of them are a mistake of the settings, told by its key."""
    needed, secure = config.federation.min_clients, config.secure_aggregation
    if refused and secure.enabled and secure.min_cohort > needed:
        return secure.min_cohort, f"secure_aggregation.min_cohort is {secure.min_cohort}"
    return needed, f"federation.min_clients is {needed}"


def describe(
    grid: Grid, node_ids: Sequence[int], config: Config, present: Sequence[Member]
) -> tuple[list[Member], list[dict[str, str]]]:
    """Ask nodes who they are: the usable ones by name, and why others are not.

    present : members whose names are taken
    """
    timeout_s = config.federation.round_timeout_s
    members: dict[str, Member] = {}
    taken = {member.name for member in present}
    refused: list[dict[str, str]] = []
    requests = queries(DescribeRequest(totals=Totals.of({})), node_ids)
    for request, reply in exchange(grid, requests, timeout_s):
        try:
            if reply is None:
                raise ReplyRefused(f"no answer within {timeout_s:g} s")
            member = check_description(reply)
            if member.name in members or member.name in taken:
                raise ReplyRefused(f"a second hospital calls itself '{member.name}'")
            members[member.name] = member
        except ReplyRefused as error:
            node_id = request.metadata.dst_node_id
            name = grid.name(node_id) if isinstance(grid, HostGrid) else f"node {node_id}"
            refused.append({"hospital": name, "reason": str(error)})
    return [members[name] for name in sorted(members)], refused
