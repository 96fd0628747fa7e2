"""How a hospital's images may lie in a folder, and which of these ways a path is in."""

from __future__ import annotations

from pathlib import Path

from wardround.common.tasks.data.layouts import Layout
from wardround.common.tasks.data.shards import HOSPITALS, shard_sites, splits_of, visible
from wardround.common.tasks.imaging.bids import is_bids
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.text import code

CSV = Layout(
    "one CSV file with its images",
    "a CSV file, or a folder with one CSV file in it",
    "columns `file` (below the CSV's folder) and `label`, and if named `patient_id` and `split`",
)
NPZ = Layout(
    "one npz file",
    "an npz file, or a folder with one npz file in it",
    "`train_images`, `train_labels`, `val_…`, `test_…` as [MedMNIST](https://medmnist.com) has "
    "them, or `images`, `labels`",
)
SPLIT = Layout(
    "folders of a split",
    "folders `train`, `val` (`valid`, `validation`, `dev`, `devel`) and `test` in one folder",
    "in each a folder for each class; the names are the split",
)
CLASSES = Layout(
    "folders of the classes",
    "folders for the classes, `normal` and `pneumonia`, in one folder",
    "every file in it, and every folder in it as one volume of DICOM slices",
)
BIDS = Layout(
    "a BIDS data set",
    "a [BIDS](https://bids.neuroimaging.io) data set: `participants.tsv`, `sub-01`, `sub-02`, ...",
    "NIfTI files of `task.files.suffix` (`sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz`), with the "
    "`label` and, if named, `split` of `participants.tsv`; a participant is a patient. Not what "
    "lies beside the subjects (`derivatives`, `sourcedata`)",
)
IMAGES = (CSV, NPZ, SPLIT, CLASSES, BIDS, HOSPITALS)
FILES = (".csv", ".npz")


def layout_of(path: Path, options: ImagingOptions) -> Layout | None:
    """The layout of one data set that a path is in; None for one that is in none of them."""
    if not path.is_dir():
        return {".csv": CSV, ".npz": NPZ}.get(path.suffix.lower())
    if is_bids(path):
        return BIDS
    entries = visible(path)
    folders = [entry.name for entry in entries if entry.is_dir()]
    for suffix, layout in ((".csv", CSV), (".npz", NPZ)):
        if sum(entry.suffix.lower() == suffix and entry.is_file() for entry in entries) == 1:
            return layout
    if any(splits_of(folders).values()):
        return SPLIT
    classes = {code(name) for name in options.classes}
    return CLASSES if any(code(name) in classes for name in folders) else None


def image_sites(path: Path, options: ImagingOptions) -> dict[str, Path]:
    """Hospitals below a folder, by name: CSV and npz files, and folders.

    Where there are CSV files, a folder that is no data set is none: it holds their pictures.
    Raises DataError for a name that is used twice.
    """
    sites = shard_sites(path, FILES)
    if not any(place.is_file() and place.suffix.lower() == ".csv" for place in sites.values()):
        return sites
    return {
        name: place
        for name, place in sites.items()
        if place.is_file() or layout_of(place, options) is not None
    }


def is_one_data_set(path: Path, options: ImagingOptions) -> Layout | None:
    """The layout of a folder that is one data set, not a folder of hospitals."""
    layout = layout_of(path, options)
    if layout is None or layout in (SPLIT, CLASSES, BIDS):
        return layout
    folders = [entry.name for entry in visible(path) if entry.is_dir()]
    classes = {code(name) for name in options.classes}
    inside = any(splits_of(folders).values()) or any(code(name) in classes for name in folders)
    return layout if inside or len(image_sites(path, options)) == 1 else None
