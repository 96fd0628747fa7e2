"""The hospital's last word, as its process asks for it.

``site.toml`` and the hospital's copy of the signed description say what is allowed; a plan that a
person must approve waits for that; what was accepted is enforced by the gate. The policy is read
again for every plan, so that an edit needs no restart; whether a person has withdrawn from the run
is looked at before every request and before every answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from wardround.client.privacy.ledger import Ledger
from wardround.client.site.approval import Approvals
from wardround.client.site.gate import Gate
from wardround.client.site.kit import Kit
from wardround.client.site.policy import load_site
from wardround.client.site.rules import check_rules, check_spent
from wardround.client.training.devices import missing_device
from wardround.client.training.precision import check_precision
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.errors import PolicyRefused, WardroundError
from wardround.common.manifest.manifest import Manifest, summary
from wardround.common.protocol.manifest import ManifestReply, ManifestRequest
from wardround.common.protocol.message import Content

LEDGER = "ledger.sqlite"
BEGUN = "begun"
"""The mark of the first start: a ledger that is missing later stops private training."""
log = logging.getLogger("wardround.client")


class LastWord:
    """Policy, approval and gate of one hospital.

    Parameters
    ----------
    device : overrides the one of ``site.toml``
    units : gives the number of this hospital's protected units, once its data is open
    begin : is told the name of a run before its plan is looked at: settings and data must be the
        present ones; may raise WardroundError
    """

    def __init__(
        self,
        kit: Kit,
        audit: AuditLog,
        device: str | None,
        units: Callable[[], int | None] = lambda: None,
        begin: Callable[[str], None] = lambda run: None,
    ) -> None:
        self._kit, self._audit, self._device, self._units = kit, audit, device, units
        self._begin = begin
        self._approvals = Approvals(kit.state, kit.identity)
        self._gate = Gate()
        self._refused: tuple[str, str] = ("", "")

    @property
    def run(self) -> str:
        """The name of the run that is taken part in; '' where no manifest is accepted."""
        manifest = self._gate.manifest
        return manifest.run if manifest is not None else ""

    def config(self) -> Config:
        """This hospital's settings. Raises ConfigError, or PolicyRefused for a missing file."""
        site, described = load_site(self._kit.site_path), self._kit.description.config()
        config = site.apply(described)
        device = resolve_device(self._device or config.training.device)
        training = config.training.model_copy(update={"device": device})
        config = config.model_copy(update={"training": training})
        check_precision(config)
        return config

    def described(self, kit: Kit) -> None:
        """The signed description is another: what was accepted under the old one is over."""
        self._kit, self._gate = kit, Gate()

    def admit(self, content: Content) -> Content:
        """Accept a run manifest. Raises WardroundError, and keeps nothing, if it may not be.

        What was accepted before stands until another plan is: one that is refused changes nothing.
        Gives the digest of what was accepted, for the server to compare.
        """
        data = ManifestRequest.from_records(content).manifest
        manifest = Manifest.read(data, self._kit.description.server)
        digest = manifest.digest().hex()
        try:
            self._begin(manifest.run)
            self._check(manifest)
        except WardroundError as error:
            if self._refused != (digest, str(error)):  # it is asked again and again
                self._refused = (digest, str(error))
                self._audit.append("policy", manifest=digest, run=manifest.run, refused=str(error))
            raise
        self._approvals.accept(manifest)
        self._gate = Gate(manifest)
        self._audit.append(
            "manifest", manifest=digest, run=manifest.run, stage=manifest.stage, accepted=True
        )
        log.info("run %s is accepted (manifest of stage %d)", manifest.run, manifest.stage)
        return ManifestReply(manifest.digest()).to_records()

    def _check(self, manifest: Manifest) -> None:
        site = load_site(self._kit.site_path)
        config = site.apply(self._kit.description.config())
        check_rules(site, manifest, self._kit.description, config, self._units())
        self._approvals.request(manifest, ask=site.approval == "ask")

    def may_begin(self, message_type: str, request: Content | None) -> None:
        """Raise PolicyRefused unless the accepted plan has such requests, and stands."""
        self._check_consent()
        self._gate.may_begin(message_type, request)

    def may_spend(self) -> None:
        """Before training: raise PrivacyRefused if another round would pass what this hospital
        allows one run."""
        manifest = self._gate.manifest
        if manifest is not None and manifest.privacy.enabled:
            with Ledger.open(self._kit.state / LEDGER, self._kit.name) as ledger:
                entries = ledger.entries()
            site = load_site(self._kit.site_path)
            check_spent(site, entries, self.config(), manifest.run)

    def may_leave(self, message_type: str, content: Content) -> str:
        """What protects a reply, in a word. Raises PolicyRefused if it isn't in the manifest, or a
        person has withdrawn from the run."""
        self._check_consent()
        return summary(self._gate.check(message_type, content))

    def _check_consent(self) -> None:
        if self._gate.manifest is not None:
            self._approvals.check_consent(self._gate.manifest)

    def note_decisions(self) -> str:
        """Write what a person has decided since into the audit log; why nothing of the present
        run may leave any more, or ''."""
        for one in self._approvals.log.note(self._audit):
            word = "approved" if one["accepted"] else "rejected"
            log.info("run %s was %s by %s", one["run"], word, one["who"])
        try:
            self._check_consent()
        except PolicyRefused as error:
            return str(error)
        return ""


def resolve_device(device: str) -> str:
    """'auto' is the first GPU that torch can use, else the CPU; others are checked.

    Raises PolicyRefused for a device that isn't there.
    """
    if device == "auto":
        return "cpu" if missing_device("cuda:0") else "cuda:0"
    if why := missing_device(device):
        raise PolicyRefused(f"device {device!r:.40}: {why}, or 'auto' (--device, or site.toml)")
    return device
