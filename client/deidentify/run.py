"""De-identify a file or folder of tables and texts: read, decide, do, count, write.

Tables are read as the tabular task reads them; a copy is a CSV, or Parquet of Parquet. Text files
(``.txt``) are numbered, for a name may be a patient's. Nothing is written before all was read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from wardround.client.deidentify import columns as do
from wardround.client.deidentify.anonymity import Anonymity, anonymity
from wardround.client.deidentify.free_text import Finder, Found, scrub
from wardround.client.deidentify.roles import Role, role_of
from wardround.client.deidentify.rules import Action, Rules, action_for
from wardround.common.errors import DataError
from wardround.common.tasks.data.profile.table import profile
from wardround.common.tasks.data.profile.words import name_words
from wardround.common.tasks.data.reading.dates import read_dates
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.read import Read, read_file
from wardround.common.tasks.data.reading.texts import USUAL_MISSING, uniques
from wardround.common.tasks.data.shards import visible
from wardround.common.tasks.data.tables import READABLE

log = logging.getLogger("wardround.client")
TEXT = ".txt"
_QUASI_WORDS = frozenset(
    "sex gender geschlecht sexe sexo race ethnicity ethnie nationality nationalität religion "
    "occupation beruf profession marital language".split()
)
_QUASI_ACTIONS = ("birth-year", "age", "zip3", "area", "year")


@dataclass(frozen=True)
class Asked:
    """What is to be done.

    patient : column that says whose a row is; None: found by its name
    quasi : columns that others may know; None: age, birth, postcode, years, sex and the like
    finder : finds more in free text
    """

    profile: str
    key: bytes
    rules: Rules = Rules()
    patient: str | None = None
    quasi: tuple[str, ...] | None = None
    dialect: Dialect = Dialect()
    finder: Finder | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Decision:
    """Of one column."""

    column: str
    role: Role
    action: Action


@dataclass
class Outcome:
    """Of one file. ``target`` is '' until it is written."""

    source: str
    decisions: list[Decision] = field(default_factory=list)
    rows: int = 0
    anonymity: Anonymity | None = None
    texts: Found = field(default_factory=Found)
    target: str = ""


def deidentify(source: Path, target: Path, asked: Asked) -> list[Outcome]:
    """Write de-identified copies of a file, or of the files of a folder, into a new folder.

    Raises DataError, and writes nothing, if one can't be read or done.
    """
    if target.exists():
        raise DataError(f"{target}: is there already; name a new folder")
    files = _files(source)
    made: list[tuple[Outcome, pa.Table | str, str]] = []
    for number, path in enumerate(files, 1):
        if path.suffix.lower() == TEXT:
            outcome, text = _text(path, asked)
            made.append((outcome, text, f"text-{number:05d}{TEXT}"))
        else:
            outcome, table = _table(path, asked)
            end = ".parquet" if path.suffix.lower() == ".parquet" else ".csv"
            made.append((outcome, table, f"table-{number:03d}{end}"))
    target.mkdir(parents=True)
    for outcome, content, name in made:
        _write(target / name, content)
        outcome.target = name
    return [outcome for outcome, _, _ in made]


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    known = (*READABLE, TEXT)
    entries = visible(source)
    found = [one for one in entries if one.is_file() and one.suffix.lower() in known]
    if not found:
        raise DataError(f"{source}: no file to read here; expected {', '.join(known)}")
    if others := len(entries) - len(found):
        log.warning("%s: %d others are left where they are: not read", source, others)
    return found


# --- tables ---------------------------------------------------------------------------------------
def _table(path: Path, asked: Asked) -> tuple[Outcome, pa.Table]:
    read = read_file(path, asked.dialect, USUAL_MISSING)
    table = read.table
    _check_names(path, table, asked)
    decisions = []
    for name, looked in profile(table).columns.items():
        role = role_of(looked, table.column(name), asked.patient)
        decisions.append(Decision(name, role, action_for(name, role, asked.profile, asked.rules)))
    patient = next((one.column for one in decisions if one.role == "patient"), None)
    outcome = Outcome(path.name, decisions, len(table))
    done, names = [], []
    for one in decisions:
        if one.action != "drop":
            done.append(_done(table, one, patient, asked, read, path, outcome.texts))
            names.append(one.column)
    if not done:
        raise DataError(f"{path}: no column would be left; say with --rules what to keep")
    made = pa.table(dict(zip(names, done, strict=True)))
    outcome.anonymity = anonymity(made, _quasi(made, decisions, asked, path))
    return outcome, made


def _check_names(path: Path, table: pa.Table, asked: Asked) -> None:
    for what, names in (
        ("--patient", [asked.patient] if asked.patient else []),
        ("--quasi", asked.quasi or ()),
        ("--rules", asked.rules.columns),
    ):
        for name in names:
            if name not in table.column_names:
                raise DataError(f"{path}: there is no column '{name}' ({what})")


def _done(
    table: pa.Table,
    one: Decision,
    patient: str | None,
    asked: Asked,
    read: Read,
    path: Path,
    texts: Found,
) -> pa.ChunkedArray:
    """One column as it is written."""
    column = table.column(one.column)

    def place(row: int) -> str:
        return f"{path}:{read.lines(row)}: column '{one.column}'"

    match one.action:
        case "pseudonym":
            return do.pseudonyms(column, asked.key)
        case "shift":
            if patient is None:
                raise DataError(
                    f"{path}: no column says whose a row is, so column '{one.column}' can't be "
                    "shifted by patient; name it: --patient COLUMN, or give --profile safe-harbour"
                )
            days = do.shifts(table.column(patient), asked.key)
            return do.shifted(read_dates(column, asked.dialect.dates, place), days)
        case "year":
            return do.years(read_dates(column, asked.dialect.dates, place))
        case "birth-year":
            return do.birth_years(_births(column, asked, place), asked.now.year)
        case "age":
            if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
                raise DataError(
                    f"{path}: column '{one.column}' holds no ages in numbers; say with --rules "
                    "what becomes of it"
                )
            return do.ages(column)
        case "zip3":
            return do.zip3(column)
        case "area":
            return do.areas(column)
        case "text":
            index, values = uniques(column)
            cleaned = scrub([str(x) for x in values.to_pylist()], texts, asked.finder)
            made = pa.array(cleaned, pa.string())
            return pa.chunked_array([made.take(pa.array(index, mask=index < 0))])
    return column


def _births(column: pa.ChunkedArray, asked: Asked, place: Callable[[int], str]) -> pa.ChunkedArray:
    """Dates of birth; a year alone is one, too."""
    if pa.types.is_integer(column.type):
        texts = pc.binary_join_element_wise(column.cast(pa.string()), "-01-01", "")
        return texts.cast(pa.timestamp("us"))
    return read_dates(column, asked.dialect.dates, place)


def _quasi(
    table: pa.Table, decisions: Sequence[Decision], asked: Asked, path: Path
) -> tuple[str, ...]:
    """The columns that anonymity is counted by."""
    if asked.quasi is not None:
        if gone := [name for name in asked.quasi if name not in table.column_names]:
            raise DataError(f"{path}: column '{gone[0]}' (--quasi) is dropped: it tells nothing")
        return asked.quasi
    return tuple(
        one.column
        for one in decisions
        if one.column in table.column_names
        and (one.action in _QUASI_ACTIONS or set(name_words(one.column)) & _QUASI_WORDS)
    )


# --- texts ----------------------------------------------------------------------------------------
def _text(path: Path, asked: Asked) -> tuple[Outcome, str]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as UTF-8 ({type(error).__name__})") from None
    outcome = Outcome(path.name, rows=1)
    lines = scrub(text.split("\n"), outcome.texts, asked.finder)
    return outcome, "\n".join(lines)


def _write(path: Path, content: pa.Table | str) -> None:
    try:
        if isinstance(content, str):
            path.write_text(content, "utf-8")
        elif path.suffix == ".parquet":
            pq.write_table(content, path)
        else:
            pacsv.write_csv(content, path)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror})") from None
