"""How large some images are, of how many axes, and of which colours, by their headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wardround.common.errors import DataError
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.simulations.beginning.image_sets import ImageSet

_MOST = 20
"""Images of a hospital whose headers are read."""


@dataclass(frozen=True)
class Shape:
    """size : along each axis, depth first; modality : '' where the file says none"""

    size: tuple[int, ...]
    colours: bool = False
    modality: str = ""


@dataclass(frozen=True)
class Shapes:
    """sizes : of the images that were looked at, of ``axes`` each"""

    sizes: tuple[tuple[int, ...], ...]
    axes: int
    colours: bool
    modalities: frozenset[str]
    problems: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def shapes_of(sets: Sequence[ImageSet]) -> Shapes:
    """Of some images of each hospital. Raises DataError where none can be looked at."""
    by_title = {one.title: _looked_at(one) for one in sets}
    found = [shape for shapes in by_title.values() for shape in shapes]
    if not found:
        raise DataError(f"{sets[0].path}: no image could be read; are the files whole?")
    axes = max(len(shape.size) for shape in found)
    flat = [title for title, some in by_title.items() if any(len(s.size) < axes for s in some)]
    deep = [title for title, some in by_title.items() if any(len(s.size) == axes for s in some)]
    problems = []
    if flat:
        problems.append(
            f"{', '.join(flat)}: pictures, and {', '.join(deep)}: volumes; one model takes one "
            "kind: keep the others in a folder of their own"
        )
    modalities = frozenset(one.modality for one in found if one.modality)
    told = [f"images are of several modalities: {', '.join(sorted(modalities))}"]
    return Shapes(
        tuple(shape.size for shape in found if len(shape.size) == axes),
        axes,
        any(shape.colours for shape in found),
        modalities,
        tuple(problems),
        tuple(told) if len(modalities) > 1 else (),
    )


def _looked_at(one: ImageSet) -> list[Shape]:
    if one.shape:
        colours = len(one.shape) > 2 and one.shape[-1] == 3
        return [Shape(tuple(one.shape[:-1] if colours else one.shape), colours)]
    step = max(1, len(one.files) // _MOST)
    found = [_shape(file) for file in one.files[::step][:_MOST]]
    return [shape for shape in found if shape is not None]


def _shape(path: Path) -> Shape | None:
    """None for a file that can't be read: the trial run says why. Raises DataError without the
    library that reads it."""
    if path.is_dir():
        files = [file for file in visible(path) if kind_of(file) == "dicom"]
        first = _shape(files[0]) if files else None
        return None if first is None else Shape((len(files), *first.size[-2:]), first.colours)
    try:
        return {"picture": _picture, "dicom": _dicom, "nifti": _nifti}[kind_of(path) or ""](path)
    except ImportError as error:
        raise DataError(
            f"reading these images needs {error.name}: pip install 'wardround[imaging]'"
        ) from None
    except Exception:  # three libraries' readers, each with errors of its own
        return None


def _picture(path: Path) -> Shape:
    from PIL import Image

    with Image.open(path) as image:
        columns, rows = image.size
        small = image.convert("RGB").resize((16, 16))
    pixels = list(zip(*[iter(small.tobytes())] * 3, strict=True))
    return Shape((rows, columns), any(max(one) - min(one) > 8 for one in pixels))


def _dicom(path: Path) -> Shape:
    from pydicom import dcmread

    header = dcmread(path, stop_before_pixels=True)
    size = (int(header.Rows), int(header.Columns))
    frames = int(header.get("NumberOfFrames") or 1)
    colours = int(header.get("SamplesPerPixel", 1)) == 3
    return Shape(
        ((frames, *size) if frames > 1 else size), colours, str(header.get("Modality") or "")
    )


def _nifti(path: Path) -> Shape:
    import nibabel

    x, y, z = (*nibabel.load(path).shape, 1, 1)[:3]
    return Shape(tuple(size for size in (z, y, x) if size > 1))
