"""A key that hospitals share through a server: who has it, and what each of them refuses."""

from __future__ import annotations

import dataclasses

import pytest

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.group_key import GroupKey, Holder
from wardround.common.secagg.keys import ExchangeKey
from wardround.common.trust.identity import Identity, verify

NAMES = ("east", "north", "south", "west")
SESSION, RUN = b"s" * 32, "run-1"
IDENTITIES = {
    name: Identity.from_bytes(bytes([number + 1]) * 32) for number, name in enumerate(NAMES)
}
ROSTER = {name: one.public for name, one in IDENTITIES.items()}


def holder(name: str, session: bytes = SESSION, run: str = RUN, fewest: int = 2) -> Holder:
    secret = bytes([40 + NAMES.index(name)]) * 32
    public = ExchangeKey(secret).public
    signature = IDENTITIES[name].sign(wire.Hello.signed(session, name, public))
    hello = wire.Hello(session, name, public, signature).to_bytes()
    return Holder(name, IDENTITIES[name], ROSTER, session, run, secret, hello, fewest)


def request(*names: str) -> bytes:
    hellos = tuple(wire.Hello.from_bytes(holder(name).hello) for name in names)
    return wire.DealRequest(SESSION, hellos).to_bytes()


def dealt(*names: str) -> bytes:
    return holder(names[0]).deal(request(*names))


def test_all_members_have_one_key_and_what_they_answer_is_signed() -> None:
    deal = dealt("east", "north", "west")
    taken = {name: holder(name).take(deal) for name in ("east", "north", "west")}
    keys = {name: key for name, (key, _) in taken.items()}
    assert len({(key.id, key.secret) for key in keys.values()}) == 1
    assert keys["west"].members == ("east", "north", "west")
    for name, (key, answer) in taken.items():
        said = wire.Dealt.from_bytes(answer)
        assert (said.key, said.name) == (key.id, name)
        assert verify(ROSTER[name], said.signature, wire.Dealt.signed(key.id, name))
    assert keys["east"].secret not in deal and keys["east"].secret.hex() not in repr(keys["east"])


def test_another_deal_is_another_key_and_who_isnt_in_it_has_none() -> None:
    first, second = dealt("east", "north"), dealt("east", "north")
    one, other = holder("north").take(first)[0], holder("north").take(second)[0]
    assert one.id != other.id and one.secret != other.secret
    with pytest.raises(ProtocolRefused, match="not a member"):
        holder("south").take(first)


def test_the_first_by_name_deals_and_nobody_else() -> None:
    with pytest.raises(ProtocolRefused, match="'east' deals this group's key"):
        holder("north").deal(request("east", "north"))
    # a deal that north signed, of a request in which it stands first, with east put before it
    theirs = wire.Deal.from_bytes(dealt("north", "west"))
    hello = wire.Hello.from_bytes(holder("east").hello)
    forged = dataclasses.replace(
        theirs, members=(hello, *theirs.members), sealed=(theirs.sealed[0], *theirs.sealed)
    )
    with pytest.raises(ProtocolRefused, match="not signed by 'east'"):
        holder("west").take(forged.to_bytes())


def altered(deal: bytes, name: str) -> bytes:
    one = wire.Deal.from_bytes(deal)
    value = getattr(one, name)
    if isinstance(value, bytes):
        return dataclasses.replace(one, **{name: bytes([value[0] ^ 1]) + value[1:]}).to_bytes()
    return dataclasses.replace(one, **{name: value[::-1]}).to_bytes()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(wire.Deal)])
def test_whatever_a_server_alters_is_refused(name: str) -> None:
    with pytest.raises(ProtocolRefused):
        holder("north").take(altered(dealt("east", "north"), name))


def test_a_servers_own_key_and_another_run_session_or_size_are_refused() -> None:
    deal = dealt("east", "north")
    for other in (holder("north", session=b"t" * 32), holder("north", run="run-2")):
        with pytest.raises(ProtocolRefused, match="another session|for this run"):
            other.take(deal)
    with pytest.raises(ProtocolRefused, match="min_cohort is 3"):
        holder("north", fewest=3).take(deal)
    with pytest.raises(ProtocolRefused, match="min_cohort is 3"):
        holder("east", fewest=3).deal(request("east", "north"))
    # the server puts a key of its own in north's place
    mine = wire.Hello(SESSION, "north", ExchangeKey(b"x" * 32).public, bytes(64))
    asked = wire.DealRequest(SESSION, (wire.Hello.from_bytes(holder("east").hello), mine))
    with pytest.raises(ProtocolRefused, match="'north' is not signed"):
        holder("east").deal(asked.to_bytes())


def test_what_is_sealed_opens_for_the_same_purpose_and_binding_alone() -> None:
    key = holder("north").take(dealt("east", "north"))[0]
    sealed = key.seal("state", b"model", b"7")
    assert key.unseal("state", sealed, b"7") == b"model"
    assert key.seal("state", b"model", b"7") != sealed
    stranger = GroupKey(key.id, key.members, b"z" * 32)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for who, purpose, data, bound in (
        (key, "other", sealed, b"7"),
        (key, "state", sealed, b"8"),
        (key, "state", flipped, b"7"),
        (key, "state", b"", b"7"),
        (stranger, "state", sealed, b"7"),
    ):
        with pytest.raises(ProtocolRefused, match="not what a hospital of it sealed"):
            who.unseal(purpose, data, bound)
