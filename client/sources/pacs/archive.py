"""What an archive is asked, whichever way it is reached, and what may go wrong there.

What an archive says in words is never passed on: an error is a number, a kind of object, or ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from wardround.common.errors import DataError
from wardround.common.tasks.imaging.deidentify import silent_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset

UID = re.compile(r"[0-9.]{1,64}")
_LOGS = ("pynetdicom", "dicomweb_client", "urllib3", "requests", "retrying")


class ArchiveAway(DataError):
    """The archive can't be reached, or broke off: the same again may succeed."""


class NotGiven(Exception):
    """One study or series can't be had, or used; its text may stand in the hospital's own log.

    fault : whether it counts against ``left_out_share``; not what the study's own rules leave out
    """

    def __init__(self, reason: str, fault: bool = True) -> None:
        super().__init__(reason)
        self.fault = fault


@dataclass(frozen=True)
class Study:
    """A study that the archive has.

    uid, patient, accession, description : as it tells them, '' where it doesn't
    """

    uid: str
    patient: str = ""
    accession: str = ""
    description: str = ""


@dataclass(frozen=True)
class Series:
    """A series of a study.

    objects : how many there are; None where the archive doesn't say
    """

    study: str
    uid: str
    modality: str = ""
    description: str = ""
    objects: int | None = None


Take = Callable[["Dataset"], None]
"""Is handed each object as it comes, with its file meta information; may raise NotGiven."""


class Archive(Protocol):
    """All raise ArchiveAway, NotGiven, and DataError where no further try can help."""

    def greet(self) -> str:
        """A line about the archive, once it has answered a harmless question."""

    def studies(self, asked: Mapping[str, str], most: int) -> list[Study]:
        """Studies by keywords (``PatientID``, ``AccessionNumber``, ``StudyInstanceUID``,
        ``StudyDate``, ``ModalitiesInStudy``) and values; more than ``most`` are an error."""

    def series(self, study: str, most: int) -> list[Series]:
        """All series of a study; more than ``most`` are NotGiven."""

    def objects(self, series: Series, take: Take) -> None:
        """Hand over every object of a series, as the archive has it."""

    def close(self) -> None:
        """Let go of ports and connections."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without lines and warnings of the libraries, which quote identifiers and addresses."""
    with quiet_logs(), silent_pydicom():
        yield


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Without their lines alone: for as long as a port of theirs is open in other threads."""
    logs = [logging.getLogger(name) for name in _LOGS]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def text_of(dataset: Dataset, keyword: str) -> str:
    """An element as text, '' where it is missing or can't be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that pydicom can't make sense of
        return ""
    return "" if value is None else str(value).strip(" \x00")
