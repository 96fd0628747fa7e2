"""What this hospital has contributed to each sum of a run: a sum is opened once, and of one model.

Two opened sums of the same numbers over hospitals that differ by one are that one's numbers. So a
hospital that has given shares for a sum takes part in no other of the same purpose and round. An
attempt that was never opened may be repeated, with others; then of any sums that were opened no
combination tells fewer than the hospitals that answered for one of them
(``tests/secagg/test_opened_once.py`` goes through all of them for few hospitals).

A judgement's sums by group add up to those of an evaluation. Over other hospitals they would be,
less that one, the numbers of who joined or left: so it is of a model that this hospital gave
figures of, and of exactly the hospitals whose figures were opened with its own.

Models and totals are fixed by the first request that brings them: a step that is repeated, and the
one that goes on from it, bring the same again. It all lies in the hospital's store, by run, and is
there before a byte leaves.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wardround.client.secagg.asked import JUDGE, STEPS, Asked
from wardround.client.secagg.grown import Grown
from wardround.common.errors import ProtocolRefused, SharesGiven
from wardround.common.trust.identity import digest

_GAVE_SHARES = "has given shares for a sum of it, and takes part in no other one"
_LATER = (
    "has helped to open a later sum of the run, and is not asked again for what lies before; begin "
    "another run"
)


class OtherThanBefore(ProtocolRefused):
    """A request brings another model or other totals than its run's. Told, as nothing of rows."""


@dataclass
class Sum:
    """This hospital's part in one sum that may still be asked for.

    order : where it stands in the run
    uploads : how often a vector was sent for it, in all attempts
    data : digest of all arrays that came with the first request
    opened : the aggregation that this hospital gave shares for (``aggregation_id``); empty: none
    """

    order: tuple[int, int]
    uploads: int = 0
    data: bytes = b""
    opened: bytes = b""


@dataclass
class Figured:
    """Figures that this hospital gave of a model, where one will be judged.

    model : digest
    whose : digest of the names of those whose figures were opened with its own; empty: none were
    """

    model: bytes
    whose: bytes = b""


@dataclass
class Contributions:
    """This hospital's part in one run's sums.

    at : where the newest sum stands that it gave shares for (``Step.order``); (-1, -1): none
    sums : from there on, by name
    totals : digest of the preparation that training and evaluation go by; empty before the first
    models : by round, but for those that lie before what was opened: digest of the model that
        training left, which is evaluated and gone on with
    figures : by part, where the plan has a judgement
    judged : the part whose model a judgement was asked of; '' before it
    grown : the state of the last step of a procedure that carries one
    """

    run: str
    at: tuple[int, int] = (-1, -1)
    sums: dict[str, Sum] = field(default_factory=dict)
    totals: bytes = b""
    models: dict[int, bytes] = field(default_factory=dict)
    figures: dict[str, Figured] = field(default_factory=dict)
    judged: str = ""
    grown: Grown = Grown()

    # --- what is asked ---------------------------------------------------------------------------
    def check(self, asked: Asked) -> None:
        """Raise ProtocolRefused if this hospital takes part in no (further) sum of the step, or
        OtherThanBefore if the request brings what its run doesn't have: before a row meets it."""
        self._check_position(asked)
        self._fixed(asked)

    def _check_position(self, asked: Asked) -> None:
        step = asked.step
        if step.order < self.at:
            raise ProtocolRefused(f"{step.parts[0]}: this hospital {_LATER}")
        for part in step.parts:
            known = self.sums.get(part)
            if known is None:
                continue
            if known.opened:
                raise SharesGiven(f"{part}: this hospital {_GAVE_SHARES}")
            if known.uploads >= asked.most_uploads:
                raise ProtocolRefused(
                    f"{part}: this hospital has sent a vector {known.uploads} times, as often as "
                    "the accepted plan allows; begin another run"
                )

    def upload(self, asked: Asked) -> None:
        """Count a vector that is about to be sent, and fix what came with its request.

        Raises OtherThanBefore, and changes nothing, if that isn't what was fixed before.
        """
        self._check_position(asked)
        models, self.totals = self._fixed(asked)
        self.models = self._still_asked(models)
        for part in asked.step.parts:
            one = self.sums.setdefault(part, Sum(asked.step.order, data=asked.digests().data))
            one.uploads += 1
        if asked.step.grown.sizes:
            self.grown = Grown({}, asked.step.grown.sizes, asked.step.grown.digests)
        if asked.step.kind == JUDGE:
            self.judged = asked.step.figures
        elif asked.judged and asked.step.kind == "evaluate":
            for part in asked.step.parts:
                self.figures[part] = Figured(asked.digests().model)

    def train(self, asked: Asked) -> None:
        """Fix the model and the totals that an update is trained by, which is sent later, in a sum
        of a later round: that request brings neither.

        Raises ProtocolRefused, and changes nothing, if they aren't what was fixed before.
        """
        if asked.step.order < self.at:
            raise ProtocolRefused(f"{asked.step.parts[0]}: this hospital {_LATER}")
        models, self.totals = self._fixed(asked)
        self.models = self._still_asked(models)

    def _fixed(self, asked: Asked) -> tuple[dict[int, bytes], bytes]:
        """Models by round and totals, with those of this request."""
        step, digests = asked.step, asked.digests()
        for part in step.parts:
            if part in self.sums and self.sums[part].data != digests.data:
                raise OtherThanBefore(
                    f"{part}: the model, the totals or the strategy's arrays are others than in an "
                    "earlier attempt"
                )
        models, totals = dict(self.models), self.totals
        if asked.first_model:
            models[0] = asked.first_model
        one_before = self.sums.get(f"{step.kind} {step.number - 1}")
        if step.before and one_before is not None and one_before.data != step.before:
            raise OtherThanBefore(
                f"{step.parts[0]}: the totals of the steps before are others than the last step "
                "was asked with"
            )
        if other := step.grown.other(self.grown) if step.kind == "sums" else "":
            raise OtherThanBefore(
                f"{step.parts[0]}: '{other[:100]}' of the state doesn't go on from what this "
                "hospital was shown before"
            )
        if step.kind == JUDGE:
            self._check_judged(asked)
        elif step.kind not in STEPS and not step.kept:
            left = step.number - (step.kind == "train")  # the round that left this model
            if models.setdefault(left, digests.model) != digests.model:
                known = "the plan has" if left == 0 else "this hospital was shown before"
                raise OtherThanBefore(
                    f"{step.parts[0]}: the model isn't the one of round {left} that {known}"
                )
        if step.brings_totals and (totals := totals or digests.totals) != digests.totals:
            raise OtherThanBefore(
                f"{step.parts[0]}: the preparation's totals are others than before in this run"
            )
        return models, totals

    def _check_judged(self, asked: Asked) -> None:
        """It is of a model whose figures were opened with this hospital's own, and of one."""
        step, digests = asked.step, asked.digests()
        known = self.figures.get(step.figures)
        if known is None and asked.forgets:
            return
        if known is None or not known.whose:
            raise ProtocolRefused(
                f"{JUDGE}: this hospital gave no figures of round {step.number} that were opened, "
                "and judges no other model"
            )
        if known.model != digests.model or self.judged not in ("", step.figures):
            raise OtherThanBefore(
                f"{JUDGE}: the model isn't the one of round {step.number} that this hospital gave "
                "figures of"
                if known.model != digests.model
                else f"{JUDGE}: another model was to be judged before in this run"
            )

    def _still_asked(self, models: Mapping[int, bytes]) -> dict[int, bytes]:
        """Without those of rounds that lie before what was opened: no others are forgotten, or a
        round that nobody opens would make room for another model."""
        return {number: one for number, one in models.items() if number >= self.at[0] - 1}

    def open(self, parts: Sequence[str], aggregation: bytes, whose: bytes = b"") -> None:
        """Note that shares are about to be given for a sum of these parts.

        whose : digest of the names of those who are in it; empty where they aren't all known

        Raises ProtocolRefused, and changes nothing, where shares were given for another one, or a
        judgement is of others than its figures.
        """
        for part in parts:
            if part not in self.sums:
                raise ProtocolRefused(f"{part}: this hospital {_LATER}")
            if self.sums[part].opened not in (b"", aggregation):
                raise SharesGiven(f"{part}: this hospital {_GAVE_SHARES}")
        bound = self.figures.get(self.judged)  # None: a simulation's (``Asked.forgets``)
        if JUDGE in parts and bound is not None and not (whose and whose == bound.whose):
            raise ProtocolRefused(
                f"{JUDGE}: it is of other hospitals than the figures of '{self.judged}' were, so "
                "that their difference would tell of one"
            )
        for part in parts:
            if part in self.figures:
                self.figures[part].whose = whose
            self.sums[part].opened = aggregation
            self.at = max(self.at, self.sums[part].order)
        self.sums = {name: one for name, one in self.sums.items() if one.order >= self.at}
        self.models = self._still_asked(self.models)

    # --- stored ----------------------------------------------------------------------------------
    def values(self) -> dict[str, Any]:
        """As flat values, for a store."""
        sums = self.sums.values()
        return {
            "run": self.run,
            "at": list(self.at),
            "parts": list(self.sums),
            "orders": [number for one in sums for number in one.order],
            "uploads": [one.uploads for one in sums],
            "data": [one.data for one in sums],
            "opened": [one.opened for one in sums],
            "totals": self.totals,
            "rounds": list(self.models),
            "models": list(self.models.values()),
            "figured": list(self.figures),
            "figured_models": [one.model for one in self.figures.values()],
            "figured_whose": [one.whose for one in self.figures.values()],
            "judged": self.judged,
            "grown": list(self.grown.sizes),
            "grown_sizes": list(self.grown.sizes.values()),
            "grown_digests": list(self.grown.digests.values()),
        }

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Contributions:
        """From such values. Raises KeyError, TypeError or ValueError for others."""
        orders = list(values["orders"])
        pairs = zip(orders[::2], orders[1::2], strict=True)
        columns = (values[key] for key in ("uploads", "data", "opened"))
        rows = zip(pairs, *columns, strict=True)
        figured = values["figured_models"], values["figured_whose"]
        names = list(values["grown"])
        sizes, digests = values["grown_sizes"], values["grown_digests"]
        first, second = values["at"]
        return cls(
            str(values["run"]),
            (first, second),
            dict(zip(values["parts"], (Sum(*row) for row in rows), strict=True)),
            values["totals"],
            dict(zip(values["rounds"], values["models"], strict=True)),
            dict(zip(values["figured"], map(Figured, *figured), strict=True)),
            str(values["judged"]),
            Grown(
                {},
                dict(zip(names, sizes, strict=True)),
                dict(zip(names, digests, strict=True)),
            ),
        )


def aggregation_id(group: bytes, index: int) -> bytes:
    """Names one aggregation of all groups: 32 bytes."""
    return digest("aggregation id", group, struct.pack(">Q", index))
