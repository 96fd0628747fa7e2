"""A model's files are taken once: copied into a folder of this process alone, and checked there.

What is checked is so what is loaded: whoever may write where the model lies can alter it before or
after, but not between.
"""

from __future__ import annotations

import os
from pathlib import Path

from wardround.common.errors import ModelRefused
from wardround.common.model_folder.listed import Listed, read_list
from wardround.common.results.package import FILES

_MODEL = "model"
_PIECE_BYTES = 1 << 20


def copy_model(path: Path, into: Path) -> None:
    """Copy the listed files of a model folder or an export (or of the ``model`` of a run or of
    results) into an empty private folder. Whether they are what the list says is asked there.

    Raises ModelRefused for a folder without a list, and for a file that is missing or larger than
    its list says.
    """
    folder = path / _MODEL if (path / _MODEL / FILES).is_file() else path
    data = read_list(folder)
    for one in Listed.read(data, str(path)).files:
        target = into / one.name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _copy(folder / one.name, target, one.size)
        except OSError as error:
            what = f"'{one.name}' can't be read ({error.strerror})"
            raise ModelRefused(what, who=str(path)) from None
        except ValueError:
            what = f"'{one.name}' was altered: it has more bytes than its list says"
            raise ModelRefused(what, who=str(path)) from None
    (into / FILES).write_bytes(data)


def _copy(source: Path, target: Path, size: int) -> None:
    """Raises ValueError for more than ``size`` bytes."""
    opened = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(opened, "rb") as file, open(target, "xb") as new:
        while piece := file.read(min(_PIECE_BYTES, size + 1)):
            size -= len(piece)
            if size < 0:
                raise ValueError
            new.write(piece)
