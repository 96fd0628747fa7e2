"""Every benchmark, one after the other, and one page of their figures: ``make bench``.

    python -m benchmarks.run [--quick] [--json FOLDER] [--only NAME,NAME] [--page PATH]

Each one's rows are kept in FOLDER (default ``.bench``) with the machine, the versions and the load
that they were measured under; ``--page`` makes the page of all that lie there, whenever they were
measured, so that a single one can be measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.page import page

NAMES = (
    "secagg",
    "linkage",
    "encryption",
    "vertical",
    "simulation",
    "forms",
    "scaling",
    "tables",
    "statistics",
    "population",
    "fed_heart",
    "fed_brca",
    "fed_heart_dp",
    "personal",
    "trees_real",
    "private_sums",
    "privacy_choice",
    "accountant",
    "dpsgd",
    "engines",
    "compression",
    "deployment",
    "studies",
    "serving",
    "fhir",
    "export",
    "export_neural",
    "images",
    "pneumonia",
    "ner",
    "large_model",
)
_VERSIONS = "wardround", "torch", "flwr", "opacus", "numpy", "pyarrow", "scikit-learn", "ray"
_PEERS = {"pfl": "pfl", "flare": "nvflare"}


def main() -> None:
    """Run those that are asked for; exit with 1 if one failed (data that is absent is said and
    counts as failed)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute each, on two cores")
    parser.add_argument("--json", type=Path, metavar="FOLDER", default=Path(".bench"))
    parser.add_argument("--only", metavar="NAME,NAME", default="", help="these alone; 'none': none")
    parser.add_argument("--page", type=Path, metavar="PATH", help="write the page there")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(NAMES)
    if unknown := sorted({*names} - {*NAMES, "none"}):
        sys.exit(f"benchmarks.run: there is no benchmark '{unknown[0]}'; one of {', '.join(NAMES)}")
    options.json.mkdir(parents=True, exist_ok=True)
    failed = [
        name for name in names if name != "none" and not measured(name, options.quick, options.json)
    ]
    if options.page is not None:
        options.page.write_text(page([json.loads(file.read_text()) for file in kept(options.json)]))
        print(f"written: {options.page}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def kept(folder: Path) -> Iterator[Path]:
    """The files of benchmarks that have been measured, in the order of ``NAMES``."""
    return (folder / f"{name}.json" for name in NAMES if (folder / f"{name}.json").exists())


def measured(name: str, quick: bool, folder: Path) -> bool:
    """Run one and keep its rows beside what they were measured under; whether it gave any. What was
    kept before stays where it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(rows)]
        load, started = os.getloadavg()[0], time.perf_counter()
        done = subprocess.run([*command, *(["--quick"] if quick else [])], check=False)
        if done.returncode or not rows.exists():
            return False
        found = {
            "name": name,
            "quick": quick,
            "when": datetime.now(UTC).isoformat(timespec="minutes"),
            "seconds": time.perf_counter() - started,
            "load_before": load,
            "load_after": os.getloadavg()[0],
            "machine": machine(),
            "versions": versions(),
            "rows": json.loads(rows.read_text()),
        }
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return True


def machine() -> str:
    """Processor, cores, memory, system; nothing that names the machine."""
    processor = platform.processor() or platform.machine()
    cores = Path("/proc/cpuinfo")
    if cores.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cores.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def versions() -> dict[str, str]:
    """Of Python, what is measured, and the peers that are here."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for folder, package in _PEERS.items():
        python = Path(".peers") / folder / "bin" / "python"
        if python.exists():
            code = f"import importlib.metadata as m; print(m.version({package!r}))"
            done: Any = subprocess.run(
                [str(python), "-c", code], capture_output=True, text=True, check=False
            )
            if not done.returncode:
                found[package] = done.stdout.strip()
    return found


if __name__ == "__main__":
    main()
