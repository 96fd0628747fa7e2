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

from tests.campaign.looks import TABLES, looks
from tests.campaign.space import TASKS, extremes, space, strategy_options
from wardround.common.settings import BUFFERED

_KEYS_A_CASE = (3, 12)
_CANDIDATES = 12
_PRIVATE, _SMALL, _BUFFERED, _ODD, _EXTREME, _LOOK = 0.25, 0.15, 0.15, 0.1, 0.1, 0.4
"""Shares of cases with privacy, with small messages, with buffered rounds, with keys whose table is
off, with one key at an end of what can be typed, and with a look."""
_OPTION = 0.5
"""Share of a strategy's options that are set."""
_MASKS = ("secure_aggregation.", "simulation.masks")
_WEIGHTS = {"binary": 5, "multiclass": 3, "regression": 3, "survival": 3, "images2d": 2}
"""Cheap kinds are drawn more often than once in a round of all kinds."""
CHECKS = ("saved", "masks", "executor", "resume", "written")
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
    def named(self) -> str:
        """What is counted."""
        return f"{self.kind}/{self.check}"

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
            masked = generator.random() < 0.6
            settings, new = max(
                (_candidate(kind, masked, generator, met[kind], width) for _ in range(_CANDIDATES)),
                key=lambda pair: len(pair[1]),
            )
            met[kind] |= new
            yield Case(
                seed,
                number,
                kind,
                settings,
                masked,
                _check(number, kind, settings),
                generator.choice(EXECUTORS),
            )
            number += 1


def _check(number: int, kind: str, settings: dict[str, Any]) -> str:
    """In turn; what is written in other forms is a folder of tables."""
    found = CHECKS[number % len(CHECKS)]
    written = found == "written" and (kind not in TABLES or "data.path" in settings)
    return CHECKS[0] if written else found


def _candidate(
    kind: str,
    masked: bool,
    generator: random.Random,
    met: set[frozenset[tuple[str, str]]],
    width: int,
) -> tuple[dict[str, Any], set[frozenset[tuple[str, str]]]]:
    """Settings, and what meets in them for the first time.

    What is switched off as a whole (privacy and two more in most cases, secure aggregation in plain
    ones) gives no keys: each would be refused for having no effect, which a few still show.
    """
    private, odd = generator.random() < _PRIVATE, generator.random() < _ODD
    small, buffered = generator.random() < _SMALL, generator.random() < _BUFFERED
    off = {"privacy.": not private, "compression.": not small}
    off |= dict.fromkeys(_MASKS, not masked)
    off |= {f"federation.{key}": not buffered for key in BUFFERED}
    none = tuple(prefix for prefix, without in off.items() if without and not odd)
    keys = {key: values for key, values in space(kind).items() if not key.startswith(none)}
    count = generator.randint(*_KEYS_A_CASE)
    chosen = sorted(generator.sample(sorted(keys), min(count, len(keys))))
    settings = {key: generator.choice(keys[key][1:]) for key in chosen}
    for key, values in strategy_options(settings.get("strategy.name", "fedavg")).items():
        if generator.random() < _OPTION:
            settings[key] = generator.choice(values[1:])
    if private and not odd:
        settings |= {"privacy.unit": generator.choice(keys["privacy.unit"][1:])}
        one, other = generator.sample(["privacy.epsilon", "privacy.noise_multiplier"], 2)
        settings = {key: x for key, x in settings.items() if key != other} | {one: keys[one][1]}
    decide = ["compression.bits"] if small else []
    decide += ["federation.pace", "federation.buffer"] if buffered else []
    settings |= {key: generator.choice(keys[key][1:]) for key in decide}
    if generator.random() < _LOOK:
        settings |= generator.choice(looks(kind))
    if generator.random() < _EXTREME:
        settings |= [generator.choice(list(extremes(kind)))]
    items = [(key, repr(value)) for key, value in settings.items()]
    return settings, {frozenset(x) for x in combinations(items, width)} - met
