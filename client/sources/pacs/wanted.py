"""What is fetched: the rows of the hospital's own table, or studies that the archive finds.

Each becomes an item with its place, by which messages name it, and what the archive is asked by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from wardround.client.sources.pacs.archive import UID, Archive, NotGiven
from wardround.client.sources.pacs.settings import ArchiveTable, ListColumns, Query
from wardround.client.sources.source import Asked
from wardround.common.errors import DataError
from wardround.common.tasks.data.row_keys import identifier_digest
from wardround.common.tasks.data.shards import SPLIT_NAMES
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.imaging.listed import class_of
from wardround.common.tasks.imaging.options import ImagingOptions

_TOLD = 20
_MOST_LETTERS = 64
_UNSAFE = frozenset("*?\\")
"""A C-FIND's wildcards, and what parts values: such an identifier would find other patients'."""


@dataclass(frozen=True)
class Item:
    """One image, or all pictures of one study: what is fetched for one row.

    place : of it, for messages; asked : keywords and values that the archive knows it by
    label : of ``task.classes``; patient : a digest, '' where the images' own is meant
    split : 'train', 'validation' or 'test'; '' where the study's task reads none
    """

    place: str
    asked: dict[str, str]
    label: str
    patient: str = ""
    split: str = ""


def listed(settings: ArchiveTable, asked: Asked, options: ImagingOptions) -> list[Item]:
    """The items of the table in ``wanted``. Raises DataError for all its problems together."""
    path = (asked.base / (settings.wanted or "")).resolve()
    columns = settings.columns
    texts = list(columns.model_dump().values())  # a number that is an identifier stays as written
    table = read_table(path, settings.dialect, texts=texts, hide_names=True)
    keys = _keys(table, columns, f"{asked.called} columns")
    cells = {name: _texts(table, name) for name in texts if name in table.columns}
    lines = table.line_numbers()
    wants_split = options.files.split is not None
    if columns.label not in table.columns:
        raise DataError(f"{path}: no column '{columns.label}' with each image's class; add it")
    if wants_split and columns.split not in table.columns:
        raise DataError(
            f"{path}: the study asks for the hospital's own split, and there is no column "
            f"'{columns.split}'; add it, with train, validation or test in each row"
        )
    items: dict[tuple[tuple[str, str], ...], Item] = {}
    problems: list[str] = []
    for row in range(len(table)):
        try:
            values = {name: texts[row] for name, texts in cells.items()}
            place = f"{path.name}:{lines[row]}"
            item = _of_row(values, place, keys, columns, options)
        except DataError as error:
            problems.append(str(error))
            continue
        known = items.setdefault(tuple(sorted(item.asked.items())), item)
        if (known.label, known.patient, known.split) != (item.label, item.patient, item.split):
            problems.append(
                f"{item.place}: another row names the same with another label, patient or split; "
                "keep the one that is right"
            )
    if problems:
        more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise DataError("; ".join(problems[:_TOLD]) + more)
    if not items:
        raise DataError(f"{path}: no row names an image to fetch")
    if len(items) > settings.limits.max_studies:
        raise DataError(f"{path}: more rows than limits.max_studies; raise that, or drop some")
    return list(items.values())


def searched(
    settings: ArchiveTable, asked: Asked, options: ImagingOptions, archive: Archive
) -> list[Item]:
    """The studies that the queries find, by their UIDs. Raises DataError, ArchiveAway."""
    found: dict[str, Item] = {}
    for number, query in enumerate(settings.query, 1):
        place = f"{asked.called} query {number}"
        class_of(query.label, options, f"{place} label")
        if not any(fnmatchcase(query.modality, one) for one in asked.modalities):
            raise DataError(
                f"{place}: modalities of site.toml holds images of '{query.modality}' back; leave "
                "the query out, or allow them"
            )
        try:
            studies = archive.studies(_asked(query), settings.limits.max_studies)
        except NotGiven as error:
            raise DataError(f"{place}: {error}") from None
        pattern = query.description.casefold()
        fits = [one for one in studies if fnmatchcase(one.description.casefold(), pattern)]
        if not fits:
            raise DataError(
                f"{place}: none of {len(studies)} studies that the archive found fits; check "
                "modality, dates and description"
            )
        for position, study in enumerate(sorted(fits, key=lambda one: one.uid), 1):
            item = Item(f"{place}, study {position}", {"StudyInstanceUID": study.uid}, query.label)
            if found.setdefault(study.uid, item).label != query.label:
                raise DataError(
                    f"{item.place}: an earlier query finds it too, with another label; make the "
                    "queries narrower, or name the studies in a table (wanted)"
                )
    if len(found) > settings.limits.max_studies:
        raise DataError(f"{asked.called}: over {settings.limits.max_studies} studies; narrow query")
    return list(found.values())


def _asked(query: Query) -> dict[str, str]:
    asked = {"ModalitiesInStudy": query.modality}
    if query.dates is not None:
        asked["StudyDate"] = "-".join(f"{day:%Y%m%d}" for day in query.dates)
    return asked


def _keys(table: Table, columns: ListColumns, place: str) -> list[tuple[str, str]]:
    """DICOM's keyword and the table's column of each identifier that it has, the narrowest first.

    Raises DataError where it has none.
    """
    every = {
        "SeriesInstanceUID": columns.series,
        "StudyInstanceUID": columns.study,
        "AccessionNumber": columns.accession,
        "PatientID": columns.patient_id,
    }
    found = [(keyword, name) for keyword, name in every.items() if name in table.columns]
    if not found or [keyword for keyword, _ in found] == ["SeriesInstanceUID"]:
        raise DataError(
            f"{table.files[0]}: no column '{columns.study}', '{columns.accession}' or "
            f"'{columns.patient_id}' by which the archive knows an image; add one, or say in "
            f"{place} what it is called"
        )
    return found


def _texts(table: Table, name: str) -> list[str]:
    return ["" if cell is None else str(cell).strip() for cell in table.cells(name)]


def _of_row(
    values: dict[str, str],
    place: str,
    keys: list[tuple[str, str]],
    columns: ListColumns,
    options: ImagingOptions,
) -> Item:
    """One row's item. Raises DataError by its line."""
    asked: dict[str, str] = {}
    for keyword, name in keys:
        if value := values[name]:
            asked[keyword] = _checked(value, keyword, f"{place}: column '{name}'")
        if asked and keyword != "SeriesInstanceUID":
            break  # a study's UID says it, whatever its other numbers
    if not asked or [*asked] == ["SeriesInstanceUID"]:
        name = columns.study if asked else keys[-1][1]
        beside = " beside the series' UID" if asked else ""
        raise DataError(f"{place}: column '{name}': empty{beside}; fill it in or drop the row")
    label, split = values[columns.label], ""
    class_of(label, options, f"{place}: column '{columns.label}'")
    if options.files.split is not None:
        split = SPLIT_NAMES.get(values[columns.split].casefold(), "")
        if not split:
            raise DataError(f"{place}: column '{columns.split}': must be train, validation or test")
    patient = values.get(columns.patient, "")
    return Item(place, asked, label, identifier_digest(patient) if patient else "", split)


def _checked(value: str, keyword: str, place: str) -> str:
    """An identifier that finds what it names and nothing else. Raises DataError."""
    if keyword.endswith("UID"):
        if not UID.fullmatch(value):
            raise DataError(f"{place}: no UID (digits and dots, at most 64); correct it")
    elif len(value) > _MOST_LETTERS or not value.isprintable() or not _UNSAFE.isdisjoint(value):
        raise DataError(
            f"{place}: no identifier that an archive is asked by (at most {_MOST_LETTERS} letters, "
            "none of * ? \\); correct it"
        )
    return value


def matches(asked: Mapping[str, str], keyword: str, told: str) -> bool:
    """Whether what an archive tells of a study is what was asked for: some find by the beginning,
    or whatever the case. One that tells nothing is believed."""
    return keyword not in asked or not told or told.strip() == asked[keyword]
