"""Parties of a vertical procedure in this process: letters carried by hand, and kept to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wardround.common.joint.party import Party, Turn
from wardround.common.vertical.deal import Deck, Hand
from wardround.common.vertical.machine import Memory, Talking
from wardround.common.vertical.room import Bank, Seat, Table

DEALER = "coordinator"
NAMES = ("east", "north", "south", "upper", "west")
Sent = list[dict[tuple[str, str], bytes]]


def carried(
    parties: Mapping[str, Party],
    most: int = 10_000,
    before: Callable[[int, dict[str, Party]], None] | None = None,
) -> tuple[dict[str, Turn], Sent]:
    """Runs parties until all are over: their last turns, and what went from whom to whom by step.

    before : is called with each step's number and the parties, which it may exchange for others
    """
    current, last = dict(parties), dict[str, Turn]()
    inbox: dict[str, dict[str, bytes]] = {name: {} for name in parties}
    sent: Sent = []
    for number in range(most):
        if before is not None:
            before(number, current)
        letters: dict[tuple[str, str], bytes] = {}
        for name, party in current.items():
            if name in last:
                continue
            turn = party.step(number, inbox[name])
            letters |= {(name, to): one for to, one in turn.letters.items()}
            if turn.over:
                last[name] = turn
        sent.append(letters)
        inbox = {name: {} for name in parties}
        for (sender, to), one in letters.items():
            inbox[to][sender] = one
        if len(last) == len(current):
            return last, sent
    raise AssertionError(f"not over after {most} steps")


def seeds(parties: int, seed: int = 0) -> list[bytes]:
    """A seed with the dealer for each party, of this test's own."""
    return [bytes([seed, number]) * 16 for number in range(parties)]


def together(
    rows: int,
    party: Callable[[Seat], Any],
    dealer: Callable[[Bank], Any],
    parties: int,
    seed: int = 0,
) -> tuple[list[Any], Sent]:
    """What the texts of all parties give, and what they sent."""
    table = Table(NAMES[:parties], DEALER, rows)
    given: dict[str, Any] = {}

    def texts(name: str, position: int) -> Callable[[Memory], Any]:
        def text(memory: Memory) -> Any:
            hand = Hand(seeds(parties, seed)[position], position)
            given[name] = yield from party(Seat(table, name, hand, memory))
            return Turn(over=True)

        return text

    def bank(memory: Memory) -> Any:
        yield from dealer(Bank(table, Deck(seeds(parties, seed)), memory))
        return Turn(over=True)

    all_parties: dict[str, Party] = {
        name: Talking(texts(name, position), None) for position, name in enumerate(table.parties)
    }
    _, sent = carried(all_parties | {DEALER: Talking(bank, None)})
    return [given[name] for name in table.parties], sent


def split(values: Any, parties: int, seed: int = 0) -> list[Any]:
    """Words in uniform shares."""
    draw = np.random.default_rng(seed)
    shares = [
        draw.integers(0, 2**64, np.shape(values), dtype=np.uint64) for _ in range(parties - 1)
    ]
    return [*shares, values - sum(shares, np.zeros_like(values))]


def total(shares: Sequence[Any]) -> Any:
    """The sum of shares modulo 2^64."""
    found = shares[0].copy()
    for share in shares[1:]:
        found += share
    return found
