"""In a blind run: hospitals that lack the model get it from one that has it, sealed.

A hospital makes a round's model of the one before. Who was in the sum has that; who wasn't, for it
was ill, new or not drawn, may not. This server carries ciphertext from one to the other, and knows
only who has said to have which model.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from wardround.common.errors import ReplyRefused
from wardround.common.flower.hosting import Message
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.masked import KeyReply, SealedModel, ask_to_seal
from wardround.common.protocol.message import REQUEST, Came, Content
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.messages import Blind, Held
from wardround.server.members.member import Member
from wardround.server.secagg.key_deal import KeyDeal
from wardround.server.secagg.messenger import SecureMessenger

log = logging.getLogger("wardround.server")


class HandingOver:
    """Who has which model of a run.

    everyone : all members, any of whom may give a model
    """

    def __init__(
        self, messenger: SecureMessenger, deal: KeyDeal, everyone: Sequence[Member]
    ) -> None:
        self._messenger, self._deal, self._everyone = messenger, deal, everyone
        self._have: dict[str, int] = {}

    def note(self, names: Collection[str], requests: Sequence[Message]) -> None:
        """These hospitals have answered such requests by their model."""
        if requests and (blind := _blind(requests[0])) is not None:
            self._have |= dict.fromkeys(names, blind.round)

    def ready(self, request: Message, members: Sequence[Member]) -> None:
        """Before these are asked by such a request: who lacks its model gets it, if anybody is here
        who has it. Who still lacks it refuses by itself."""
        blind = _blind(request)
        if blind is None or blind.round == 0:
            return
        lacking = [one for one in members if not self._has(one.name, blind)]
        if not lacking:
            return
        givers = [one for one in self._everyone if self._has(one.name, blind)]
        key = self._deal.ready([*members, *(one for one in givers if one not in members)])
        sealed = self._given(request, givers, key)
        if sealed is None:
            log.warning("nobody who has the model of round %d is here to give it", blind.round)
            return
        about = replace(blind, best=0).to_bytes()
        content = SealedModel(sealed, about, key)
        messages = [Message(content.to_records(), one.node_id, m.TAKE) for one in lacking]
        self._messenger.ask(messages, lacking, "model", self._took)

    def _has(self, name: str, blind: Blind) -> bool:
        known = self._have.get(name)
        return name in blind.survivors or known in (blind.base, blind.round)

    def _given(self, request: Message, givers: Sequence[Member], key: bytes) -> bytes | None:
        """The model as the first of these who answers has sealed it."""
        came = Came(request.content, REQUEST)
        model = SentModel.read(came)
        found: list[bytes] = []
        for giver in givers:
            records = EvaluateRequest(replace(model, clients=()), Totals.read(came)).to_records()
            ask_to_seal(records, key)
            message = Message(records, giver.node_id, m.GIVE)
            self._messenger.ask(
                [message],
                [giver],
                "model",
                lambda name, content: found.append(SealedModel.from_reply(content).sealed),
            )
            if found:
                return found[0]
        return None

    def _took(self, name: str, content: Content) -> None:
        with suppress(ReplyRefused):
            held = Held.from_bytes(KeyReply.from_records(content).message)
            if held.name == name:
                self._have[name] = held.round


def _blind(request: Message) -> Blind | None:
    """What the request's model is made of; None in a run whose server can read it."""
    model = SentModel.read(Came(request.content, REQUEST))
    return Blind.from_bytes(model.blind) if model.blind else None
