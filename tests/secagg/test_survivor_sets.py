"""A server that tells every hospital another survivor set, above and below 64 hospitals.

On a ring it needs one hospital's neighbours only: all of them called gone leaves its vector bare.
Everywhere it gets a smaller sum than each hospital was shown. ``test_safety.py`` has every strategy
on small rings; here are the strongest ones with real keys and masks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from tests.secagg.driver import (
    CONTENT,
    Federation,
    alone,
    forged_unmask,
    interpolated,
    is_plain_sum,
    plain_sum,
    some_numbers,
    summing,
)
from wardround.client.secagg import checks
from wardround.client.secagg.state import GROUP_FORMAT, Policy
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import (
    aggregation_context,
    pair_seeds,
    pair_sign,
    self_seeds,
)
from wardround.common.secagg.graph import Thresholds, ring_order, thresholds
from wardround.common.secagg.keys import ExchangeKey
from wardround.common.secagg.ring import RingVector
from wardround.common.trust.identity import KEY_BYTES
from wardround.server.secagg.sum import KeyGroup, MaskedSum


class Server:
    """A server that keeps the vectors, tells hospitals what it likes, and learns what it can."""

    def __init__(self, federation: Federation, limits: Thresholds) -> None:
        self.federation = federation
        self.group = federation.ready(lambda n: limits)
        self.masked = summing(self.group)
        self.numbers = some_numbers(self.group.names)
        for name in self.group.names:
            federation.upload(self.masked, name, self.numbers[name])
        assert federation.refusals == []
        self.shares: dict[tuple[int, bool], dict[int, int]] = {}
        self.refusals: list[str] = []

    def tell(self, position: int, gone: Iterable[int]) -> None:
        """One hospital's shares, after it was told that these are gone (itself never)."""
        group, name = self.group, self.group.names[position]
        gone = set(gone) - {position}
        survivors = [x for x in range(len(group.names)) if x not in gone]
        request = forged_unmask(group, 0, name, survivors).to_bytes()
        try:
            answer = self.federation[name].unmask(request)
        except ProtocolRefused as error:
            self.refusals.append(str(error))
            return
        owners = sorted([position, *group.neighbours[position]])
        for owner, share in zip(owners, wire.Shares.from_bytes(answer).shares, strict=True):
            which = self.shares.setdefault((owner, owner in gone), {})
            which[position + 1] = int.from_bytes(share, "big")

    def secret(self, position: int, gone: bool) -> bytes:
        """A self mask, or the round key of one that was called gone."""
        shares = self.shares[position, gone]
        assert len(shares) >= self.group.parameters.threshold
        return interpolated(shares)

    def sum_of(self, part: set[int]) -> RingVector:
        """The vectors of a part, without the masks that are open."""
        masked, group = self.masked, self.group
        context = aggregation_context(
            group.transcript, masked.task, len(group.names), masked.layout, CONTENT
        )
        result = RingVector(
            masked.encoding.bits, masked.layout.update_size, masked.layout.exact_size
        )
        masks = []
        outside = {x for one in part for x in group.neighbours[one]} - part
        keys = {x: ExchangeKey(self.secret(x, True)) for x in outside}
        for one in part:
            name = group.names[one]
            result.add_bytes(self.federation.received("Vector", name)[-1])
            masks.append((self_seeds(self.secret(one, False), context), -1))
            public = group.bundles[name].keys.public_keys[:KEY_BYTES]
            for x in set(group.neighbours[one]) & outside:
                masks.append((pair_seeds(keys[x].shared(public), context), -pair_sign(one, x)))
        result.add_masks(masks)
        return result


def call_the_neighbours_gone(server: Server, victim: int) -> None:
    """All hospitals are told that the victim's neighbours are gone; each knows better of itself."""
    for position in range(len(server.group.names)):
        server.tell(position, server.group.neighbours[victim])


OLD = Thresholds(70, 16, 9, 36)
"""What 70 hospitals had before survivor sets were checked for gaps."""


def test_without_the_checks_one_hospitals_vector_stands_bare(monkeypatch: Any) -> None:
    monkeypatch.setattr(Thresholds, "check", lambda *_: None)
    monkeypatch.setattr(checks, "check_spread", lambda *_: "")
    server = Server(Federation(70), OLD)
    call_the_neighbours_gone(server, 7)
    assert server.refusals == []
    bare = server.sum_of({7})
    assert (bare.update == alone(server.masked, server.numbers["h07"]).update).all()


def test_neighbours_that_are_all_called_gone_are_a_gap_and_nobody_answers() -> None:
    federation = Federation(70)
    server = Server(federation, thresholds(70))
    call_the_neighbours_gone(server, 7)
    assert len(server.refusals) == 70 and server.shares == {}
    assert all("the survivor set has a gap: of 12 hospitals" in one for one in server.refusals)
    federation.unmask(server.masked)  # it spent nothing: the truth is still answered
    assert is_plain_sum(server.masked, server.masked.open(), server.numbers, server.group.names)


def test_the_graph_of_before_is_refused_and_one_for_fewer_that_collude() -> None:
    federation = Federation(70)
    federation.begin()
    name = federation.names[0]

    def refused(limits: Thresholds, policy: Policy) -> str:
        federation.hospitals[name].policy = policy
        group = federation.session.group(federation.names, 1, limits)
        with pytest.raises(ProtocolRefused) as caught:
            federation.hospitals[name].fork().client.bundle(group.request)
        return str(caught.value)

    assert "open a part of the sum" in refused(OLD, Policy())
    assert "and 5 of 70 hospitals" in refused(thresholds(70), Policy(colluding=1 + 4))
    assert "secure_aggregation.colluding" in refused(thresholds(70, colluding=4), Policy(3, 5))
    good = federation.session.group(federation.names, 1, thresholds(70, colluding=5))
    federation.hospitals[name].client.bundle(good.request)


def ring_of(group: KeyGroup) -> list[int]:
    return list(ring_order(tuple(group.names), group.id))


def test_the_widest_gap_is_answered_one_more_is_not_and_neither_are_too_few_holders() -> None:
    federation = Federation(70)
    limits = thresholds(70)
    server = Server(federation, limits)
    ring, half = ring_of(server.group), limits.degree // 2
    far = ring[40]
    widest = half - limits.window
    for gone, why in (
        (ring[: widest + 1], f"of {half} hospitals in a row on the ring {limits.window - 1}"),
        # no gap in any twelve, but eight of 25
        (ring[0:4] + ring[12:16], f"of {limits.degree + 1} hospitals in a row .* it takes 18"),
    ):
        name, survivors = server.group.names[far], sorted(set(range(70)) - set(gone))
        request = forged_unmask(server.group, 0, name, survivors)
        with pytest.raises(ProtocolRefused, match=why):
            federation.hospitals[name].fork().client.unmask(request.to_bytes())
    server.tell(far, ring[:widest])
    assert server.refusals == []


def test_an_honest_server_does_not_ask_over_a_gap_and_the_repeat_succeeds() -> None:
    federation = Federation(70)
    federation.begin()
    group = federation.form(count=2)
    gone = [group.names[x] for x in ring_of(group)[:8]]
    numbers = some_numbers(group.names)
    with pytest.raises(RoundFailed, match="too few hospitals uploaded: of 12 .* it takes 5"):
        federation.aggregate(group, numbers, absent=gone)
    assert federation.received("UnmaskRequest", group.names[0]) == []
    apart = [group.names[x] for x in ring_of(group)[::10]]
    masked, total = federation.aggregate(group, numbers, absent=apart)
    assert is_plain_sum(masked, total, numbers, set(group.names) - set(apart))
    requests = {
        name: forged_unmask(group, 1, name, sorted(map(group.names.index, left))).to_bytes()
        for left in [set(group.names) - set(gone)]
        for name in left
    }
    with pytest.raises(ProtocolRefused, match="the survivor set is not one of the group"):
        MaskedSum.restore(group, masked.task, masked.layout, CONTENT, requests)


# --- everyone masks with everyone -----------------------------------------------------------------
def test_five_that_were_shown_three_survivors_each_open_a_sum_of_two() -> None:
    """t = 3 of 5: 0, 1 and 2 are called gone by three each; who insists on three refuses that
    group, and the signed threshold of 0.5 gives sums of four."""
    half = Thresholds(5, 4, 3, 3)
    server = Server(Federation(5, Policy(min_cohort=2)), half)
    told = {0: {1, 2}, 1: {0, 2}, 2: {0, 1}, 3: {0, 1}, 4: {2, 0}}
    for position, gone in told.items():
        server.tell(position, gone)
    assert server.refusals == []
    two = [server.numbers[name] for name in ("h03", "h04")]
    assert server.sum_of({3, 4}).update.tolist() == plain_sum(server.masked, two)[0]
    assert half.honest(0) == 2 and thresholds(5, 0.5) == replace(half, survivors=4)
    federation = Federation(5)
    federation.begin()
    group = federation.session.group(federation.names, 1, half)
    with pytest.raises(ProtocolRefused, match="could open a sum of 2, not 3"):
        federation["h00"].bundle(group.request)


# --- what an earlier version stored ---------------------------------------------------------------
@pytest.mark.parametrize("count", [5, 66])
def test_a_group_of_an_earlier_version_is_read_and_a_ring_nobody_knows_is_not_used(count) -> None:
    federation = Federation(count)
    group = federation.ready()
    masked = summing(group)
    store = federation.hospitals["h01"].store
    (name,) = store.names("secagg-group-")
    values = store.records[name]
    assert GROUP_FORMAT.version == 3 == values["version"]
    del values["window"], values["ring"], values["everyone"]
    values["version"] = 1
    numbers = some_numbers(group.names)
    federation.upload(masked, "h01", numbers["h01"])
    reasons = [reason for _, _, reason in federation.refusals]
    if count == 5:
        assert reasons == []
    else:
        assert "made by an earlier version" in reasons[0] and "started again" in reasons[0]
