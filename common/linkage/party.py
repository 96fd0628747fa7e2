"""A party of a linkage: private set intersection by commuting secrets, between 2 to 5 parties.

The protocol
------------
G is the group of P-256, H hashes a row's identifiers, bound to the run, into it (``points.py``),
s_i and r_i are party i's secret scalars of this run, and a token is the x-coordinate of a point.
The parties stand in a ring; ``plan.py`` has the steps.

1. Party i makes its list: r_i H(x) for each of its rows, and as many of random points as fill it
   up to a multiple of ``padded``. It sorts the list by token and sends it on; its length to all.
2. Whoever is sent a list multiplies each token by its s, sorts the list again, remembers which
   token came from which place, and sends it on. When a list is back at its owner i, this one
   multiplies by s_i / r_i. Now it is under s_1 ... s_k: equal rows are equal tokens, whoever's list
   they stand in. (Of two parties r_i = s_i, and the list needn't come back.)
3. Of lists under all secrets the first 12 bytes of each token go to whoever compares (the
   coordinator, or a party): it finds what stands in all lists, ends the run if that is fewer than
   ``smallest``, and else tells each party which tokens they are in the list that this one sent
   last. The order of these tokens is the agreed order of the linked persons: it follows from all
   secrets, and from nothing that anyone knows.
4. Each list's places go back round the ring. Each party says which places of the list as it came
   they are; at last the owner has places in its own list, and knows which rows stand there.

This is the chain of Meadows (1986) and Huberman, Franklin and Hogg (1999) in a ring of several, and
with the way back as the permission to open.

What each side learns
---------------------
all parties        the padded length of every list; the number of linked persons, and which of its
                   own rows they are, once there are at least ``smallest``
who compares       besides: how many persons each group of two or more parties have in common, in
                   a refused run too. A party that compares learns these numbers, and still not
                   which of its rows they are: the others have sorted its list before it sees it
                   again
the server         sealed letters whose lengths follow from padded lengths, and the steps

Why
---
Take any parties together, without who compares, and d one of the others. Of d's list they have
tokens under r_d, which is in nothing else that they see: where it is taken off, the list goes to
who compares. Under the decisional Diffie-Hellman assumption in G (that on x-coordinates follows
from it), with H as a random oracle, these are random strings, as many as the padded length. They
may have d multiply what they like by s_d, as often as their lists are long, and meet nothing that
they could compare it with. (Two parties: d's list is under s_d, and what d multiplies it sends to
who compares alone.) So they learn what who compares lets them, and d lets through on the way back.

Who compares has equal tokens in unlike lists, and that is all that it has of them. To test a guess
one needs H(guess) under all secrets, so every party at work; a run takes ``most_rows`` rows of a
party at most, and each party counts what it helped with (``Links.helps``). Secrets and points are
of one run: tokens of two runs never meet.

All parties but d, together with who compares, and following the protocol: they have all secrets
but d's, and learn how many of d's rows are in common with theirs, in any grouping; and which, only
of persons that d has let through on the way back. For d has sorted their lists by tokens under its
own secret, and only it knows what stood where.

What a party that doesn't follow may do
---------------------------------------
- choose its rows: guesses in place of patients. It learns who of them all others have, if they are
  at least ``smallest``; that is what linkage gives, so it is counted and limited;
- together with who compares, use another secret for each row, and so know its own rows again in
  spite of the sorting: it then learns which of them another party has, of fewer than ``smallest``
  too, or of two parties' alone. So this rests on the coordinator, or on the party that compares.
  Proofs that a list is under one secret would end it; they cost several times the run;
- compare wrongly, which only who compares can: it may name places that aren't equal. Who is in the
  link then is wrong. Each party sees how many places pass and holds them against ``smallest``, its
  own against its rows: a place of padding ends the run;
- drop, double, exchange or send back tokens: those rows aren't linked. A list sent back to its
  owner, or passed as one's own, is under another set of secrets, or one secret twice: it meets
  nothing. Tokens that are none, twice, unsorted, too many or too few, end the run in fixed words,
  which say nothing of a row.

A party computes the same bytes again from the same secret and rows. What it must not forget is
small: where tokens stood, 4 bytes each for every list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.joint.links import ORDER, ROWS
from wardround.common.joint.party import Me, Party, State, Turn
from wardround.common.linkage import places
from wardround.common.linkage.compare import compared, read_length
from wardround.common.linkage.many import spread
from wardround.common.linkage.plan import (
    LENGTH_BYTES,
    Plan,
    check_senders,
    everybody,
)
from wardround.common.linkage.points import TOKEN_BYTES, NotOnCurve, instead, scalar_of
from wardround.common.linkage.rows import NO_ROW, Rows
from wardround.common.linkage.tokens import Places, ascending, sorted_by_token, tags_of, tokens_of
from wardround.common.linkage.work import HIDE, RAISE
from wardround.common.secagg.keys import derive

CHANGED = "the rows of a party are others than when the linkage began"
_OWN, _HOP, _LENGTHS, _FULL, _BACK, _KEYS = "own", "hop", "lengths", "full", "back", "keys"


class LinkingParty(Party):
    """A hospital's half.

    told : makes the texts that are told at the end, of the number of linked persons, the lengths by
        owner and the order's 32 bytes

    Raises JointRefused where the task's rows are more than ``most_rows``, or two have one key.
    """

    def __init__(
        self,
        plan: Plan,
        me: Me,
        told: Callable[[int, Mapping[str, int], bytes], Mapping[str, str]],
    ) -> None:
        self._plan, self._me, self._told = plan, me, told
        scalar, first = scalar_of(me.secret, me.session), scalar_of(me.secret, me.session, "own")
        closes = plan.hops == plan.count
        self._scalar, self._first = scalar, first if closes else scalar
        self._last = instead(first, scalar)
        self._rows = Rows(me.rows.keys, plan.most_rows)
        self._state: State = dict(me.state or {})
        if me.state and me.state[_KEYS].tobytes() != self._rows.digest:
            raise JointRefused(CHANGED)

    def state(self) -> State:
        """Where tokens of each list stood; what was compared; a digest of the rows."""
        return dict(self._state)

    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        """As the module's text has it."""
        plan, name, hops = self._plan, self._me.name, self._plan.hops
        before, after = plan.after(name, -1), plan.after(name)
        if number == 0:
            check_senders(set(letters), set())
            return self._begin(after)
        if number == 1:
            check_senders(set(letters), set(plan.parties) - {name})
            found = {other: read_length(plan, text) for other, text in letters.items()}
            found[name] = plan.length(len(self._rows))
            self._state[_LENGTHS] = np.array([found[one] for one in plan.parties], np.int64)
            if any(len(letters[one]) != LENGTH_BYTES for one in letters if one != before):
                raise JointRefused("a party of the linkage wrote out of turn, or not at all")
            return self._pass_on(number, letters[before][LENGTH_BYTES:])
        if number <= hops:
            check_senders(set(letters), {before})
            return self._pass_on(number, letters[before])
        if number == hops + 1:
            return self._compare(letters)
        sender = plan.compare if number == hops + 2 else after
        expected = set() if sender == name else {sender}
        check_senders(set(letters), expected)
        return self._go_back(number, letters.get(sender, b""))

    # --- there ---------------------------------------------------------------------------------
    def _begin(self, after: str) -> Turn:
        rows, plan = self._rows, self._plan
        length = plan.length(len(rows))
        padding = derive(self._me.secret, "linkage padding", self._me.session)
        points = rows.digests(self._me.session) + b"".join(
            hashlib.sha256(padding + count.to_bytes(8, "big")).digest()
            for count in range(length - len(rows))
        )
        tokens, where = sorted_by_token(spread(HIDE, self._first, points, self._me.workers))
        own = np.full(length, NO_ROW, np.int32)
        real = where < len(rows)
        own[real] = rows.numbers[where[real]]
        self._state[_OWN] = own
        self._state[_KEYS] = np.frombuffer(rows.digest, np.uint8)
        announced = length.to_bytes(LENGTH_BYTES, "big")
        letters = {one: announced for one in everybody(plan) if one != self._me.name}
        return Turn({**letters, after: announced + tokens})

    def _pass_on(self, number: int, text: bytes) -> Turn:
        plan, name = self._plan, self._me.name
        owner = plan.after(name, -number)
        if len(text) != TOKEN_BYTES * self._length(owner):
            raise JointRefused("a list lost tokens on its way, or gained some")
        if not ascending(tokens_of(text)):
            raise JointRefused("a list is not sorted, or has a token twice")
        if self._me.links is not None and owner != name:
            self._me.links.helps(self._me.session, number, {owner: self._length(owner)})
        scalar = self._scalar if owner != name else self._last
        try:
            tokens, where = sorted_by_token(spread(RAISE, scalar, text, self._me.workers))
        except NotOnCurve:
            raise JointRefused("a list has something that is no point of the curve") from None
        self._state[f"{_HOP}{number}"] = where.astype(np.uint32)
        if number < plan.hops:
            return Turn({plan.after(name): tokens})
        tags = tags_of(tokens)
        if plan.compare != name:
            return Turn({plan.compare: tags})
        self._state[_FULL] = np.frombuffer(tags, np.uint8)
        return Turn()

    def _compare(self, letters: Mapping[str, bytes]) -> Turn:
        plan, name = self._plan, self._me.name
        here = plan.compare == name
        check_senders(set(letters), set(plan.parties) - {name} if here else set())
        if not here:
            return Turn()
        lists = {**letters, name: self._state.pop(_FULL).tobytes()}
        lengths = {one: self._length(one) for one in plan.parties}
        answers = compared(plan, self._me.session, lists, lengths)
        self._state[_BACK] = np.frombuffer(answers.pop(name), np.uint8)
        return Turn(answers)

    # --- and back ------------------------------------------------------------------------------
    def _go_back(self, number: int, text: bytes) -> Turn:
        plan, name, hops = self._plan, self._me.name, self._plan.hops
        shortest = int(self._state[_LENGTHS].min())
        hop = 2 * hops + 2 - number  # of the list that is on its way back
        length = self._length(plan.after(name, -hop))
        if hop == hops:
            text = self._state.pop(_BACK).tobytes() if plan.compare == self._me.name else text
            order, there = places.read_marks(text, plan, shortest, length)
            self._state[ORDER] = np.frombuffer(order, np.uint8)
        else:
            there = places.read(text, plan, shortest, length)
        self._same_number(len(there))
        if hop:
            came = self._state[f"{_HOP}{hop}"][there].astype(np.int64)
            return Turn({plan.after(name, -1): places.written(came, plan, shortest)})
        return self._end(there)

    def _end(self, there: Places) -> Turn:
        rows = self._state[_OWN][there].astype(np.int64)
        if (rows == NO_ROW).any():
            raise JointRefused("the comparison has linked what is no row of a party")
        order: NDArray[Any] = self._state[ORDER]
        lengths = {one: self._length(one) for one in self._plan.parties}
        told = self._told(len(rows), lengths, order.tobytes())
        return Turn(over=True, told=told, kept={ROWS: rows, ORDER: order})

    def _same_number(self, count: int) -> None:
        first = self._state.setdefault("linked", np.array([count], np.int64))
        if int(first[0]) != count:
            raise JointRefused("unlike numbers of linked persons came from the parties")

    # --- small things --------------------------------------------------------------------------
    def _length(self, owner: str) -> int:
        return int(self._state[_LENGTHS][self._plan.parties.index(owner)])
