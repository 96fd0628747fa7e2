"""``wardround data deidentify``: copies of tables and texts without what names people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def deidentify(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A table, a .txt file, or a folder of them.")
    ],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A new folder.")],
    profile: Annotated[
        Literal["safe-harbour", "gdpr"],
        typer.Option(help="What becomes of each kind of column: of dates the year, or a shift."),
    ] = "safe-harbour",
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The key of pseudonyms and shifts; made if there is none. Default: "
            "deidentify.key beside SOURCE.",
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="TOML", help="What becomes of single columns.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that says whose a row is.")
    ] = None,
    quasi: Annotated[
        str | None,
        typer.Option(metavar="COLUMN,...", help="Columns that others may know, to count k by."),
    ] = None,
    dates: Annotated[
        str | None, typer.Option(metavar="FORM", help="Of dates that have two readings: %d.%m.%y.")
    ] = None,
    ner: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run of the text task that tags names in texts."),
    ] = None,
) -> None:
    """Write copies of tables and texts without direct identifiers, and count who still stands out.

    Names, contacts and numbers go, dates become years or are shifted by patient, ages over 89 and
    postcodes get coarse, free text gets tags. It says by k-anonymity and counts what is left, and
    promises nothing more.
    """
    place = key or source.absolute().parent / "deidentify.key"
    _copy(source, target, profile, place, rules, patient, quasi, dates, ner)


def _copy(
    source: Path,
    target: Path,
    profile: str,
    key: Path,
    rules: Path | None,
    patient: str | None,
    quasi: str | None,
    dates: str | None,
    ner: Path | None,
) -> None:
    from wardround.client.deidentify.key import key_at
    from wardround.client.deidentify.ner import finder_of
    from wardround.client.deidentify.report import LEFT, lines_of, page_of
    from wardround.client.deidentify.rules import Rules, read_rules
    from wardround.client.deidentify.run import Asked
    from wardround.client.deidentify.run import deidentify as make_copies
    from wardround.common.durable.private import write_private
    from wardround.common.tasks.data.reading.dialect import Dialect

    asked = Asked(
        profile,
        key_at(key),
        read_rules(rules) if rules is not None else Rules(),
        patient,
        tuple(name.strip() for name in quasi.split(",")) if quasi else None,
        Dialect(dates=dates),
        finder_of(ner) if ner is not None else None,
    )
    outcomes = make_copies(source, target, asked)
    for outcome in outcomes:
        for line in lines_of(outcome):
            typer.echo(line)
    page = target.with_name(f"{target.name}.html")
    write_private(page, page_of(outcomes, profile).encode())
    typer.echo(f"the key stays here: {key}; the page: {page}")
    typer.echo(LEFT)
