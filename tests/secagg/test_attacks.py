"""A malicious server or hospital: what each attack meets.

Two secrets guard an upload: the self mask and the round key. Either one alone may be opened; the
attacks try to get both, or to make a hospital add its numbers to a sum that protects it less.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest

from tests.secagg.driver import (
    DESCRIPTOR,
    LAYOUT,
    Federation,
    Store,
    alone,
    finish,
    forged_unmask,
    interpolated,
    is_plain_sum,
    some_numbers,
    start,
    stripped,
    summing,
)
from wardround.client.secagg.state import Policy
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.flower.arrays import ArraySpec
from wardround.common.secagg import messages as wire
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.common.secagg.keys import ExchangeKey
from wardround.common.trust.identity import Identity
from wardround.server.secagg.sum import KeyGroup, SecureSession


def complete(t: int, survivors: int | None = None):
    return lambda n: Thresholds(n, n - 1, t, survivors or t)


def uploaded(federation: Federation, group: KeyGroup, names=None):
    """An aggregation with everyone's upload, and the vectors that a server would have kept."""
    numbers, masked = some_numbers(group.names), summing(group)
    for name in names or group.names:
        federation.upload(masked, name, numbers[name])
    assert federation.refusals == []
    vectors = {n: federation.received("Vector", n)[-1] for n in names or group.names}
    return masked, numbers, vectors


def opened(federation: Federation, masked):
    federation.unmask(masked)
    return masked.open()


# --- survivor sets --------------------------------------------------------------------------------
def test_two_survivor_sets_to_one_hospital_and_the_same_request_twice() -> None:
    federation = Federation(5)
    group = federation.ready()
    masked, numbers, _ = uploaded(federation, group)
    all_of_them = forged_unmask(group, 0, "h00", range(5)).to_bytes()
    first = federation["h00"].unmask(all_of_them)
    for others in itertools.combinations([1, 2, 3, 4], 3):
        with pytest.raises(ProtocolRefused, match="already opened, for another survivor set"):
            federation["h00"].unmask(forged_unmask(group, 0, "h00", (0, *others)).to_bytes())
    assert federation["h00"].unmask(all_of_them) == first
    assert is_plain_sum(masked, opened(federation, masked), numbers, group.names)


def every_answer(federation: Federation, group: KeyGroup, name: str, index: int = 0):
    """For each survivor set that the hospital would accept, its answer, each in its own world."""
    n, least = len(group.names), group.parameters.survivors
    answers = {}
    for size in range(1, n + 1):
        for survivors in itertools.combinations(range(n), size):
            request = forged_unmask(group, index, name, survivors).to_bytes()
            try:
                data = federation.hospitals[name].fork().client.unmask(request)
            except ProtocolRefused:
                assert size < least or group.names.index(name) not in survivors
                continue
            assert size >= least and group.names.index(name) in survivors
            answers[survivors] = wire.Shares.from_bytes(data).shares
    return answers


def most_of_both(sets: list[list[tuple[int, ...]]], colluding: tuple[int, ...]) -> int:
    """Whatever each honest hospital is shown: so many shares of both secrets of one honest
    hospital at most; those who collude give both."""
    honest = [position for position in range(len(sets)) if position not in colluding]
    most = 0
    for shown in itertools.product(*(sets[position] for position in honest)):
        for owner in honest:
            self_masks = sum(owner in survivors for survivors in shown)
            fewer = min(self_masks, len(honest) - self_masks)
            most = max(most, fewer + len(colluding))
    return most


@pytest.mark.parametrize("n", [4, 5])
def test_no_assignment_of_survivor_sets_opens_both_secrets_of_anyone(n) -> None:
    """Every way to show each honest hospital one of the sets that it answers, and every choice of
    colluding hospitals: t shares of both secrets come together if and only if 2t <= n + c."""
    federation = Federation(n)
    group = federation.ready()
    uploaded(federation, group)
    t = group.parameters.threshold
    sets = [list(every_answer(federation, group, name)) for name in group.names]
    # the full set, and those without one other hospital: t = n - 1
    assert t == n - 1 and [len(one) for one in sets] == [n] * n
    for count in range(n):
        for colluding in itertools.combinations(range(n), count):
            opens_both = most_of_both(sets, colluding) >= t
            assert opens_both == (2 * t <= n + count)


def test_each_share_is_of_the_secret_that_the_survivor_set_says_and_of_that_alone() -> None:
    federation = Federation(4)
    group = federation.ready()
    uploaded(federation, group)
    truth = [federation.hospitals[name].secrets(group.id, 0) for name in group.names]
    for holder, name in enumerate(group.names):
        expected = [one.shares(3, [holder + 1])[0] for one in truth]
        for survivors, shares in every_answer(federation, group, name).items():
            assert len(shares) == 4
            for owner, share in enumerate(shares):
                half = slice(32, 64) if owner in survivors else slice(0, 32)
                assert share == expected[owner][half]


def test_the_bound_on_colluding_hospitals_is_tight() -> None:
    """n = 5, t = 4: with c = 3 = 2t - n colluding hospitals the attack works, and the policy
    refuses exactly from there."""
    federation = Federation(5)
    group = federation.ready()
    masked, numbers, vectors = uploaded(federation, group)
    victim, everyone, without = 0, (0, 1, 2, 3, 4), (1, 2, 3, 4)
    self_masks, round_keys = {}, {}

    def answer(name: str, survivors: tuple[int, ...]) -> int:
        """The hospital's share of the victim's secret, in a world of its own."""
        share = every_answer(federation, group, name)[survivors][victim]
        return int.from_bytes(share, "big")

    self_masks[1] = answer("h00", everyone)
    round_keys[2] = answer("h01", without)
    for position in (2, 3, 4):  # collude: both shares
        self_masks[position + 1] = answer(group.names[position], everyone)
        round_keys[position + 1] = answer(group.names[position], without)
    secrets = interpolated(self_masks), interpolated(round_keys)
    left = stripped(masked, victim, vectors["h00"], *secrets)
    assert (left.update == alone(masked, numbers["h00"]).update).all()
    thresholds(5).check(2, 3)
    with pytest.raises(ProtocolRefused, match=r"threshold 4 of 5 is not above \(5 \+ 3\) / 2"):
        thresholds(5).check(3, 3)
    # one holder fewer, and the same secrets are not to be had
    del self_masks[5]
    assert interpolated(self_masks) != secrets[0]


BAD_SETS = {
    "duplicates": ((0, 1, 1, 2, 3), "not distinct, ordered"),
    "unordered": ((1, 0, 2, 3), "not distinct, ordered"),
    "out of range": ((0, 1, 2, 5), "not distinct, ordered"),
    "far out of range": ((0, 1, 2, 65535), "not distinct, ordered"),
    "without the receiver": ((1, 2, 3, 4), "the survivor set leaves it out"),
    "empty": ((), "the survivor set leaves it out"),
    "alone": ((0,), "a sum of 1 hospitals is not opened; it takes at least 4"),
    "below the threshold": ((0, 1, 2), "a sum of 3 hospitals is not opened; it takes at least 4"),
}


@pytest.mark.parametrize("case", sorted(BAD_SETS))
def test_a_survivor_set_that_is_none_is_refused_and_spends_nothing(case) -> None:
    survivors, reason = BAD_SETS[case]
    federation = Federation(5)
    group = federation.ready()
    masked, numbers, _ = uploaded(federation, group)
    with pytest.raises(ProtocolRefused, match=reason):
        federation["h00"].unmask(forged_unmask(group, 0, "h00", survivors).to_bytes())
    assert is_plain_sum(masked, opened(federation, masked), numbers, group.names)


def test_a_policy_that_became_stricter_holds_for_groups_made_before() -> None:
    federation = Federation(5)
    group = federation.ready()
    uploaded(federation, group)
    federation.hospitals["h00"].policy = Policy(min_cohort=5)
    with pytest.raises(ProtocolRefused, match="a sum of 4 hospitals is not opened; .* least 5"):
        federation["h00"].unmask(forged_unmask(group, 0, "h00", range(4)).to_bytes())


@pytest.mark.parametrize("change", ["fewer", "more"])
def test_encrypted_shares_that_are_not_one_for_each_neighbour_are_refused(change) -> None:
    federation = Federation(5)
    group = federation.ready(count=2)
    uploaded(federation, group)
    right = forged_unmask(group, 0, "h00", range(5))
    wrong = right.ciphertexts[:-1] if change == "fewer" else right.ciphertexts * 2
    with pytest.raises(ProtocolRefused, match="not one for each neighbour"):
        federation["h00"].unmask(replace(right, ciphertexts=wrong).to_bytes())


@pytest.mark.parametrize("change", ["swapped", "another index", "own"])
def test_encrypted_shares_of_another_place_open_nothing(change, caplog) -> None:
    """Nothing stands for what can't be decrypted, so that one hospital's nonsense doesn't hold up
    the others; and the hospital's log says whose it was."""
    federation = Federation(5)
    group = federation.ready(count=2)
    uploaded(federation, group)
    right = forged_unmask(group, 0, "h00", range(5))
    other = forged_unmask(group, 1, "h00", range(5)).ciphertexts
    first, second, *rest = right.ciphertexts
    ciphertexts = {
        "swapped": (second, first, *rest),
        "another index": other,
        "own": (forged_unmask(group, 0, "h01", range(5)).ciphertexts[0], second, *rest),
    }[change]
    answer = federation["h00"].unmask(replace(right, ciphertexts=tuple(ciphertexts)).to_bytes())
    shares = wire.Shares.from_bytes(answer).shares
    wrong = {"swapped": {1, 2}, "another index": {1, 2, 3, 4}, "own": {1}}[change]
    assert {place for place, share in enumerate(shares) if not share} == wrong
    assert caplog.text.count("encrypted something else than shares") == len(wrong)


# --- turns ----------------------------------------------------------------------------------------
def test_nothing_is_opened_before_the_upload() -> None:
    federation = Federation(4)
    group = federation.ready(count=2)
    request = forged_unmask(group, 0, "h00", range(4)).to_bytes()
    with pytest.raises(ProtocolRefused, match="last sent nothing"):
        federation["h00"].unmask(request)
    masked = summing(group)
    start(federation["h00"], masked.task.to_bytes(), LAYOUT)
    with pytest.raises(ProtocolRefused, match="last sent nothing"):
        federation["h00"].unmask(request)
    federation.upload(masked, "h00", some_numbers(["h00"])["h00"])
    with pytest.raises(ProtocolRefused, match="aggregation 1 can't be opened: .* last sent 0"):
        federation["h00"].unmask(forged_unmask(group, 1, "h00", range(4)).to_bytes())
    federation["h00"].unmask(request)


def test_an_aggregation_cannot_be_opened_once_the_next_upload_was_made() -> None:
    federation = Federation(4)
    group = federation.ready(count=2)
    uploaded(federation, group)
    uploaded(federation, group)
    with pytest.raises(ProtocolRefused, match="aggregation 0 can't be opened: .* last sent 1"):
        federation["h00"].unmask(forged_unmask(group, 0, "h00", range(4)).to_bytes())


def test_one_upload_for_each_index_and_no_way_back() -> None:
    federation = Federation(4)
    group = federation.ready(count=3)
    numbers = some_numbers(group.names)["h00"]
    tasks = [summing(group).task for _ in range(3)]
    early = start(federation["h00"], tasks[1].to_bytes(), LAYOUT)
    other = replace(tasks[1], purpose="train 2").to_bytes()
    twin = start(federation["h00"], other, LAYOUT, b"another model".ljust(32))
    older = start(federation["h00"], tasks[0].to_bytes(), LAYOUT)
    finish(early, numbers)
    for pending, why in (
        (early, "finished once"),
        (twin, "sent number 1"),
        (older, "sent number 1"),
    ):
        with pytest.raises(ProtocolRefused, match=why):
            finish(pending, numbers)
    for task in (tasks[0], tasks[1], replace(tasks[1], purpose="train 2")):
        with pytest.raises(ProtocolRefused, match="this one has already sent number 1"):
            start(federation["h00"], task.to_bytes(), LAYOUT)
    for index in (3, 2**31, 2**32 - 1):
        with pytest.raises(ProtocolRefused, match="is not one of this group's"):
            task = replace(tasks[0], index=index).to_bytes()
            start(federation["h00"], task, LAYOUT)
    finish(
        start(federation["h00"], tasks[2].to_bytes(), LAYOUT),
        numbers,
    )


class Racing(Store):
    """Lets two threads read a group's record before either writes it."""

    def __init__(self, records) -> None:
        super().__init__()
        self.records, self.barrier = records, threading.Barrier(2, timeout=0.5)

    def values(self, name):
        result = super().values(name)
        if name.startswith("secagg-group-"):
            try:
                self.barrier.wait()
            except threading.BrokenBarrierError:
                pass
        return result


def test_two_unmask_requests_at_the_same_time_are_not_both_answered() -> None:
    federation = Federation(5)
    group = federation.ready()
    uploaded(federation, group)
    hospital = federation.hospitals["h00"]
    hospital.store = Racing(hospital.store.records)
    client, answers = hospital.client, []

    def ask(survivors: tuple[int, ...]) -> None:
        try:
            answers.append(client.unmask(forged_unmask(group, 0, "h00", survivors).to_bytes()))
        except ProtocolRefused:
            pass

    threads = [threading.Thread(target=ask, args=(s,)) for s in ((0, 1, 2, 3), (0, 1, 2, 4))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 1


# --- lying about the group ------------------------------------------------------------------------
def group_request(federation: Federation, **changes) -> wire.GroupRequest:
    """What an honest server would ask, with changes."""
    hellos = federation.session.hellos
    n = len(changes.get("members", hellos))
    limits = thresholds(n)
    usual = {
        "session": federation.session.session,
        "first": 0,
        "count": 2,
        "degree": limits.degree,
        "threshold": limits.threshold,
        "survivors": limits.survivors,
        "window": limits.window,
        "members": tuple(hellos[name] for name in sorted(hellos)),
    }
    return wire.GroupRequest(**(usual | changes))


def test_hospitals_that_were_shown_different_groups_refuse_each_others_keys() -> None:
    federation = Federation(5)
    federation.begin()
    five = KeyGroup(group_request(federation), federation.roster)
    members = group_request(federation).members
    four = KeyGroup(group_request(federation, members=members[:4]), federation.roster)
    stricter = KeyGroup(group_request(federation, threshold=5, survivors=5), federation.roster)
    for other in (four, stricter):
        world = {name: h.fork() for name, h in federation.hospitals.items()}
        bundles = {}
        for name in federation.names:
            shown = other if name in ("h00", "h01") else five
            bundles[name] = wire.Bundle.from_bytes(world[name].client.bundle(shown.request))
        with pytest.raises(ProtocolRefused, match="its keys are of another group"):
            five.add_bundle("h00", bundles["h00"].to_bytes())
        keys = [bundles[name].keys for name in five.names]
        lie = wire.KeysRequest(
            five.id, tuple(one.digest() for one in keys), (*keys[:2], *keys[3:])
        ).to_bytes()
        with pytest.raises(ProtocolRefused, match="keys of 'h00' are of another group"):
            world["h02"].client.accept(lie)
        renamed = [*keys[:2], *(replace(one, group=other.id) for one in keys[2:])]
        renamed = renamed[: len(other.names)]
        digests = tuple(one.digest() for one in renamed)
        lie = wire.KeysRequest(other.id, digests, tuple(renamed[1:]))
        with pytest.raises(ProtocolRefused, match="keys of 'h02' are not signed by that hospital"):
            world["h00"].client.accept(lie.to_bytes())


def test_a_hospital_that_signs_two_sets_of_keys_makes_the_masks_useless_not_weak() -> None:
    federation = Federation(5)
    federation.begin()
    group = KeyGroup(group_request(federation), federation.roster)
    twin = federation.hospitals["h04"].fork()
    for name in group.names:
        federation.bundle(group, name)
    second = wire.Bundle.from_bytes(twin.client.bundle(group.request)).keys
    for name, data in group.keys_requests():
        if name == "h00":
            request = wire.KeysRequest.from_bytes(data)
            digests = (*request.digests[:4], second.digest())
            lie = wire.KeysRequest(group.id, digests, (*request.bundles[:3], second)).to_bytes()
            accepted = federation["h00"].accept(lie)
            with pytest.raises(ProtocolRefused, match="it was shown other keys than the group's"):
                group.add_accepted("h00", accepted)
            group.accepted.add("h00")
            with pytest.raises(ProtocolRefused, match="other keys were shown for this group"):
                federation["h00"].accept(data)
        else:
            federation.accept(group, name, data)
    masked, _, _ = uploaded(federation, group)
    with pytest.raises(RoundFailed, match="the masks don't cancel"):
        opened(federation, masked)


def test_in_a_k_regular_group_other_keys_of_strangers_do_not_cancel_either() -> None:
    federation = Federation(65)
    federation.begin()
    limits = thresholds(65)
    group = federation.session.group(federation.names, 1, limits)
    for name in group.names:
        federation.bundle(group, name)
    for name, data in group.keys_requests():
        if name == "h00":
            request = wire.KeysRequest.from_bytes(data)
            stranger = next(i for i in range(1, 65) if i not in group.neighbours[0])
            digests = list(request.digests)
            digests[stranger] = bytes(32)
            data = replace(request, digests=tuple(digests)).to_bytes()
            group.accepted.add(name)
        federation.accept(group, name, data)
    ((kind, name, reason),) = federation.refusals
    assert (kind, name) == ("Accepted", "h00") and "shown other keys than the group's" in reason
    federation.refusals.clear()
    masked, _, _ = uploaded(federation, group)
    with pytest.raises(RoundFailed, match="the masks don't cancel"):
        opened(federation, masked)


def stranger(federation: Federation, name: str, session: bytes | None = None) -> wire.Hello:
    """A Hello whose exchange key and signature are an attacker's own."""
    session = session or federation.session.session
    public = ExchangeKey(b"m" * 32).public
    signature = Identity.generate().sign(wire.Hello.signed(session, name, public))
    return wire.Hello(session, name, public, signature)


def hello_of_another_session(federation: Federation) -> wire.Hello:
    """Rightly signed, of a session before or after."""
    other = SecureSession(DESCRIPTOR, federation.roster)
    data = federation.hospitals["h01"].fork().client.hello(other.request())
    return wire.Hello.from_bytes(data)


def lies_about_groups(f: Federation) -> dict[str, tuple[wire.GroupRequest, str]]:
    ask = group_request(f)
    m, low = ask.members, {"threshold": 2, "survivors": 2, "degree": 1}

    def lie(reason: str, **changes) -> tuple[wire.GroupRequest, str]:
        return group_request(f, **changes), reason

    return {
        "a hospital of no roster": lie(
            "'h99' is not in this hospital's roster", members=(*m, stranger(f, "h99"))
        ),
        "a stranger's key for a neighbour": lie(
            "the key of 'h01' is not signed by that hospital",
            members=(m[0], stranger(f, "h01"), *m[2:]),
        ),
        "a neighbour's key of another session": lie(
            "the key of 'h01' is of another session",
            members=(m[0], hello_of_another_session(f), *m[2:]),
        ),
        "a neighbour's key renamed": lie(
            "the key of 'h01' is not signed by that hospital",
            members=(m[0], replace(m[2], name="h01"), *m[2:]),
        ),
        "a stranger's key for its own": lie(
            "own key was replaced", members=(stranger(f, "h00"), *m[1:])
        ),
        "one member twice": lie("not distinct and ordered", members=(*m[:2], *m[1:])),
        "members unordered": lie("not distinct and ordered", members=m[::-1]),
        "without the receiver": lie("not in the group that it was asked to join", members=m[1:]),
        "nobody": lie(
            "not in the group that it was asked to join",
            members=(),
            degree=0,
            threshold=1,
            survivors=1,
        ),
        "two hospitals": lie("a sum of 2 of 2 hospitals could be opened", members=m[:2], **low),
        "the receiver alone": lie(
            "a sum of 1 of 1 hospitals", members=m[:1], degree=0, threshold=1, survivors=1
        ),
        "too small a sum": lie("a sum of 2 of 5 hospitals could be opened", survivors=2),
        "a sum below the threshold": lie("a sum of 3 of 5 hospitals is not all", survivors=3),
        "a sum of more than all": lie("a sum of 6 of 5 hospitals is not allowed", survivors=6),
        "half the threshold": lie(r"threshold 2 of 5 is not above \(5 \+ 0\) / 2", threshold=2),
        "no threshold": lie("threshold 0 of 5 is not above", threshold=0),
        "too high a threshold": lie("threshold 6 of 5", threshold=6, survivors=5),
        "a sparse graph of few": lie("5 hospitals with 2 neighbours each is no graph", degree=2),
        "no neighbours": lie("5 hospitals with 0 neighbours each is no graph", degree=0),
        "more neighbours than members": lie("with 5 neighbours each is no graph", degree=5),
        "no aggregations": lie("a bundle covers 1 to 64 aggregations", count=0),
        "too many aggregations": lie("a bundle covers 1 to 64 aggregations", count=65),
        "numbers that end": lie("a bundle covers 1 to 64 aggregations", first=2**31),
        "another session": lie("no part in that session", session=bytes(32)),
    }


def begun(count: int) -> Federation:
    federation = Federation(count)
    federation.begin()
    return federation


LIES = sorted(lies_about_groups(begun(5)))


@pytest.mark.parametrize("case", LIES)
def test_a_group_that_is_not_as_it_should_be_is_refused_and_spends_no_number(case) -> None:
    federation = Federation(5)
    federation.begin()
    lie, reason = lies_about_groups(federation)[case]
    with pytest.raises(ProtocolRefused, match=reason):
        federation["h00"].bundle(lie.to_bytes())
    assert federation.hospitals["h00"].session().next_index == 0
    federation["h00"].bundle(group_request(federation).to_bytes())


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Policy(min_cohort=5), "a sum of 4 of 5 hospitals could be opened; .*min_cohort is 5"),
        (Policy(min_cohort=6), "a sum of 4 of 5"),
        (Policy(colluding=3), r"threshold 4 of 5 is not above \(5 \+ 3\) / 2"),
    ],
)
def test_the_hospitals_own_policy_decides_not_the_servers(policy, reason) -> None:
    federation = Federation(5)
    federation.begin()
    federation.hospitals["h00"].policy = policy
    with pytest.raises(ProtocolRefused, match=reason):
        federation["h00"].bundle(group_request(federation).to_bytes())
    federation.hospitals["h00"].policy = Policy(min_cohort=4, colluding=2)
    federation["h00"].bundle(group_request(federation).to_bytes())


def test_a_threshold_below_the_signed_one_is_refused() -> None:
    """At t = 3 of 5 the server needs one friend among five to open a vector; signed was t = 4."""
    federation = Federation(5, Policy(min_cohort=2, threshold=0.667))
    federation.begin()
    for more, reason in (
        ({"threshold": 3, "survivors": 3}, "the group's threshold is 3, .*0.667. give 4"),
        ({"threshold": 4, "survivors": 3}, "a sum of 3 of 5 hospitals is not allowed"),
    ):
        lie = group_request(federation, **more)
        with pytest.raises(ProtocolRefused, match=reason):
            federation["h00"].bundle(lie.to_bytes())
    federation["h00"].bundle(group_request(federation).to_bytes())


def test_numbers_of_aggregations_are_never_prepared_twice() -> None:
    federation = Federation(5)
    federation.begin()
    asked = group_request(federation, first=3, count=4)
    federation["h00"].bundle(asked.to_bytes())
    for first in (0, 3, 6):
        for count in (1, 4, 64):
            with pytest.raises(ProtocolRefused, match=f"{first} was already prepared; .* is 7"):
                lie = group_request(federation, first=first, count=count)
                federation["h00"].bundle(lie.to_bytes())
    federation["h00"].bundle(group_request(federation, first=7).to_bytes())


# --- other keys -----------------------------------------------------------------------------------
def lies_about_keys(f: Federation, group: KeyGroup, right: wire.KeysRequest):
    """What 'h00' of five may be shown in place of the neighbours' bundles."""
    first, *rest = right.bundles
    forger = Identity.generate()

    def signed(keys: wire.BundleKeys, identity: Identity) -> wire.BundleKeys:
        return replace(keys, signature=identity.sign(keys.body()))

    def swap(keys: wire.BundleKeys) -> wire.KeysRequest:
        digests = (right.digests[0], keys.digest(), *right.digests[2:])
        return wire.KeysRequest(group.id, digests, (keys, *rest))

    honest = f.hospitals["h01"].identity
    other_group = f.session.group(f.names, 2, thresholds(5))
    of_other = wire.Bundle.from_bytes(
        f.hospitals["h01"].fork().client.bundle(other_group.request)
    ).keys
    return {
        "a forger's keys": (
            swap(signed(replace(first, public_keys=bytes(64)), forger)),
            "the keys of 'h01' are not signed by that hospital",
        ),
        "a forger's signature alone": (
            swap(signed(first, forger)),
            "the keys of 'h01' are not signed by that hospital",
        ),
        "keys of another group": (
            swap(of_other),
            "the keys of 'h01' are of another group or hospital",
        ),
        "keys of another group, renamed": (
            swap(replace(of_other, group=group.id)),
            "the keys of 'h01' are not signed by that hospital",
        ),
        "another neighbour's keys": (
            swap(rest[0]),
            "the keys of 'h01' are of another group or hospital",
        ),
        "too few public keys": (
            swap(signed(replace(first, public_keys=first.public_keys[:32]), honest)),
            "the keys of 'h01' don't cover 2 aggregations",
        ),
        "too few commitments": (
            swap(signed(replace(first, commitments=first.commitments + bytes(32)), honest)),
            "the keys of 'h01' don't cover 2 aggregations",
        ),
        "its own keys replaced": (
            replace(right, digests=(bytes(32), *right.digests[1:])),
            "this hospital's own keys were replaced",
        ),
        "a digest that is not the bundle's": (
            replace(right, digests=(right.digests[0], bytes(32), *right.digests[2:])),
            "the keys of 'h01' are not those of the group",
        ),
        "a digest too few": (replace(right, digests=right.digests[:4]), "keys are not complete"),
        "a bundle too few": (replace(right, bundles=right.bundles[:3]), "keys are not complete"),
        "a group it never saw": (replace(right, group=bytes(32)), "doesn't know that group"),
    }


@pytest.mark.parametrize("number", range(12))
def test_keys_that_are_not_the_neighbours_own_are_refused_and_the_right_ones_taken(number) -> None:
    federation = Federation(5)
    group = federation.ready(count=2, deaf=["h00"])
    ((_, data),) = [pair for pair in group.keys_requests() if pair[0] == "h00"]
    lies = lies_about_keys(federation, group, wire.KeysRequest.from_bytes(data))
    assert len(lies) == 12
    lie, reason = list(lies.values())[number]
    with pytest.raises(ProtocolRefused, match=reason):
        federation["h00"].accept(lie.to_bytes())
    with pytest.raises(ProtocolRefused, match="were not accepted yet"):
        start(federation["h00"], summing(group).task.to_bytes(), LAYOUT)
    group.add_accepted("h00", federation["h00"].accept(data))


# --- joining --------------------------------------------------------------------------------------
def test_a_server_with_another_roster_or_other_settings_is_refused_at_the_first_message() -> None:
    federation = Federation(4)
    names = federation.names
    key = Identity.generate().public
    for descriptor, roster in (
        (bytes(32), federation.roster),
        (DESCRIPTOR, federation.roster | {"h04": key}),
        (DESCRIPTOR, federation.roster | {"h03": key}),
        (DESCRIPTOR, {name: federation.roster[name] for name in names[:3]}),
        (DESCRIPTOR, dict(zip(names, reversed(federation.roster.values()), strict=True))),
    ):
        request = SecureSession(descriptor, roster).request()
        with pytest.raises(ProtocolRefused, match="federation.toml or roster differs"):
            federation["h00"].hello(request)
        assert federation.hospitals["h00"].store.records == {}


def test_a_hospital_that_is_not_in_its_own_roster_does_not_start() -> None:
    hospital = Federation(3).hospitals["h00"]
    for roster in ({}, hospital.roster | {"h00": hospital.roster["h01"]}):
        hospital.roster = roster
        with pytest.raises(ProtocolRefused, match="the roster doesn't have this hospital's public"):
            _ = hospital.client


def test_a_hello_that_is_not_that_hospitals_own_is_refused_by_the_server() -> None:
    federation = Federation(4)
    federation.begin()
    session = federation.session
    kept = dict(session.hellos)
    (own,) = federation.received("Hello", "h01")
    for name, hello, reason in (
        ("h01", hello_of_another_session(federation).to_bytes(), "of another session"),
        ("h00", own, "of another session or hospital"),
        ("h01", stranger(federation, "h01").to_bytes(), "not signed by the hospital of the roster"),
        ("h99", stranger(federation, "h99").to_bytes(), "not signed by the hospital of the roster"),
    ):
        with pytest.raises(ProtocolRefused, match=reason):
            session.add_hello(name, hello)
    assert session.hellos == kept


def test_a_session_that_is_asked_again_gets_the_same_key_and_an_old_one_a_new_key() -> None:
    federation = Federation(3)
    old = federation.begin().request()
    first = federation["h00"].hello(old)
    assert federation["h00"].hello(old) == first
    federation.begin()
    again = federation["h00"].hello(old)
    assert wire.Hello.from_bytes(again).exchange != wire.Hello.from_bytes(first).exchange


# --- other tasks ----------------------------------------------------------------------------------
DIFFERENT = {
    "another model": {"content": bytes(32)},
    "another clip": {"task": {"clip": np.nextafter(4.0, 5.0)}},
    "another largest weight": {"task": {"largest_weight": 101}},
    "another purpose": {"task": {"purpose": "train 2"}},
    "another name in the layout": {
        "layout": replace(LAYOUT, update={"v": LAYOUT.update["w"], "b": LAYOUT.update["b"]})
    },
    "another order of the layout": {
        "layout": replace(LAYOUT, update=dict(reversed(LAYOUT.update.items())))
    },
    "another shape in the layout": {
        "layout": replace(LAYOUT, update=LAYOUT.update | {"w": ArraySpec((5, 3), "float32")})
    },
    "another array is weighted": {"layout": replace(LAYOUT, weighted=frozenset(["b"]))},
}


@pytest.mark.parametrize("case", sorted(DIFFERENT))
@pytest.mark.parametrize("cheated", [["h02"], ["h00", "h01"]])
def test_hospitals_that_were_shown_different_tasks_never_cancel(case, cheated) -> None:
    federation = Federation(5)
    group = federation.ready(count=2)
    numbers, masked = some_numbers(group.names), summing(group)
    lie = dict(DIFFERENT[case])
    layout = lie.get("layout", LAYOUT)
    other = {
        name: replace(
            one,
            update={
                k: np.resize(next(iter(one.update.values())), s.shape)
                for k, s in layout.update.items()
            },
        )
        for name, one in numbers.items()
    }
    if "task" in lie:
        lie["task"] = replace(masked.task, **lie["task"])
    for name in group.names:
        if name in cheated:
            federation.upload(masked, name, other[name], **lie)
        else:
            federation.upload(masked, name, numbers[name])
    assert federation.refusals == []
    with pytest.raises(RoundFailed, match="the masks don't cancel: .* another model, group or set"):
        opened(federation, masked)
    masked, total = federation.aggregate(group, numbers)
    assert is_plain_sum(masked, total, numbers, group.names), "the next one is not hurt"


def test_another_ring_gives_a_vector_of_another_length() -> None:
    federation = Federation(4)
    group = federation.ready()
    numbers, masked = some_numbers(group.names), summing(group)
    federation.upload(masked, "h00", numbers["h00"], task=replace(masked.task, bits=16))
    # 19 words of 2 or 4 bytes, and 6 numbers of 24
    ((_, _, reason),) = federation.refusals
    assert reason == "the masked vector has 182 bytes, expected 220"
    for bits in (0, 31, 64, 255):
        with pytest.raises(ProtocolRefused, match="parameters are out of range"):
            task = replace(masked.task, bits=bits).to_bytes()
            start(federation["h01"], task, LAYOUT)


@pytest.mark.parametrize("clip", [0.0, -1.0, -0.0, 1.1e9, float("nan"), float("inf")])
def test_a_clip_that_is_none_is_refused(clip) -> None:
    federation = Federation(3)
    task = replace(summing(federation.ready()).task, clip=clip)
    with pytest.raises(ProtocolRefused, match="parameters are out of range"):
        start(federation["h00"], task.to_bytes(), LAYOUT)


@pytest.mark.parametrize("clip", [1e-300, 1e-40])
def test_a_clip_too_small_for_float32_is_refused_as_such(clip) -> None:
    federation = Federation(3)
    task = replace(summing(federation.ready()).task, clip=clip)
    with pytest.raises(ProtocolRefused):
        start(federation["h00"], task.to_bytes(), LAYOUT)


# --- swapped uploads ------------------------------------------------------------------------------
def test_an_upload_counts_once_and_for_its_own_sender_and_aggregation() -> None:
    federation = Federation(4)
    group = federation.ready(count=2)
    uploaded(federation, group)
    old = {n: federation.received("Upload", n)[-1] for n in group.names}
    masked, numbers, vectors = uploaded(federation, group, group.names[:3])
    new = {n: federation.received("Upload", n)[-1] for n in group.names[:3]}
    for name, header, vector, reason in (
        ("h03", new["h00"], vectors["h00"], "its message is that of 'h00'"),
        ("h00", new["h00"], vectors["h00"], "it uploaded twice"),
        ("h03", old["h03"], vectors["h00"], "its upload is of another aggregation"),
        ("h03", new["h00"].replace(b"h00", b"h03"), vectors["h00"][:-1], "219 bytes, expected 220"),
        ("h77", new["h00"].replace(b"h00", b"h77"), vectors["h00"], "it is not in the group"),
    ):
        with pytest.raises(ProtocolRefused, match=reason):
            masked.add_upload(name, header, vector)
    assert is_plain_sum(masked, opened(federation, masked), numbers, group.names[:3])


@pytest.mark.parametrize("case", ["another hospital's", "the last aggregation's", "zeros", "ones"])
def test_a_vector_that_is_not_the_hospitals_own_does_not_cancel(case) -> None:
    federation = Federation(4)
    group = federation.ready(count=2)
    _, _, vectors = uploaded(federation, group)
    masked, _, new = uploaded(federation, group, group.names[:3])
    header = wire.Upload(group.id, 1, "h03").to_bytes()
    vector = {
        "another hospital's": new["h00"],
        "the last aggregation's": vectors["h03"],
        "zeros": bytes(220),
        "ones": b"\1" * 220,
    }[case]
    masked.add_upload("h03", header, vector)
    requests = masked.unmask_requests()
    for name in group.names[:3]:
        masked.add_shares(name, federation[name].unmask(requests[name]))
    with pytest.raises(RoundFailed, match="the masks don't cancel"):
        masked.open()


def test_the_same_vectors_in_other_hands_are_the_same_sum() -> None:
    """Two uploads that change places give the sum that they would have given: adding commutes,
    and nothing else is done with one upload."""
    federation = Federation(4)
    group = federation.ready()
    numbers, masked = some_numbers(group.names), summing(group)
    task = masked.task.to_bytes()
    pairs = {n: finish(start(federation[n], task, LAYOUT), numbers[n]) for n in group.names}
    for name, other in zip(group.names, ["h01", "h00", "h02", "h03"], strict=True):
        masked.add_upload(name, pairs[name][0], pairs[other][1])
    assert is_plain_sum(masked, opened(federation, masked), numbers, group.names)


# --- malicious hospitals --------------------------------------------------------------------------
def test_shares_that_are_none_are_refused_by_the_server() -> None:
    federation = Federation(5)
    group = federation.ready(count=2)
    uploaded(federation, group)
    masked, numbers, _ = uploaded(federation, group, group.names[:4])
    requests = masked.unmask_requests()
    right = wire.Shares.from_bytes(federation["h00"].unmask(requests["h00"]))
    two_each = tuple(share for share in right.shares for _ in range(2))
    for name, shares, reason in (
        ("h01", right, "its message is that of 'h00'"),
        ("h04", replace(right, name="h04"), "it sent shares but did not upload"),
        ("h00", replace(right, index=0), "its shares are of another aggregation"),
        ("h00", replace(right, group=bytes(32)), "its shares are of another aggregation"),
        ("h00", replace(right, shares=right.shares[1:]), "not one for each neighbour"),
        ("h00", replace(right, shares=two_each), "not one for each neighbour"),
        ("h00", replace(right, shares=()), "not one for each neighbour"),
        ("h00", replace(right, shares=(*right.shares[:4], b"\xff" * 32)), "out of range"),
    ):
        with pytest.raises(ProtocolRefused, match=reason):
            masked.add_shares(name, shares.to_bytes())
    for name in group.names[:4]:
        masked.add_shares(name, federation[name].unmask(requests[name]))
    assert is_plain_sum(masked, masked.open(), numbers, group.names[:4])


def signed_bundle(federation: Federation, signer: str, bundle: wire.Bundle, **keys) -> bytes:
    """A bundle of a hospital that signs whatever it likes."""
    changed = replace(bundle.keys, ciphertexts=wire.Bundle.digest_of(bundle.ciphertexts), **keys)
    signature = federation.hospitals[signer].identity.sign(changed.body())
    return replace(bundle, keys=replace(changed, signature=signature)).to_bytes()


def lies_about_bundles(f: Federation, bundle: wire.Bundle) -> dict[str, tuple[bytes, str]]:
    keys, parts = bundle.keys, bundle.ciphertexts
    return {
        "of another group": (
            signed_bundle(f, "h00", bundle, group=bytes(32)),
            "of another group or hospital",
        ),
        "of another name": (
            signed_bundle(f, "h00", bundle, name="h01"),
            "of another group or hospital",
        ),
        "too few public keys": (
            signed_bundle(f, "h00", bundle, public_keys=keys.public_keys[:32]),
            "don't cover 2 aggregations",
        ),
        "too many commitments": (
            signed_bundle(f, "h00", bundle, commitments=keys.commitments * 2),
            "don't cover 2 aggregations",
        ),
        "a share too few": (
            signed_bundle(f, "h00", replace(bundle, ciphertexts=parts[1:])),
            "not one for each neighbour",
        ),
        "a short share": (
            signed_bundle(f, "h00", replace(bundle, ciphertexts=(parts[0][:-1], *parts[1:]))),
            "not one for each neighbour",
        ),
        "shares that it didn't sign": (
            replace(bundle, ciphertexts=parts[::-1]).to_bytes(),
            "not those that it signed",
        ),
        "another signature": (
            replace(bundle, keys=replace(keys, signature=bytes(64))).to_bytes(),
            "not signed by the hospital of the roster",
        ),
    }


@pytest.mark.parametrize("number", range(8))
def test_a_bundle_that_is_not_whole_is_refused_by_the_server(number) -> None:
    federation = Federation(4)
    federation.begin()
    group = federation.session.group(federation.names, 2, thresholds(4))
    right = federation["h00"].bundle(group.request)
    lies = lies_about_bundles(federation, wire.Bundle.from_bytes(right))
    assert len(lies) == 8
    data, reason = list(lies.values())[number]
    with pytest.raises(ProtocolRefused, match=reason):
        group.add_bundle("h00", data)
    assert "h00" in group.missing()
    group.add_bundle("h00", right)


def test_a_bundle_of_a_hospital_outside_the_group_is_refused() -> None:
    federation = Federation(5)
    federation.begin()
    group = federation.session.group(federation.names[:4], 2, thresholds(4))
    bundle = wire.Bundle.from_bytes(federation["h00"].bundle(group.request))
    with pytest.raises(ProtocolRefused):
        group.add_bundle("h04", signed_bundle(federation, "h04", bundle, name="h04"))


def test_an_acceptance_of_a_hospital_outside_the_group_is_refused() -> None:
    federation = Federation(5)
    federation.begin(absent=["h04"])
    group = federation.form()
    with pytest.raises(ProtocolRefused):
        group.add_accepted("h04", wire.Accepted(group.id, "h04", group.transcript).to_bytes())


def test_a_public_key_of_small_order_is_refused_by_the_server_with_its_owners_name() -> None:
    federation = Federation(5)
    federation.begin()
    group = federation.session.group(federation.names, 1, thresholds(5))
    bundle = wire.Bundle.from_bytes(federation["h01"].bundle(group.request))
    with pytest.raises(ProtocolRefused):
        group.add_bundle("h01", signed_bundle(federation, "h01", bundle, public_keys=bytes(32)))


def test_an_exchange_key_of_small_order_is_refused_at_hello() -> None:
    federation = Federation(5)
    federation.begin(absent=["h01"])
    session = federation.session.session
    signature = federation.hospitals["h01"].identity.sign(
        wire.Hello.signed(session, "h01", bytes(32))
    )
    with pytest.raises(ProtocolRefused):
        federation.session.add_hello(
            "h01", wire.Hello(session, "h01", bytes(32), signature).to_bytes()
        )


def test_useless_ciphertexts_are_named_with_their_sender() -> None:
    federation = Federation(5)
    federation.begin()
    group = federation.session.group(federation.names, 1, thresholds(5))
    for name in group.names:
        bundle = federation["h03"].bundle(group.request) if name == "h03" else None
        if bundle is None:
            federation.bundle(group, name)
        else:
            broken = replace(wire.Bundle.from_bytes(bundle), ciphertexts=(bytes(80),) * 4)
            group.add_bundle("h03", signed_bundle(federation, "h03", broken))
    for name, data in group.keys_requests():
        federation.accept(group, name, data)
    federation.refusals.clear()  # h03's own client saw that its bundle was replaced
    others = [name for name in group.names if name != "h03"]
    masked, _, _ = uploaded(federation, group, others)
    with pytest.raises(RoundFailed, match="0 of 4 shares came that open the masks of h03"):
        opened(federation, masked)
        masked.open()
