"""One study at a hospital: its own rules, answers, place and thread, over what all studies share.

A study's state lies in a folder of its own: what was accepted, decided, promised and answered in
one is nobody else's. The kit, its key, the audit log, the privacy ledger and its witness, the count
of failures and the connection are the hospital's, and shared by all.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from wardround.client.privacy.witness import LogWitness
from wardround.client.process.answers import Answers
from wardround.client.process.place import Place, Surroundings
from wardround.client.process.responder import Responder
from wardround.client.site.failures import Failures
from wardround.client.site.held_out import tell_held_out
from wardround.client.site.kit import Kit
from wardround.client.site.last_word import LastWord
from wardround.client.site.ledger import settle
from wardround.client.site.outward import Outward
from wardround.client.site.terms import Data, Terms
from wardround.client.sources.kept import FOLDER as DATA
from wardround.common.audit.log import AuditLog
from wardround.common.errors import WardroundError
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol.message import Content
from wardround.common.study.study import Study
from wardround.common.text import one_line
from wardround.common.transport.mailbox import Mailbox

log = logging.getLogger("wardround.client")
ANSWERS = "answers"


@dataclass(frozen=True)
class House:
    """What all studies of a hospital share.

    kit : gives the present one: its description may be renewed
    device, data : what the client was started with
    mailbox : the connection's
    now : the time, UTC, by this machine's clock
    on_accepted : is called after a plan was accepted
    on_round : is told when a training request of a new round comes
    """

    kit: Callable[[], Kit]
    audit: AuditLog
    witness: LogWitness
    failures: Failures
    device: str | None
    data: Data
    mailbox: Mailbox
    now: Callable[[], datetime]
    on_accepted: Callable[[], None]
    on_round: Callable[[int], None]
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def settle(self, terms: Terms) -> None:
        """The rules are others: they may name another ledger, or held-out key."""
        with self._turn:
            settle(self.kit(), terms.site, self.witness)
            tell_held_out(terms.site, self.kit().folder, self.audit)


class StudyWork:
    """All that this hospital does for one study.

    Parameters
    ----------
    folder : the study's state
    place : makes the place of these terms
    study : None in a federation that is one
    host : requests that the process answers itself, by type

    Attributes
    ----------
    rules : the hospital's last word on this study
    responder : answers its requests, once it is given a thread
    """

    def __init__(
        self,
        house: House,
        folder: Path,
        place: Callable[[Terms, Surroundings], Place],
        *,
        study: Study | None = None,
        host: Mapping[str, Callable[[Content], Content]] | None = None,
    ) -> None:
        self._house, self.study, self._folder = house, study, folder
        kit = house.kit()
        self._folders = [kit.folder, Path.cwd()]
        self._news = (0, _edited(kit))
        self.rules = LastWord(
            kit,
            house.audit,
            house.device,
            data=house.data,
            folder=folder,
            study=study,
            failures=house.failures,
            units=lambda: self.place.units(),
            begin=self._begin,
            accepted=self._accepted,
            now=house.now,
        )
        around = Surroundings(house.audit, house.witness, self._outward, self.rules.note_failure)
        self.place = place(self.rules.terms, around)
        self.responder = Responder(
            self.place.answer,
            Answers(folder / ANSWERS),
            house.audit,
            self.rules,
            mailbox=house.mailbox,
            study=study.id if study is not None else "",
            name=study.name if study is not None else "",
            on_round=self._on_round,
            outward=self._outward,
            host=host,
        )

    def _outward(self, error: Exception) -> str:
        """By the data that the present terms name, and those that nothing could be made of:
        ``site.toml`` may name others."""
        terms, tried = self.rules.terms, self.rules.tried
        return Outward(terms.data.path, tried.data.path, folders=self._folders)(error)

    def _begin(self, run: str, terms: Terms) -> None:
        """Before a plan is looked at, in the responder's thread: what was edited or provisioned
        holds from now on. Raises WardroundError if it can't."""
        if others := self.place.take_up(terms):
            self._house.audit.append("settings", run=run, differ=one_line(others, 1000))
            log.info("the settings are others now: %s", others)
            self._house.settle(terms)
        self.place.begin(run)

    def _accepted(self, manifest: Manifest) -> None:
        self.place.accepted(manifest)
        self._house.on_accepted()

    def _on_round(self, server_round: int) -> None:
        name = f"study {self.study.name}: " if self.study is not None else ""
        log.info("%sround %d", name, server_round)
        self._house.on_round(server_round)

    def note_decisions(self) -> WardroundError | None:
        """What a person has decided since counts at once: a withdrawal breaks off even an answer
        that is on its way. Why nothing may leave, or None. Raises AuditError, ProvisionError."""
        if withdrawn := self.rules.note_decisions():
            self.responder.withdraw(withdrawn)
        if self.rules.rejected:  # what was taken for it goes; an approval takes it anew
            shutil.rmtree(self._folder / DATA, ignore_errors=True)
        return withdrawn

    def has_news(self) -> bool:
        """Whether people have decided something, or edited the rules, since it was asked last."""
        before, self._news = self._news, (self.rules.decided, _edited(self._house.kit()))
        return self._news != before

    def figures(self, folder: Path) -> None:
        """The hospital's own figures of the results in a folder, worked out where it computes.
        Raises WardroundError, OSError if they can't be had."""
        self.place.take_up(self.rules.terms)  # since a start no plan may have been shown
        self.place.figures(folder)

    def end(self, why: WardroundError) -> None:
        """The study is over: nothing of it leaves from now on, and nothing is computed."""
        self.rules.end(str(why))
        self.place.close()
        self.responder.end(why)

    def close(self) -> None:
        """End what computes, and the thread."""
        self.responder.stop()
        self.place.close()


def _edited(kit: Kit) -> int:
    """When the kit's rules were edited, ns; 0 where they are gone."""
    try:
        return kit.site_path.stat().st_mtime_ns
    except OSError:
        return 0
