"""One round: configure, train, aggregate, evaluate. Committing it is ``federation.py``'s.

The strategy makes the requests and works on the outcome (``gathering/strategy.py``); what hospitals
send is combined by a gatherer.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from wardround.common.compression.scales import (
    Scales,
    first_scales,
    layers,
    next_scales,
    record_layout,
)
from wardround.common.compression.writing import Writing
from wardround.common.errors import ReplyRefused
from wardround.common.figures.intervals import Intervals
from wardround.common.figures.records import Means
from wardround.common.figures.sums import Sums
from wardround.common.figures.within import means_of, taken_out
from wardround.common.flower.arrays import Arrays, Layout
from wardround.common.flower.hosting import Grid, Message
from wardround.common.model.saved import ModelForm
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import PrivacyTerms
from wardround.common.run.sums import KeptSums
from wardround.common.secagg.messages import Blind
from wardround.server.gathering.gatherer import (
    Evaluated,
    Expected,
    Gatherer,
    RunSettings,
    Trained,
)
from wardround.server.gathering.messenger import Refusal
from wardround.server.gathering.strategy import AskedStrategy
from wardround.server.members.member import Member
from wardround.server.members.sampling import holding_out
from wardround.server.privacy.round import PrivacyPlan
from wardround.server.rounds.checkpoint import FederationState
from wardround.server.rounds.figures import FigureMaker
from wardround.server.rounds.participants import Participants


@dataclass
class TrainResult:
    """What training gave: the next shared model and who contributed.

    clipping_norm : for the next round, in a private run
    scales : for the next round, with ``[compression]``
    blind : a ``Blind``, where the model is a sum that only hospitals can read
    """

    model: Arrays
    loss: float
    seconds: float
    gathered: Trained
    clipping_norm: float | None = None
    scales: Scales | None = None
    blind: bytes = b""

    @classmethod
    def nothing(cls, state: FederationState, failed: int = 0) -> TrainResult:
        """Of a round that is lost: all stays as it is. ``failed``: how many hospitals' training
        failed."""
        nobody = Trained([], [], failed=failed)
        left = state.clipping_norm, state.scales, state.blind
        return cls(state.model, math.nan, 0.0, nobody, *left)


@dataclass
class EvaluationResult:
    """Figures by split: of the added sums (overall) and of each hospital, if they are visible.

    request : one of those that were sent, where any was
    within : means of the hospitals' own figures
    over : names of the hospitals that the figures are over
    noised : the figures are those of sums with noise, and have intervals that hold it
    sums : by split, what is kept of the added ones
    """

    overall: dict[str, dict[str, float]] = field(default_factory=dict)
    gathered: Evaluated = field(default_factory=Evaluated)
    seconds: float = 0.0
    request: Message | None = None
    within: dict[str, Means] = field(default_factory=dict)
    over: dict[str, list[str]] = field(default_factory=dict)
    noised: bool = False
    intervals: dict[str, Intervals] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The figures, for a line of ``metrics.jsonl``."""
        return {
            "overall": self.overall,
            "hospitals": self.gathered.hospitals,
            "within": self.within,
            "over": self.over,
        } | ({"intervals": self.intervals} if self.noised else {})

    def kept(self, model_round: int, masked: bool) -> KeptSums:
        """The added sums, to be kept: those that each hospital's own figures came in are only means
        (``within``)."""
        sums = {split: taken_out(one)[0] for split, one in self.sums.items()}
        return KeptSums(model_round, sums, dict(self.over), masked, dict(self.intervals))

    @property
    def hospitals(self) -> dict[str, dict[str, dict[str, float]]]:
        """Figures by hospital and split; empty with secure aggregation."""
        return self.gathered.hospitals

    @property
    def refused(self) -> list[Refusal]:
        """Whose answers were not used."""
        return self.gathered.refused


class RoundRunner:
    """Runs rounds. Holds what doesn't change between them."""

    def __init__(
        self,
        settings: RunSettings,
        *,
        grid: Grid,
        participants: Participants,
        totals: Totals,
        form: ModelForm,
        figures: FigureMaker,
        largest_weight: int = 1,
        layout: Layout,
    ) -> None:
        self._largest_weight, self._layout = largest_weight, layout
        self.config, self.plan, self._task = settings.config, settings.plan, settings.task
        self._factors = form.low_rank
        self.participants, self.entries = participants, form.entries
        self._figure_maker = figures
        self.strategy = AskedStrategy(
            self.plan, seed=self.config.federation.seed, grid=grid, totals=totals, form=form
        )

    @property
    def gatherer(self) -> Gatherer:
        """The present members'."""
        return self.participants.gatherer

    @property
    def privacy(self) -> PrivacyPlan | None:
        """The present members'."""
        return self.participants.privacy

    def train(
        self,
        server_round: int,
        shared: Arrays,
        cohort: list[Member],
        state_rounds: dict[str, int],
        clipping_norm: float | None = None,
        scales: Scales | None = None,
        requests: list[Message] | None = None,
        blind: bytes = b"",
    ) -> TrainResult:
        """Train one cohort and aggregate. Raises RoundFailed if too few replies are accepted.

        shared : the model's shared entries, as the last round left them; they stay as they are
        state_rounds : by hospital, the round it was last accepted in
        clipping_norm : None in the first round: the configuration's
        scales : None in the first round: those of the settings' rule
        requests : what the cohort is asked where its updates were made before (``buffer.py``)
        blind : of a blind run, what the model is worked out from
        """
        started = time.monotonic()
        norm = clipping_norm or self.config.privacy.clipping_norm
        expected = self.expected(server_round, shared, len(cohort), norm, scales, blind)
        scales = expected.writing.scales if expected.writing else None
        if requests is None:
            goes_by = state_rounds, norm, scales, blind
            requests = self._train_requests(server_round, shared, cohort, *goes_by)
        layout, release = expected.layout, expected.release
        gathered = self.gatherer.train(server_round, requests, cohort, expected)
        if gathered.sent_on is not None:
            model, by = gathered.sent_on
            seconds = time.monotonic() - started
            return TrainResult(model, gathered.loss, seconds, gathered, blind=by.to_bytes())
        model, loss = self.strategy.aggregate(server_round, gathered, layout)
        if self._factors is not None:
            seed = self.config.federation.seed
            own, error = self._factors.combined(shared, model, seed, server_round)
            model, gathered.factors_error = model | own, error
        if release is not None and gathered.quantile is not None:
            norm = release.next_norm(norm, gathered.quantile)
        if scales is not None and gathered.ratios is not None:
            scales = next_scales(scales, gathered.ratios)
        seconds = time.monotonic() - started
        return TrainResult(model, loss, seconds, gathered, norm if release else None, scales)

    def expected(
        self,
        server_round: int,
        shared: Arrays,
        cohort: int,
        clipping_norm: float,
        scales: Scales | None = None,
        blind: bytes = b"",
    ) -> Expected:
        """What replies of a round must hold."""
        layout, release = self._layout, None
        if self.privacy is not None:
            release = self.privacy.release(server_round, clipping_norm, cohort)
        records, parameters = self._record_layouts(layout), self.entries.parameters
        writing = self._writing(server_round, layout, scales)
        if writing is not None:
            records |= record_layout(len(writing.names))
        largest = self._largest_weight
        before = Blind.from_bytes(blind) if blind else None
        return Expected(layout, parameters, records, shared, release, largest, writing, before)

    def _writing(self, server_round: int, layout: Layout, scales: Scales | None) -> Writing | None:
        """How updates are written; ``scales`` of None: of round 1."""
        table = self.config.compression
        if table.bits is None:
            return None
        names = layers(layout, self.entries.parameters)
        if scales is None:
            scales = first_scales(layout, names, table.first_scale)
        return Writing.of(self.config, server_round, names, scales)

    def evaluate(
        self,
        server_round: int,
        shared: Arrays,
        members: list[Member],
        state_rounds: dict[str, int],
        what: str = "",
        best_round: int | None = None,
        blind: bytes = b"",
    ) -> EvaluationResult:
        """Figures of the metric sums of every hospital that has held-out rows, added up.

        what : which model it is, where it isn't the round's own
        best_round : told where entries are personal: which other model a hospital is to keep
        blind : as ``train`` has it
        """
        started, maker = time.monotonic(), self._figure_maker
        result = EvaluationResult(noised=maker.noised)
        members = holding_out(members)
        if not members:
            return result
        addressees = self.gatherer.addressees(members, evaluating=True)
        best = (best_round or 0) if self.entries.of_hospitals else 0
        requests = self.strategy.evaluate_requests(
            server_round, shared, addressees, state_rounds, best, blind
        )
        result.gathered = self.gatherer.evaluate(
            server_round, requests, members, lambda sums: maker.of(sums).figures, what
        )
        if result.noised:
            result.gathered.hospitals = {}
        for split, sums in result.gathered.sums.items():
            result.over[split] = sorted(result.gathered.answered.get(split, ()))
            self._add_figures(result, split, sums)
        result.request = requests[0]
        result.seconds = time.monotonic() - started
        return result

    def _add_figures(self, result: EvaluationResult, split: str, sums: Sums) -> None:
        """Figures of the added sums, and means of the hospitals' own."""
        try:
            sums, means = taken_out(sums)
        except ValueError as error:
            raise ReplyRefused(f"the hospitals' means don't add up ({error})") from None
        within = self._task.figure_table().within()
        parts = [part[split] for part in result.hospitals.values() if split in part]
        hospitals = len(result.over[split])
        measured = self._figure_maker.of(sums, hospitals)
        result.overall[split] = measured.figures
        # of hospitals' own figures most would be noise: a mean of the others would be a choice
        result.within[split] = {} if result.noised else means or means_of(parts, within)
        result.sums[split] = self._figure_maker.shown(sums, hospitals)
        if result.noised:
            result.intervals[split] = measured.intervals

    def terms(self, cohort: int, clipping_norm: float | None = None) -> PrivacyTerms | None:
        """What a private run's hospitals are proposed, so many in a round; None in another one."""
        norm = clipping_norm or self.config.privacy.clipping_norm
        return self.privacy.terms(cohort, norm) if self.privacy else None

    def _train_requests(
        self,
        server_round: int,
        shared: Arrays,
        cohort: list[Member],
        states: dict[str, int],
        clipping_norm: float,
        scales: Scales | None,
        blind: bytes,
    ) -> list[Message]:
        terms = self.terms(len(cohort), clipping_norm)
        addressees = self.gatherer.addressees(cohort)
        return self.strategy.train_requests(
            server_round, shared, addressees, states, terms, scales, blind
        )

    def _record_layouts(self, layout: Layout) -> dict[str, Layout]:
        ours = self.plan.ours
        trainable = {name: layout[name] for name in self.entries.parameters}
        return dict(ours.reply_records(trainable)) if ours else {}

    def tell_strategy(self, server_round: int, result: EvaluationResult) -> None:
        """Hand a round's overall figures, once, to strategies that steer by them."""
        figures = {
            f"{split}-{name}": value
            for split, part in result.overall.items()
            for name, value in part.items()
        }
        if figures and result.request is not None:
            self.strategy.tell(server_round, result.request, figures)
