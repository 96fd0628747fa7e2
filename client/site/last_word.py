"""The hospital's last word, as its process asks for it.

``site.toml`` and the hospital's copy of the signed description say what is allowed; a plan that a
person must approve waits for that; what was accepted is enforced by the gate. Both are read again
for every plan (``terms.py``), so that an edit needs no restart. Whether a person has withdrawn from
the run, whether the files are still those that it was accepted under, and whether the signed
description is still in force by this machine's clock, is looked at before every request and before
every answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from wardround.client.privacy.ledger import Ledger
from wardround.client.site.approval import Approvals
from wardround.client.site.failures import Failures
from wardround.client.site.gate import Gate
from wardround.client.site.joint_rules import check_helped
from wardround.client.site.kit import Kit
from wardround.client.site.ledger import ledger_of
from wardround.client.site.policy import FILE, SitePolicy
from wardround.client.site.questions import Questions, asked_of
from wardround.client.site.rules import check_rules, check_spent
from wardround.client.site.studies import check_plan_of, check_time, shown
from wardround.client.site.terms import Data, Terms
from wardround.common.audit.log import AuditLog
from wardround.common.errors import (
    DescriptionExpired,
    NotEvaluating,
    PlanRefused,
    PolicyRefused,
    RulesEdited,
    StudyIsOver,
    WaitsForApproval,
    WardroundError,
)
from wardround.common.manifest.manifest import Manifest, summary
from wardround.common.protocol import names as m
from wardround.common.protocol.manifest import ManifestReply, ManifestRequest
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import round_of
from wardround.common.settings import TRAIN
from wardround.common.study.study import Study
from wardround.common.text import one_line
from wardround.common.trust.lifetime import check_in_force
from wardround.common.trust.pki import now_utc

_MANY_UNITS = 1 << 40
"""So many cost least: what they cost in truth is held against the limits once they are known."""
_WORK = {m.STATISTICS, m.SUMS, m.TRAIN, m.BEGIN, m.EVALUATE}
log = logging.getLogger("wardround.client")


class LastWord:
    """Policy, approval and gate of one hospital.

    Parameters
    ----------
    device : overrides the one of ``site.toml``
    data : what the client was started with
    folder : the state of what is decided on: approvals; the kit's own by default
    study : of a network: the one that all this is about; None in a federation that is one
    failures : the hospital's, of all its studies together
    units : gives the number of protected units that this hospital announces, once its data is open
    begin : is told the name of a run and the terms that hold from now on, before its plan is looked
        at: what computes must be made of them, and the data be the present ones; may raise
        WardroundError
    accepted : is given each plan that is accepted, before anything is done by it
    now : the time, UTC; this machine's clock by default

    Attributes
    ----------
    terms : those that what is accepted was accepted under, and that all is done by
    tried : those that were read last, whether or not anything could be made of them
    decided : how many decisions of people this process has noted
    """

    def __init__(
        self,
        kit: Kit,
        audit: AuditLog,
        device: str | None,
        *,
        data: Data = Data(),  # noqa: B008 - it is frozen
        folder: Path | None = None,
        study: Study | None = None,
        failures: Failures | None = None,
        units: Callable[[], int | None] = lambda: None,
        begin: Callable[[str, Terms], None] = lambda run, terms: None,
        accepted: Callable[[Manifest], None] = lambda manifest: None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._now = now or now_utc
        self._kit, self._audit, self._units = kit, audit, units
        self._read = partial(Terms.read, device=device, data=data, study=study)
        self._study, self._over = study, ""
        self._asker = self._asker_in(kit)
        self._begin, self._accepted = begin, accepted
        self._approvals = Approvals(folder or kit.state, kit.identity)
        self._failures = failures or Failures(kit.state)
        self._questions = Questions(kit.state)
        self._gate, self._turn = Gate(), threading.Lock()
        self._refused: tuple[str, str] = ("", "")
        self.decided = 0
        self.rejected = False  # the last decision
        self._waits = ""  # digest of a plan that lacks nothing but a person's approval
        self.terms = self.tried = self._read(kit)

    def _asker_in(self, kit: Kit) -> bytes | None:
        """The key of the study's researcher by a kit's description."""
        asks = self._study.researcher if self._study is not None else ""
        return kit.description.researchers.get(asks)

    @property
    def run(self) -> str:
        """The name of the run that is taken part in; '' where no manifest is accepted."""
        manifest = self._gate.manifest
        return manifest.run if manifest is not None else ""

    def described(self, kit: Kit) -> None:
        """The signed description is another: what was accepted under the old one is over, and
        nothing is done by the new one until a plan is accepted. One that was only signed anew, for
        longer, changes nothing else."""
        with self._turn:
            if _differ(kit, self._kit):
                self._gate = Gate()
            self._kit = kit

    def end(self, reason: str) -> None:
        """The study is over here: nothing of it is begun or leaves any more."""
        with self._turn:
            self._gate, self._over = Gate(), one_line(reason)

    def admit(self, content: Content) -> Content:
        """Accept a run manifest. Raises WardroundError, and keeps nothing, if it may not be.

        What was accepted before stands until another plan is: one that is refused changes nothing.
        But what was accepted under other terms is over as soon as these are taken up. Gives the
        digest of what was accepted, for the server to compare.
        """
        kit = self._kit
        request = ManifestRequest.from_records(content)
        manifest = Manifest.read(request.manifest, kit.description.server)
        digest = manifest.digest().hex()
        try:
            check_in_force(kit.description, self._now())
            self._check_asker(kit)
            self._check_study(kit, request.study, manifest)
            self._check_waiting(kit, manifest)
            self._take_up(kit, manifest)
            self._check(manifest)
            self._accept(kit, manifest)
        except WardroundError as error:
            self._waits = digest if isinstance(error, WaitsForApproval) else ""
            if self._refused != (digest, str(error)):  # it is asked again and again
                self._refused = (digest, str(error))
                self._audit.append("policy", **_words(manifest), refused=str(error))
            raise
        self._audit.append("manifest", **_words(manifest), accepted=True)
        log.info("run %s is accepted (manifest of stage %d)", manifest.run, manifest.stage)
        return ManifestReply(manifest.digest()).to_records()

    def _check_study(self, kit: Kit, data: bytes, manifest: Manifest) -> None:
        """That the plan is of the study that this is about, which both signed and may be asked."""
        self._check_over()
        if self._study is not None:
            shown(data, self._study.id, kit, self._now())
        check_plan_of(self._study, data, manifest)

    def _check_over(self) -> None:
        if self._over:
            raise StudyIsOver(self._over)
        if self._study is not None:
            check_time(self._study, self._now())

    def _check_waiting(self, kit: Kit, manifest: Manifest) -> None:
        """Raise WaitsForApproval for a plan that waited last time, and waits: it is asked every
        few seconds, for days, and the data needn't be read for that."""
        if self._waits == manifest.digest().hex() and not (
            _differ(kit, self.terms.kit) or self.terms.edited()
        ):
            self._approvals.request(manifest)

    def _take_up(self, kit: Kit, manifest: Manifest) -> None:
        """Let the present terms hold. Where they differ from the last ones, nothing is accepted."""
        terms, before = self._read(kit), self.terms
        if _differ(kit, before.kit) or terms.files != before.files or terms.others(before):
            with self._turn:
                self._gate = Gate()
        self.tried = terms
        self._ask_first(manifest, terms)
        self._begin(manifest.run, terms)
        self.terms = terms

    def _ask_first(self, manifest: Manifest, terms: Terms) -> None:
        """Raise WaitsForApproval, or what the rules forbid, before the records are looked at by
        which a study chooses its patients: how many there are, whether there is one, and how long
        that took are answers, and a person has to allow them first."""
        site, config = terms.site, terms.config
        chooses = config.cohort is not None and terms.data.is_taken
        if not chooses or site.approval != "ask" or self._approvals.is_approved(manifest):
            return
        own = terms.kit.description
        name = terms.kit.name
        check_rules(site, manifest, own, config, _MANY_UNITS, self._study, True, name)
        self._approvals.request(manifest)

    def _check(self, manifest: Manifest) -> None:
        site, kit, config = self.terms.site, self.terms.kit, self.terms.config
        taken = self.terms.data.is_taken
        own, units = kit.description, self._units()
        check_rules(site, manifest, own, config, units, self._study, taken, kit.name)
        others = set(manifest.roster) - {kit.name}
        check_helped(site, config, self._kit.state, manifest.run, others)
        self._questions.check(site, manifest.run, asked_of(config))
        self._approvals.request(manifest, ask=site.approval == "ask")

    def _accept(self, kit: Kit, manifest: Manifest) -> None:
        """Unless the terms were changed while the plan was looked at."""
        if edited := self.terms.edited():
            raise PolicyRefused(f"{edited} was edited meanwhile; the plan is to be shown again")
        with self._turn:
            if _differ(kit, self._kit):
                raise PlanRefused("the signed description was renewed meanwhile; show it again")
            self._questions.note(manifest.run, asked_of(self.terms.config))
            self._approvals.accept(manifest)
            self._accepted(manifest)
            self._gate = Gate(manifest)

    def may_begin(self, message_type: str, request: Content | None) -> None:
        """Raise PolicyRefused unless the accepted plan has such requests, and stands, and this
        hospital hasn't failed too often in it.

        request : None for an answer that is kept: it may be given again
        """
        self._check_standing()
        self._gate.may_begin(message_type, request)
        if request is not None and message_type in _WORK:
            site = self.terms.site
            self._failures.check(site.max_failures)
            if message_type == m.EVALUATE:
                self._check_evaluation(site, round_of(request))

    def _check_evaluation(self, site: SitePolicy, server_round: int) -> None:
        """Raise NotEvaluating for figures of a round that this hospital gives none of."""
        manifest = self._gate.manifest
        if site.evaluation == "none":
            raise _not_evaluating(site, "this hospital gives no figures")
        if site.evaluation == "last" and manifest and server_round != manifest.rounds:
            what = "this hospital gives figures of the plan's last round alone"
            raise _not_evaluating(site, what)

    def note_failure(self, purpose: str, reason: str) -> None:
        """Count a failure that the server doesn't see."""
        self._failures.note(self.run, purpose, reason)

    def may_spend(self) -> None:
        """Before training: raise PrivacyRefused if another round would pass what this hospital
        allows one run."""
        manifest, terms = self._gate.manifest, self.terms
        if manifest is not None and manifest.privacy.enabled:
            path = ledger_of(terms.site, self._kit.folder)
            with Ledger.open(path, self._kit.name) as ledger:
                entries = ledger.entries()
            check_spent(terms.site, entries, terms.config, manifest.run)

    def may_leave(self, message_type: str, content: Content) -> str:
        """What protects a reply, in a word. Raises PolicyRefused if it isn't in the manifest, or
        the plan doesn't stand any more."""
        self._check_standing()
        return summary(self._gate.check(message_type, content))

    def _check_standing(self) -> None:
        """Raise PolicyRefused if a person has withdrawn from the run, or the hospital's own files
        aren't those any more that the plan was accepted under; DescriptionExpired if the signed
        description isn't in force any more, StudyIsOver if the study has ended."""
        self._check_over()
        manifest = self._gate.manifest
        if manifest is None:
            return
        check_in_force(self._kit.description, self._now())
        self._check_asker(self._kit)
        self._approvals.check_consent(manifest)
        if edited := self.terms.edited():
            raise RulesEdited(
                "this hospital's own files have changed since it accepted the plan of run "
                f"'{manifest.run}': {edited} was edited; the plan is to be shown again",
                told="this hospital's site.toml was edited" if edited == FILE else "",
            )

    def _check_asker(self, kit: Kit) -> None:
        """Raise PolicyRefused unless who signed the study is still a member, with the same key.
        That a researcher was revoked disturbs no run of others: so it is no other description."""
        if self._study is not None and self._asker_in(kit) != self._asker:
            raise PlanRefused(
                f"'{self._study.researcher}', who asks the study, is no member of this network any "
                "more, or has other keys"
            )

    def note_decisions(self) -> WardroundError | None:
        """Write what a person has decided since into the audit log; why nothing of the present
        run may leave any more, or None."""
        for one in self._approvals.log.note(self._audit):
            self.decided += 1
            self.rejected = not one["accepted"]
            word = "approved" if one["accepted"] else "rejected"
            log.info("run %s was %s by %s", one["run"], word, one["who"])
        try:
            self._check_standing()
        except (PolicyRefused, DescriptionExpired, StudyIsOver) as error:
            return error
        return None


def _not_evaluating(site: SitePolicy, what: str) -> NotEvaluating:
    refused = site.refused("evaluation", what)
    return NotEvaluating(str(refused), told=refused.told)


def _differ(one: Kit, other: Kit) -> bool:
    """Whether two kits of this hospital have descriptions that say two things, but for dates."""
    return one is not other and one.description.digest() != other.description.digest()


def _words(manifest: Manifest) -> dict[str, str | int]:
    """What an audit line says of a plan: the same at every hospital that was shown it."""
    return {
        "manifest": manifest.digest().hex(),
        "lasting": manifest.lasting_digest().hex(),
        "run": manifest.run,
        "stage": manifest.stage,
        "version": manifest.description_version,
        "descriptor": manifest.descriptor,
        "rounds": manifest.rounds,
    } | ({"procedure": manifest.procedure} if manifest.procedure != TRAIN else {})
