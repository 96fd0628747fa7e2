"""One study at a hospital: its own rules, answers, place and thread, over what all studies share.

A study's state lies in a folder of its own: what was accepted, decided, promised and answered in
one is nobody else's. The kit, its key, the audit log, the privacy ledger and its witness, the count
of failures and the connection are the hospital's, and shared by all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wardround.client.privacy.witness import LogWitness
from wardround.client.process.answers import Answers
from wardround.client.process.place import Place, Surroundings
from wardround.client.process.responder import Responder
from wardround.client.site.kit import Kit
from wardround.client.site.last_word import LastWord
from wardround.client.site.ledger import settle
from wardround.client.site.outward import Outward
from wardround.client.site.terms import Terms
from wardround.common.audit.log import AuditLog
from wardround.common.errors import WardroundError
from wardround.common.manifest.manifest import Manifest
from wardround.common.text import one_line
from wardround.common.transport.mailbox import Mailbox

log = logging.getLogger("wardround.client")
ANSWERS = "answers"


@dataclass(frozen=True)
class House:
    """What all studies of a hospital share.

    kit : gives the present one: its description may be renewed
    device : overrides the one of ``site.toml``
    on_accepted : is called after a plan was accepted
    on_round : is told when a training request of a new round comes
    """

    kit: Callable[[], Kit]
    audit: AuditLog
    witness: LogWitness
    device: str | None
    mailbox: Mailbox
    on_accepted: Callable[[], None]
    on_round: Callable[[int], None]


class StudyWork:
    """All that this hospital does for one study.

    Parameters
    ----------
    folder : the study's state
    outward : what may leave of an error's or a warning's text
    place : makes the place of these terms

    Attributes
    ----------
    rules : the hospital's last word on this study
    responder : answers its requests, once it is given a thread
    """

    def __init__(
        self,
        house: House,
        folder: Path,
        outward: Outward,
        place: Callable[[Terms, Surroundings], Place],
    ) -> None:
        self._house = house
        self.rules = LastWord(
            house.kit(),
            house.audit,
            house.device,
            folder=folder,
            units=lambda: self.place.units(),
            begin=self._begin,
            accepted=self._accepted,
        )
        settle(house.kit(), self.rules.terms.site, house.witness)
        around = Surroundings(house.audit, house.witness, outward, self.rules.note_failure)
        self.place = place(self.rules.terms, around)
        self.responder = Responder(
            self.place.answer,
            Answers(folder / ANSWERS),
            house.audit,
            self.rules,
            mailbox=house.mailbox,
            on_round=house.on_round,
            outward=outward,
        )

    def _begin(self, run: str, terms: Terms) -> None:
        """Before a plan is looked at, in the responder's thread: what was edited or provisioned
        holds from now on. Raises WardroundError if it can't."""
        if others := self.place.take_up(terms):
            self._house.audit.append("settings", run=run, differ=one_line(others, 1000))
            log.info("the settings are others now: %s", others)
            settle(self._house.kit(), terms.site, self._house.witness)  # another ledger, maybe
        self.place.begin(run)

    def _accepted(self, manifest: Manifest) -> None:
        self.place.accepted(manifest)
        self._house.on_accepted()

    def note_decisions(self) -> WardroundError | None:
        """What a person has decided since counts at once: a withdrawal breaks off even an answer
        that is on its way. Why nothing may leave, or None. Raises AuditError, ProvisionError."""
        if withdrawn := self.rules.note_decisions():
            self.responder.withdraw(withdrawn)
        return withdrawn

    def close(self) -> None:
        """End what computes, and the thread."""
        self.responder.stop()
        self.place.close()
