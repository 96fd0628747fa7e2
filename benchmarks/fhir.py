"""Reading a FHIR export for a cohort, beside ``json.loads`` alone of every line of it.

    python -m benchmarks.fhir [--quick] [--json PATH]

The export is made by carebundle, its patients repeated under other ids: about 1.3 kB a resource, 35
kinds of observations. Both read the same files in the same run, in one process; figures are
resources in a second of processor time.

few    two kinds of observations are asked for, conditions, drugs and visits
every  each observation is asked for
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from carebundle import generate_cohort, to_ndjson

from benchmarks.report import Row, arguments, emit
from wardround.client.sources.fhir.settings import FhirSource
from wardround.client.sources.fhir.source import FhirRows
from wardround.client.sources.source import Asked
from wardround.common.config.load import Config, parse_config

KINDS = ("Patient", "Encounter", "Condition", "Observation", "MedicationRequest")
COHORT = """
[task]
name = "own.py:Own"
[cohort.index]
event = "visit"
concepts = ["ENCOUNTER:AMB"]
[cohort.variables.first]
of = "measurement"
concepts = {first}
window_days = [-365, 365]
take = "count"
[cohort.variables.hypertension]
of = "condition"
concepts = ["ICD10CM:I10*"]
window_days = [-36500, 0]
[cohort.variables.lisinopril]
of = "drug"
concepts = ["RXNORM:314076"]
window_days = [-30, 30]
"""


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    rows = []
    with tempfile.TemporaryDirectory(prefix="fhir-") as name:
        folder = Path(name)
        number, codes = export(folder, 20 if options.quick else 150)
        for case, asked in (("few", ["LOINC:2160-0", "LOINC:8480-6"]), ("every", codes)):
            config = parse_config(COHORT.format(first=json.dumps(asked)))
            alone = number / seconds(lambda: parsed(folder))
            read = number / seconds(lambda config=config: answered(folder, config))  # type: ignore[misc]
            rows.append(Row(case, "resources/s", read, "higher", {"json.loads": alone}))
    emit(f"A FHIR export of {number:,} resources", rows, options.json)


def export(folder: Path, times: int) -> tuple[int, list[str]]:
    """Write it. Gives the number of resources, and the concepts of all observations."""
    made, codes, number = to_ndjson(generate_cohort(count=20, seed=1)), set[str](), 0
    for kind in KINDS:
        with open(folder / f"{kind}.ndjson", "w", encoding="utf-8") as file:
            for line in made[kind].splitlines():
                one = json.loads(line)
                for coding in one["code"]["coding"] if kind == "Observation" else ():
                    codes.add(f"LOINC:{coding['code']}")
                own, subject = one["id"], one.get("subject", {}).get("reference")
                for again in range(times):
                    one["id"] = f"{own}-{again}"
                    if subject is not None:
                        one["subject"] = {"reference": f"{subject}-{again}"}
                    file.write(json.dumps(one) + "\n")
                    number += 1
    return number, sorted(codes)


def parsed(folder: Path) -> None:
    """What no reader can do without."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            for line in file:
                json.loads(line)


def answered(folder: Path, config: Config) -> None:
    """A table of one row for each patient."""
    asked = Asked(config, folder, "records", lambda line: None)
    for _ in FhirRows(FhirSource(path=str(folder))).batches(asked):
        pass


def seconds(do: Callable[[], None]) -> float:
    """The least processor time of three."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        do()
        best = min(best, time.process_time() - began)
    return best


if __name__ == "__main__":
    main()
