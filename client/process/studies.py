"""The studies at this hospital: which one a message is about, since when, and until when.

A federation that is one has its own study, ``''``, computed in this process. A network's studies
are opened when they are shown with a plan and found in order, and again at a start; each is
computed in a child process. One that is over is closed and marked, its keys are burnt, and nothing
of it is answered any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from wardround.client.links.forget import note_forgotten
from wardround.client.links.kept import FOLDER as LINKS
from wardround.client.process.child import ChildPlace, Children, Setup
from wardround.client.process.endings import OF_RESULTS, Endings
from wardround.client.process.place import OwnPlace, Place, Surroundings
from wardround.client.process.responder import refusal, reply_to, too_large
from wardround.client.process.said import Said
from wardround.client.process.study import House, StudyWork
from wardround.client.results.receiver import COMPLETE, STATES, Receiver
from wardround.client.site.outward import Outward
from wardround.client.site.studies import Over, StudyFolders, shown
from wardround.client.site.terms import Terms
from wardround.common.audit.lines import told
from wardround.common.errors import (
    AuditError,
    PlanRefused,
    RequestRefused,
    StudyIsOver,
    StudyRefused,
    WardroundError,
)
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol import names as m
from wardround.common.protocol.errors import code_for
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.protocol.message import Content
from wardround.common.protocol.results import StudyEnded, StudyReply
from wardround.common.study.states import OVER
from wardround.common.study.study import Study
from wardround.common.text import one_line
from wardround.common.transport.frames import Again, Start
from wardround.common.transport.mailbox import Incoming

log = logging.getLogger("wardround.client")

OWN = ""
"""The federation's own study, in a federation that has one."""
_NONE = "no run manifest was accepted: nothing but errors leaves"


class Studies:
    """All of one hospital's process.

    Parameters
    ----------
    children : how many of a network's studies may compute at once
    start : is given each study's ``run``, to be called in a thread of its own
    """

    def __init__(
        self,
        house: House,
        children: int,
        start: Callable[[Callable[[], None]], None],
    ) -> None:
        self._house, self._start = house, start
        self._children, self._turn = Children(children), threading.RLock()
        self._said = Said()
        self.folders = StudyFolders(house.kit().state)
        self._endings = Endings(house, self.folders)
        self.works: dict[str, StudyWork] = {}

    @property
    def own(self) -> StudyWork:
        """The federation's own. Raises KeyError in a network."""
        return self.works[OWN]

    # --- beginning and ending ---------------------------------------------------------------------
    def open_all(self) -> None:
        """At a start. Raises WardroundError for what the federation's own study lacks; a network's
        study that lacks something says so when its plan is shown."""
        kit = self._house.kit()
        if kit.description.config().network is None:
            self.works[OWN] = StudyWork(
                self._house, kit.state, lambda terms, around: OwnPlace(terms, kit.state, around)
            )
            return
        self._note_ends()
        for name in self.folders.unburnt():
            self.folders.burn(name)
        for name in self.folders.open_ids():
            try:
                self._open(self.folders.read(name, kit.description))
            except WardroundError as error:
                log.warning("study %s isn't taken up yet: %s", name[:12], error)

    def _open(self, study: Study) -> StudyWork:
        kit, folder = self._house.kit(), self.folders.folder(study.id)
        setup = Setup(kit.folder, study.id, self._house.device, self._house.data)

        def place(terms: Terms, around: Surroundings) -> Place:
            return ChildPlace(setup, self._children, folder, around)

        receiver = self._endings.receiver(study, lambda folder: work.figures(folder))
        host = {
            m.STUDY_FILE: partial(receiver.answer, m.STUDY_FILE),
            m.STUDY_ENDED: partial(self._complete, study.id, receiver),
        }
        work = StudyWork(self._house, folder, place, study=study, host=host)
        self.works[study.id] = work
        return work

    def end(self, study: str, over: Over) -> None:
        """A study is over at this hospital: told by the server, or by this machine's clock."""
        with self._turn:
            if not self.folders.is_kept(study) or self.folders.over(study) is not None:
                return
            work = self.works.pop(study, None)
            if work is not None:
                work.end(StudyIsOver(one_line(f"the study is over here: {over.words}")))
            self.folders.end(study, over)
        self._note_end(study, over)
        name = f"{work.study.name} ({study[:12]})" if work and work.study else study[:12]
        log.info("study %s is over: %s", name, over.words)

    def _note_end(self, study: str, over: Over) -> None:
        self._house.audit.append("study", study=study, state=over.state, reason=over.reason)

    def _note_ends(self) -> None:
        """At a start: the lines of studies that were marked as over just before a crash."""
        over = {name: mark for name in self.folders.ids() if (mark := self.folders.over(name))}
        if over:
            for values in told(self._house.audit.path, "study"):
                if values.get("state") in OVER:
                    over.pop(str(values.get("study")), None)
        for name, mark in over.items():
            self._note_end(name, mark)

    def note_decisions(self) -> None:
        """Twice a second: a person decides in another process, and studies reach their ends."""
        for study, work in list(self.works.items()):
            try:
                why = work.note_decisions()
            except AuditError:
                raise  # what can't be written down isn't done: the process ends
            except WardroundError as error:  # nothing leaves meanwhile: the responder looks, too
                if self._said.is_new(study, str(error)):
                    log.warning("%s", error)
            else:
                if isinstance(why, StudyIsOver):
                    self.end(study, self.over("expired", str(why)))
                elif work.has_news():  # else the server would ask in some minutes
                    self._house.mailbox.put_control(Again(study=study))
        try:
            note_forgotten(self._house.kit().state / LINKS, self._house.audit)
        except AuditError:
            raise
        except WardroundError as error:
            if self._said.is_new(LINKS, str(error)):
                log.warning("%s", error)

    def over(self, state: str, reason: str) -> Over:
        """The mark of a study that is over since now."""
        reason = one_line(reason) if reason else ""
        return Over(state, reason, self._house.now().isoformat(timespec="seconds"))

    def close(self) -> None:
        """Release what all of them hold."""
        for work in self.works.values():
            work.close()

    # --- messages, in the connection's thread -----------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        """As ``Responder.wanted``, of the study that a request is about."""
        if start.type in OF_RESULTS and start.study not in self.works:
            return too_large(start, self._house.mailbox) or None
        if (work := self.works.get(start.study)) is not None:
            return work.responder.wanted(start)
        if start.type == m.MANIFEST and OWN not in self.works and start.study:
            return too_large(start, self._house.mailbox) or None
        self._refuse(start, self._why_not(start))
        return ""

    def _why_not(self, start: Start) -> WardroundError:
        """Why nothing is answered about a study that isn't open."""
        if OWN in self.works:
            return StudyRefused("this federation has no studies: it is one")
        if not start.study:
            return PlanRefused("this is a network: a request is about one of its studies")
        try:
            over = self.folders.over(start.study)
        except WardroundError as error:
            return error
        if over is not None:
            return StudyIsOver(f"the study is over here: {over.words}")
        return PlanRefused(_NONE)

    def request(self, message: Incoming) -> None:
        """Take a request that has come as a whole. That a study was broken off counts at once,
        whatever is at work; that it is complete, after what came before."""
        start = message.start
        try:
            if start.type in OF_RESULTS and self._ended(message):
                return
            work = self.works.get(start.study) or self._shown(message)
        except AuditError:
            raise
        except WardroundError as error:
            with message.file:
                self._refuse(start, error)
        except OSError as error:  # nothing of it is promised: it is asked again
            with message.file:
                self._refuse(start, RequestRefused(f"its disk failed ({error.strerror})"))
        else:
            work.responder.request(message)

    def _shown(self, message: Incoming) -> StudyWork:
        """Open the study that came with a plan. Raises WardroundError unless it is in order."""
        start, kit = message.start, self._house.kit()
        if start.type != m.MANIFEST or self.folders.over(start.study) is not None:
            raise self._why_not(start)
        content = decode_content(message.file, start.size_bytes)
        message.file.seek(0)
        data = ManifestRequest.from_records(content).study
        signed = shown(data, start.study, kit, self._house.now())
        with self._turn:
            new = not self.folders.is_kept(start.study)
            self.folders.keep(signed, self._house.now())
            work = self._open(signed.study)
        if new:
            study = signed.study
            self._house.audit.append(
                "study",
                study=study.id,
                run=study.run,
                state="shown",
                researcher=study.researcher,
                ends=study.ends,
            )
            log.info(
                "study %s of %s is shown here for the first time: %s",
                *(study.name, study.researcher, one_line(study.purpose, 200)),
            )
        self._start(work.responder.run)
        return work

    def _ended(self, message: Incoming) -> bool:
        """Whether that was all that there is to do: a study is broken off, or it is closed here and
        its results come. Again is the same."""
        start = message.start
        content = decode_content(message.file, start.size_bytes)
        message.file.seek(0)
        if start.type == m.STUDY_ENDED:
            ended = StudyEnded.from_records(content)
            if ended.study != start.study:
                raise RequestRefused("another study is said to be over than the message is about")
            if ended.state not in STATES:
                raise RequestRefused(f"a study doesn't end as '{one_line(ended.state, 20)}'")
            if not start.study or (start.study in self.works and ended.state == COMPLETE):
                return False
            self._note(start)
            self.end(start.study, self.over(ended.state, ended.reason))
        elif start.study in self.works or not start.study:
            return False
        else:
            self._note(start)
        with message.file:
            if self.folders.is_kept(start.study):
                content = self._endings.late(start.study, start.type, content)
            elif start.type == m.STUDY_ENDED:
                content = StudyReply().to_records()
            else:
                raise self._why_not(start)
            self._take(start, content)
        return True

    def _note(self, start: Start) -> None:
        """The line that a request has come, which no study's thread writes."""
        self._house.audit.append(
            "received",
            kind=start.type,
            round=0,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.id,
            told={"run": ""},
            study=start.study,
        )

    def _complete(self, study: str, receiver: Receiver, content: Content) -> Content:
        """In the study's own thread: its results are here, and nothing more comes of it."""
        reply = receiver.answer(m.STUDY_ENDED, content)
        ended = StudyEnded.from_records(content)
        self.end(study, self.over(ended.state, ended.reason))
        return reply

    def _take(self, start: Start, content: Content) -> None:
        """Answer that a message was taken; its line first."""
        body = encode_content(content)
        self._house.audit.append(
            "sent",
            kind=start.type,
            round=0,
            bytes=body.size_bytes,
            digest=body.digest(),
            request=start.id,
            protection="none",
            study=start.study,
        )
        reply = reply_to(start, body.size_bytes, body.digest())
        self._house.mailbox.put(reply, body)

    def _refuse(self, start: Start, error: WardroundError) -> None:
        kit = self._house.kit()
        outward = Outward(self._house.data.path, folders=[kit.folder, Path.cwd()])
        said = one_line(str(error), 1000)  # what leaves holds nothing of the hospital's own
        if self._said.is_new(f"{start.study} {start.type}", said):
            log.warning("study %s: %s refused: %s", start.study[:12], start.type, said)
        line = refusal(start, outward(error), self._house.audit, code=code_for(error))
        self._house.mailbox.put(line)
