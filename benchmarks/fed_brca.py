"""FLamby's Fed-TCGA-BRCA: six regions, linear Cox model, c-index.

    python -m benchmarks.fed_brca [--quick] [--json PATH]

Mean over the regions' own test c-indices, mean over 5 seeds; 5 rounds of 100 local steps of batch
8, as FLamby. Settings are chosen by the c-index over all comparable pairs within regions: a region
has as few as three events to train on. ``--quick`` skips the search and tests the setting that it
chose when it was last run in full (``CHOSEN``).
"""

from __future__ import annotations

from benchmarks.flamby import Setting, Study, run_all, test, tune
from benchmarks.flamby_data import tcga_brca
from benchmarks.report import Row, arguments, emit

BASE = """
[federation]
name = "fed-tcga-brca"
rounds = 5
min_clients = 6
[task]
kind = "survival"
normalise = "none"
[task.columns]
target = ""
time = "T"
event = "E"
split = "split"
[training]
lr = 0.1
batch_size = 8
local_steps = 100
[simulation]
partition = "sites"
[evaluation]
every = 5
[secure_aggregation]
enabled = false  # settings are chosen by single hospitals' figures
"""
PUBLISHED = {"pooled": 0.676, "fedavg": 0.732, "fedadam": 0.815}
SEEDS = range(5)
FLAMBY_ADAM = (
    "training.lr=0.01",
    "strategy.name=fedadam",
    "strategy.eta=0.1",
    "strategy.beta_2=0.999",
    "strategy.tau=1e-8",
)
FLAMBY_YOGI = tuple(part.replace("fedadam", "fedyogi") for part in FLAMBY_ADAM)
STANDARD = ("task.normalise=federated",)
CHOSEN: Setting = (*STANDARD, "training.lr=0.1", "strategy.name=scaffold")


def grid() -> list[Setting]:
    """Inputs raw or standardised over the federation; strategies, rates, weightings, decay."""
    settings: list[Setting] = [(), FLAMBY_ADAM, FLAMBY_YOGI]
    for weight in ("strategy.weighting=examples", "strategy.weighting=uniform"):
        for lr in (0.01, 0.03, 0.1):
            for decay in (0.0, 0.1, 0.3):
                rates = (*STANDARD, f"training.lr={lr}", f"training.weight_decay={decay}")
                settings.append((*rates, weight))
    for name in ("fedadam", "fedyogi"):
        for eta in (0.03, 0.1, 0.3):
            server = ("training.lr=0.01", f"strategy.name={name}", f"strategy.eta={eta}")
            settings.append((*STANDARD, *server))
            settings.append((*STANDARD, *server, "training.weight_decay=0.1"))
    for lr in (0.03, 0.1):
        settings.append((*STANDARD, f"training.lr={lr}", "strategy.name=scaffold"))
        decayed = (*STANDARD, f"training.lr={lr}", "training.weight_decay=0.1")
        settings.append((*decayed, "strategy.name=scaffold"))
    return settings


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    study = Study("tcga-brca", tcga_brca(), BASE, "c_index", "E", "overall", 2)
    seeds = list(SEEDS)[:2] if options.quick else list(SEEDS)
    rows = []
    fixed = (
        ("FedAvg, lr 0.1", (), "fedavg"),
        ("FedAdam, FLamby's rates", FLAMBY_ADAM, "fedadam"),
        ("FedYogi, FLamby's rates", FLAMBY_YOGI, "fedadam"),
    )
    for case, setting, name in fixed:
        mean, _ = test(study, setting, seeds)
        rows.append(Row(case, "c-index", mean, "higher", {}, PUBLISHED[name]))
    chosen = CHOSEN
    if not options.quick:
        scored = tune(study, grid(), 5)
        score, chosen = scored[0]
        rows.append(Row("chosen setting, validation", "c-index", score, "higher"))
    print(f"chosen on validation rows: {' '.join(chosen)}")
    mean, deviation = test(study, chosen, seeds)
    beside = run_all(study, study.hospitals, chosen, 0, "test", baselines=True)
    peers: dict[str, float | None] = {kind: beside[kind] for kind in ("local", "pooled")}
    rows.append(Row("chosen setting, test", "c-index", mean, "higher", peers, PUBLISHED["fedadam"]))
    rows.append(Row("chosen setting, test", "deviation over seeds", deviation, "lower"))
    emit("Fed-TCGA-BRCA, mean over regions (limit: published)", rows, options.json)


if __name__ == "__main__":
    main()
