"""Chest X-rays of five hospitals: ``examples/pneumonia``, in plain words and with privacy.

    python -m benchmarks.pneumonia [--quick] [--json PATH]

PneumoniaMNIST (28 x 28) over five hospitals with unequal class mixes; AUC on all test images. Every
side makes as many passes over its images. Masked sums throughout (secure aggregation is on). With
privacy: one image as the unit, noise that the hospitals add together; epsilon at delta 1e-4.
``--quick``: three rounds, no privacy.

limit            MedMNIST's ResNet-18 (28), trained centrally (Yang et al. 2023)
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.flamby_data import data_folder
from benchmarks.report import Row, arguments, emit

EXAMPLE = Path(__file__).parent.parent / "examples" / "pneumonia"
PUBLISHED = 0.944


def main() -> None:
    """Run, print and write."""
    from wardround.simulations import simulate

    options = arguments(__doc__ or "")
    data = data_folder("pneumoniamnist") / "pneumoniamnist.npz"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as runs:
        common = [f"data.path={data.resolve()}", f"federation.runs={runs}"]
        started = time.perf_counter()
        plain = simulate(
            EXAMPLE / "federation.toml",
            overrides=[*common, *(["federation.rounds=3"] if options.quick else [])],
        )
        seconds = time.perf_counter() - started
        overall = next(row for row in plain.comparison if row["hospital"] == "overall")
        peers = {kind: float(overall[kind]["auc"]) for kind in ("local", "pooled")}
        found = float(overall["federated"]["auc"])
        rows.append(Row("masked", "AUC", found, "higher", peers, PUBLISHED))
        rows.append(Row("masked", "s, with both baselines", seconds, "lower", {}, 600.0))
        if not options.quick:
            rows += _private(common)
    emit("PneumoniaMNIST over five hospitals", rows, options.json)


def _private(common: list[str]) -> list[Row]:
    from wardround.simulations import simulate

    started = time.perf_counter()
    result = simulate(EXAMPLE / "private.toml", overrides=common)
    seconds = time.perf_counter() - started
    spent = max(claim["epsilon"] for claim in result.rounds[-1]["privacy"].values())
    overall = next(row for row in result.comparison if row["hospital"] == "overall")
    case = "masked, example-level privacy"
    return [
        Row(case, "AUC", float(overall["federated"]["auc"]), "higher", {}, PUBLISHED),
        Row(case, "epsilon", spent, "lower", {}, result.config.privacy.epsilon),
        Row(case, "s", seconds, "lower"),
    ]


if __name__ == "__main__":
    main()
