"""Hospitals' files as they come, made by the test: no two are written alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

Row = dict[str, object]


def patients(seed: int, rows: int, first: int = 1) -> Iterator[Row]:
    """Made-up patients; who is old dies more often."""
    draw = np.random.default_rng(seed)
    for number in range(rows):
        age = int(draw.integers(20, 95))
        yield {
            "number": first + number,
            "age": age,
            "crp": round(float(draw.gamma(3, 10)), 1),
            "female": bool(draw.random() < 0.5),
            "day": f"2021-{1 + number % 12:02}-{1 + number % 28:02}",
            "died": bool(draw.random() < 1 / (1 + np.exp((60 - age) / 8))),
        }


def write(path: Path, header: str, *lines: str, encoding: str = "utf-8") -> Path:
    """A file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join([header, *lines]) + "\n").encode(encoding))
    return path


def three_extracts(folder: Path) -> Path:
    """Semicolons, decimal commas and Latin-1; UTF-8 with a mark and '.' for missing; tabs. A date
    column; sex as M, F, f and 'm '; an outcome in three codings."""
    write(
        folder / "nord.csv",
        "PatNr;Größe [cm];Alter;CRP [mg/l];Geschlecht;Aufnahme;verstorben",
        *(
            f"{p['number']};{168 + n % 20};{p['age']};{str(p['crp']).replace('.', ',')};"
            f"{('F', 'f')[n % 2] if p['female'] else ('M', 'm ')[n % 2]};"
            f"{'.'.join(reversed(str(p['day']).split('-')))};{'ja' if p['died'] else 'nein'}"
            for n, p in enumerate(patients(1, 90))
        ),
        encoding="latin-1",
    )
    write(
        folder / "south.csv",
        "\ufeffPatNr,Größe [cm],Alter,CRP [mg/l],Geschlecht,Aufnahme,verstorben",
        *(
            f"{p['number']},{165 + n % 24},{p['age']},{'.' if n % 9 == 0 else p['crp']},"
            f"{'F' if p['female'] else 'M'},{p['day']},{int(bool(p['died']))}"
            for n, p in enumerate(patients(2, 80, 1001))
        ),
    )
    write(
        folder / "west.tsv",
        "PatNr\tGröße [cm]\tAlter\tCRP [mg/l]\tGeschlecht\tAufnahme\tverstorben",
        *(
            f"{p['number']}\t{166 + n % 22}\t{p['age']}\t{p['crp']}\t"
            f"{'female' if p['female'] else 'male'}\t{p['day']}\t{'dead' if p['died'] else 'alive'}"
            for n, p in enumerate(patients(3, 70, 2001))
        ),
    )
    return folder


def plain(folder: Path, names: str = "north south west", rows: int = 60) -> Path:
    """Hospitals whose files are alike: id, age, crp, died."""
    for number, name in enumerate(names.split()):
        write(
            folder / f"{name}.csv",
            "id,age,crp,died",
            *(
                f"{p['number']},{p['age']},{p['crp']},{int(bool(p['died']))}"
                for p in patients(number, rows, 1 + 1000 * number)
            ),
        )
    return folder
