"""The figure sums of the model that a run leaves: what its figures, curves and intervals are of.

    RUN/sums.safetensors     SPLIT/name: the hospitals' metric sums, added; whose they are beside it

Added over hospitals as they were opened, so under masks no more than the server learned anyway, and
of no single hospital. It is the coordinator's own: no file of a package for hospitals, who get
thinned curves instead (``server/results/shared.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.durable.versioned import Format
from wardround.common.errors import CheckpointError, RunDirectoryError
from wardround.common.figures.intervals import Intervals, figure_intervals
from wardround.common.figures.sums import Sums
from wardround.common.run.directory import RunDirectory

FILE = "sums.safetensors"
"""In a run directory."""
FORMAT = Format("figure sums", "remove it: the run then shows no curves, thresholds or intervals")


@dataclass(frozen=True)
class KeptSums:
    """The sums of one model's evaluation.

    round : whose model it is
    sums : by split, then name: float64 arrays as the task's ``sums`` name them, added over
        hospitals
    over : by split, names of the hospitals that they are over
    masked : whether only these sums were seen, and no hospital's own
    noised : by split, intervals of the figures of sums that carry noise; empty of exact ones. Such
        ``sums`` are what curves are drawn of, nothing that figures are made of again
    """

    round: int
    sums: dict[str, Sums] = field(default_factory=dict)
    over: dict[str, list[str]] = field(default_factory=dict)
    masked: bool = False
    noised: dict[str, Intervals] = field(default_factory=dict)

    def intervals(self, split: str, figures: Mapping[str, Any]) -> Intervals:
        """Of a split's figures: worked out from exact sums, or those of noised ones."""
        if self.noised:
            return self.noised.get(split, {})
        return figure_intervals(figures, self.sums.get(split, {}))

    def arrays(self) -> Sums:
        """All sums, as ``SPLIT/name``."""
        return {f"{split}/{k}": v for split, one in self.sums.items() for k, v in one.items()}

    def about(self) -> dict[str, Any]:
        """All but the sums, for JSON."""
        values = {"round": self.round, "over": self.over, "masked": self.masked}
        return values | {"noised": self.noised}

    @classmethod
    def of(cls, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> KeptSums:
        """Of both parts. Raises KeyError, TypeError or ValueError for what isn't such."""
        over = {str(split): [str(x) for x in names] for split, names in about["over"].items()}
        sums: dict[str, Sums] = {split: {} for split in over}
        for key, value in arrays.items():
            split, _, name = key.partition("/")
            sums[split][name] = value
        noised = {
            str(split): {str(name): (float(a), float(b)) for name, (a, b) in spans.items()}
            for split, spans in about.get("noised", {}).items()
        }
        return cls(int(about["round"]), sums, over, bool(about["masked"]), noised)


def write_sums(run: RunDirectory, kept: KeptSums | None) -> None:
    """Keep them, durably, in the place of what is there; None leaves no file. Raises OSError."""
    path = run.path / FILE
    if kept is None or not (kept.sums or kept.noised):
        path.unlink(missing_ok=True)
    else:
        write_tensors(path, kept.arrays(), FORMAT.seal(kept.about()))


def read_kept(run: RunDirectory | Path) -> KeptSums | None:
    """All that was kept; None where nothing was, as in runs of before. Raises RunDirectoryError
    for a file that can't be read."""
    path = (run if isinstance(run, Path) else run.path) / FILE
    if not path.is_file():
        return None
    try:
        arrays, stored = read_tensors(path)
        return KeptSums.of(arrays, FORMAT.read(stored, RunDirectoryError, str(path)))
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
        raise RunDirectoryError("is damaged", who=str(path), mend=FORMAT.mend) from None


def read_sums(run: RunDirectory | Path, split: str) -> Sums | None:
    """The added sums of one split, of the model that the run leaves; None where none were kept.

    Raises RunDirectoryError as ``read_kept``.
    """
    kept = read_kept(run)
    return kept.sums.get(split) if kept else None


def by_round(kept: Iterable[KeptSums]) -> dict[int, KeptSums]:
    """The same by the round of their model; later ones win."""
    return {one.round: one for one in kept}
