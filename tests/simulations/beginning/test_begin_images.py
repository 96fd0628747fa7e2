"""``wardround init --data`` of images: each layout that the task reads becomes a file that runs."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from tests.common.tasks.imaging.shards import dicom, png
from tests.unlike.images import flat_images, volumes
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.imaging.layouts import CLASSES, layout_of
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.simulations.beginning.image_sets import ImageSet, find_images
from wardround.simulations.beginning.image_shapes import shapes_of
from wardround.simulations.beginning.looked import Looked
from wardround.simulations.beginning.start import start
from wardround.simulations.run.simulate import simulate

SHORT = ("federation.rounds=1", "simulation.baselines=false", "simulation.executor=sequential")
Make = Callable[[Path], None]


def begun(tmp_path: Path, data: Path, *args: Any) -> tuple[Looked, dict[str, Any]]:
    """What was made, and its ``[task]``: ``start`` has read, decoded and prepared all of it."""
    found = start(tmp_path / "federation.toml", data, *args)
    return found, tomllib.loads(found.text)["task"]


def pictures(folder: Path, count: int = 12, names: tuple[str, str] = ("normal", "ill")) -> None:
    for number in range(count):
        values = np.full((10, 14), 40 + 150 * (number % 2), dtype=np.uint8)
        png(folder / names[number % 2] / f"{number}.png", values)


def test_hospitals_that_differ_run(tmp_path: Path) -> None:
    """Classes in folders and in a CSV, one that two lack, one image, 16 bits, colours."""
    folder = flat_images(tmp_path).folder / "hospitals"
    (folder / "archive.npz").unlink()
    found, task = begun(tmp_path, folder)
    assert task["classes"] == ["clear", "line", "spot"] and task["size"] == [9, 9]
    assert task["files"] == {"patient_id": "patient"}
    assert any(line.startswith("südwest has no image of line") for line in found.lines)
    assert any(line.startswith("1002 has no image of clear, line") for line in found.lines)
    result = simulate(parse_config(found.text, SHORT, tmp_path / "federation.toml"))
    assert len(result.rounds[0]["accepted"]) == 6


def test_volumes_as_folders_of_slices_and_as_nifti(tmp_path: Path) -> None:
    folder = volumes(tmp_path).folder / "hospitals"
    (folder / "one-class.npz").unlink()
    _, task = begun(tmp_path, folder)
    assert task["size"] == [8, 8, 8] and task["classes"] == ["low", "high"]


def _bids(folder: Path) -> None:
    lines = ["participant_id\tdiagnosis"]
    for number in range(6):
        name = f"sub-{number}"
        place = folder / name / "anat"
        place.mkdir(parents=True)
        image = nibabel.Nifti1Image(np.zeros((8, 9, 10), dtype=np.int16) + number, np.eye(4))
        nibabel.save(image, place / f"{name}_FLAIR.nii.gz")
        lines.append(f"{name}\t{('patient', 'control')[number % 2]}")
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")


def _split(folder: Path) -> None:
    pictures(folder / "train")
    pictures(folder / "test", 4)


def _npz(folder: Path) -> None:
    folder.mkdir(parents=True)
    images = np.arange(12 * 9 * 9, dtype=np.uint8).reshape(12, 9, 9)
    np.savez(folder / "all.npz", images=images, labels=np.arange(12) % 2)


def _table(folder: Path) -> None:
    pictures(folder / "files")
    files = [f"files/{('normal', 'ill')[n % 2]}/{n}.png" for n in range(12)]
    rows = [f"{file},{('no', 'yes')[n % 2]},p{n // 2}" for n, file in enumerate(files)]
    (folder / "index.csv").write_text("\n".join(["picture,finding,MRN", *rows]) + "\n")


def _files(folder: Path) -> None:
    """DICOM without an ending, one patient's each: a folder of these is no volume."""
    for number in range(6):
        values = np.full((9, 12), 100 * number, dtype=np.int16)
        dicom(folder / ("low", "high")[number % 2] / f"IM{number}", values, patient=f"P{number}")


LAYOUTS: dict[str, tuple[Make, dict[str, Any]]] = {
    "folders of the classes": (pictures, {"classes": ["normal", "ill"], "size": [10, 14]}),
    "folders of a split": (_split, {"classes": ["normal", "ill"], "size": [10, 14]}),
    "one npz file": (_npz, {"classes": ["0", "1"], "size": [9, 9]}),
    "one CSV file with its images": (
        _table,
        {
            "classes": ["no", "yes"],
            "size": [10, 14],
            "files": {"image": "picture", "label": "finding", "patient_id": "MRN"},
        },
    ),
    "a BIDS data set": (
        _bids,
        {
            "classes": ["control", "patient"],
            "size": [10, 9, 8],
            "files": {"label": "diagnosis", "suffix": "FLAIR"},
        },
    ),
    "DICOM": (_files, {"classes": ["low", "high"], "size": [9, 12]}),
}


@pytest.mark.parametrize("hospitals", [1, 2])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_becomes_a_file_that_runs(tmp_path: Path, name: str, hospitals: int) -> None:
    make, expected = LAYOUTS[name]
    folder = tmp_path / "data"
    for number in range(hospitals):
        make(folder / f"h{number}" if hospitals > 1 else folder)
    found, task = begun(tmp_path, folder)
    assert {key: value for key, value in task.items() if key != "name"} == expected
    sets = find_images(folder, None)
    assert sets is not None and len(sets.sets) == hospitals
    # the layout that the task itself sees, by the classes that were found
    options = ImagingOptions(classes=task["classes"], size=task["size"])
    place = folder / "h0" if hospitals > 1 else folder
    assert layout_of(place, options) is sets.sets[0].layout
    partition = tomllib.loads(found.text)["simulation"]["partition"]
    patients = name in ("a BIDS data set", "one CSV file with its images")
    assert partition == ("sites" if hospitals > 1 else "patient" if patients else "iid")


def test_what_does_not_fit_between_hospitals_is_told_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    pictures(folder / "north")
    pictures(folder / "south", names=("Normal", "ill"))
    _npz(folder / "west")
    with pytest.raises(DataError) as caught:
        begun(tmp_path, folder)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["north", "west"]
    assert "south has 'Normal'" in str(caught.value)


def test_a_damaged_image_and_pictures_beside_volumes_are_named_by_place(tmp_path: Path) -> None:
    pictures(tmp_path / "h" / "north")
    pictures(tmp_path / "h" / "south")
    (tmp_path / "h" / "north" / "ill" / "1.png").write_bytes(b"PK\x03\x04 Canary")
    with pytest.raises(DataError, match=r"north/ill: image 1 by name: not readable") as caught:
        begun(tmp_path, tmp_path / "h")
    assert "Canary" not in str(caught.value)
    _bids(tmp_path / "other" / "b")
    pictures(tmp_path / "other" / "a")
    with pytest.raises(DataError, match="a: pictures, and b: volumes"):
        begun(tmp_path, tmp_path / "other")


def test_the_positive_class_and_options_of_tables(tmp_path: Path) -> None:
    pictures(tmp_path / "h")
    assert begun(tmp_path, tmp_path / "h", None, ["normal"])[1]["classes"] == ["ill", "normal"]
    with pytest.raises(ConfigError, match="there are ill, normal"):
        begun(tmp_path, tmp_path / "h", None, ["dead"])
    pictures(tmp_path / "numbers", names=("0", "1"))
    assert begun(tmp_path, tmp_path / "numbers", None, ["1"])[1]["classes"] == ["0", "1"]
    with pytest.raises(ConfigError, match="numbers keep their places"):
        begun(tmp_path, tmp_path / "numbers", None, ["0"])
    with pytest.raises(ConfigError, match="--statistics is for tables"):
        begun(tmp_path, tmp_path / "h", None, (), (), True)


def test_a_table_whose_columns_of_classes_nobody_names_lists_them(tmp_path: Path) -> None:
    _table(tmp_path / "h")
    table = tmp_path / "h" / "index.csv"
    head, *rows = table.read_text().splitlines()
    more = [f"{row},{('good', 'bad')[n % 3 > 0]}" for n, row in enumerate(rows)]
    table.write_text("\n".join([head + ",quality", *more]) + "\n")
    with pytest.raises(DataError, match="--target COLUMN: 'finding', 'quality'"):
        begun(tmp_path, tmp_path / "h")
    assert begun(tmp_path, tmp_path / "h", "quality")[1]["classes"] == ["bad", "good"]


def test_tables_beside_pictures_of_none_of_their_rows_stay_tables(tmp_path: Path) -> None:
    folder = tmp_path / "h"
    pictures(folder / "plots")
    (folder / "north.csv").write_text("id,age,died\n1,50,0\n")
    assert find_images(folder, None) is None


def test_a_scan_that_says_no_modality_is_measured_all_the_same(tmp_path: Path) -> None:
    """As whoever took names out of it may have left it."""
    dicom(tmp_path / "scan.dcm", np.zeros((12, 9), np.uint8), "1")
    data = pydicom.dcmread(tmp_path / "scan.dcm")
    if "Modality" in data:
        del data.Modality
    data.save_as(tmp_path / "scan.dcm")
    path = tmp_path / "scan.dcm"
    one = ImageSet("north", tmp_path, CLASSES, Counter({"ill": 1}), (path,))
    assert shapes_of([one]).sizes == ((12, 9),)
