"""Where the parts of a study's results lie, for people: what is there, and nothing else."""

from __future__ import annotations

from pathlib import Path

_PARTS = (
    ("model", "model"),
    ("model", "model.json"),
    ("report", "report.html"),
)


def found_in(folder: Path) -> list[str]:
    """A line for each part that a folder of results has: a model where one was made, the report,
    tables and plots."""
    lines = [f"{what:<9} {folder / name}" for what, name in _PARTS if (folder / name).exists()]
    for what, ending in (("tables", ".csv"), ("plots", ".svg")):
        if names := sorted(path.name for path in folder.glob(f"*{ending}")):
            lines.append(f"{what:<9} {folder}/: {', '.join(names)}")
    return lines
