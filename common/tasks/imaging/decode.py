"""One entry of a class's folder, or of a CSV, to an image: a file, or a folder of DICOM slices.

DICOM is de-identified before its pixels are looked at.
"""

from __future__ import annotations

from pathlib import Path

from wardround.common.errors import DataError, Unreadable, WardroundError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.kinds import kind_of
from wardround.common.tasks.imaging.nifti import read_nifti
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pictures import read_picture
from wardround.common.tasks.imaging.pixels import Decoded, fit
from wardround.common.tasks.imaging.series import read_dicom_image, read_series


def decode(path: Path, options: ImagingOptions, place: str) -> Decoded | LeftOut:
    """An image of the size and channels asked for, or why it is left out.

    Parameters
    ----------
    place : says in errors which file it is, without its name

    Raises Unreadable for a file that is damaged or has no image, DataError for one that isn't as it
    must be, or shows who the patient is.
    """
    try:
        if path.is_dir():
            return read_series(path, options, place)
        kind = kind_of(path)
        if kind == "nifti":
            values, space = read_nifti(path, place)
            return fit(values, options, place, colours=False, spacing=space.spacing)
        if kind == "picture":
            return read_picture(path, options, place)
        return read_dicom_image(path, options, place)
    except ImportError as error:
        raise DataError(
            f"{place}: reading it needs {error.name}: pip install 'wardround[imaging]'"
        ) from None
    except WardroundError:
        raise
    except Exception as error:  # three libraries' readers, each with errors of its own
        raise Unreadable(
            f"{place}: not readable as an image ({type(error).__name__}); save it anew or remove it"
        ) from None
