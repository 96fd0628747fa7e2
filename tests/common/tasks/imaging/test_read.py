"""Folders, CSV and npz give the same images, labels, patients and splits; errors name places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.common.tasks.imaging.shards import dicom, png
from wardround.common.errors import DataError
from wardround.common.tasks.base import Examples, concatenate
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.imaging import ImagingTask
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.imaging.listed import class_of
from wardround.common.tasks.imaging.options import ImagingOptions

CLASSES = ["normal", "pneumonia"]


def task(**options: object) -> ImagingTask:
    return ImagingTask(**{"classes": CLASSES, "size": [8, 8], **options})


def picture(number: int) -> np.ndarray:
    return np.full((8, 8), number, dtype=np.uint8)


def brightness(images: Images) -> list[int]:
    return [int(x) for x in images.pixels[:, 0, 0, 0]]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for number, name in ((3, "pneumonia/x"), (1, "normal/b"), (2, "normal/c")):
        png(tmp_path / f"{name}.png", picture(number))
    (tmp_path / "normal" / "notes.txt").write_text("no image")
    found = task().load(tmp_path)
    assert brightness(found) == [1, 2, 3]
    assert found.labels.tolist() == [0, 0, 1] and found.splits is None


def test_folders_with_a_split(tmp_path: Path) -> None:
    for part, number in (("train", 1), ("val", 2), ("test", 3)):
        for label in CLASSES:
            png(tmp_path / part / label / "x.png", picture(number))
    found = task().load(tmp_path)
    assert found.splits is not None
    assert dict(zip(brightness(found), found.splits.tolist(), strict=True)) == {
        1: "train",
        2: "validation",
        3: "test",
    }


def test_a_csv_names_files_patients_and_splits(tmp_path: Path) -> None:
    rows = ["file,label,who,part"]
    for number in range(4):
        png(tmp_path / "pictures" / f"{number}.png", picture(number))
        part = "test" if number == 3 else "train"
        rows.append(f"pictures/{number}.png,{CLASSES[number % 2]},p{number // 2},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    files = {"patient_id": "who", "split": "part"}
    found = task(files=files).load(tmp_path)
    assert brightness(found) == [0, 1, 2, 3] and found.labels.tolist() == [0, 1, 0, 1]
    assert found.patients is not None and found.splits is not None
    a, b, c, d = found.patients.tolist()
    assert a == b != c == d and "p0" not in a
    assert found.splits.tolist() == ["train"] * 3 + ["test"]
    assert task(files=files).load(tmp_path / "labels.csv").labels.tolist() == [0, 1, 0, 1]


def test_medmnists_layout(tmp_path: Path) -> None:
    arrays = {}
    for part, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = np.stack([picture(n) for n in range(count)])
        arrays[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "x.npz", **arrays)
    found = task().load(tmp_path / "x.npz")
    assert len(found) == 10 and found.pixels.dtype == torch.uint8
    assert found.splits is not None
    assert found.splits.tolist() == ["train"] * 5 + ["validation"] * 2 + ["test"] * 3
    assert task().load(tmp_path).labels.tolist() == found.labels.tolist()


def test_dicom_patients_stay_together(tmp_path: Path) -> None:
    for number in range(4):
        patient = f"P{number // 2}"
        dicom(tmp_path / "normal" / f"{number}.dcm", picture(number).astype(np.int16), patient)
    found = task().load(tmp_path)
    assert found.patients is not None and len(set(found.patients.tolist())) == 2
    part = found.select(np.array([2, 0]))
    assert part.patients is not None
    assert part.patients.tolist() == [found.patients[2], found.patients[0]]


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        ("file,label\nDoe.png,normal", r"labels.csv:2: column 'file': no such file"),
        ("file,label\n../Doe.png,normal", "labels.csv:2: column 'file': a file outside"),
        ("file,label\n,normal", "labels.csv:2: column 'file': empty"),
        (f"file,label\n{'Doe' * 200}.png,normal", "labels.csv:2: column 'file': no such file"),
        ("file,label\nx.png,Doe", "labels.csv:2: column 'label': a label that is none of"),
        ("file,kind\nx.png,normal", "there is no column 'label'"),
        ("file,label\nbad.png,normal", "labels.csv:2: column 'file': not readable as an image"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, csv: str, message: str) -> None:
    png(tmp_path / "x.png", picture(1))
    png(tmp_path.parent / "Doe.png", picture(1))
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "labels.csv").write_text(csv)
    with pytest.raises(DataError, match=message) as caught:
        task().load(tmp_path)
    assert "Doe" not in str(caught.value)


def test_a_bad_file_in_a_folder_is_named_by_its_place(tmp_path: Path) -> None:
    png(tmp_path / "normal" / "a.png", picture(1))
    (tmp_path / "normal" / "Doe_Jane.png").write_bytes(b"x")
    with pytest.raises(DataError, match="normal: image 1 by name: not readable") as caught:
        task().load(tmp_path)
    assert "Doe" not in str(caught.value)


def test_a_share_of_bad_files_may_be_left_out_and_is_listed_at_home(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        png(tmp_path / "normal" / f"Doe{number}.png", picture(number))
    whole = task().load(tmp_path)
    (tmp_path / "normal" / "a_Doe.png").write_bytes(b"x")
    (tmp_path / "normal" / "b_Doe").mkdir()  # a study without images, as FLIP #676 found them
    with pytest.raises(
        DataError, match="2 of 6 images can't be read, .* is 1 %: .* | .*"
    ) as caught:
        task().load(tmp_path)
    with caplog.at_level("WARNING", "wardround.data"), allowing(2 / 6):
        found = task().load(tmp_path)
    assert torch.equal(found.pixels, whole.pixels)
    assert [(one.count, one.what) for one in task().left_out(found)] == [(2, "images")]
    listed = [record.getMessage() for record in caplog.records]
    assert [line.partition("normal: ")[2].partition(":")[0] for line in listed] == [
        "image 5 by name",
        "image 6 by name",
    ]
    assert "Doe" not in "".join([*listed, str(caught.value)])
    with pytest.raises(DataError), allowing(0.3):
        task().load(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train_images": np.zeros((2, 8, 8), np.uint8)}, "train_images without train_labels"),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, np.int64)},
            "one label for each image",
        ),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0, 2])},
            "whole numbers below 2",
        ),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0.0, 1.0])},
            "whole numbers below 2",
        ),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "train_images": np.zeros((2, 8, 8))},
            "keep one of the two",
        ),
        (
            {"images": np.full((2, 8, 8), "a"), "labels": np.array([0, 1])},
            r"images\[0\]: not of numbers",
        ),
        ({"images": np.zeros((0, 8, 8)), "labels": np.zeros(0, np.int64)}, "no images in it"),
        ({"images": np.float64(1), "labels": np.zeros(1, np.int64)}, "one label for each"),
        (
            {"images": np.array([{}], dtype=object), "labels": np.zeros(1, np.int64)},
            "not readable as npz",
        ),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message):
        task().load(tmp_path / "x.npz")


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Train", "dev", "test")])
def test_splits_by_other_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        png(tmp_path / name / "normal" / "a.png", picture(1))
    found = task().load(tmp_path)
    assert found.splits is not None
    assert sorted(found.splits.tolist()) == ["test", "train", "validation"]


def test_a_folder_that_would_be_passed_over_is_refused(tmp_path: Path) -> None:
    for name in ("normal", "pneumonia", "Pneumonia"):
        png(tmp_path / name / "a.png", picture(1))
    with pytest.raises(DataError, match=r"folder \d of 3, by name, is none of task.classes"):
        task().load(tmp_path)


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    png(tmp_path / "normal" / "a.png", picture(1))
    (tmp_path / "normal" / "b.webp").write_bytes(b"x")
    own = task()
    assert str(own.left_out(own.load(tmp_path))[0]).startswith("1 file was left out")


def test_an_image_without_a_patient_is_a_patient_of_its_own(tmp_path: Path) -> None:
    for number, patient in enumerate(["P1", "P1", "", ""]):
        path = tmp_path / "normal" / f"{number}.dcm"
        dicom(path, picture(number).astype(np.int16), patient)
    own = task()
    found = own.load(tmp_path)
    assert found.patients is not None and len(set(found.patients.tolist())) == 3
    assert any("2 images name no patient" in line for line in own.warnings(found))


def test_a_number_is_a_position_only_where_no_class_is_a_number() -> None:
    birads = ImagingOptions(classes=["1", "2", "3"])
    assert class_of("1", birads, "here") == 0
    for text in ("0", "²", "4"):
        with pytest.raises(DataError, match="none of task.classes"):
            class_of(text, birads, "here")
    assert class_of("1", ImagingOptions(classes=CLASSES), "here") == 1


def test_a_record_in_place_of_a_header_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("Mueller_Hans.png,pneumonia\nDoe.png,normal\n")
    with pytest.raises(DataError, match="there is no column 'file'") as caught:
        task().load(tmp_path)
    assert "Mueller" not in str(caught.value)


def test_shards_of_bytes_and_of_numbers_are_joined_on_one_scale() -> None:
    one = Examples(torch.full((2, 1, 8, 8), 51, dtype=torch.uint8), torch.zeros(2))
    other = Examples(torch.full((1, 1, 8, 8), 0.2), torch.ones(1))
    joined = task().join([one, other])
    assert torch.allclose(joined.inputs, torch.full((3, 1, 8, 8), 0.2))
    with pytest.raises(ValueError, match="several types"):
        concatenate([one, other])


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in folders named like task.classes"):
        task().load(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        task().load(tmp_path / "absent")


def test_sites_are_folders_and_files_of_images(tmp_path: Path) -> None:
    (tmp_path / "berlin").mkdir()
    np.savez(tmp_path / "paris.npz", images=np.zeros(1))
    (tmp_path / "SOURCE.txt").write_text("x")
    assert sorted(task().sites(tmp_path)) == ["berlin", "paris"]
