"""What a level of boosted trees costs where gradients stay hidden from who holds the columns.

    python -m benchmarks.vertical_trees [--quick] [--json PATH]

One party has the outcome, so each row's gradient and curvature; another 20 columns in 32 bins.
Their histograms are products of the other's matrix of 0 and 1 (a column for each bin) with these
numbers,
on shares modulo 2^32, with products that a third party deals. The matrix is masked once for all
trees. Two forms: the outcome's holder knows which rows are in a node, as in SecureBoost (Cheng et
al. 2021), or nobody does: a node's rows are shares, too, at three more products of a number a row.

Told are seconds (one thread) and bytes of all parties together, for each level of a tree, beside
Paillier's encryptions (2048 bits, one a row, gradient and curvature packed in it) timed in the same
run; and in how many of its 32 bins a value may still be for who knows each split and the rows that
it parts. Histograms are compared with plain sums, number by number. Gradients have 8 bits.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from benchmarks.report import Row, arguments, emit

COLUMNS, BINS, DEPTH = 20, 32, 6
PARTIES = ("dealer", "features", "outcome")
Words = NDArray[np.uint32]
_CHUNK = 1 << 14


def product(left: Words, right: Words) -> Words:
    """``left.T @ right`` modulo 2^32, exactly: halves of 16 bits in float64, rows in chunks."""
    total = np.zeros((left.shape[1], right.shape[1]), np.uint64)
    for start in range(0, len(left), _CHUNK):
        rows = slice(start, start + _CHUNK)
        low, high = _halves(left[rows])
        others_low, others_high = _halves(right[rows])
        crossed = (low.T @ others_high + high.T @ others_low).astype(np.uint64)
        total += (low.T @ others_low).astype(np.uint64) + (crossed << np.uint64(16))
    return total.astype(np.uint32)


def _halves(words: Words) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return (words & np.uint32(0xFFFF)).astype(np.float64), (words >> 16).astype(np.float64)


@dataclass
class Costs:
    """Seconds by party; bytes by who sends to whom, seeds aside."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    sent: int = 0

    @contextmanager
    def of(self, party: str) -> Iterator[None]:
        """Time what a party computes."""
        began = time.process_time()
        yield
        self.seconds[party] += time.process_time() - began

    def send(self, *words: Words) -> None:
        """Count what goes from one to another."""
        self.sent += sum(one.nbytes for one in words)


class Parties:
    """Bins at one, gradients at the other, in one process; n rows.

    ``bins``: (n, COLUMNS) from 0. ``numbers``: (n, 2), gradient and curvature as whole numbers
    """

    def __init__(self, bins: NDArray[np.int64], numbers: Words, seed: int) -> None:
        self._random = np.random.Generator(np.random.SFC64(seed))
        self.costs = Costs()
        self.bins, self.numbers = bins, numbers
        with self.costs.of("dealer"):
            self._mask = self._drawn((len(bins), COLUMNS * BINS))
        with self.costs.of("features"):
            self._masked = np.negative(self._mask)
            self._masked[np.arange(len(bins))[:, None], bins + np.arange(COLUMNS) * BINS] += (
                np.uint32(1)
            )
        self.costs.send(self._masked)

    def _drawn(self, shape: tuple[int, ...]) -> Words:
        return self._random.integers(0, 2**32, shape, np.uint32)

    def histograms(self, held: Words) -> tuple[Words, Words]:
        """Shares (features', outcome's) of all columns' sums by bin of what the outcome's holder
        has, (n, Q): each (COLUMNS * BINS, Q)."""
        with self.costs.of("dealer"):
            mask = self._drawn(held.shape)
            dealt = product(self._mask, mask)
            share = self._drawn(dealt.shape)
        with self.costs.of("outcome"):
            masked = held - mask
            others = product(self._masked, mask) + share
        with self.costs.of("features"):
            own = self.plain(masked) + dealt - share
        self.costs.send(masked, share)
        return own, others

    def plain(self, words: Words) -> Words:
        """Sums by bin of numbers that the columns' holder has in plain, modulo 2^32."""
        sums = np.empty((COLUMNS, BINS, words.shape[1]), np.uint32)
        for number in range(words.shape[1]):
            weights = words[:, number].astype(np.float64)
            for column in range(COLUMNS):
                found = np.bincount(self.bins[:, column], weights, BINS)
                sums[column, :, number] = found.astype(np.int64).astype(np.uint32)
        return sums.reshape(COLUMNS * BINS, -1)

    def times(self, own: Words, others: Words) -> tuple[Words, Words]:
        """Shares (features', outcome's) of the product, number by number, of what the two hold."""
        with self.costs.of("dealer"):
            masks = self._drawn(own.shape), self._drawn(others.shape)
            share = self._drawn(others.shape)
            dealt = masks[0] * masks[1] - share
        with self.costs.of("features"):
            mine = own - masks[0]
        with self.costs.of("outcome"):
            theirs = others - masks[1]
            second = mine * others + share
        with self.costs.of("features"):
            first = masks[0] * theirs + dealt
        self.costs.send(mine, theirs, dealt)
        return first, second


def known_rows(parties: Parties, inside: NDArray[np.bool_]) -> Words:
    """Opened histograms of a level's nodes whose rows, (n, nodes), the outcome's holder knows."""
    with parties.costs.of("outcome"):
        held = (parties.numbers[:, :, None] * inside[:, None, :]).reshape(len(inside), -1)
    own, others = parties.histograms(held)
    parties.costs.send(own)
    return own + others


def hidden_rows(parties: Parties, shares: tuple[Words, Words], split: Words) -> Words:
    """The same of nodes whose rows are shares, each (n, nodes): those of the nodes above, of which
    ``split``, at the columns' holder, takes some (1) and leaves others (0)."""
    above = shares[0] * split
    crossed = parties.times(split, shares[1])
    inside = above + crossed[0], crossed[1]
    halves = []
    for number in range(2):
        held = np.broadcast_to(parties.numbers[:, number : number + 1], split.shape)
        first, second = parties.times(inside[0], held)
        halves.append((first, second + held * inside[1]))
    mine = np.stack([half[0] for half in halves], 1).reshape(len(split), -1)
    theirs = np.stack([half[1] for half in halves], 1).reshape(len(split), -1)
    own, others = parties.histograms(theirs)
    with parties.costs.of("features"):
        own = own + parties.plain(mine)
    parties.costs.send(own)
    return own + others


def levels(rows: int, hidden: bool) -> list[Row]:
    """Each level of one tree; of two siblings one is summed up, the other is what is left."""
    random = np.random.default_rng(0)
    bins = random.integers(0, BINS, (rows, COLUMNS))
    numbers = random.integers(-128, 128, (rows, 2)).astype(np.int32).view(np.uint32)
    form = "nobody knows a node's rows" if hidden else "the outcome's holder knows a node's rows"
    case = f"{rows:,} rows, {form}"
    parties, found = Parties(bins, numbers, 1), []
    of_all = parties.costs
    if not hidden:
        found += _told(f"{rows:,} rows, once for all trees", of_all)
    whole = Costs()
    for level in range(DEPTH):
        nodes = max(1, 2 ** (level - 1))
        at = random.integers(0, 2 * nodes, rows)
        split = at[:, None] == np.arange(nodes)
        parties.costs = Costs()
        if hidden:
            above = np.ones((rows, nodes), np.uint32)
            share = random.integers(0, 2**32, above.shape, np.uint32)
            opened = hidden_rows(parties, (share, above - share), split.astype(np.uint32))
        else:
            opened = known_rows(parties, split)
        held = (numbers[:, :, None] * split[:, None, :]).reshape(rows, -1)
        if not np.array_equal(opened, parties.plain(held)):
            raise SystemExit(f"{case}: the histograms aren't the sums")
        _told(f"{case}, level {level}, {nodes} nodes", parties.costs)
        whole.sent += parties.costs.sent
        for party, seconds in parties.costs.seconds.items():
            whole.seconds[party] += seconds
    return [*found, *_told(f"{case}, a tree", whole, rows * paillier())]


def _told(case: str, costs: Costs, paillier_s: float | None = None) -> list[Row]:
    peers = {} if paillier_s is None else {"paillier": paillier_s}
    each = ", ".join(f"{party} {costs.seconds[party]:.2f}" for party in PARTIES)
    print(f"{case}: {each} s, {costs.sent / 1e6:.1f} MB")
    return [
        Row(case, "seconds", sum(costs.seconds.values()), "lower", dict(peers)),
        Row(case, "MB", costs.sent / 1e6, "lower"),
    ]


def paillier() -> float:
    """Seconds of one encryption: r^n modulo n^2, n of 2048 bits. Timing needs no primes."""
    modulus = secrets.randbits(2048) | 1 | 1 << 2047
    began = time.process_time()
    for _ in range(10):
        pow(secrets.randbelow(modulus), modulus, modulus * modulus)
    return (time.process_time() - began) / 10


def left_to_guess(trees: int, rows: int = 10_000) -> list[Row]:
    """How many bins a value may be in for who knows each split and which rows it parts."""
    random = np.random.default_rng(2)
    bins = random.integers(0, BINS, (rows, COLUMNS))
    score = (bins / BINS - 0.5) @ random.normal(size=COLUMNS) + np.abs(bins[:, 0] - 16) / 8
    outcome = (random.random(rows) < 1 / (1 + np.exp(np.median(score) - score))).astype(float)
    options = {
        "objective": "binary:logistic",
        "max_depth": DEPTH,
        "eta": 0.1,
        "seed": 0,
        "nthread": 1,
    }
    model = xgboost.train(options, xgboost.DMatrix(bins, outcome), trees)
    lowest = np.zeros(bins.shape)
    highest = np.full(bins.shape, BINS - 1.0)
    for _, tree in model.trees_to_dataframe().groupby("Tree"):
        _narrow(tree.set_index("ID"), bins, lowest, highest)
    left = highest - lowest + 1
    case = f"{rows:,} rows, {trees} trees of known rows"
    return [
        Row(case, f"bins of {BINS} a value may be in, median", float(np.median(left)), "higher"),
        Row(case, "values known to the bin", float((left == 1).mean()), "lower"),
    ]


def _narrow(
    tree: pd.DataFrame,
    bins: NDArray[np.int64],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
) -> None:
    """By one tree's splits: a row that goes left at ``column < bound`` lies below it."""
    waiting = [(tree.index[0], np.arange(len(bins)))]
    while waiting:
        name, inside = waiting.pop()
        node = tree.loc[name]
        if node["Feature"] == "Leaf":
            continue
        column, bound = int(node["Feature"][1:]), float(np.ceil(node["Split"]))
        below = bins[inside, column] < bound
        highest[inside[below], column] = np.minimum(highest[inside[below], column], bound - 1)
        lowest[inside[~below], column] = np.maximum(lowest[inside[~below], column], bound)
        waiting += [(node["Yes"], inside[below]), (node["No"], inside[~below])]


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows = [Row("Paillier, one encryption", "ms", 1000 * paillier(), "lower")]
    for count in (10_000,) if options.quick else (10_000, 100_000):
        for hidden in (False, True):
            rows += levels(count, hidden)
    for trees in (10, 50) if options.quick else (10, 50, 100):
        rows += left_to_guess(trees)
    emit("Histograms of hidden gradients", rows, options.json)


if __name__ == "__main__":
    main()
