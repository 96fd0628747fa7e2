"""FLamby's Fed-Heart-Disease and Fed-TCGA-BRCA as one CSV file per hospital.

Terrail et al. 2022, "FLamby: Datasets and Benchmarks for Cross-Silo Federated Learning in Realistic
Healthcare Settings" (arXiv 2210.04620). Rows, train/test split and features as published; the files
hold raw values with a header and a column ``split``.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, train_test_split

HEART_COLUMNS = (
    "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num".split()
)
HEART_SIZES = {
    "cleveland": (199, 104),
    "hungarian": (172, 89),
    "switzerland": (30, 16),
    "va": (85, 45),
}
_DROPPED = ("slope", "ca", "thal")
Rows = list[dict[str, str]]
Folder = Callable[[Path], None]


def data_folder(name: str) -> Path:
    """The folder of real data; exits with a sentence where it is absent."""
    root = Path(os.environ.get("WARDROUND_DATA", "../shared/data"))
    if not (root / name).is_dir():
        sys.exit(f"{root / name}: no data there; set WARDROUND_DATA to the folder of real data")
    return root / name


def heart_disease() -> dict[str, Rows]:
    """Rows per hospital: columns slope, ca, thal dropped, then rows with '?'; split 66/34."""
    hospitals = {}
    for name, sizes in HEART_SIZES.items():
        path = data_folder("heart_disease") / f"processed.{name}.data"
        with open(path, newline="") as file:
            raw = [dict(zip(HEART_COLUMNS, row, strict=True)) for row in csv.reader(file) if row]
        rows = [{k: v for k, v in row.items() if k not in _DROPPED} for row in raw]
        rows = [row for row in rows if "?" not in row.values()]
        sick = np.array([float(row["num"]) > 0 for row in rows])
        counts = np.bincount(sick, minlength=2)
        _, test = train_test_split(
            np.arange(len(rows)),
            train_size=0.66,
            test_size=1 - 0.66,
            random_state=43,
            stratify=sick if counts.min() > 2 else None,
        )
        for index, row in enumerate(rows):
            row["disease"] = str(int(sick[index]))
            row["split"] = "test" if index in set(test) else "train"
            del row["num"]
        _check(name, rows, sizes)
        hospitals[name] = rows
    return hospitals


def tcga_brca() -> dict[str, Rows]:
    """Rows per region: 39 features, event E and time T in days, the published split."""
    folder = data_folder("tcga_brca")
    with open(folder / "train_test_split.csv", newline="") as file:
        folds = {row["pid"]: row["fold2"] for row in csv.DictReader(file)}
    hospitals: dict[str, Rows] = {f"region-{index}": [] for index in range(6)}
    with open(folder / "brca.csv", newline="") as file:
        for row in csv.DictReader(file):
            pid = row.pop("pid")
            if pid in folds:
                split, _, region = folds[pid].partition("_")
                hospitals[f"region-{region}"].append(row | {"split": split})
    return hospitals


def with_folds(
    hospitals: dict[str, Rows], label: str, folds: int, seed: int = 0
) -> list[dict[str, Rows]]:
    """Cross-validation within the training rows: each in turn is 'validation'; no test rows."""
    result: list[dict[str, Rows]] = [{} for _ in range(folds)]
    for name, rows in hospitals.items():
        train = [row for row in rows if row["split"] == "train"]
        labels = [row[label] for row in train]
        cutter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        for index, (_, held_out) in enumerate(cutter.split(np.zeros(len(train)), labels)):
            chosen = set(held_out)
            result[index][name] = [
                row | {"split": "validation" if i in chosen else "train"}
                for i, row in enumerate(train)
            ]
    return result


def write(hospitals: dict[str, Rows], folder: Path) -> Path:
    """One CSV file per hospital in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in hospitals.items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def _check(name: str, rows: Sequence[dict[str, str]], sizes: tuple[int, int]) -> None:
    found = tuple(sum(row["split"] == split for row in rows) for split in ("train", "test"))
    if found != sizes:
        sys.exit(f"{name}: {found} train and test rows, but FLamby has {sizes}: other data?")
