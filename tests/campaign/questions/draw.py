"""Questions of a seed: each procedure's keys, with values of their types and ranges, or by role.

A new key joins by itself; one without values stands in ``LEFT_OUT`` with the reason.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tests.campaign.space import derived
from wardround.common.settings.analyses import ANALYSES
from wardround.common.settings.procedure import PROCEDURES

Values = dict[str, Any]
Role = Callable[[random.Random, str], Any]

NUMBERS = ("größe", "creatinine", "lactate", "marker", "wide", "days")
CATEGORIES = ("ward", "smoker", "event")
ALONE = ("trees", "describe", "evaluate", "calibrate", "monitor", "vertical", "own")
"""Procedures beside statistics, drawn as often as all analyses of it together."""
_KINDS = ("binary", "multiclass", "regression", "survival")
_SET, _PRIVATE = 0.35, 0.08
"""Shares: of keys that may be left out, and of questions under privacy."""
_COUNTS = ("poisson", "negative_binomial")
_TERMS = (
    "größe", "creatinine", "lactate", "marker", "C(ward)", "C(smoker)", "smoker", "I(lactate / 2)",
    "log(lactate + 1)", "creatinine:größe", "C(smoker):lactate", "I(größe ** 2)", "wide",
    "C(event)",
)  # fmt: skip


def _outcome(family: str, generator: random.Random) -> str:
    if family == "logistic":
        return generator.choice(("smoker", "event"))
    if family in _COUNTS:
        return "days"
    if family == "gamma":
        return generator.choice(("creatinine", "lactate", "wide"))
    return generator.choice(("größe", "creatinine", "lactate", "days"))


def formula(kind: str, family: str, generator: random.Random) -> str:
    """What predicts what, by R's words."""
    outcome = "" if kind == "cox" else _outcome(family, generator)
    if kind == "propensity":
        outcome = "smoker"
    pool = [one for one in _TERMS if not outcome or outcome not in one]
    if kind == "cox":
        pool = [one for one in pool if "event" not in one]
    right = " + ".join(generator.sample(pool, generator.randint(1, 3)))
    return f"{outcome} ~ {right}" if outcome else right


def _some(least: int) -> Role:
    return lambda generator, _: generator.sample(NUMBERS, generator.randint(least, 4))


def _columns(generator: random.Random, kind: str) -> Any:
    """Of numbers; of a crosstab another column of categories."""
    if kind == "crosstab":
        return generator.choice(("smoker", "event"))
    return _some(2)(generator, kind)


ROLES: dict[str, Role] = {
    "columns": _columns,
    "categories": lambda generator, _: generator.sample(CATEGORIES[:2], 1),
    "by": lambda generator, _: generator.choice(CATEGORIES[1:]),
    "rows": lambda generator, _: "ward",
    "before": lambda generator, _: generator.choice(NUMBERS[:3]),
    "after": lambda generator, _: generator.choice(NUMBERS[3:]),
    "time": lambda generator, _: "days",
    "event": lambda generator, _: "event",
    "entry": lambda generator, _: "lactate",
    "outcome": lambda generator, _: generator.choice(("creatinine", "lactate", "event")),
    "weights": lambda generator, _: generator.choice(("lactate", "creatinine")),
    "groups": lambda generator, _: generator.choice((["0", "1"], ["1", "0"])),
    "ranges": lambda generator, _: {"größe": [100, 250]},
    "horizon": lambda generator, _: generator.choice((50.0, 200.0)),
    "restricted_mean": lambda generator, _: generator.choice((30.0, 100.0)),
    "level": lambda generator, _: 0.9,
    "formula": lambda generator, kind: formula(kind, "linear", generator),
    "tells_hospitals": lambda generator, _: True,
    "strength": lambda generator, _: generator.choice((0.05, 0.5)),
}
"""Keys of analyses whose values are of the data, or would say nothing by their type alone."""
GIVEN: dict[str, list[Any]] = {
    "trees.rounds": [2, 3],
    "trees.max_depth": [2, 3, 1],
    "trees.monotone": [{}, {"größe": 1}, {"creatinine": -1, "lactate": 1}],
    "trees.forest": [1, 2],
    "trees.early_stopping": [0, 1],
    "describe.ranges": [{}, {"größe": [100, 250]}],
    "evaluate.importance": [False, True, ["größe", "ward"]],
    "evaluate.robustness": [[], ["noise"], ["missing", "absent"]],
    "evaluate.strengths": [{}, {"noise": [0.5]}],
    "evaluate.repeats": [5, 1, 2],
    "vertical.model": ["linear", "logistic", "poisson", "cox"],
    "vertical.dealer": ["coordinator", "university"],
    "vertical.padded": [100, 60],
    "vertical.iterations": [25, 40],
    "vertical.intervals": [20, 4],
    "vertical.tolerance": [0.01, 0.001],
}
LEFT_OUT = {
    "kmeans.starts": "each costs as many steps: three here",
    "kmeans.iterations": "the same: thirty here",
    "mixture.starts": "two here",
    "mixture.iterations": "twenty here",
    "statistics.analyses": "drawn",
    "evaluate.model": "a finished run of the same consortium",
    "calibrate.model": "the same",
    "monitor.model": "the same",
    "evaluate.model_digest": "follows from it",
    "calibrate.model_digest": "follows from it",
    "monitor.model_digest": "follows from it",
    "monitor.reference": "needs two runs: tests/simulations/run/test_monitor.py",
    "vertical.link": "the linkage's own study",
    "vertical.most_rows": "a refusal of more: tests/common/joint",
}
"""Keys that aren't drawn, by procedure or kind of analysis, and why."""
ALWAYS = ("vertical.model", "own.low", "own.high", "own.steps")
"""Keys that must be given."""
CHEAP: dict[str, Values] = {
    "kmeans": {"starts": 3, "iterations": 30},
    "mixture": {"starts": 2, "iterations": 20},
}


@dataclass(frozen=True)
class Question:
    """One question.

    asked : ``[procedure]`` with its name
    kind : of consortium
    settings : dotted keys beside it
    """

    seed: int
    number: int
    kind: str
    asked: Values
    settings: Values = field(default_factory=dict)

    @property
    def named(self) -> str:
        """What is counted."""
        asked = self.asked.get("analyses")
        return str(asked[0]["kind"] if asked else self.asked["name"])

    @property
    def again(self) -> str:
        """The command that repeats it."""
        return f"python -m tests.campaign --questions --seed {self.seed} --number {self.number}"


def questions(seed: int) -> Iterator[Question]:
    """Endless questions: every analysis and every other procedure in turn, in a drawn order."""
    generator = random.Random(f"questions {seed}")
    names = [*ANALYSES, *ALONE, *ALONE]
    number = 0
    while True:
        generator.shuffle(names)
        for name in names:
            yield _question(seed, number, name, generator)
            number += 1


def _question(seed: int, number: int, name: str, generator: random.Random) -> Question:
    settings: Values = {}
    private = generator.random() < _PRIVATE and name != "vertical"
    if private:
        unit = generator.choice(("example", "patient", "hospital"))
        settings |= {"privacy.unit": unit, "privacy.noise_multiplier": 1.0}
    if name in ANALYSES:
        asked = analysis(name, generator)
        settings |= {"task.columns.patient_id": "patient"} if generator.random() < 0.7 else {}
        table: Values = {"name": "statistics", "analyses": [asked]}
        if generator.random() < 0.2:
            table["smallest_cell"] = generator.choice((3, 10))
        return Question(seed, number, "survival", table, settings)
    options = {
        key: generator.choice(values[1:])
        for key, values in options_of(name).items()
        if generator.random() < _SET or f"{name}.{key}" in ALWAYS
    }
    if name == "trees":
        options |= {"rounds": 2, "max_depth": 2} | options
        if options.get("early_stopping"):
            settings["data.validation_fraction"] = 0.2
    kind = "survival" if name == "vertical" else generator.choice(_KINDS)
    return Question(seed, number, kind, {"name": name} | options, settings)


def analysis(kind: str, generator: random.Random, name: str = "asked") -> Values:
    """One table of ``[[procedure.analyses]]``."""
    found: Values = {"name": name, "kind": kind} | CHEAP.get(kind, {})
    for key, one in ANALYSES[kind].model_fields.items():
        if key in found or key == "formula" or not (one.is_required() or generator.random() < _SET):
            continue
        if (values := values_of(kind, key)) is None:
            continue
        found[key] = values(generator, kind)
    if kind in ("summary", "table_one") and not {"columns", "categories"} & set(found):
        found["columns"] = _some(1)(generator, kind)
    if "formula" in ANALYSES[kind].model_fields:
        found["formula"] = formula(kind, found.get("family", "linear"), generator)
    return found


def values_of(kind: str, key: str) -> Role | None:
    """What draws a key's values; None of one that isn't drawn."""
    if f"{kind}.{key}" in LEFT_OUT:
        return None
    if key in ROLES:
        return ROLES[key]
    found = derived(ANALYSES[kind].model_fields[key])
    assert found is not None, f"{kind}.{key} has no values, and isn't in LEFT_OUT"
    return lambda generator, _: generator.choice(found[1:])


def options_of(procedure: str) -> dict[str, list[Any]]:
    """Keys of a procedure beside statistics with their values, the default first."""
    if procedure == "own":
        return {"low": [0.0, -10.0], "high": [300.0, 1e6], "steps": [16, 8]}
    model: type[BaseModel] = PROCEDURES[procedure]
    found: dict[str, list[Any]] = {}
    for key, one in model.model_fields.items():
        name = f"{procedure}.{key}"
        if name in LEFT_OUT:
            continue
        values = GIVEN.get(name) or derived(one)
        assert values is not None, f"{name} has no values, and isn't in LEFT_OUT"
        found[key] = values
    return found
