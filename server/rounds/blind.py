"""The end of a run whose model this server can't read: hospitals make it, keep it, and say so.

Each is sent the sum of the chosen round once more, and answers with a digest of its model under a
key that the server doesn't have: that they are all equal can be seen here, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.flower.arrays import encode_arrays
from wardround.common.flower.hosting import Message
from wardround.common.model.saved import ModelForm
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.messages import Blind, Held
from wardround.server.members.member import Member
from wardround.server.rounds.checkpoint import FederationState
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts
from wardround.server.secagg.gatherer import SecureGatherer

KEPT = "blind"
"""In ``run.json``: who has said to have the run's model, and who has another one or none."""


def leave_with_hospitals(
    parts: FederationParts, participants: Participants, chosen: FederationState, form: ModelForm
) -> None:
    """Have every hospital make and keep the model of the chosen round, of a blind run; ``run.json``
    says who did. Raises RoundFailed where nobody has.
    """
    if not chosen.blind:
        return
    members = list(participants.members)
    state_rounds = chosen.accepted
    said = {}
    for name, reply in _asked(participants, members, chosen, form, state_rounds).items():
        if reply.round == Blind.from_bytes(chosen.blind).round and reply.name == name:
            said[name] = reply.digest
    if not said:
        raise RoundFailed("no hospital has the run's model", mend=parts.host.anew)
    common, _ = Counter(said.values()).most_common(1)[0]
    have = sorted(name for name, digest in said.items() if digest == common)
    others = sorted(set(said) - set(have))
    none = sorted({member.name for member in members} - set(said))
    parts.run_directory.update(**{KEPT: {"have": have, "another": others, "none": none}})
    lines = [f"{name} has another model than the other hospitals" for name in others]
    lines += [f"{name} hasn't said that it has the run's model" for name in none]
    if lines:
        parts.observer.warnings(lines)


def _asked(
    participants: Participants,
    members: Sequence[Member],
    chosen: FederationState,
    form: ModelForm,
    state_rounds: dict[str, int],
) -> dict[str, Held]:
    """What each hospital says that answers."""
    found: dict[str, Held] = {}
    messages = []
    for member in members:
        model = SentModel(
            encode_arrays(chosen.model),
            max(1, chosen.round),
            state_rounds.get(member.name, 0),
            tuple(form.entries.personal),
            form.frozen_digest or "",
            blind=chosen.sent_blind,
        )
        request = EvaluateRequest(model, Totals.of(chosen.totals))
        messages.append(Message(request.to_records(), member.node_id, m.MODEL))
    gatherer = participants.gatherer
    assert isinstance(gatherer, SecureGatherer)  # ``secure_aggregation.blind`` needs it
    for name, data in gatherer.answers(messages, members, "model").items():
        with suppress(ProtocolRefused):
            found[name] = Held.from_bytes(data)
    return found
