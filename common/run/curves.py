"""What can be drawn of the model that a run leaves, by split: of its kept sums, or of a package.

    curves.json      in a package for hospitals: groups of at least ``smallest`` rows of each class,
                     and the intervals of figures; made by ``server/results/shared.py``

In the coordinator's own directory the sums themselves are there (``sums.py``), and curves as fine
as they can be seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wardround.common.durable.versioned import Format
from wardround.common.errors import RunDirectoryError
from wardround.common.figures.curves import Groups, groups_of
from wardround.common.figures.intervals import Intervals
from wardround.common.run.sums import FILE as SUMS
from wardround.common.run.sums import KeptSums, read_kept

FILE = "curves.json"
FORMAT = Format("curves of a run", "remove it: the run then shows no curves or intervals")
_MOST_CLASSES = 12
_DIGITS = 4


@dataclass(frozen=True)
class Curves:
    """Of one split, over all rows of the hospitals together.

    intervals : of the figures of all rows together, by name
    groups : by class; '' of two classes
    confusion : [true, predicted] where all of it may be shown
    """

    intervals: Intervals = field(default_factory=dict)
    groups: dict[str, Groups] = field(default_factory=dict)
    confusion: list[list[float]] = field(default_factory=list)

    @classmethod
    def of(
        cls, kept: KeptSums, split: str, figures: Mapping[str, Any], smallest: int = 0
    ) -> Curves:
        """Of a split's added sums and its figures; empty for sums that have no curve.

        smallest : as in ``curves.groups_of``; intervals are rounded then, and the confusion of
            several classes is left out
        """
        sums, intervals = kept.sums.get(split, {}), kept.intervals(split, figures)
        if smallest:
            intervals = {
                name: (round(low, _DIGITS), round(high, _DIGITS))
                for name, (low, high) in intervals.items()
            }
        found: dict[str, Groups | None] = {}
        confusion = np.asarray(sums.get("confusion", np.zeros(0)))
        try:
            yes, no = (np.asarray(sums[name], float) for name in ("positives", "negatives"))
            if yes.ndim == 1 and yes.shape == no.shape:
                found[""] = groups_of(yes, no, smallest)
            elif yes.ndim == 2 and len(yes) <= _MOST_CLASSES:
                both = enumerate(zip(yes, no, strict=True))
                found = {str(c): groups_of(one, rest, smallest) for c, (one, rest) in both}
        except (KeyError, ValueError, TypeError, IndexError):
            found = {}  # sums of a task's own, under a name of ours
        groups = {name: one for name, one in found.items() if one is not None}
        whole = confusion.ndim == 2 and len(confusion) <= _MOST_CLASSES
        shown = whole and (not smallest or len(confusion) == 2)
        return cls(intervals, groups, confusion.tolist() if shown else [])

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Curves:
        """Of JSON. Raises KeyError, TypeError, ValueError or AttributeError for what isn't such."""
        return cls(
            {str(k): (float(a), float(b)) for k, (a, b) in stored["intervals"].items()},
            {str(k): Groups.read(one) for k, one in stored["groups"].items()},
            [[float(x) for x in row] for row in stored["confusion"]],
        )


def curves_of(folder: Path, overall: Mapping[str, Mapping[str, Any]]) -> dict[str, Curves]:
    """By split, what a run directory or a folder of results has; empty where there is nothing.

    overall : figures of all rows together, by split, of the model that the run leaves

    Raises RunDirectoryError for a file that can't be read.
    """
    if (folder / SUMS).is_file():
        kept = read_kept(folder)
        if kept is None:
            return {}
        return {s: Curves.of(kept, s, overall[s]) for s in kept.sums if s in overall}
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        stored = FORMAT.read(json.loads(path.read_text("utf-8")), RunDirectoryError, str(path))
        return {str(split): Curves.read(one) for split, one in stored["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunDirectoryError("is damaged", who=str(path), mend=FORMAT.mend) from None


def sealed(curves: Mapping[str, Curves], smallest: int) -> dict[str, Any]:
    """What ``curves.json`` holds."""
    splits = {split: asdict(one) for split, one in curves.items()}
    return FORMAT.seal({"smallest": smallest, "splits": splits})
