"""Which series of a study are fetched.

The hospital's own choice is by modality and description; what no study may have (``modalities`` of
``site.toml``) isn't asked for, whatever the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from wardround.client.sources.pacs.archive import Archive, NotGiven, Series
from wardround.client.sources.pacs.settings import ArchiveTable, SeriesChoice
from wardround.client.sources.pacs.wanted import Item, matches

NO_IMAGES = frozenset(("AU", "DOC", "ECG", "FID", "HD", "KO", "PLAN", "PR", "REG", "RTPLAN", "SR"))
"""Modalities whose objects have no pixels: reports, marks, plans (PS3.3 C.7.3.1.1.1)."""
HELD_BACK = "images of a kind that modalities of site.toml holds back"
_NARROW = "name its SeriesInstanceUID in the table, or narrow [data.NAME.series]"


def fits(series: Series, choice: SeriesChoice) -> bool:
    """Whether a series is meant, by what the archive tells of it."""
    text = series.description.casefold()
    wanted = [pattern.casefold() for pattern in choice.description]
    without = [pattern.casefold() for pattern in choice.without]
    return (
        series.modality not in NO_IMAGES
        and (not choice.modality or series.modality in choice.modality)
        and (not wanted or any(fnmatchcase(text, pattern) for pattern in wanted))
        and not any(fnmatchcase(text, pattern) for pattern in without)
    )


def may_have(modality: str, allowed: Sequence[str]) -> bool:
    """Whether the hospital lets a study have images of a kind, by its patterns."""
    return any(fnmatchcase(modality, pattern) for pattern in allowed)


def series_of(
    item: Item, archive: Archive, settings: ArchiveTable, allowed: Sequence[str]
) -> list[Series]:
    """The series that an item means, in the order of their UIDs; at least one.

    allowed : patterns of modalities

    Raises NotGiven, ArchiveAway.
    """
    limit, found = settings.limits.max_series, list[Series]()
    for study in _studies(item, archive, limit):
        found += archive.series(study, limit)
    if uid := item.asked.get("SeriesInstanceUID"):
        found = [one for one in found if one.uid == uid]
    if not found:
        raise NotGiven("the archive has no such series, or an empty study")
    chosen = [one for one in found if fits(one, settings.series) and one.objects != 0]
    if not chosen:
        raise NotGiven(
            f"none of its {len(found)} series holds images that [data.NAME.series] means"
        )
    chosen = [one for one in chosen if not one.modality or may_have(one.modality, allowed)]
    if not chosen:
        raise NotGiven(HELD_BACK, fault=False)
    return sorted(chosen, key=lambda one: one.uid)


def one_volume(found: int) -> None:
    """Raise NotGiven where several series of an item would be one volume."""
    if found > 1:
        raise NotGiven(f"several of its series are volumes, and a row is one; {_NARROW}")


def _studies(item: Item, archive: Archive, limit: int) -> list[str]:
    if uid := item.asked.get("StudyInstanceUID"):
        return [uid]
    asked = {key: value for key, value in item.asked.items() if key != "SeriesInstanceUID"}
    found = [
        one.uid
        for one in archive.studies(asked, limit)
        if matches(item.asked, "PatientID", one.patient)
        and matches(item.asked, "AccessionNumber", one.accession)
    ]
    if not found:
        raise NotGiven("the archive has no such study")
    return sorted(set(found))
