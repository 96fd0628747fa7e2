"""The first two steps: that all parties have the same persons, and what each has of them.

A party tells the others a digest of its link, how many persons that has, and of which kind each of
its inputs is; the dealer gets a seed, how many rows there are when padded and how many inputs are
kept. The link's digest is hashed with the session: it can't be compared with another run's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.joint.party import Me, Turn
from wardround.common.secagg.keys import derive
from wardround.common.vertical.deal import SEED_BYTES, Deck, Hand
from wardround.common.vertical.machine import Memory
from wardround.common.vertical.plan import Plan
from wardround.common.vertical.ring import Words
from wardround.common.vertical.room import Bank, Seat, Table, read, written
from wardround.common.vertical.rows import LEFT_OUT

_NOTE = SEED_BYTES // 8 + 2


@dataclass(frozen=True)
class Known:
    """What all parties know after these steps.

    persons : linked
    kinds : of each input of each party, as in ``rows``
    """

    plan: Plan
    persons: int
    kinds: tuple[NDArray[np.uint64], ...]

    @property
    def counts(self) -> list[int]:
        """Of each party its inputs that aren't left out."""
        return [int((kinds != LEFT_OUT).sum()) for kinds in self.kinds]

    @property
    def names(self) -> list[str]:
        """Of inputs that aren't left out, party after party."""
        return [
            name
            for names, kinds in zip(self.plan.columns, self.kinds, strict=True)
            for name, kind in zip(names, kinds, strict=True)
            if kind != LEFT_OUT
        ]

    @property
    def kept_kinds(self) -> list[int]:
        """The kinds of these."""
        return [int(kind) for kinds in self.kinds for kind in kinds if kind != LEFT_OUT]

    @property
    def kept_categories(self) -> list[tuple[int, int]]:
        """Of these (party, category); category -1 of numbers."""
        return [
            (party, category)
            for party, (categories, kinds) in enumerate(
                zip(self.plan.categories, self.kinds, strict=True)
            )
            for category, kind in zip(categories, kinds, strict=True)
            if kind != LEFT_OUT
        ]


def begin(
    plan: Plan, me: Me, memory: Memory, digest: bytes, persons: int, kinds: NDArray[np.uint64]
) -> Any:
    """A party's step. Gives its ``Seat`` and ``Known``. Raises JointRefused where links differ, and
    where there are too few persons for what would be opened."""
    options, seed = plan.options, derive(me.secret, "vertical dealer", me.session)
    if persons > options.most_rows:
        raise JointRefused("more persons are linked than procedure.most_rows")
    if plan.rows(persons) == 0:
        raise JointRefused("nobody is linked")
    bound = hashlib.sha256(digest + me.session).digest()
    header = np.concatenate([np.frombuffer(bound, "<u8").astype(np.uint64), _words(persons), kinds])
    kept = int((kinds != LEFT_OUT).sum())
    note = seed + written(np.concatenate([_words(plan.rows(persons)), _words(kept)]))
    letters = yield Turn(
        {
            **{name: written(header) for name in plan.parties if name != me.name},
            options.dealer: note,
        }
    )
    found = []
    for name, columns in zip(plan.parties, plan.columns, strict=True):
        mine = name == me.name
        words = header if mine else read(letters, name, 5 + len(columns))
        if not np.array_equal(words[:5], header[:5]):
            raise JointRefused("the parties' links differ; link again, and use the new link")
        found.append(words[5:])
    known = Known(plan, persons, tuple(found))
    if not sum(known.counts):
        raise JointRefused("no input is left: all are constant, or of too few persons")
    if plan.points(persons, sum(known.counts)) < 1:
        raise JointRefused(
            "more numbers would be opened than persons are linked: ask for fewer inputs"
        )
    table = Table(plan.parties, options.dealer, plan.rows(persons))
    hand = Hand(seed, plan.parties.index(me.name))
    return Seat(table, me.name, hand, memory, derive(me.secret, "vertical own", me.session)), known


def deal_begin(plan: Plan, memory: Memory) -> Any:
    """The dealer's half. Gives its ``Bank``, and of each party how many inputs are kept."""
    letters = yield Turn()
    seeds, rows, counts = [], set(), []
    for name, columns in zip(plan.parties, plan.columns, strict=True):
        words: Words = read(letters, name, _NOTE)
        seeds.append(written(words[: SEED_BYTES // 8]))
        rows.add(int(words[-2]))
        counts.append(int(words[-1]))
        if counts[-1] > len(columns):
            raise JointRefused("a party has more inputs than the plan")
    if len(rows) != 1 or not 0 < max(rows) <= plan.rows(plan.options.most_rows):
        raise JointRefused("the parties' links differ; link again, and use the new link")
    return Bank(Table(plan.parties, plan.options.dealer, rows.pop()), Deck(seeds), memory), counts


def _words(*values: int) -> NDArray[np.uint64]:
    return np.array(values, np.uint64)
