"""A server that lies, in a small language: each ``Ask`` is a question with what is false in it.

    Ask("train", 1)                                 an honest first round
    Ask("train", 1, task={"largest_weight": 8})     once more, with another weight
    Ask("train", 2, members="abc", cut="c")         a group of three; c's vector is thrown away
    Ask("evaluate", 1, model="crafted", apart="a")  another model for a than for the others
    Ask("train", 1, run="another")                  the same in a new run

Whatever it opens is written down as an equation over the hospitals' numbers (``solving.py``), and
whatever else it gets that it shouldn't have as a ``leak``. It doesn't stop where it is refused: it
tries the next question. Masks and shares are the product's own server's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from numpy.typing import NDArray

from tests.lying.hospitals import Study
from tests.lying.solving import Equation
from tests.secagg.driver import forged_unmask
from wardround.common.errors import ProtocolRefused, RoundFailed, WardroundError
from wardround.common.flower.arrays import Arrays, decode_arrays, encode_arrays, layout_of
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.layout import LayoutRequest
from wardround.common.protocol.masked import KeyReply, KeyRequest, MaskedReply, MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.statistics import StatisticsRequest
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import TrainRequest
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import (
    content_digest,
    descriptor,
    digests_of,
    encode_sums_layout,
    sums_layout,
    training_layout,
)
from wardround.common.secagg.encoding import FAILED, OWN_NAMES, VectorLayout
from wardround.common.secagg.graph import Thresholds, thresholds
from wardround.server.secagg.sum import KeyGroup, MaskedSum, SecureSession, Total

COUNT = 8
"""Aggregations that a group has keys for."""


@dataclass(frozen=True, repr=False)
class Ask:
    """One question; the defaults are an honest server's.

    step, number : 'statistics' and a phase, 'train' or 'evaluate' and a round
    members : of the group; '' for all
    cut : whose vectors are thrown away; silent : who isn't asked for shares
    task, limits, config : false fields of the TaskRequest, of the group's thresholds, and of the
        request's settings
    sums : names of sums that are left out
    model : 'right', 'first' (once more) or 'crafted'
    totals : 'right' or 'crafted'
    apart : who is shown a crafted model, against the others
    halves : who is asked to open a survivor set without the last of them
    run : its name; plan : false fields of its manifest; session : whether a new one is begun
    plain : ask for an answer without masks
    """

    step: str = "train"
    number: int = 1
    members: str = ""
    cut: str = ""
    silent: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    sums: str = ""
    model: str = "right"
    totals: str = "right"
    apart: str = ""
    halves: str = ""
    run: str = "run-1"
    plan: Mapping[str, Any] = field(default_factory=dict)
    session: bool = False
    plain: bool = False

    def __repr__(self) -> str:
        """What is false in it, alone."""
        told = ((one.name, getattr(self, one.name)) for one in fields(self)[2:])
        false = "".join(f", {k}={v!r}" for k, v in told if v and v not in ("right", "run-1"))
        return f"Ask({self.step!r}, {self.number}{false})"


class LyingServer:
    """Asks, and remembers all that it got.

    equations : the sums that it opened, over everyone who is in them
    partial : sums in which somebody failed, as (question, how many worked): nobody knows of whom
    leaks : what it got besides sums of the plan, in words
    refusals : (hospital, why) of everything that wasn't answered

    Parameters
    ----------
    prefix : of the names of its runs
    """

    def __init__(self, study: Study, prefix: str = "") -> None:
        self.study, self._prefix = study, prefix
        self.equations: list[Equation] = []
        self.partial: list[tuple[Any, int]] = []
        self.leaks: list[str] = []
        self.refusals: list[tuple[str, str]] = []
        self._names = sorted(study.sites)
        self._session: SecureSession | None = None
        self._groups: dict[tuple[Any, ...], KeyGroup] = {}
        self._shown: dict[str, tuple[Any, ...]] = {}
        self._models: dict[tuple[str, int], Arrays] = {}
        self._totals: Arrays = {}
        self._layouts: dict[tuple[str, int], bytes] = {}

    # --- one question ------------------------------------------------------------------------
    def play(self, ask: Ask) -> Total | None:
        """The opened sum, or None where the hospitals (or the arithmetic) don't let it be."""
        members = [name for name in self._names if name in (ask.members or self._names)]
        if not members:
            return None
        for name in members:
            self._show(name, ask)
        if ask.plain:
            self._ask_plainly(ask, members)
            return None
        group = self._group(members, ask)
        if group is None:
            return None
        try:
            return self._sum(ask, group)
        except (ProtocolRefused, RoundFailed) as error:
            self.refusals.append(("server", str(error)))
            return None

    def start(self, totals: Arrays) -> None:
        """Begin with the sums of an earlier preparation."""
        self._totals = totals

    @property
    def totals(self) -> Arrays:
        """The sums of the preparation."""
        return self._totals

    def told(self, why: str) -> bool:
        """Whether a hospital (or the server's own arithmetic) gave such a reason."""
        return any(why in reason for _, reason in self.refusals)

    def _ask(self, name: str, kind: str, content: Content) -> Content | None:
        answer = self.study.sites[name].ask(kind, content)
        if isinstance(answer, str):
            self.refusals.append((name, answer))
            return None
        return answer

    def _show(self, name: str, ask: Ask) -> None:
        """The plan of the run, where another one was shown last."""
        key = (ask.run, tuple(sorted(ask.plan.items())), bool(self.study.first))
        if self._shown.get(name) != key:
            manifest = self.study.manifest(self._prefix + ask.run, **ask.plan)
            if why := self.study.sites[name].show(manifest):
                self.refusals.append((name, why))
            self._shown[name] = key

    def _ask_plainly(self, ask: Ask, members: list[str]) -> None:
        for name in members:
            answer = self._ask(name, _kind(ask), self._content(ask, name))
            if answer is not None:
                self.leaks.append(f"{name} answered {ask.step} in plain")

    # --- keys ----------------------------------------------------------------------------------
    def _keyed(self, name: str, kind: str, message: bytes) -> bytes | None:
        answer = self._ask(name, kind, KeyRequest(message).to_records())
        return None if answer is None else KeyReply.from_records(answer).message

    def _group(self, members: list[str], ask: Ask) -> KeyGroup | None:
        """Keys of these members; None where one of them doesn't make any."""
        if ask.session or self._session is None:
            self._session, self._groups = self._begin(), {}
        key = (tuple(members), tuple(sorted(ask.limits.items())))
        group = self._groups.get(key)
        if group is None or not group.left:
            try:
                limits = _limits(len(members), ask.limits)
                group = self._form(self._session, members, limits)
            except (WardroundError, KeyError, ValueError) as error:
                self.refusals.append(("server", str(error)))
                return None
            self._groups[key] = group
        return group

    def _begin(self) -> SecureSession:
        session = SecureSession(descriptor(self.study.config), self.study.roster)
        for name in self._names:
            if (hello := self._keyed(name, m.HELLO, session.request())) is not None:
                session.add_hello(name, hello)
        return session

    def _form(self, session: SecureSession, members: list[str], limits: Thresholds) -> KeyGroup:
        group = session.group(members, COUNT, limits)
        for name in members:
            if (bundle := self._keyed(name, m.GROUP, group.request)) is not None:
                group.add_bundle(name, bundle)
        for name, data in group.keys_requests():
            if (accepted := self._keyed(name, m.KEYS, data)) is not None:
                group.add_accepted(name, accepted)
        return group

    # --- sums ----------------------------------------------------------------------------------
    def _sum(self, ask: Ask, group: KeyGroup) -> Total:
        task, sums = self._task(ask, group), self._sums(ask, group.names)
        layout = sums_layout(sums) if sums else self._training_layout()
        contents = {name: self._content(ask, name) for name in group.names}
        usual = next(n for n in group.names if n not in ask.apart or len(ask.apart) > 1)
        masked = MaskedSum(group, task, layout, content_digest(contents[usual]))
        for name in group.names:
            MaskedTask(task.to_bytes(), sums).add_to(contents[name])
            answer = self._ask(name, _kind(ask), contents[name])
            if answer is None:
                continue
            reply = MaskedReply.from_records(answer)
            self._ask_again(name, ask, contents[name], reply)
            if name not in ask.cut:
                masked.add_upload(name, reply.message, reply.vector)
        self._unmask(ask, masked)
        total = masked.open()
        self._write_down(ask, layout, total, contents)
        return total

    def _ask_again(self, name: str, ask: Ask, content: Content, first: MaskedReply) -> None:
        """Two different vectors under one mask would differ by their numbers alone."""
        again = self.study.sites[name].ask(_kind(ask), content)
        if not isinstance(again, str) and MaskedReply.from_records(again).vector != first.vector:
            self.leaks.append(f"{name} sent two vectors under one mask")

    def _unmask(self, ask: Ask, masked: MaskedSum) -> None:
        """Shares of who was asked; who is in ``halves`` is asked for another survivor set."""
        group, requests = masked.group, masked.unmask_requests()
        last, halves = max(masked.survivors), 0
        fewer = sorted(masked.survivors - {last})
        for name, request in requests.items():
            other = forged_unmask(group, masked.task.index, name, fewer).to_bytes()
            if name in ask.halves:
                halves += self._keyed(name, m.UNMASK, other) is not None
            elif name not in ask.silent:
                if (shares := self._keyed(name, m.UNMASK, request)) is not None:
                    masked.add_shares(name, shares)
                if self._keyed(name, m.UNMASK, other) is not None:
                    self.leaks.append(f"{name} gave shares for two survivor sets")
        least = group.parameters.threshold
        if len(masked.answers) >= least and halves >= least:
            self.leaks.append(f"both secrets of {group.names[last]} are open")

    def _task(self, ask: Ask, group: KeyGroup) -> wire.TaskRequest:
        values = self._usual(ask) | dict(ask.task)
        return wire.TaskRequest(group.id, group.take_index(), **values)

    def _usual(self, ask: Ask) -> dict[str, Any]:
        """What an honest server's task says."""
        table = self.study.config.secure_aggregation
        largest = ask.plan.get("largest_weight", max(self.study.weights.values()))
        return {
            "purpose": f"{ask.step} {ask.number}",
            "bits": table.bits,
            "clip": table.clip,
            "largest_weight": largest if ask.step == "train" else 1,
            "fine": 0,
        }

    def _sums(self, ask: Ask, names: list[str]) -> bytes | None:
        """Which sums are asked for: those that the first who says so has, but what is left out."""
        if ask.step == "train":
            return None
        place = (ask.step, ask.number if ask.step == "statistics" else 0)
        if place not in self._layouts:
            totals = Totals.of({} if place == ("statistics", 0) else self._totals)
            phase = ask.number if ask.step == "statistics" else None
            request = LayoutRequest(totals, phase).to_records()
            answers = (self._ask(name, m.LAYOUT, request) for name in names)
            answer = next((one for one in answers if one is not None), None)
            if answer is None:
                raise RoundFailed("nobody says which sums there are")
            self._layouts[place] = KeyReply.from_records(answer).message
        named = sums_layout(self._layouts[place]).named
        left = {name: x.shape for name, x in named.items()}
        return encode_sums_layout({name: x for name, x in left.items() if name != ask.sums})

    def _training_layout(self) -> VectorLayout:
        shared = layout_of(self.study.first)
        return training_layout(shared, list(shared), {})

    # --- requests --------------------------------------------------------------------------------
    def _content(self, ask: Ask, name: str) -> Content:
        """A request; with what is false in it for this hospital."""
        totals = {} if (ask.step, ask.number) == ("statistics", 0) else self._totals
        if ask.totals == "crafted":
            totals = {"rows": np.array([3.0]), "sum": np.arange(4.0)}
        sent = Totals.of(totals)
        if ask.step == "statistics":
            content = StatisticsRequest(ask.number, sent).to_records()
        else:
            model = SentModel(encode_arrays(self._model(ask, name)), ask.number)
            kind: Callable[..., Any] = TrainRequest if ask.step == "train" else EvaluateRequest
            content = kind(model, totals=sent).to_records()
        if ask.config:
            content[m.CONFIG] = ConfigRecord(dict(content[m.CONFIG]) | dict(ask.config))
        return content

    def _model(self, ask: Ask, name: str) -> Arrays:
        """What is shown to a hospital: of the round before, or the round itself to evaluate.
        (Where that wasn't opened, the model before goes on.)"""
        last = ask.number - (ask.step == "train")
        known = [n for run, n in self._models if run == ask.run and n <= last]
        model = self.study.first
        if known and ask.model != "first":
            model = self._models[ask.run, max(known)]
        factor, more = (3.0, 1.0) if ask.model == "crafted" else (1.0, 0.0)
        if name and name in ask.apart:
            factor, more = 3.0, 2.0
        return {key: (factor * value + more).astype(value.dtype) for key, value in model.items()}

    # --- what came of it -----------------------------------------------------------------------
    def _write_down(
        self, ask: Ask, layout: VectorLayout, total: Total, contents: Mapping[str, Content]
    ) -> None:
        """The opened sum as an equation for each question; a false field that was answered as a
        leak."""
        usual = self._usual(ask) | vars(thresholds(len(ask.members or self._names)))
        for false in (ask.task, ask.limits, ask.config):
            if strange := {key: x for key, x in false.items() if usual.get(key) != x}:
                self.leaks.append(f"{ask.step} {ask.number} was opened with {strange}")
        exact = layout.exact_arrays(total.exact)
        question = (ask.run, ask.step, ask.number)
        shown = digests_of(contents[total.survivors[0]]).data
        if failed := int(exact[FAILED][0]):
            self.partial.append((question, len(total.survivors) - failed))
            return
        if ask.step == "train":
            self._write_down_update(ask, layout, total, shown)
            return
        found = {name: value for name, value in exact.items() if name not in OWN_NAMES}
        ones = dict.fromkeys(total.survivors, Fraction(1))
        for name, value in found.items():
            self.equations.append(Equation((*question, name), ones, value.reshape(-1), shown))
        if ask.step == "statistics":
            self._totals = found | self._totals  # the first of each is gone on with

    def _write_down_update(
        self, ask: Ask, layout: VectorLayout, total: Total, shown: bytes
    ) -> None:
        largest = total.largest_weight
        weights = {
            name: Fraction(min(self.study.weights[name], largest), largest)
            for name in total.survivors
        }
        parts = {
            name: words.view(np.int32).astype(np.float64) * total.step
            for name, words in sorted(layout.update_words(total.update).items())
        }
        value = np.concatenate([*parts.values()])
        question = (ask.run, ask.step, ask.number)
        self.equations.append(Equation(question, weights, value, shown))
        mean = {name: part / float(sum(weights.values())) for name, part in parts.items()}
        self._models[ask.run, ask.number] = {
            name: value + mean[f"{m.ARRAYS}/{name}"].reshape(value.shape).astype(value.dtype)
            for name, value in self._model(ask, "").items()
        }

    def truth(self, ask: Ask, name: str) -> NDArray[np.float64]:
        """What a hospital's own numbers are, to check with: its update (or its sums, by name)."""
        content = self._content(ask, name)
        answer = self.study.truth(name, _kind(ask), content)
        arrays = decode_arrays(_arrays(answer))
        if ask.step == "train":
            sent = self._model(ask, name)
            arrays = {key: value - sent[key] for key, value in arrays.items()}
        return np.concatenate([arrays[key].reshape(-1) for key in sorted(arrays)])


def _kind(ask: Ask) -> str:
    return m.STATISTICS if ask.step == "statistics" else ask.step


def _arrays(content: Content) -> ArrayRecord:
    record = content[m.ARRAYS]
    assert isinstance(record, ArrayRecord)
    return record


def _limits(clients: int, false: Mapping[str, int]) -> Thresholds:
    return replace(thresholds(clients), **false)
