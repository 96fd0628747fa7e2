"""Cases: settings drawn so that every two values meet as early as possible.

Greedy: of some random candidates the one that brings most new pairs is taken. Deterministic for a
seed, whatever ran before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from tests.campaign.space import TASKS, space

_KEYS_A_CASE = (3, 12)
_CANDIDATES = 12
_OFTEN = ("binary", "multiclass", "regression", "survival", "images2d", "texts", "images3d")
"""Cheap kinds are drawn more often: 4, 2, 2, 2, 2 times and once."""
_WEIGHTS = {"binary": 5, "multiclass": 3, "regression": 3, "survival": 3, "images2d": 2}
CHECKS = ("saved", "masks", "executor", "resume")
"""What is held of a case beside the run itself, in turn."""
EXECUTORS = ("cohort", "processes", "processes-sequential", "auto")


@dataclass(frozen=True)
class Case:
    """One combination. ``settings`` has the keys that aren't at their first value."""

    seed: int
    number: int
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    masked: bool = True
    check: str = CHECKS[0]
    executor: str = EXECUTORS[0]

    @property
    def again(self) -> str:
        """The command that repeats it."""
        return f"python -m tests.campaign --seed {self.seed} --number {self.number}"


def cases(seed: int, width: int = 2) -> Iterator[Case]:
    """Endless cases; ``width``: how many values are to meet (2: pairs, 3: triples)."""
    generator = random.Random(f"campaign {seed}")
    met: dict[str, set[frozenset[tuple[str, str]]]] = {kind: set() for kind in TASKS}
    kinds = [kind for kind in TASKS for _ in range(_WEIGHTS.get(kind, 1))]
    number = 0
    while True:
        generator.shuffle(kinds)
        for kind in kinds:
            settings, new = max(
                (_candidate(kind, generator, met[kind], width) for _ in range(_CANDIDATES)),
                key=lambda pair: len(pair[1]),
            )
            met[kind] |= new
            yield Case(
                seed,
                number,
                kind,
                settings,
                generator.random() < 0.6,
                CHECKS[number % len(CHECKS)],
                generator.choice(EXECUTORS),
            )
            number += 1


def _candidate(
    kind: str, generator: random.Random, met: set[frozenset[tuple[str, str]]], width: int
) -> tuple[dict[str, Any], set[frozenset[tuple[str, str]]]]:
    keys = space(kind)
    count = generator.randint(*_KEYS_A_CASE)
    chosen = sorted(generator.sample(sorted(keys), min(count, len(keys))))
    settings = {key: generator.choice(keys[key][1:]) for key in chosen}
    items = [(key, repr(value)) for key, value in settings.items()]
    return settings, {frozenset(x) for x in combinations(items, width)} - met
