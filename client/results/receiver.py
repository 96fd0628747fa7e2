"""A study's results come to a hospital, and become a folder of its kit.

    KIT/results/<run>/
        files.json, model/ ...    the server's package, as it signed it
        left.json                 what left this hospital for the run, from its own audit log
        own/                      its own figures and their page, worked out here
        ended.json                how the study ended; written last
    KIT/results/.<run>.coming/    what has come so far

In that order, so that whatever a crash cuts off is done again when the server, which has no answer
yet, sends it again. The server's own word for a study's end is taken for text only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wardround.client.results.left import Left, what_left, write_left
from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import private_folder
from wardround.common.durable.versioned import Format
from wardround.common.errors import AuditError, ProvisionError, RequestRefused, ResultsRefused
from wardround.common.protocol import names as m
from wardround.common.protocol.message import Content
from wardround.common.protocol.results import StudyEnded, StudyFile, StudyReply
from wardround.common.results.package import FILES, Package, list_digest
from wardround.common.results.staging import Expected, Staging
from wardround.common.text import one_line, to_json

log = logging.getLogger("wardround.client")

RESULTS = "results"
"""In a hospital's kit."""
ENDED = "ended.json"
ENDED_FORMAT = Format("study's end", "remove the folder: nothing but that line is lost")
COMPLETE = "complete"
STATES = frozenset([COMPLETE, "failed", "aborted", "expired"])


@dataclass(frozen=True)
class End:
    """How a study ended, as ``ended.json`` has it.

    reason : the server's line
    digest : of the signed list; '' where there are no results
    """

    study: str
    run: str
    state: str
    reason: str
    digest: str


class Receiver:
    """Takes the results of one study.

    Parameters
    ----------
    folder : ``KIT/results``
    expected : whose results, in which size; asked for each message, as keys may be renewed
    figures : works out the hospital's own figures of the results in a folder, where its data are
        (``own.own_figures``)
    """

    def __init__(
        self,
        folder: Path,
        audit: AuditLog,
        expected: Callable[[], Expected],
        figures: Callable[[Path], object],
    ) -> None:
        self._folder, self._audit = folder, audit
        self._expected, self._figures = expected, figures

    def answer(self, message_type: str, content: Content) -> Content:
        """The answer to a message of ``query.study_file`` or ``query.study_ended``.

        Raises RequestRefused, ResultsRefused, AuditError.
        """
        if message_type == m.STUDY_FILE:
            return self.file(StudyFile.from_records(content)).to_records()
        return self.ended(StudyEnded.from_records(content)).to_records()

    def file(self, message: StudyFile) -> StudyReply:
        """Keep a piece of a file, if the signed list names it and anything has left for the run."""
        expected, staging = self._of(message.study)
        if message.name == FILES:
            if not self._left(expected).took_part:
                raise RequestRefused(
                    "this hospital took no part in the study, and takes no results"
                )
            private_folder(self._folder)
            staging.begin(message.data)
        else:
            staging.put(message.name, message.offset, message.data)
        return StudyReply()

    def ended(self, message: StudyEnded) -> StudyReply:
        """The study is over: what has come gets its folder, and what is the hospital's own is added
        to it. Again changes nothing. Of a study that nothing has left for there is no folder."""
        if message.state not in STATES:
            raise RequestRefused(f"a study doesn't end as '{one_line(message.state, 20)}'")
        expected, staging = self._of(message.study)
        target = staging.target
        if (target / ENDED).is_file():
            return StudyReply()
        package, left = None, self._left(expected)
        if message.state == COMPLETE and message.files:
            staging.begin(message.files)
            package = staging.finish()
        else:
            staging.discard()
        if package is not None or left.took_part:
            self._complete(message, expected, target, package, left)
        return StudyReply()

    # --- inside -----------------------------------------------------------------------------------
    def _of(self, study: str) -> tuple[Expected, Staging]:
        expected = self._expected()
        if study != expected.study:
            raise RequestRefused("the results are of another study than the one they are sent for")
        return expected, Staging(self._folder / expected.run, expected, private=True)

    def _left(self, expected: Expected) -> Left:
        return what_left(self._audit.path, expected.study, expected.run)

    def _complete(
        self,
        message: StudyEnded,
        expected: Expected,
        target: Path,
        package: Package | None,
        left: Left,
    ) -> None:
        digest = list_digest(message.files) if package is not None else ""
        try:
            private_folder(self._folder)
            private_folder(target)
            write_left(target, left)
            if package is not None:
                self._own(target)
            reason = one_line(message.reason, 500) if message.reason else ""
            self._audit.append(
                "results",
                run=expected.run,
                study=expected.study,
                state=message.state,
                reason=reason,
                digest=digest,
                signer=expected.server.hex(),
                files=len(package.files) if package is not None else 0,
                bytes=package.size_bytes if package is not None else 0,
            )
            end = End(
                expected.study,
                expected.run,
                message.state,
                reason,
                digest,
            )
            text = to_json(ENDED_FORMAT.seal(vars(end)), indent=2)
            write_atomically(target / ENDED, text.encode(), private=True)
        except (OSError, ProvisionError) as error:
            why = error.strerror if isinstance(error, OSError) else "its folder can't be made"
            raise ResultsRefused(
                f"results can't be written here ({why})", mend="they are sent again later"
            ) from error
        log.info("study %s is over (%s): %s", expected.run, message.state, target)

    def _own(self, target: Path) -> None:
        """The hospital's own figures. That there are none is for its own log: the server's answer
        is the same."""
        try:
            self._figures(target)
        except AuditError:
            raise
        except Exception as error:  # its text might quote a cell
            log.warning(
                "%s: this hospital's own figures can't be worked out (%s)",
                target,
                type(error).__name__,
            )
            log.debug("own figures failed", exc_info=True)
