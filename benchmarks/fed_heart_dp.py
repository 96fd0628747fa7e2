"""Fed-Heart-Disease with differential privacy, beside FLamby's published figures.

    python -m benchmarks.fed_heart_dp [--quick] [--json PATH]

Mean over the hospitals' own test accuracies, mean over 5 seeds (with seeded noise), at correctly
accounted epsilon. FLamby (Terrail et al. 2022, section 5.3) calibrates for 15 epochs, but takes
1,500 steps in every hospital; what that costs is worked out here from its settings: batch 4,
Opacus' noise for the nominal epsilon, rate 4 / n, 1,500 steps, the largest over its four hospitals.
Ours is then measured at that very epsilon, too.

Every row of this data is another patient, so protecting patients costs what protecting rows does;
'three rows a patient' groups them, to show what more records cost. Settings are chosen on
validation rows within the training rows, which no epsilon covers (nor does FLamby's). ``--quick``
skips the search: fewer seeds and budgets, and the settings that it chose when it was last run.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from pathlib import Path

from benchmarks.fed_heart import BASE
from benchmarks.flamby import Setting, Study, tune
from benchmarks.flamby_data import HEART_SIZES, Rows, heart_disease, write
from benchmarks.report import Row, arguments, emit
from wardround.common.privacy.accounting import Release, epsilon
from wardround.simulations import parse_config, simulate

PUBLISHED = {0.1: 0.606, 1.0: 0.685, 5.0: 0.704, 10.0: 0.700}
"""FLamby's accuracy by nominal epsilon."""
EPSILONS, DELTAS, SEEDS = (0.5, 1.0, 3.0, 5.0, 10.0), (1e-3, 1e-4), range(5)
_STEPS, _EPOCHS, _BATCH = 1500, 15, 4
ALL = "training.batch_size=1000"
DISTRIBUTED: Setting = (
    "privacy.noise=distributed",
    "training.local_steps=1",
    ALL,
    "secure_aggregation.enabled=true",
    "secure_aggregation.threshold=0.8",  # all four must stay, so no noise is spent on dropouts
)
CENTRAL: Setting = ("privacy.noise=central", "training.local_steps=1", ALL)
LOCAL: Setting = ("privacy.noise=local", "training.local_steps=1", ALL)
PLACES = {"distributed": DISTRIBUTED, "local": LOCAL}
SMALL, LARGE = 1.0, 10.0
"""Budgets at which settings are chosen: for those up to ``_BETWEEN``, and for larger ones."""
_BETWEEN = 2.0
Choice = dict[tuple[str, float], Setting]
CHOSEN: Choice = {
    ("distributed", SMALL): (
        "federation.rounds=40",
        "training.lr=2.0",
        "privacy.clipping_norm=1.0",
    ),
    ("distributed", LARGE): ("federation.rounds=5", "training.lr=2.0", "privacy.clipping_norm=0.5"),
    ("local", SMALL): ("federation.rounds=20", "training.lr=2.0", "privacy.clipping_norm=1.0"),
    ("local", LARGE): ("federation.rounds=40", "training.lr=2.0", "privacy.clipping_norm=1.0"),
}


def flamby_epsilon(nominal: float, delta: float) -> float:
    """What FLamby's run of a nominal epsilon really cost the hospital that paid most."""
    from opacus.accountants.utils import get_noise_multiplier

    costs = []
    for train, _ in HEART_SIZES.values():
        loader = -(-train // _BATCH)
        sigma = get_noise_multiplier(
            target_epsilon=nominal,
            target_delta=delta,
            sample_rate=1 / loader,
            epochs=_EPOCHS,
            accountant="rdp",
        )
        costs.append(epsilon([Release(sigma, min(1.0, _BATCH / train), _STEPS)], delta))
    return max(costs)


def accuracy(hospitals: dict[str, Rows], setting: Setting, seeds: list[int]) -> tuple[float, float]:
    """Mean and deviation over seeds of the hospitals' mean test accuracy."""
    values = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            data = write(hospitals, Path(folder) / "hospitals")
            fixed = (
                f"federation.seed={seed}",
                f'federation.runs="{folder}/runs"',
                f'data.path="{data}"',
                "simulation.baselines=false",
            )
            result = simulate(parse_config(BASE, [*fixed, *setting]))
        (row,) = [row for row in result.comparison if row["hospital"] == "mean"]
        values.append(row["federated"]["accuracy"])
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def budget(epsilon_: float, delta: float, unit: str = "example") -> Setting:
    """The overrides of one budget."""
    settings: Setting = (
        f"privacy.unit={unit}",
        f"privacy.epsilon={epsilon_!r}",
        f"privacy.delta={delta!r}",
    )
    return (*settings, "task.columns.patient_id=patient") if unit == "patient" else settings


def with_patients(hospitals: dict[str, Rows], records: int) -> dict[str, Rows]:
    """A patient id on every row; ``records`` rows of one split share one."""
    named = {}
    for name, rows in hospitals.items():
        seen = {"train": 0, "test": 0}
        named[name] = []
        for row in rows:
            split = row["split"]
            named[name].append(row | {"patient": f"{split}-{seen[split] // records}"})
            seen[split] += 1
    return named


def grid() -> list[Setting]:
    """Rounds, rates and norms, all small: every further round costs noise."""
    return [
        (f"federation.rounds={rounds}", f"training.lr={lr}", f"privacy.clipping_norm={norm}")
        for rounds, lr, norm in itertools.product((5, 10, 20, 40), (0.5, 1.0, 2.0), (0.5, 1.0))
    ]


def choose(hospitals: dict[str, Rows]) -> Choice:
    """The best settings on validation rows, at delta 1e-3."""
    study = Study("heart", hospitals, BASE, "accuracy", "disease", repeats=4)
    # masks hide single hospitals' figures: central noise is the same noise as distributed
    places = {"distributed": CENTRAL, "local": LOCAL}
    found = {}
    for (name, place), value in itertools.product(places.items(), (SMALL, LARGE)):
        settings = [(*place, *budget(value, 1e-3), *setting) for setting in grid()]
        found[name, value] = tune(study, settings, 5, noisy=True)[0][1][-3:]
        print(f"{name}, epsilon {value:g}: {' '.join(found[name, value])}", flush=True)
    return found


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    hospitals = heart_disease()
    chosen = CHOSEN if options.quick else choose(hospitals)
    seeds = list(SEEDS)[:1] if options.quick else list(SEEDS)
    rows = []
    for delta in DELTAS[:1] if options.quick else DELTAS:
        for nominal in [1.0] if options.quick else PUBLISHED:
            rows += _beside(hospitals, chosen, nominal, delta, seeds)
        for value in (1.0, 5.0) if options.quick else EPSILONS:
            rows += _ours(hospitals, chosen, value, delta, seeds)
    emit("Fed-Heart-Disease, accuracy at accounted epsilon (limit: FLamby)", rows, options.json)


def _setting(chosen: Choice, place: str, value: float) -> Setting:
    return (*PLACES[place], *chosen[place, SMALL if value <= _BETWEEN else LARGE])


def _beside(
    hospitals: dict[str, Rows],
    chosen: Choice,
    nominal: float,
    delta: float,
    seeds: list[int],
) -> list[Row]:
    true, published = flamby_epsilon(nominal, delta), PUBLISHED[nominal]
    rows = []
    for place in PLACES:
        setting = _setting(chosen, place, true)
        mean, _ = accuracy(hospitals, (*setting, *budget(true, delta)), seeds)
        case = f"{place}, delta {delta:g}, epsilon {true:.2f} (FLamby's nominal {nominal:g})"
        rows.append(Row(case, "accuracy", mean, "higher", {}, published))
        print(f"  {case}: {mean:.3f}, published {published}", flush=True)
    return rows


def _ours(
    hospitals: dict[str, Rows],
    chosen: Choice,
    value: float,
    delta: float,
    seeds: list[int],
) -> list[Row]:
    rows = []
    for place in PLACES:
        setting = _setting(chosen, place, value)
        cases = {
            "example": accuracy(hospitals, (*setting, *budget(value, delta)), seeds),
            "patient": accuracy(
                with_patients(hospitals, 1), (*setting, *budget(value, delta, "patient")), seeds
            ),
            "three rows a patient": accuracy(
                with_patients(hospitals, 3), (*setting, *budget(value, delta, "patient")), seeds
            ),
        }
        for unit, (mean, deviation) in cases.items():
            case = f"{place}, {unit}, delta {delta:g}, epsilon {value:g}"
            rows.append(Row(case, "accuracy", mean, "higher"))
            print(f"  {case}: {mean:.3f} +- {deviation:.3f}", flush=True)
    return rows


if __name__ == "__main__":
    main()
