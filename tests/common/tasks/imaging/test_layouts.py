"""Every layout of the documents is read as they say, and nothing in a folder is passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.common.tasks.imaging.shards import png
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, DataError
from wardround.common.tasks.data.layouts import markdown
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.layouts import (
    BIDS,
    CLASSES,
    CSV,
    HOSPITALS,
    IMAGES,
    NPZ,
    SPLIT,
    layout_of,
)
from wardround.common.tasks.imaging.task import ImagingTask
from wardround.simulations.population.hospitals import Population

ROOT = Path(__file__).parents[4]
OPTIONS = {"classes": ["a", "b"], "size": [8, 8]}
TEXT = """
[task]
name = 'imaging'
classes = ['a', 'b']
size = [8, 8]
[simulation]
"""


def task() -> ImagingTask:
    return ImagingTask(**OPTIONS)


def pictures(folder: Path, count: int = 4, start: int = 0) -> None:
    for number in range(start, start + count):
        png(folder / f"{number}.png", np.full((8, 8), number, dtype=np.uint8))


def classes(folder: Path) -> None:
    pictures(folder / "a")
    pictures(folder / "b", start=4)


def with_split(folder: Path) -> None:
    for name in ("train", "val", "test"):
        classes(folder / name)


def csv(folder: Path) -> None:
    pictures(folder / "all", 8)
    rows = "".join(f"all/{number}.png,{'ab'[number % 2]}\n" for number in range(8))
    (folder / "labels.csv").write_text("file,label\n" + rows)


def npz(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = np.zeros((8, 8, 8), dtype=np.uint8), np.arange(8) % 2
    np.savez(folder / "x.npz", images=images, labels=labels)


def bids(folder: Path) -> None:
    """Four participants, each seen twice; of a slice, as the pictures here are flat."""
    rows = "".join(f"sub-{n:02}\t{20 + n}\t{'ab'[n % 2]}\n" for n in range(1, 5))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.tsv").write_text("participant_id\tage\tlabel\n" + rows)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    for number in range(1, 5):
        for session in (1, 2):
            scan(folder, f"sub-{number:02}", f"ses-{session}", 10 * number + session)


def scan(folder: Path, subject: str, session: str, value: int, suffix: str = "T1w") -> Path:
    import nibabel

    place = folder / subject / session / "anat"
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{subject}_{session}_{suffix}.nii.gz"
    values = np.full((8, 8, 1), value, dtype=np.int16)
    values[0, 0] = 0
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), file)
    return file


MAKERS = {CSV: csv, NPZ: npz, SPLIT: with_split, CLASSES: classes, BIDS: bids}


def population(path: Path, more: str = "") -> Population:
    config = parse_config(f"data.path = '{path}'\n{TEXT}{more}")
    return Population(config, make_task(config))


@pytest.mark.parametrize("layout", MAKERS, ids=lambda one: one.looks)
def test_a_layout_is_one_data_set_for_hospitals_and_simulations(tmp_path: Path, layout) -> None:
    MAKERS[layout](tmp_path)
    assert layout_of(tmp_path, task().options) is layout
    images = task().load(tmp_path)
    assert len(images) == (24 if layout is SPLIT else 8) and not images.left_out
    assert (images.splits is not None) == (layout is SPLIT)
    for more in ("", "partition = 'sites'"):
        with pytest.raises(ConfigError, match="simulation.partition: .* is one data set"):
            population(tmp_path, more)
    made = population(tmp_path, "partition = 'dirichlet'\nclients = 2\nmin_examples = 1")
    assert len(made.names) == 2 and sum(made.training_rows(name) for name in made.names) > 0


@pytest.mark.parametrize("layout", MAKERS, ids=lambda one: one.looks)
def test_a_folder_of_such_is_of_hospitals(tmp_path: Path, layout) -> None:
    for name in ("north", "south"):
        MAKERS[layout](tmp_path / name)
    made = population(tmp_path)
    assert made.names == ["north", "south"] and made.notes == []
    assert all(made.training_rows(name) for name in made.names)


def test_hospitals_may_be_in_unlike_layouts(tmp_path: Path) -> None:
    for name, make in (("north", classes), ("south", csv), ("west", npz)):
        make(tmp_path / name)
    (tmp_path / "west" / "x.npz").rename(tmp_path / "west.npz")
    (tmp_path / "west").rmdir()
    (tmp_path / "notes.txt").write_text("x")
    made = population(tmp_path)
    assert made.names == ["north", "south", "west"]
    assert made.notes == ["data.path: no hospital's data, so left out: notes.txt"]


def test_csv_files_of_hospitals_beside_their_pictures(tmp_path: Path) -> None:
    csv(tmp_path)
    (tmp_path / "labels.csv").rename(tmp_path / "north.csv")
    (tmp_path / "south.csv").write_bytes((tmp_path / "north.csv").read_bytes())
    made = population(tmp_path)
    assert made.names == ["north", "south"]
    assert made.notes == ["data.path: no hospital's data, so left out: all"]


def test_the_documents_have_the_layouts() -> None:
    assert markdown(IMAGES) in (ROOT / "docs" / "imaging.md").read_text()
    assert {*MAKERS, HOSPITALS} == set(IMAGES)  # each has its test


def test_a_bids_data_set_gives_the_images_of_one_suffix_and_keeps_participants_together(
    tmp_path: Path,
) -> None:
    bids(tmp_path)
    scan(tmp_path, "sub-01", "ses-1", 99, "T2w")
    scan(tmp_path, "sub-09", "ses-1", 99)
    scan(tmp_path / "derivatives" / "fmriprep", "sub-01", "ses-1", 99)
    table = tmp_path / "participants.tsv"
    table.write_text(
        table.read_text().replace("23\ta", "n/a\tb").replace("24\ta", "24\tn/a") + "sub-10\t30\ta\n"
    )
    found = task().load(tmp_path)
    assert found.labels.tolist() == [1, 1, 0, 0, 1, 1] and found.patients is not None
    ids = [f"sub-{number:02}" for number in (1, 1, 2, 2, 3, 3)]
    assert found.patients.tolist() == [identifier_digest(id) for id in ids]
    assert lines(found) == [
        "1 image was left out: of another suffix than 'T1w'",
        "1 participant was left out: the table names them, and they have no folder",
        "2 images were left out: their participant's label is n/a",
        "1 folder was left out: of participants that participants.tsv lacks",
    ]
    one = ImagingTask(**OPTIONS, files={"suffix": "T2w"}).load(tmp_path)
    assert len(one) == 1 and one.labels.tolist() == [1]
    with pytest.raises(DataError, match="ends in _FLAIR.nii .*; check task.files.suffix"):
        ImagingTask(**OPTIONS, files={"suffix": "FLAIR"}).load(tmp_path)
    table.write_text(table.read_text() + "sub-01\t30\ta\n")
    with pytest.raises(DataError, match="tsv:7: column 'participant_id': an earlier row is of the"):
        task().load(tmp_path)


# --- what would be passed over -------------------------------------------------------------------
def lines(images: Images) -> list[str]:
    return [str(one) for one in images.left_out]


def test_what_lies_beside_classes_folders_is_counted(tmp_path: Path) -> None:
    classes(tmp_path)
    pictures(tmp_path, 5)
    (tmp_path / "README").write_text("x")
    (tmp_path / "a" / "notes.txt").write_text("x")
    assert lines(task().load(tmp_path)) == [
        "5 images were left out: they lie beside the classes' folders, without a class",
        "2 files were left out: no image by their names' endings, or content",
    ]
    made = population(
        tmp_path, "partition = 'iid'\nclients = 2\nmin_examples = 1"
    )  # here no hospital could say it
    assert [note[:28] for note in made.notes] == [
        "data.path: 5 images were lef",
        "data.path: 2 files were left",
    ]


def other_classes(folder: Path) -> None:
    pictures(folder / "test" / "A")
    pictures(folder / "test" / "B")


def no_classes(folder: Path) -> None:
    pictures(folder / "test")


def third_folder(folder: Path) -> None:
    classes(folder / "test")
    classes(folder / "extra")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_classes, "test: folder 1 of 2, by name, is none of task.classes"),
        (no_classes, "test: there are files, but no folder for each class"),
        (third_folder, "folder 1 of 3, by name, stands beside those of a split"),
    ],
)
def test_folders_that_differ_between_splits(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    classes(tmp_path / "train")
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        task().load(tmp_path)


def test_classes_are_compared_in_one_form(tmp_path: Path) -> None:
    pictures(tmp_path / "gro\u0308\u00dfer")  # as macOS writes it
    pictures(tmp_path / "klein")
    read = ImagingTask(classes=["klein", "gr\u00f6\u00dfer"], size=[8, 8]).load(tmp_path)
    assert np.bincount(read.labels).tolist() == [4, 4]


ARRAYS = {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 1])}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train_images", "train_labels", "valid_images"], "valid_images without valid_labels"),
        (["train_images", "train_labels", "val_labels"], "val_labels without val_images"),
        (["train_images", "train_labels", "holdout_images"], "an array of images whose name"),
        (["images", "labels", "test_images", "test_labels"], "keep one of the two"),
    ],
)
def test_arrays_that_would_be_passed_over(tmp_path: Path, names: list[str], message: str) -> None:
    arrays = {name: ARRAYS[name.split("_")[-1]] for name in names}
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        task().load(tmp_path)


def test_splits_of_arrays_by_other_names_and_arrays_beside_them(tmp_path: Path) -> None:
    names = ["train_images", "train_labels", "valid_images", "valid_labels", "testing_images"]
    arrays = {name: ARRAYS[name.split("_")[-1]] for name in [*names, "testing_labels"]}
    np.savez(tmp_path / "x.npz", ages=np.zeros(3), **arrays)  # type: ignore[arg-type]
    (tmp_path / "README").write_text("x")
    found = task().load(tmp_path)
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert lines(found) == [
        "1 item was left out: beside an npz file",
        "1 array was left out: neither images nor labels by their names",
    ]


def test_a_file_that_a_csv_names_twice(tmp_path: Path) -> None:
    csv(tmp_path)
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text + "all/./3.png,b\n")
    found = task().load(tmp_path)
    assert len(found) == 8 and lines(found) == ["1 row was left out: they name a file again"]
    (tmp_path / "labels.csv").write_text(text + "all/3.png,a\n")
    with pytest.raises(DataError, match="csv:10: .*with another label, split or patient"):
        task().load(tmp_path)


def test_images_that_a_csv_does_not_name_are_counted(tmp_path: Path) -> None:
    csv(tmp_path)
    pictures(tmp_path / "more", 3)
    assert lines(task().load(tmp_path)) == [
        "3 images were left out: they lie below the CSV's folder, and it names none"
    ]
