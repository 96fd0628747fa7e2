"""Two places that have the same persons, made up: a laboratory's values, and a registry of deaths.

Most persons are at both, written as each place writes them: numbers with and without blanks, dates
in two forms, names in capitals or not. What kills is in both places' columns, so neither predicts
as well alone. ``everything.csv`` is what nobody has: all columns of all persons, to try a study on
one machine.
"""

from __future__ import annotations

import csv
from datetime import date, timedelta
from math import exp
from pathlib import Path
from random import Random

PERSONS, BOTH = 1200, 1000
SURNAMES = ("Müller", "O'Brien", "Ångström", "García", "Łuczak", "Smith", "Nguyen", "De Vries")


def nhs_number(number: int) -> str:
    """Ten digits, of which the last one checks the others (modulo 11); '' where there is none."""
    digits = f"{number:09d}"
    check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
    return "" if check == 10 else digits + str(check % 11)


def persons(random: Random) -> list[dict[str, object]]:
    """All of them, a row each."""
    found: list[dict[str, object]] = []
    number = 400_000_000
    while len(found) < PERSONS:
        number += random.randint(1, 900)
        if not (whole := nhs_number(number)):
            continue
        age = min(95.0, max(20.0, random.gauss(63, 13)))
        crp, albumin, smokes = random.gauss(2, 0.8), random.gauss(38, 5), random.random() < 0.3
        odds = -1.6 + 0.06 * (age - 63) + 0.9 * (crp - 2) - 0.1 * (albumin - 38) + 0.7 * smokes
        found.append(
            {
                "nhs_number": whole,
                "birth_date": date(2026, 1, 1) - timedelta(days=int(age * 365.25)),
                "surname": random.choice(SURNAMES),
                "crp": round(exp(crp), 1),
                "albumin": round(albumin, 1),
                "age": round(age),
                "smoker": "yes" if smokes else "no",
                "died": int(random.random() < 1 / (1 + exp(-odds))),
            }
        )
    return found


def as_the_registry_writes(person: dict[str, object]) -> dict[str, object]:
    """The same identifiers, spelled otherwise."""
    number, day = str(person["nhs_number"]), person["birth_date"]
    assert isinstance(day, date)
    return {
        **person,
        "nhs_number": f"{number[:3]} {number[3:6]} {number[6:]}",
        "birth_date": day.strftime("%d.%m.%Y"),
        "surname": str(person["surname"]).upper(),
    }


def write(path: Path, rows: list[dict[str, object]], columns: str) -> None:
    """A table with these columns."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns.split(), extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def make(folder: Path, seed: int = 1) -> None:
    """The three files."""
    random = Random(seed)
    every = persons(random)
    lab, registry = every[:BOTH] + every[BOTH : BOTH + 80], every[:BOTH] + every[BOTH + 80 :]
    random.shuffle(lab)
    random.shuffle(registry)
    who = "nhs_number birth_date surname"
    write(folder / "lab.csv", lab, f"{who} crp albumin")
    spelled = [as_the_registry_writes(one) for one in registry]
    write(folder / "registry.csv", spelled, f"{who} age smoker died")
    write(folder / "everything.csv", every, f"{who} crp albumin age smoker died")


if __name__ == "__main__":
    data = Path(__file__).parent / "data"
    data.mkdir(exist_ok=True)
    make(data)
    print(f"wrote lab.csv, registry.csv and everything.csv in {data}")
