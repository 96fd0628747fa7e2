"""What the interface asks of the server that runs the studies: the calls behind it.

The interface says who may (``rights.py``) before it asks; the desk does it, and answers as fast as
the database does. Every method may raise DatabaseAway.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from wardround.common.study.states import State
from wardround.common.study.study import Submission
from wardround.server.studies.rights import Caller
from wardround.server.studies.rows import Decision, Event, StudyRow


class Progress(NamedTuple):
    """Rounds of a study that are done, of how many."""

    round: int
    rounds: int


class StudyDesk(Protocol):
    """The studies of a network, and what can be done with them."""

    def submit(self, caller: Caller, submission: Submission, rerun_of: str = "") -> bool:
        """Accept a study, countersigned; False if this very one is there already.

        Parameters
        ----------
        submission : its signature, roster, bounds and dates are checked
        rerun_of : id of the study that it repeats

        Raises WardroundError for what this server can't run, naming the key: such as a task's file
        that its library lacks.
        """

    def list(self, caller: Caller, states: Collection[State], newest: int) -> Sequence[StudyRow]:
        """The newest studies that may concern the caller, in the order of their submission; empty
        ``states`` mean all."""

    def find(self, caller: Caller, text: str) -> Sequence[StudyRow]:
        """Studies that may concern the caller, whose name this is, or whose id begins so, in the
        order of their submission."""

    def signed(self, id: str) -> bytes:
        """``SignedStudy.to_bytes``. Raises StudyUnknown."""

    def decisions(self, id: str) -> Sequence[Decision]:
        """What each hospital that is wanted has said."""

    def events(self, id: str, after: int) -> Sequence[Event]:
        """What happened to a study after event number ``after``, oldest first; at most 1000."""

    def progress(self, id: str) -> Progress:
        """Where its rounds are; (0, 0) before they began and where nobody knows."""

    def abort(self, caller: Caller, id: str, reason: str) -> None:
        """End a study that isn't over. Raises Overtaken if it is by now."""

    def results(self, id: str) -> Mapping[str, Path]:
        """The files of a complete study's package by their names in it, ``files.json`` among them.

        Raises ResultsRefused, or StudyRefused, where there are none (yet).
        """
