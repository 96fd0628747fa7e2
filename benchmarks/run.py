"""Every benchmark, one after the other: python -m benchmarks.run [--quick] [--json FOLDER]."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.report import arguments

NAMES = (
    "secagg",
    "linkage",
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
    "accountant",
    "dpsgd",
    "engines",
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


def main() -> None:
    """Run all; exit with 1 if one failed (data that is absent is said and counts as failed)."""
    options = arguments(__doc__ or "")
    failed = []
    for name in NAMES:
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        command += ["--quick"] if options.quick else []
        if options.json is not None:
            options.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(options.json / f"{name}.json")]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
