"""Models that fit each hospital, on two real federations: one table, five seeds.

    python -m benchmarks.personal [--quick] [--json PATH]

Fed-Heart-Disease (four hospitals, accuracy at 0.5) and Fed-TCGA-BRCA (six regions, c-index): mean
over the hospitals' own test figures, mean over seeds; masks are on. One network of one hidden layer
for all, one learning rate for each federation, options at their defaults or as ``METHODS`` says:
nothing is chosen by rows. ``local`` and ``pooled`` make as many steps. With ``fedbn`` the layer is
normalised by batches, so its neighbour is ``fedavg, batch norm``.

``wins`` counts the seeds in which a method's mean is above that of fedavg. ``--quick``: two seeds.
FL4Health, the library with most such methods, has no wheel in the package index, so no peer runs
beside them; each is held against its paper by hand (``tests/server/strategies/test_personal.py``).
"""

from __future__ import annotations

import statistics

from benchmarks.fed_brca import BASE as BRCA
from benchmarks.fed_brca import STANDARD
from benchmarks.fed_heart import BASE as HEART
from benchmarks.flamby import Setting, Study, run_all
from benchmarks.flamby_data import heart_disease, tcga_brca
from benchmarks.report import Row, arguments, emit

MASKED = ("secure_aggregation.enabled=true", "secure_aggregation.min_cohort=3")
DEEP = ("task.model.kind=mlp", "task.model.hidden=[16]")
NORM = ("task.model.norm=batch",)
METHODS: dict[str, Setting] = {
    "fedavg": (),
    "fedprox": ("strategy.name=fedprox", "strategy.proximal_mu=0.1"),
    "fedavg, batch norm": NORM,
    "fedbn": ("strategy.name=fedbn", *NORM),
    "fedper": ("strategy.name=fedper",),
    "fedper, proximal": ("strategy.name=fedper", "strategy.proximal_mu=0.1"),
    "fedrep": ("strategy.name=fedrep", "strategy.head_epochs=2"),
    "ditto": ("strategy.name=ditto",),
    "apfl": ("strategy.name=apfl",),
    "moon": ("strategy.name=moon",),
}
SEEDS = range(5)


def studies() -> dict[str, tuple[Study, Setting]]:
    """Each federation with what is set for all methods."""
    heart = Study("heart", heart_disease(), HEART, "accuracy", "disease")
    brca = Study("tcga-brca", tcga_brca(), BRCA, "c_index", "E")
    return {
        "heart": (heart, (*MASKED, *DEEP, "training.lr=0.01")),
        "brca": (brca, (*MASKED, *DEEP, *STANDARD, "training.lr=0.03")),
    }


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = list(SEEDS)[:2] if options.quick else list(SEEDS)
    rows = []
    for name, (study, common) in studies().items():
        found: dict[str, list[float]] = {}
        for method, setting in METHODS.items():
            for seed in seeds:
                first = method == "fedavg"
                figures = run_all(
                    study, study.hospitals, (*common, *setting), seed, "test", baselines=first
                )
                for kind, value in figures.items():
                    found.setdefault(method if kind == "federated" else kind, []).append(value)
            print(f"{name}: {method} {statistics.mean(found[method]):.4f}", flush=True)
        usual = found["fedavg"]
        for method, values in found.items():
            wins = sum(one > other for one, other in zip(values, usual, strict=True))
            peers: dict[str, float | None] = {
                "deviation": statistics.stdev(values),
                "wins": float(wins),
            }
            mean = statistics.mean(values)
            rows.append(Row(f"{name}: {method}", study.metric, mean, "higher", peers))
    emit("Models that fit each hospital: mean within hospitals", rows, options.json)


if __name__ == "__main__":
    main()
