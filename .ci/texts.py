"""Holds the files that are given to what every text here keeps; prints what doesn't, and exits 1.

One newline at the end, no blank before one, no carriage return, and no word on where packages come
from: that is the machine's matter, and constraints.txt has names and versions only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_INDEX = re.compile(
    r"--(extra-)?index-url|^\s*(extra-)?index-url\s*=|--find-links[ =]+https?:", re.M
)
_PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+")


def problems(path: Path) -> list[str]:
    """What is wrong with a file; one that isn't text is let through."""
    if not path.is_file():
        return []
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return []
    found = []
    if text and (not text.endswith("\n") or text.endswith("\n\n")):
        found.append("doesn't end with one newline")
    if "\r" in text:
        found.append("has a carriage return")
    if path.suffix != ".md" and re.search(r"[ \t]$", text, re.M):
        found.append("has a blank at the end of a line")
    if _INDEX.search(text) and path.name != Path(__file__).name:
        found.append("names an index of packages")
    if path.name == "constraints.txt":
        found += [f"{line!r} is no exact pin" for line in text.split() if not _PIN.fullmatch(line)]
    return found


def main() -> int:
    """0, or 1 after a line for each problem."""
    lines = [f"{name}: {what}" for name in sys.argv[1:] for what in problems(Path(name))]
    print("\n".join(lines), end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
