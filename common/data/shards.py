"""What folders and files of shards may be called."""

from __future__ import annotations

from pathlib import Path

from wardround.common.errors import DataError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "devel": "validation",
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
"""Names that data give to the parts of a split."""


def shard_sites(path: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Folders and readable files below ``path`` by name. Raises DataError for a name used twice."""
    sites: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        readable = entry.is_dir() or entry.suffix.lower() in suffixes
        if entry.name.startswith(".") or not readable:
            continue
        name = entry.name if entry.is_dir() else entry.stem
        if name in sites:
            raise DataError(f"{entry}: is hospital '{name}' like {sites[name].name}; rename one")
        sites[name] = entry
    return sites
