"""Images of an archive into a folder that the imaging task loads: fetched, or gone on with.

One study after the other: searched, its objects de-identified as they come, moved into the folder
once its series are whole, decoded once as the task will, noted in the journal. What fails is left
out by its row, up to the hospital's share; where the archive is away it is tried again, and a later
start goes on. The folder is a CSV (``labels.csv``) with the images beside it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from wardround.client.sources.pacs.archive import Archive, ArchiveAway, NotGiven, quiet_logs
from wardround.client.sources.pacs.choice import one_volume, series_of
from wardround.client.sources.pacs.incoming import Incoming
from wardround.client.sources.pacs.journal import Came, Journal, content_of
from wardround.client.sources.pacs.reach import opened
from wardround.client.sources.pacs.settings import ArchiveTable
from wardround.client.sources.pacs.wanted import Item, listed, searched
from wardround.client.sources.source import Asked
from wardround.common.config.task import make_task
from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import private_folder
from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.row_keys import digest_text
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.deidentify import forget_uids
from wardround.common.tasks.imaging.options import ImagingOptions

T = TypeVar("T")
_LABELS = "labels.csv"
_IMAGES = "images"
NOT_USED = "the archive doesn't give them, or they can't be used"
BY_RULE = "this hospital's rules or the study's hold them back"
_TOLD_EVERY = 100
_LONGEST_WAIT_S = 60.0


class ArchiveImages:
    """A source of images: ``source = "dicomweb"`` or ``"dicom"``."""

    def __init__(self, settings: ArchiveTable) -> None:
        self._settings = settings

    def fill(self, asked: Asked, folder: Path) -> tuple[LeftOut, ...]:
        """See ``FolderSource``. Raises DataError, ArchiveAway: what has come by then stays for the
        next try."""
        options = imaging_options(asked)
        journal = Journal(folder, _mark(self._settings, asked, options))
        if (left := journal.whole()) is not None:
            return left
        archive = opened(self._settings, asked.base, asked.called)
        with quiet_logs():
            try:
                return Fetch(self._settings, asked, options, archive, journal).run()
            finally:
                archive.close()


def imaging_options(asked: Asked) -> ImagingOptions:
    """The options of the study's task. Raises DataError for one that has no images."""
    options = getattr(make_task(asked.config), "options", None)
    if not isinstance(options, ImagingOptions):
        raise DataError(
            f"{asked.called}: an archive gives images, and the study's task "
            f"('{asked.config.task.name:.50}') takes none; name data of another source"
        )
    return options


class Fetch:
    """One fetch of all items, or of those that an earlier one has left."""

    def __init__(
        self,
        settings: ArchiveTable,
        asked: Asked,
        options: ImagingOptions,
        archive: Archive,
        journal: Journal,
    ) -> None:
        self._settings, self._asked, self._options = settings, asked, options
        self._archive, self._journal = archive, journal
        self._folder = journal.folder
        self._volumes = len(options.size) == 3

    def run(self) -> tuple[LeftOut, ...]:
        """Fetch what isn't there yet, and name it in ``labels.csv``."""
        items = self._items()
        came = self._journal.came()
        if came:
            self._asked.say(f"goes on: {len(came)} of {len(items)} are there")
        left: list[Came] = []
        total = sum(one.bytes for one in came.values())
        for number, item in enumerate(items):
            if number in came:
                continue
            one = self._one(number, item)
            self._journal.note(one)
            if one.left:
                left.append(one)
                self._check_left(left, len(items))
            else:
                came[number] = one
                total += one.bytes
            self._check_total(total)
            if (number + 1) % _TOLD_EVERY == 0:
                self._asked.say(f"{number + 1} of {len(items)} fetched")
        if not came:
            raise DataError(f"{self._asked.called}: none of {len(items)} rows or studies was left")
        self._name(items, came)
        faults = sum(one.fault for one in left)
        found = (
            LeftOut(faults, "studies", NOT_USED),
            LeftOut(len(left) - faults, "studies", BY_RULE),
        )
        self._journal.end(added(found))
        return added(found)

    def _items(self) -> list[Item]:
        items = self._journal.begun()
        if items is None:
            if self._settings.wanted is not None:
                items = listed(self._settings, self._asked, self._options)
            else:
                items = self._again(
                    lambda: searched(self._settings, self._asked, self._options, self._archive)
                )
            self._journal.begin(items)
        return items

    def _one(self, number: int, item: Item) -> Came:
        """Fetch an item, or say why it is left out. Raises ArchiveAway, DataError."""
        try:
            return self._again(lambda: self.fetched(number, item))
        except NotGiven as error:
            self._asked.say(f"{item.place}: left out: {error}")
            shutil.rmtree(self._place(number), ignore_errors=True)
            return Came(number, left=str(error), fault=error.fault)
        finally:
            forget_uids()
            shutil.rmtree(self._journal.quarantine / "series", ignore_errors=True)

    def _again(self, work: Callable[[], T]) -> T:
        """The work's result; where the archive is away, of another try, each a while later."""
        for attempt in range(self._settings.retries + 1):
            try:
                return work()
            except ArchiveAway as error:
                if attempt == self._settings.retries:
                    raise ArchiveAway(f"{error}; start again later, and it goes on") from None
                time.sleep(min(2.0**attempt, _LONGEST_WAIT_S))
        raise AssertionError("unreachable")

    def fetched(self, number: int, item: Item) -> Came:
        """Bring an item into the folder. Raises NotGiven, ArchiveAway, DataError."""
        quarantine = self._journal.quarantine / "series"
        shutil.rmtree(quarantine, ignore_errors=True)
        found: list[list[Path]] = []
        patient, allowed = item.patient, self._asked.modalities
        for position, series in enumerate(series_of(item, self._archive, self._settings, allowed)):
            folder = private_folder(quarantine / str(position))
            incoming = Incoming(
                folder,
                series,
                self._options,
                self._settings.limits,
                allowed,
                patient,
                item.asked.get("PatientID", ""),
            )
            self._archive.objects(series, incoming.take)
            files = incoming.end()
            if incoming.is_image:
                patient = incoming.patient
                found.append(files)
            if self._volumes:
                one_volume(len(found))
        if not found:
            raise NotGiven("it has no image: reports, surveys or empty series only")
        place = self.moved(number, [file for files in found for file in files])
        files = sorted(place.iterdir())
        self._check(item, place, files)
        relative = [str(file.relative_to(self._folder)) for file in files]
        return Came(number, relative, patient, *content_of(self._folder, relative))

    def _place(self, number: int) -> Path:
        return self._folder / _IMAGES / f"{number + 1:07}"

    def moved(self, number: int, files: list[Path]) -> Path:
        """All files in one folder, under names that count, where the task loads them."""
        place, whole = self._place(number), private_folder(self._journal.quarantine / "series/all")
        for position, file in enumerate(files, 1):
            file.rename(whole / f"{position:05}.dcm")
        private_folder(place.parent)
        shutil.rmtree(place, ignore_errors=True)  # of a try that ended before its line
        return whole.rename(place)

    def _check(self, item: Item, place: Path, files: list[Path]) -> None:
        """Raise NotGiven unless the task can load it: de-identified, as it lies there now."""
        for path in [place] if self._volumes else files:
            try:
                image = decode(path, self._options, "the series")
            except DataError as error:
                raise NotGiven(str(error)) from None
            if isinstance(image, LeftOut):
                raise NotGiven(image.reason)

    def _check_left(self, left: list[Came], of: int) -> None:
        faults, share = sum(one.fault for one in left), self._settings.left_out_share
        share = OF_IMAGE_FILES if share is None else share
        if faults > int(share * of):
            raise DataError(
                f"{self._asked.called}: {faults} of {of} rows or studies can't be used, and "
                f"left_out_share = {share:g} allows {int(share * of)}; the lines above name each: "
                "mend or drop them, or raise left_out_share"
            )

    def _check_total(self, total: int) -> None:
        most = self._settings.limits.max_total_gb
        if total > most << 30:
            raise DataError(
                f"{self._asked.called}: more than limits.max_total_gb ({most}) of images; raise "
                "it, or fetch fewer"
            )

    def _name(self, items: list[Item], came: dict[int, Came]) -> None:
        """Write ``labels.csv``, in the columns that the study's task reads."""
        names, text = self._options.files, io.StringIO()
        columns = [names.image, names.label]
        columns += [one for one in (names.patient_id, names.split) if one is not None]
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        for number, item in enumerate(items):
            if (one := came.get(number)) is None:
                continue
            place = str(self._place(number).relative_to(self._folder))
            for file in [place] if self._volumes else one.files:
                cells = [file, item.label]
                cells += [digest_text(one.patient)] if names.patient_id is not None else []
                rows.writerow(cells + ([item.split] if names.split is not None else []))
        write_atomically(self._folder / _LABELS, text.getvalue().encode(), private=True)


def _mark(settings: ArchiveTable, asked: Asked, options: ImagingOptions) -> str:
    """Stands for all that shapes what comes: other than that, an earlier try isn't gone on with."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in settings.files(asked.base)
    }
    shaping = settings.model_dump(
        mode="json",
        exclude={"left_out_share", "retries", "timeout_s", "limits", "password", "token"},
    )
    task = options.model_dump(
        mode="json", include={"classes", "size", "files", "burned_in", "max_gap"}
    )
    said = json.dumps([shaping, task, files, asked.modalities], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
