"""The chosen model is judged, once in a run and after all rounds: figures by groups of patients.

It is asked of exactly those hospitals whose figures of this model were summed, and all of them must
answer: a judgement over others would differ from these figures by who joined or left. Where one of
them is gone for good there is none, and the run says so. A sum that was being opened when the
server died is opened from the journal.
"""

from __future__ import annotations

from wardround.common.durable.files import write_atomically
from wardround.common.errors import RoundFailed
from wardround.common.flower.arrays import encode_arrays
from wardround.common.judgement.judge import FILE, SPLIT, Judge
from wardround.common.model.saved import ModelForm
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.run.sums import KeptSums
from wardround.common.secagg.content import record_digest
from wardround.common.text import to_json
from wardround.server.gathering.gatherer import Question
from wardround.server.rounds.asking_all import ask_all
from wardround.server.rounds.checkpoint import FederationState
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts
from wardround.server.secagg.journal import Journal


def judge_model(
    parts: FederationParts,
    participants: Participants,
    journal: Journal,
    chosen: FederationState,
    kept: KeptSums | None,
    form: ModelForm,
) -> None:
    """Write ``judgement.json`` into the model's folder; or say in ``run.json`` why there is none.

    kept : the figure sums of this model, with whose they are
    """
    whose = kept.over.get(SPLIT, []) if kept is not None else []
    path = parts.run_directory.model / FILE
    if parts.config.judgement is None or path.exists():
        return  # there already: the server died after it
    try:
        if not whose:
            raise RoundFailed(f"no hospital has given figures of its {SPLIT} rows")
        text = ask_all(
            parts, participants, lambda: _judged(parts, participants, chosen, whose, form)
        )
    except RoundFailed as error:
        note = f"the model is not judged by groups: {error}"
        parts.observer.warnings([note])
        parts.run_directory.update(not_judged=note)
        return
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, text.encode())
    journal.clear()


def _judged(
    parts: FederationParts,
    participants: Participants,
    chosen: FederationState,
    whose: list[str],
    form: ModelForm,
) -> str:
    members = [one for one in participants.members if one.name in whose]
    if lacking := sorted(set(whose) - {one.name for one in members}):
        raise RoundFailed(f"{lacking[0]}, whose figures of it were summed, is no member any more")
    judge = Judge.of(parts.config, parts.task, chosen.totals)
    arrays = encode_arrays(chosen.model)
    request = EvaluateRequest(
        SentModel(arrays, chosen.round, frozen=form.frozen_digest),
        Totals.of(chosen.totals),
        judge=True,
    )
    parts.observer.progress("the chosen model is judged by groups")
    question = Question(f"judge {chosen.round}", request, judge.shapes(), None, "judgement")
    totals = participants.gatherer.sums(members, question)
    found = judge.judgement(
        totals, record_digest(arrays).hex(), len(members), round=chosen.round, split=SPLIT
    )
    return to_json(found, indent=1) + "\n"
