"""How studies end at this hospital: their results are taken, whatever has become of the study here.

A study that is open takes them in its own thread, and its place works out the hospital's own
figures. One that is closed already (its date has passed, or it was broken off) is computed no more,
so its results come without figures; who was away gets them all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wardround.client.process.study import House
from wardround.client.results.receiver import RESULTS, Receiver
from wardround.client.site.studies import StudyFolders
from wardround.common.errors import StudyIsOver
from wardround.common.protocol import names as m
from wardround.common.protocol.message import Content
from wardround.common.results.staging import Expected
from wardround.common.study.study import Study

OF_RESULTS = frozenset([m.STUDY_FILE, m.STUDY_ENDED])
_TIMES = 4
"""Files of results together may have so many times ``server.max_message_mb``."""


class Endings:
    """Of all studies of a hospital's process."""

    def __init__(self, house: House, folders: StudyFolders) -> None:
        self._house, self._folders = house, folders

    def receiver(self, study: Study, figures: Callable[[Path], object]) -> Receiver:
        """Takes the results of a study; ``figures`` as ``Receiver`` has it."""

        def expected() -> Expected:
            description = self._house.kit().description
            most_bytes = study.config(description).server.max_message_mb << 20
            return Expected(
                description.server, description.federation, study.id, study.run, _TIMES * most_bytes
            )

        folder = self._house.kit().folder / RESULTS
        return Receiver(folder, self._house.audit, expected, figures)

    def late(self, study: str, message_type: str, content: Content) -> Content:
        """The answer to a message of results of a study that was shown here and is closed.

        Raises WardroundError.
        """
        return self.receiver(self._folders.kept(study), _closed).answer(message_type, content)


def _closed(folder: Path) -> None:
    raise StudyIsOver("the study was closed here before its results came")
