"""The studies of a network that this hospital was shown: a folder each, and which of them are over.

    state/studies/<id>/study.signed   as both the researcher and the server signed it
    state/studies/<id>/over.json      the study is over here: nothing of it is answered any more
    state/studies/<id>/store, answers, approvals, model, ...

A study's id is the digest of all that it says, so a folder has one study's settings for ever. What
is over stays over after a restart: only the mark and what was decided stay, its keys are burnt and
what was taken of the hospital's data goes. A study that ended by this machine's clock is refused
without its folder, so that may go.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wardround.client.site.kit import Kit
from wardround.client.sources.kept import FOLDER as DATA
from wardround.common.durable.files import sync
from wardround.common.durable.private import private_folder, read_public, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import PlanRefused, ProvisionError, StudyIsOver, StudyRefused
from wardround.common.manifest.manifest import Manifest
from wardround.common.study.study import Members, SignedStudy, Study
from wardround.common.text import one_line

FOLDER = "studies"
MOST_OPEN = 50
"""Studies that aren't over: each has a thread here, and a person may have to look at it."""
MOST_KEPT = 1000
"""Folders of studies that are over, of which those that ended by the clock go first."""
_SIGNED, _OVER = "study.signed", "over.json"
_SECRET = ("store", "answers", DATA)
_ID = re.compile(r"[0-9a-f]{64}")
_FORMAT = Format("end of a study", "leave it: a study that is over stays so")
_MEND = "move the study's folder away: it is shown again"


@dataclass(frozen=True)
class Over:
    """Why a study is over at this hospital. ``state``: complete, failed, aborted or expired;
    ``time``: ISO 8601, UTC."""

    state: str
    reason: str
    time: str

    @property
    def words(self) -> str:
        """State and reason, in a line."""
        return f"{self.state} ({self.reason})" if self.reason else self.state


class StudyFolders:
    """Of one kit.

    state : the kit's ``state``
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER

    def folder(self, study: str) -> Path:
        """The state of one study."""
        if not _ID.fullmatch(study):
            raise StudyRefused(f"'{one_line(study, 80)}' is no study's id")
        return self._folder / study

    def ids(self) -> list[str]:
        """Of all that there are, in the order in which they came. A folder without its study, as a
        crash or a full disk leaves it, is none: it is filled when the study is shown again."""
        if not self._folder.is_dir():
            return []
        dated = []
        for one in self._folder.iterdir():
            if _ID.fullmatch(one.name):
                with suppress(FileNotFoundError):
                    dated.append(((one / _SIGNED).stat().st_mtime_ns, one.name))
        return [name for _, name in sorted(dated)]

    def is_kept(self, study: str) -> bool:
        """Whether it was shown here."""
        return (self.folder(study) / _SIGNED).exists()

    def open_ids(self) -> list[str]:
        """Of those that aren't over."""
        return [one for one in self.ids() if self.over(one) is None]

    def read(self, study: str, members: Members) -> Study:
        """The study of a folder, its signatures checked once more.

        Raises StudyRefused, also where its researcher is none any more.
        """
        path = self.folder(study) / _SIGNED
        found = SignedStudy.read(read_public(path, _MEND), members).study
        if found.id != study:
            what = "is another study than its folder says"
            raise StudyRefused(f"{path}: {what}", mend=_MEND, told=f"the study {what}")
        return found

    def kept(self, study: str) -> Study:
        """The study of a folder, whose signatures were checked when it was shown: also one whose
        researcher is none any more. Raises StudyRefused, ProvisionError."""
        data = json.loads(read_public(self.folder(study) / _SIGNED, _MEND))
        return Study.from_body(data["study"].encode())

    def keep(self, signed: SignedStudy, now: datetime) -> Path:
        """A study's folder, made if it isn't there.

        now : UTC, by this machine's clock

        Raises StudyRefused where there are too many that aren't over.
        """
        folder = self.folder(signed.study.id)
        if (folder / _SIGNED).exists():
            return folder
        if len(self.open_ids()) >= MOST_OPEN:
            raise StudyRefused(
                f"this hospital has {MOST_OPEN} studies that aren't over, and takes no more",
                mend="who asks them, or a coordinator, ends some: wardround study abort",
            )
        self._make_room(now)
        private_folder(self._folder)
        private_folder(folder)
        write_private(folder / _SIGNED, signed.to_bytes())
        return folder

    def _make_room(self, now: datetime) -> None:
        """Forget what is over and would be refused by its date. Raises StudyRefused where that
        isn't enough."""
        while len(every := self.ids()) >= MOST_KEPT + MOST_OPEN:
            ended = [one for one in every if self.over(one) and self.kept(one).end <= now]
            if not ended:
                raise StudyRefused(
                    f"this hospital keeps {MOST_KEPT} studies that are over and haven't reached "
                    "their end dates, and takes no more"
                )
            shutil.rmtree(self.folder(ended[0]))

    # --- the end ----------------------------------------------------------------------------------
    def over(self, study: str) -> Over | None:
        """Why it is over; None if it isn't."""
        path = self.folder(study) / _OVER
        if not path.exists():
            return None
        try:
            stored = json.loads(read_public(path, _FORMAT.mend))
            return _FORMAT.make(Over, stored, ProvisionError, str(path))
        except ValueError:
            raise ProvisionError(f"{path}: is damaged; {_FORMAT.mend}") from None

    def end(self, study: str, over: Over) -> None:
        """Mark a study as over, for good, then burn its keys, the answers that were kept
        and the snapshots of its data."""
        folder = self.folder(study)
        if not (folder / _OVER).exists():
            write_private(folder / _OVER, json.dumps(_FORMAT.seal(vars(over))).encode())
        self.burn(study)

    def burn(self, study: str) -> None:
        """Remove the keys of a study that is over, the answers that were kept, and its data."""
        folder = self.folder(study)
        for name in _SECRET:
            shutil.rmtree(folder / name, ignore_errors=True)
        sync(folder)

    def unburnt(self) -> Iterator[str]:
        """Studies that are over and still have keys: a crash came in between."""
        for study in self.ids():
            if self.over(study) and any((self.folder(study) / one).exists() for one in _SECRET):
                yield study


# --- what is shown --------------------------------------------------------------------------------
def shown(data: bytes, study: str, kit: Kit, now: datetime) -> SignedStudy:
    """The study that came with a plan, for a message about study ``study`` (its id).

    now : UTC, by this machine's clock

    Raises StudyRefused, PolicyRefused unless both signed it, it is that study, it may be asked of
    this network now, and this hospital is asked.
    """
    signed = SignedStudy.read(data, kit.description)
    if signed.study.id != study:
        raise PlanRefused("another study came with the plan than the message is about")
    if kit.name not in signed.study.hospitals:
        raise PlanRefused("this hospital isn't asked in the study")
    check_time(signed.study, now)
    signed.study.check(kit.description, now)
    return signed


def check_time(study: Study, now: datetime) -> None:
    """Raise StudyIsOver once the study's end has come, by this machine's clock."""
    if study.end <= now:
        raise StudyIsOver(f"study '{study.name}' ended at {study.ends}: nothing is computed for it")


def check_plan_of(study: Study | None, data: bytes, manifest: Manifest) -> None:
    """Raise PolicyRefused unless a plan is one of the study that it came for.

    study : None in a federation that is one
    data : what came beside the plan
    """
    if study is None:
        if data or manifest.study:
            raise PlanRefused("the plan is of a network's study, and this federation is none")
    elif (manifest.study, manifest.run) != (study.id, study.run):
        raise PlanRefused(
            f"the plan is of study {manifest.study[:12] or 'none'} and run '{manifest.run}', it "
            f"came for {study.id[:12]}, whose run is '{study.run}'"
        )
