"""Completes a CycloneDX bill of materials: bill.py BILL.json requirements.txt.

The generator lists components; what of them Wardround itself asks for stands in pyproject.toml, and
the lines of the requirements file, which it copies into each description, are there already as
digests.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path


def normal(name: str) -> str:
    """PEP 503's form of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def complete(bill: dict, asked: set[str]) -> dict:
    """The bill with the root's own dependencies and without copied lines."""
    root = bill["metadata"]["component"]["bom-ref"]
    direct = []
    for part in bill["components"]:
        part.pop("description", None)
        if normal(part["name"]) in asked:
            direct.append(part["bom-ref"])
    others = [one for one in bill.get("dependencies", []) if one["ref"] != root]
    bill["dependencies"] = [{"ref": root, "dependsOn": sorted(direct)}, *others]
    return bill


def main() -> None:
    """Rewrite the file in place. Ends with a message where a direct dependency isn't listed."""
    path = Path(sys.argv[1])
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    asked = {normal(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in project["dependencies"]}
    bill = complete(json.loads(path.read_text()), asked)
    if len(bill["dependencies"][0]["dependsOn"]) < len(asked):
        sys.exit(f"{path}: a dependency of pyproject.toml isn't in the bill; run make lock")
    path.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
