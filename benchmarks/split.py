"""A split network on two real sets of data, and what attacks read of it, by how much noise crosses.

    python -m benchmarks.split [--quick] [--json PATH]

Fed-Heart-Disease by columns: a clinic has what a stress test gives, a registry age, sex, pressure,
cholesterol, sugar and the disease. PneumoniaMNIST by halves, as it has no table of its own: a
clinic has the left half of each X-ray as an image, a registry the mean brightness of eight fields
of the right half and the diagnosis. Without noise a split network is the pooled one (its gradients
are equal). Epsilon is of one party's columns of one person, at delta 1e-5.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.flamby_data import data_folder, heart_disease
from benchmarks.report import Row, arguments, emit
from wardround.common.config.load import parse_config
from wardround.simulations.privacy.attacks.split_rows import split_and_rows
from wardround.simulations.privacy.attacks.split_run import Read, observe

CLINIC = ("cp", "restecg", "thalach", "exang", "oldpeak")
REGISTRY = ("age", "sex", "trestbps", "chol", "fbs")
FIELDS = tuple(f"field_{number}" for number in range(8))
NOISES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
COMMON = """
[data]
path = "{folder}"
[simulation]
partition = "sites"
[procedure]
name = "split"
link = "who"
held_out = {held_out}
batches = {batches}
batch_size = {size}
width = {width}
hidden = 16
[task]
name = "linked"
[task.identifiers]
id = "exact"
"""
HEART = f"""
[task.parties.clinic]
numeric = {list(CLINIC)}
[task.parties.registry]
numeric = {list(REGISTRY)}
outcome = "disease"
"""
PNEUMONIA = f"""
[task.parties.clinic.images]
size = [28, 14]
[task.parties.registry]
numeric = {list(FIELDS)}
outcome = "pneumonia"
"""


def write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A CSV."""
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_heart(folder: Path) -> None:
    """All hospitals' patients, as one place's."""
    patients = [row for rows in heart_disease().values() for row in rows]
    for name, columns in (("clinic", CLINIC), ("registry", (*REGISTRY, "disease"))):
        rows = [[f"p{n}", *(one[c] for c in columns)] for n, one in enumerate(patients)]
        write(folder / f"{name}.csv", ["id", *columns], rows)


def write_pneumonia(folder: Path, most: int) -> None:
    """The first so many X-rays."""
    with np.load(data_folder("pneumoniamnist") / "pneumoniamnist.npz") as found:
        images, labels = found["train_images"][:most], found["train_labels"][:most, 0]
    files, fields = [], []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image[:, :14]).save(folder / f"{number}.png")
        means = image[:, 14:].reshape(4, 7, 2, 7).mean((1, 3)).reshape(-1)
        files.append([f"p{number}", f"{number}.png"])
        fields.append([f"p{number}", *np.round(means, 3), int(label)])
    write(folder / "clinic.csv", ["id", "file"], files)
    write(folder / "registry.csv", ["id", *FIELDS, "pneumonia"], fields)


def rows_of(case: str, read: Read, peers: dict[str, float | None]) -> list[Row]:
    """Figures of one training."""
    leak, features = read.outcomes["clinic"], read.features["clinic"]
    alone, own = {"registry alone": peers["alone"]}, {"own columns": peers["own"]}
    rows = [
        Row(case, "auc", read.auc or float("nan"), "higher", alone),
        Row(case, "outcomes, direction", leak.direction, "lower", limit=0.5),
        Row(case, "outcomes, length", leak.length, "lower", limit=0.5),
        Row(case, "features, R2", features.explained, "lower", own),
    ]
    if features.similarity is not None:
        mean = {"mean image": features.mean_similarity}
        rows.append(Row(case, "images, similarity", features.similarity, "lower", mean))
    return rows


def study(
    name: str, text: str, make: Callable[[Path], None], noises: Sequence[float], **sizes: int
) -> list[Row]:
    """One set of data, without noise and with each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        config = parse_config(COMMON.format(folder=folder, **sizes) + text)
        split, parties = split_and_rows(config)
        observed = observe(split, parties, config.federation.seed)
        peers = {"alone": observed.alone(), "own": observed.own_columns()["clinic"]}
        for noise in (0.0, *noises):
            case = f"{name}, noise {noise:g}"
            began = time.perf_counter()
            read = observed.read(1.0 if noise else None, noise)
            taken = time.perf_counter() - began
            rows += rows_of(case, read, peers)
            noised = split.options.model_copy(update={"clip": 1.0, "noise_multiplier": noise})
            if noise:
                rows.append(Row(case, "epsilon", observed.epsilon(noised), "lower"))
            rows.append(Row(case, "seconds, attacks too", taken, "lower"))
    return rows


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    noises = NOISES[1::2] if options.quick else NOISES
    batches, images = (100, 600) if options.quick else (300, 1500)
    rows = study(
        "heart", HEART, write_heart, noises, batches=batches, size=32, held_out=200, width=4
    )
    rows += study(
        "pneumonia",
        PNEUMONIA,
        lambda folder: write_pneumonia(folder, images),
        noises,
        batches=batches,
        size=64,
        held_out=300,
        width=16,
    )
    emit("Split networks, and what is read of them", rows, options.json)


if __name__ == "__main__":
    main()
