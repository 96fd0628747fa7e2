"""A file or folder as a whole: nothing that names anybody is in a copy; what is left is said."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.common.tasks.text.tiny import tiny_encoder
from wardround.client.deidentify.free_text import Found, scrub
from wardround.client.deidentify.ner import finder_of
from wardround.client.deidentify.report import lines_of, page_of
from wardround.client.deidentify.rules import Rules
from wardround.client.deidentify.run import Asked, deidentify
from wardround.common.errors import ConfigError, DataError
from wardround.common.process.main import app
from wardround.simulations import simulate

KEY = bytes(range(32))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = (
    "PatNr;Nachname;Geburtsdatum;Telefon;PLZ;Ort;Aufnahme;Entlassung;Alter;Geschlecht;Kreatinin;"
    "Notiz"
)


def write_extract(path: Path, rows: int = 60) -> list[list[str]]:
    """Semicolons, decimal commas, German dates, Latin-1: of a hospital as they are."""
    draw, lines = random.Random(3), []
    for number in range(rows):
        born = date(1930 + draw.randrange(90), 1 + draw.randrange(12), 1 + draw.randrange(28))
        came = date(2023, 1, 15) + timedelta(days=draw.randrange(600))
        left = came + timedelta(days=draw.randrange(12))
        name = draw.choice(["Schäfer", "Okafor", "Nowak"])
        lines.append(
            [
                f"{100_000 + number // 2}",
                name,
                f"{born:%d.%m.%Y}",
                f"+49 30 {draw.randrange(10**6, 10**7)}",
                draw.choice(["10115", "03601", "80331"]),
                draw.choice(["Berlin", "München"]),
                f"{came:%d.%m.%Y}",
                f"{left:%d.%m.%Y}",
                str((came - born).days // 365),
                draw.choice("mw"),
                f"{draw.lognormvariate(4.4, 0.4):.1f}".replace(".", ","),
                f"Herr {name} kam am {came:%d.%m.%Y}, Tel. +49 30 1234567",
            ]
        )
    text = "\n".join([HEAD, *(";".join(line) for line in lines)]) + "\n"
    path.write_bytes(text.encode("latin-1"))
    return lines


def test_by_safe_harbour_only_years_and_coarse_values_stay(tmp_path: Path) -> None:
    rows = write_extract(tmp_path / "extract.csv")
    (done,) = deidentify(
        tmp_path / "extract.csv", tmp_path / "out", Asked("safe-harbour", KEY, now=NOW)
    )
    table = pacsv.read_csv(tmp_path / "out" / done.target)
    assert table.column_names == [
        "PatNr",
        "Geburtsdatum",
        "PLZ",
        "Aufnahme",
        "Entlassung",
        "Alter",
        "Geschlecht",
        "Kreatinin",
        "Notiz",
    ]
    made = table.to_pydict()
    assert set(made["Aufnahme"]) <= {2023, 2024} and max(made["Alter"]) == 90
    assert set(made["Notiz"]) == {"[NAME] kam am [DATE], Tel. [PHONE]"}
    assert all(year is None or year >= 2026 - 89 for year in made["Geburtsdatum"])
    assert made["Kreatinin"][0] == float(rows[0][10].replace(",", "."))
    assert made["PatNr"][0] == made["PatNr"][1] != made["PatNr"][2]
    text = (tmp_path / "out" / done.target).read_text()
    for row in rows:
        for secret in (row[0], row[1], row[2], row[3], row[6]):
            assert secret not in text
    found = done.anonymity
    assert found is not None and found.columns == (
        "Geburtsdatum",
        "PLZ",
        "Aufnahme",
        "Entlassung",
        "Alter",
        "Geschlecht",
    )
    said = "\n".join(lines_of(done))
    assert "of 60 rows" in said and "groups under 5" in said
    assert "Nachname" in page_of([done], "safe-harbour") and rows[0][1] not in said


def test_by_gdpr_intervals_are_kept_in_every_file_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = write_extract(folder / "a.csv")
    write_extract(folder / "b.csv")
    (folder / "Meier.txt").write_text("Frau Meier, geb. 1.2.1950\nohne Befund\n")
    rules = Rules(columns={"Geburtsdatum": "shift", "Telefon": "keep"})
    done = deidentify(folder, tmp_path / "out", Asked("gdpr", KEY, rules, now=NOW))
    assert [one.target for one in done] == ["text-00001.txt", "table-002.csv", "table-003.csv"]
    assert (tmp_path / "out" / "text-00001.txt").read_text() == "[NAME], geb. [DATE]\nohne Befund\n"
    one, other = (pacsv.read_csv(tmp_path / "out" / name.target) for name in done[1:])
    assert one.equals(other) and "Telefon" in one.column_names
    made = one.to_pydict()
    for number, row in enumerate(rows):
        came, left = (datetime.strptime(text, "%d.%m.%Y").date() for text in row[6:8])
        got = made["Entlassung"][number] - made["Aufnahme"][number]
        assert got == left - came and made["Aufnahme"][number] != came


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"patient": "Fall"}, "there is no column 'Fall'"),
        ({"quasi": ("Nachname",)}, r"'Nachname' \(--quasi\) is dropped"),
        ({"rules": Rules(columns={"Notizen": "drop"})}, r"no column 'Notizen' \(--rules\)"),
        ({"rules": Rules(columns={"Geschlecht": "age"})}, "'Geschlecht' holds no ages in numbers"),
        ({"rules": Rules(columns={"Kreatinin": "year"})}, "Kreatinin"),
    ],
)
def test_what_cant_be_done_is_named_and_nothing_is_written(
    tmp_path: Path, asked: dict[str, object], told: str
) -> None:
    rows = write_extract(tmp_path / "extract.csv")
    with pytest.raises(DataError, match=told) as error:
        deidentify(tmp_path / "extract.csv", tmp_path / "out", Asked("gdpr", KEY, **asked))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    assert all(cell not in str(error.value) for cell in rows[0] if len(cell) > 3)


def test_dates_are_not_shifted_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("lab,seen\n1,2024-01-05\n2,2024-01-07\n")
    with pytest.raises(DataError, match="no column says whose a row is.*--patient COLUMN"):
        deidentify(tmp_path / "x.csv", tmp_path / "out", Asked("gdpr", KEY))
    pq.write_table(pacsv.read_csv(tmp_path / "x.csv"), tmp_path / "x.parquet")
    (done,) = deidentify(tmp_path / "x.parquet", tmp_path / "out", Asked("safe-harbour", KEY))
    assert pq.read_table(tmp_path / "out" / done.target).to_pydict() == {
        "lab": [1, 2],
        "seen": [2024, 2024],
    }


def test_the_command_says_what_it_did_and_keeps_the_key(tmp_path: Path) -> None:
    write_extract(tmp_path / "extract.csv")
    words = ["data", "deidentify", str(tmp_path / "extract.csv"), str(tmp_path / "o")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "Nachname: name, dropped" in told.output and "promises nothing more" in told.output
    assert (tmp_path / "o.html").exists() and (tmp_path / "deidentify.key").stat().st_size == 32


def test_a_trained_text_model_finds_what_no_rule_does(tmp_path: Path) -> None:
    """A run on made-up sentences whose names have no title; its model then tags them in notes."""
    folder = tmp_path / "data"
    folder.mkdir()
    people = ["Ana", "Ben", "Cem", "Dov"]
    for number, site in enumerate(("a", "b", "c")):
        lines = []
        for turn in range(20):
            name = people[(turn + number) % 4]
            lines.append(f"then\tO\n{name}\tB-NAME\nleft\tO\n\nwe\tO\nsaw\tO\nit\tO\n")
        (folder / f"{site}.iob").write_text("\n".join(lines))
    tiny_encoder(tmp_path / "encoder")
    (tmp_path / "federation.toml").write_text(
        "[federation]\nrounds = 2\n[secure_aggregation]\nenabled = false\n"
        "[data]\npath = 'data'\n[task]\nname = 'text'\n"
        "encoder = 'encoder'\nentities = ['NAME']\nmax_length = 24\ntuning = 'full'\n"
        "[training]\noptimizer = 'adamw'\nlr = 0.01\n[simulation]\nbaselines = false\n"
    )
    result = simulate(tmp_path / "federation.toml")
    found = Found()
    cleaned = scrub(["then Ana left"], found, finder_of(result.run_directory))
    assert cleaned == ["then [NAME] left"] and found.tags == {"NAME": 1}


def test_no_code_that_a_folder_names_is_imported(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit(99)\n")
    (tmp_path / "config.toml").write_text('[task]\nname = "evil.py:Evil"\n')
    with pytest.raises(ConfigError, match="no run of a text task"):
        finder_of(tmp_path)
