"""The imaging task through the product: simulated hospitals, masked sums, privacy, FedBN."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from wardround.common.config.task import make_task
from wardround.common.errors import TaskError
from wardround.simulations import Result, parse_config, simulate
from wardround.simulations.executors.engines.dropout import random_module

DATA = Path(os.environ.get("WARDROUND_DATA", "../shared/data"))
PNEUMONIA = DATA / "pneumoniamnist" / "pneumoniamnist.npz"

TINY = """
[federation]
rounds = 2
[data]
path = "images.npz"
test_fraction = 0.25
[task]
name = "imaging"
classes = ["dark left", "dark right"]
size = [12, 12]
[task.model]
width = 8
groups = 4
[task.augment]
rotation = 5.0
translation = 0.05
[training]
lr = 0.1
batch_size = 16
[simulation]
clients = 3
partition = "iid"
baselines = false
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """120 noisy images, one half of each is darker."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 120)
    images = generator.integers(80, 256, (120, 12, 12))
    images[labels == 0, :, :6] //= 3
    images[labels == 1, :, 6:] //= 3
    np.savez(tmp_path / "images.npz", images=images.astype(np.uint8), labels=labels)
    return tmp_path


def run(folder: Path, text: str = TINY, *overrides: str) -> Result:
    config = parse_config(
        text, [f"federation.runs={folder / 'runs'}", *overrides], folder / "federation.toml"
    )
    return simulate(config)


def test_what_a_pools_reader_left_out_is_told(folder: Path) -> None:
    """No hospital reads the pool itself, so none could say it."""
    (folder / "pool").mkdir()
    (folder / "images.npz").rename(folder / "pool" / "images.npz")
    (folder / "pool" / "SOURCE.txt").write_text("x")
    result = run(folder, TINY, f"data.path={folder / 'pool'}", "federation.rounds=1")
    line = "data.path: 1 item was left out: beside an npz file"
    assert line in (result.run_directory / "report.html").read_text()


def models(result: Result) -> bytes:
    return (result.run_directory / "model" / "model.safetensors").read_bytes()


def test_it_learns_from_masked_sums_and_repeats_itself(folder: Path) -> None:
    first = run(folder, TINY, "federation.rounds=6", "training.local_epochs=2")
    assert first.figure("auc") > 0.9  # a constant score has 0.5
    again = run(folder, TINY, "federation.rounds=6", "training.local_epochs=2")
    assert models(first) == models(again)


def test_augmented_clients_train_alike_in_every_executor(folder: Path) -> None:
    task = make_task(parse_config(TINY))
    totals = {"images": np.ones(1), "mean": np.zeros(1), "squares": np.ones(1)}
    assert random_module(task.model(totals)) == "Augment"  # so a cohort says why it doesn't batch
    one = run(folder, TINY, "simulation.executor=sequential")
    for executor in ("cohort", "processes"):
        assert models(run(folder, TINY, f"simulation.executor={executor}")) == models(one)


@pytest.mark.parametrize("unit", ["example", "hospital"])
def test_privacy_of_images(folder: Path, unit: str) -> None:
    noise = "central" if unit == "hospital" else "local"
    private = f"[privacy]\nunit = '{unit}'\nnoise = '{noise}'\nnoise_multiplier = 1.0\n"
    private += "covers = ['training']\n"  # noise would hide the figures of so few images
    result = run(folder, TINY + private)
    assert 0 < result.figure("auc") <= 1


def test_batch_norm_stays_with_fedbn_and_is_refused_with_privacy(folder: Path) -> None:
    batch = "task.model.norm=batch"
    assert run(folder, TINY, batch, "strategy.name=fedbn").figure("auc") <= 1
    with pytest.raises(TaskError, match="mixes the rows of a batch"):
        run(folder, TINY, batch, "privacy.unit=example", "privacy.noise_multiplier=1.0")


def test_the_default_needs_no_data(tmp_path: Path) -> None:
    text = (
        "[federation]\nrounds = 1\n[task]\nname = 'imaging'\nsize = [8, 8]\nmodel = {width = 8}\n"
        "[simulation]\nclients = 3\nbaselines = false\n"
    )
    assert run(tmp_path, text).figure("accuracy") <= 1


@pytest.mark.skipif(not PNEUMONIA.exists(), reason="needs pneumoniamnist of WARDROUND_DATA")
def test_chest_x_rays_of_five_hospitals(tmp_path: Path) -> None:
    """The example, reduced: AUC .944 is MedMNIST's ResNet-18 (28), trained centrally."""
    example = Path(__file__).parent.parent.parent / "examples" / "pneumonia" / "federation.toml"
    result = run(
        tmp_path,
        example.read_text(),
        f"data.path={PNEUMONIA.resolve()}",
        "simulation.baselines=false",
        "federation.rounds=12",
        "task.model.width=8",
    )
    assert result.figure("auc") > 0.85


def test_bytes_and_deeper_images_are_evaluated_on_one_scale(tmp_path: Path) -> None:
    """Two hospitals with 8-bit images, two with 16-bit ones: the same figures in every executor."""
    generator = np.random.default_rng(0)
    (tmp_path / "sites").mkdir()
    for number in range(4):
        labels = generator.integers(0, 2, 40)
        images = generator.integers(80, 256, (40, 12, 12))
        images[labels == 0, :, :6] //= 3
        images[labels == 1, :, 6:] //= 3
        kind = np.uint8 if number < 2 else np.uint16
        path = tmp_path / "sites" / f"h{number}.npz"
        np.savez(path, images=images.astype(kind) * (1 if number < 2 else 256), labels=labels)
    text = TINY.replace('"images.npz"', '"sites"').replace(
        'partition = "iid"\nbaselines = false', ""
    )
    found = []
    for executor in ("sequential", "cohort"):
        result = run(tmp_path, text, f"simulation.executor={executor}", "federation.rounds=4")
        found.append([row["overall"]["test"]["auc"] for row in result.rounds])
        overall = next(row for row in result.comparison if row["hospital"] == "overall")
        assert overall["pooled"]["auc"] > 0.8
    assert found[0] == pytest.approx(found[1], abs=1e-3)
