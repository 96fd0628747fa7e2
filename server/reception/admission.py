"""Whether a hospital's own rules allow the run: asked of each one when it connects.

A hospital is shown the signed run manifest before it is asked for anything else. One that refuses
(its policy forbids it, or a person has not approved it yet) stays connected and is asked again from
time to time. When the model is known the manifest is completed and shown to all once more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from wardround.common.errors import WardroundError
from wardround.common.flower.hosting import Message
from wardround.common.protocol import names as m
from wardround.common.protocol.errors import Code, code_of
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.trust.identity import SIGNATURE_BYTES
from wardround.server.gathering.host import KnownModel
from wardround.server.reception.manifest import ManifestSigner
from wardround.server.reception.present_description import PresentDescription
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.links import Link

log = logging.getLogger("wardround.server")

_AGAIN_S, _LONGEST_AGAIN_S = 5.0, 300.0
"""A hospital says itself when its people have decided, so that this is for what it can't know."""
_LEAST_AGAIN_S = 1.0
_ANSWER_WITHIN_S = 60.0


class Admission:
    """Shows the manifest, and lets those take part that accept it.

    Parameters
    ----------
    signer : of this run's manifests
    description : the present one
    keep : is given each manifest before it is shown: canonical JSON
    study : the signed study that goes with each; b'' in a federation that is one
    """

    def __init__(
        self,
        grid: HospitalGrid,
        signer: ManifestSigner,
        description: PresentDescription,
        events: ServerEvents,
        keep: Callable[[bytes], None] = lambda body: None,
        study: bytes = b"",
    ) -> None:
        self._grid, self._signer, self._description = grid, signer, description
        self._events, self._keep, self._study = events, keep, study
        self._known: KnownModel | None = None
        self._signed = b""
        self._renewed = threading.Condition()
        self._announcing = False
        self._turns: dict[str, int] = {}
        self._said = 0  # how often all were to be asked anew
        self._decided: set[str] = set()
        grid.on_again = self._again
        grid.on_withdrawn = self._withdrawn
        self.renew()

    def connected(self, name: str) -> None:
        """A hospital has connected: unless it takes part already, it is asked."""
        link = self._grid.link(name)
        if not link.admitted:
            self.begin(link)

    def begin(self, link: Link) -> None:
        """Ask a hospital, in a thread, until it accepts or is gone."""
        with self._grid.changed:
            link.refusal = ""
        self._begin(link)

    def _begin(self, link: Link) -> None:
        with self._renewed:
            turn = self._turns[link.name] = self._turns.get(link.name, 0) + 1
        threading.Thread(target=self._asking, args=(link, turn), daemon=True).start()

    def renew(self) -> None:
        """The model is known: what was accepted isn't enough."""
        with self.renewing():
            pass

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """The description has changed, or the model is known: what was accepted isn't enough.

        Inside hospitals are sent the description that the manifest is about. Nothing is asked of
        them before its end: they would refuse it.
        """
        signed = self._signer.signed(self._description.now, self._known)
        with self._renewed:
            same = signed == self._signed
            if not same:
                self._keep(signed[SIGNATURE_BYTES:])
                self._signed, self._announcing = signed, True
        if same:
            yield
            return
        links = [link for link in self._grid.links.values() if link.admitted]
        for link in links:
            link.admitted = False
        try:
            yield
        finally:
            with self._renewed:
                self._announcing = False
                self._said += 1
                self._renewed.notify_all()
        for link in links:
            self.begin(link)

    def ask_again(self) -> None:
        """Those that refused are asked at once: why may be over."""
        with self._renewed:
            self._said += 1
            self._renewed.notify_all()

    def model_known(self, known: KnownModel) -> None:
        """Complete the manifest; returns when those that took part so far have answered."""
        before = self._grid.admitted()
        # of what was sent the layout is all that is needed
        self._known = replace(known, expected=replace(known.expected, received={}))
        self.renew()
        deadline = time.monotonic() + _ANSWER_WITHIN_S
        with self._grid.changed:
            while time.monotonic() < deadline:
                links = [self._grid.links[name] for name in before]
                if all(link.admitted or link.refusal or not link.connected for link in links):
                    return
                self._grid.changed.wait(0.5)

    def _asking(self, link: Link, turn: int) -> None:
        try:
            self._ask(link, turn)
        except WardroundError as error:  # the server ends by it, in the rounds' own thread
            log.debug("%s is not asked any more: %s", link.name, error)

    def _ask(self, link: Link, turn: int) -> None:
        """``turn``: a later connection or manifest takes over from this one."""
        again_s = _AGAIN_S
        while link.connected and self._turns[link.name] == turn:
            with self._renewed:
                self._renewed.wait_for(lambda: not self._announcing)
                signed = self._signed
            message = Message(
                ManifestRequest(signed, self._study).to_records(), link.node_id, m.MANIFEST
            )
            for reply in self._grid.send_and_receive([message], timeout=_ANSWER_WITHIN_S):
                if signed != self._signed:
                    break
                if not reply.has_error():
                    self._events.admitted(link.name)
                    if self._accepted(link, signed):
                        return
                    break
                code = code_of(reply.error.code)
                self._refused(link, reply.error.reason or "no reason", code)
            with self._renewed:
                if signed == self._signed:
                    self._wait(link.name, again_s)
            again_s = min(1.5 * again_s, _LONGEST_AGAIN_S)

    def _wait(self, name: str, again_s: float) -> None:
        """Until somebody says that it may be otherwise now, or it is time."""
        began, said = time.monotonic(), self._said

        def news() -> bool:
            return name in self._decided or self._said != said

        self._renewed.wait_for(news, again_s)
        self._decided.discard(name)
        if (early := began + _LEAST_AGAIN_S - time.monotonic()) > 0:
            self._renewed.wait_for(lambda: self._said != said, early)

    def _again(self, name: str) -> None:
        """A hospital's people have decided something: it is asked at once."""
        with self._renewed:
            self._decided.add(name)
            self._renewed.notify_all()

    def _accepted(self, link: Link, signed: bytes) -> bool:
        """Let a hospital take part, unless what it accepted has been replaced meanwhile."""
        with self._renewed:
            if signed == self._signed:
                self._set(link, True, "")
            return signed == self._signed

    def _refused(self, link: Link, reason: str, code: Code) -> None:
        new = reason != link.refusal
        self._set(link, False, reason, code)
        if new:
            self._events.not_admitted(link.name, reason, link.withdrew)
        link.turn_away(reason)

    def _withdrawn(self, link: Link, reason: str, code: Code) -> None:
        """It is asked from time to time whether it takes part again."""
        if link.admitted:
            self._refused(link, reason, code)
            self._begin(link)

    def _set(self, link: Link, admitted: bool, refusal: str, code: Code = Code.FAILED) -> None:
        with self._grid.changed:
            link.admitted, link.refusal, link.refusal_code = admitted, refusal, code
            self._grid.changed.notify_all()
